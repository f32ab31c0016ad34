"""Draw where a trained network looks.

    python visualize.py --model result/RUN/snap/4-1_fold_model.npz photo.jpg folder/ --out maps --grid
    python visualize.py --model NET.npz folder/ --out maps --method attention,grad-cam --class cat
    python visualize.py --model NET.npz photo.jpg --out maps --edit box:40,30,200,180

Writes <stem>_<method>.png for every image, at the image's own size (.gif for animations and videos), and
predictions.csv; of a multi-task network <stem>_<method>-<attribute>.png.
"""
import sys
from pathlib import Path

import numpy

from chainer_abn.datasets.folder import say_ignored
from chainer_abn.datasets.images import add_limit, set_limit
from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.explain import METHODS, usual_method
from chainer_abn.explain import edit as editing
from chainer_abn.explain.answers import Attributes, Classes
from chainer_abn.explain.gallery import Gallery
from chainer_abn.explain.inputs import Inputs
from chainer_abn.explain.layers import layers_of, no_such_layer
from chainer_abn.explain.overlay import INTERPOLATIONS, check_colormap
from chainer_abn.explain.pictures import Painter
from chainer_abn.explain.record import Record
from chainer_abn.files import sha256
from chainer_abn.interrupt import Terminated
from chainer_abn.progress import Progress
from chainer_abn.runtime.devices import add_flags, choose_device
from chainer_abn.training.checkpoint import load

PROGRAM = 'visualize.py'


def main():
    options = read_command_line(sys.argv[1:])
    set_limit(options.max_pixels)
    net, config = load(options.model)
    kind = Attributes if net.multitask else Classes
    answers = kind(config['classes'], options.attributes, options.target)
    if options.layer == 'list':
        return print_layers(net, config)
    options.method = method_names(options.method, net)
    check_applies(net, config, options)
    edit = options.edit and editing.read_edit(options.edit)
    inputs = Inputs(options.inputs, leave_out=options.out, check=not options.skip_bad)
    columns = answers.columns + (answers.edited_columns if edit else [])
    record = Record(options.out, columns, settings_of(options), options.resume)
    total, done = count(inputs, record)
    device = choose_device(options.gpu, options.accelerator, options.threads)
    net.to_device(device)
    style = {name: getattr(options, name) for name in ('alpha', 'colormap', 'interpolation')}
    painter = Painter(net, config, device, answers, options.method, layer=options.layer, edit=edit,
                      mode=options.mode, style=style)
    gallery = Gallery(painter, record, options.batchsize, options.npy, options.skip_bad, options.grid)
    try:
        with record:
            with Progress('drawing maps', total, 'images') as progress:
                gallery.hang(inputs, progress)
            gallery.finish()
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)('; the same command with --resume goes on') from None
    except OSError as error:                # what cannot be read is told as InputError
        raise InputError(f'--out {options.out}: {error.strerror or error}') from None
    print_end(gallery, total - gallery.n_bad, done)


def read_command_line(argv):
    parser = ArgumentParser(prog=PROGRAM, description='Draw where a trained network looks.')
    parser.add_argument('inputs', nargs='*', metavar='INPUT',
                        help='image files, animations, videos, or folders of them')
    parser.add_argument('--model', required=True, help='a network file of n_fold_train.py (.npz)')
    parser.add_argument('--out', help='folder of the pictures')
    parser.add_argument('--method', metavar='A,B',
                        help=f'of {", ".join(METHODS)} (default attention; grad-cam where there is none)')
    parser.add_argument('--class', dest='target', metavar='C',
                        help='name or number of the class whose maps are drawn (default: the predicted one)')
    parser.add_argument('--layer', metavar='L',
                        help='where grad-cam and grad-cam++ are made (default: what the classifier '
                             'averages); list: print all and stop')
    parser.add_argument('--attributes', metavar='A,B', type=lambda text: text.split(','),
                        help='of a multi-task network, such as Smiling,Male: whose maps (default all)')
    parser.add_argument('--edit', metavar='MAP',
                        help='give the network another attention map and show what it says then: an image '
                             'file, centre, or box:x0,y0,x1,y1 in pixels of the image')
    parser.add_argument('--mode', choices=editing.MODES,
                        help='replace the network\'s map with that of --edit (default), multiply them, or '
                             'add them')
    parser.add_argument('--alpha', type=float, default=0.5,
                        help='weight of the map over the image, 0 to 1 (default 0.5)')
    parser.add_argument('--colormap', default='jet', help='of matplotlib (default jet)')
    parser.add_argument('--interpolation', choices=INTERPOLATIONS, default='bilinear')
    parser.add_argument('--npy', action='store_true', help='write the raw maps too, float32 (h, w)')
    parser.add_argument('--grid', action='store_true', help='one sheet of image | maps')
    parser.add_argument('--skip-bad', action='store_true', help='leave out unreadable images')
    add_limit(parser)
    parser.add_argument('--resume', action='store_true',
                        help='leave out what was drawn before the run was cut')
    parser.add_argument('--batchsize', '-b', type=int, default=16)
    add_flags(parser)
    options = parser.parse_args(argv)
    if options.layer != 'list':
        for name in 'inputs', 'out':
            if not getattr(options, name):
                what = 'INPUT' if name == 'inputs' else '--out'
                raise InputError(f'{what} is missing (see {PROGRAM} --help)')
    if not 0 <= options.alpha <= 1:
        raise InputError(f'--alpha {options.alpha}: must be between 0 and 1')
    if options.batchsize < 1:
        raise InputError(f'--batchsize {options.batchsize}: must be at least 1')
    if options.edit and options.method:
        raise InputError(f'--method {options.method}: --edit is about the attention map; leave it out')
    if options.mode and not options.edit:
        raise InputError(f'--mode {options.mode}: is for --edit')
    options.mode = options.mode or 'replace'
    check_colormap(options.colormap)
    return options


def method_names(text, net):
    """What ``--method`` names; without it the attention map, or Grad-CAM where there is none."""
    names = list(dict.fromkeys(text.split(','))) if text else [usual_method(net)]
    for name in names:
        if name not in METHODS:
            raise InputError(f'--method {name}: unknown; use {", ".join(METHODS)}')
    return names


def print_layers(net, config):
    """``--layer list``: names and sizes, for an image of the network's size."""
    for name, (channels, height, width) in layers_of(net, blank(config)).items():
        print(f'{name}  {channels} x {height} x {width}')


def check_applies(net, config, options):
    """Refuse methods, layers and edits that the network does not allow."""
    for method in options.method:
        METHODS[method].check(net)
    if options.edit:
        editing.check(net)
    if options.layer is not None:
        if not {'grad-cam', 'grad-cam++'} & {*options.method}:
            raise InputError(f'--layer {options.layer}: is for --method grad-cam and grad-cam++')
        if options.layer not in layers_of(net, blank(config)):
            raise no_such_layer(net, blank(config), options.layer)


def blank(config):
    return numpy.zeros((1, config['in_channels'], *config['image_size']), 'f')


def print_end(gallery, n, n_before):
    """What came of it, in words."""
    for line in gallery.remarks():
        print(line, file=sys.stderr)
    if gallery.changed is not None:
        print(f'the edited map changed what is said of {gallery.changed} of {n} images')
    before = f' ({n_before} of them drawn before)' if n_before else ''
    print(f'{n} images{before}; maps and predictions.csv are in {gallery.record.folder}')


def settings_of(options):
    """What decides what is drawn: of a run that is resumed it must be the same."""
    names = 'method', 'layer', 'attributes', 'edit', 'mode', 'alpha', 'colormap', 'interpolation', 'npy'
    settings = {name: getattr(options, name) for name in names}
    for name in 'model', 'edit':
        path = Path(getattr(options, name) or '')
        if path.is_file():
            settings[name] = sha256(path)
    return {**settings, 'class': options.target}


def count(inputs, record):
    """How many inputs there are and how many are done; raises what is wrong with them."""
    total = done = 0
    for *_, is_done in record.beside(inputs):
        total, done = total + 1, done + is_done
    say_ignored(*inputs.ignored)
    return total, done


if __name__ == '__main__':
    run_program(main, PROGRAM)
