"""Draw where a trained network looks.

    python visualize.py --model result/RUN/snap/4-1_fold_model.npz photo.jpg folder/ --out maps --grid

Writes <stem>_<method>.png for every image, at the image's own size, and predictions.csv; of a multi-task
network <stem>_<method>-<attribute>.png.
"""
import csv
import itertools
import sys
from pathlib import Path

import numpy
from PIL import Image

from chainer_abn.datasets.folder import find_images, say_ignored
from chainer_abn.datasets.images import read_image
from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.explain import METHODS
from chainer_abn.explain.answers import Attributes, Classes
from chainer_abn.explain.inputs import batches, network_input, to_batch
from chainer_abn.explain.overlay import INTERPOLATIONS, check_colormap, overlay
from chainer_abn.explain.sheet import Sheet
from chainer_abn.progress import Progress
from chainer_abn.runtime.devices import add_flags, choose_device
from chainer_abn.training.checkpoint import load

PROGRAM = 'visualize.py'


def main():
    options = read_command_line(sys.argv[1:])
    net, config = load(options.model)
    answers = (Attributes if net.multitask else Classes)(config['classes'], options.attributes)
    for method in options.method:
        METHODS[method].check(net)
    device = choose_device(options.gpu, options.accelerator, options.threads)
    net.to_device(device)
    paths = check_readable(find_inputs(options.inputs), options.skip_bad)
    out = make_folder(options.out)
    sheet = Sheet(['image', *answers.titles(options.method)])
    with open(out / 'predictions.csv', 'w', newline='', encoding='utf-8') as file, \
            Progress('drawing maps', len(paths), 'images') as progress:
        table = csv.writer(file)
        table.writerow(answers.columns)
        done = 0
        for batch in batches(prepared(paths, config), lambda item: item[-1].shape, options.batchsize):
            x = device.send(to_batch([small for *_, small in batch], config))
            results = {method: METHODS[method].maps(net, x) for method in options.method}
            logits = results[options.method[0]][1]
            for i, (path, stem, image, _) in enumerate(batch):
                table.writerow(answers.row(path, stem, logits[i]))
                pictures = [draw(out / f'{stem}_{name}', image, values, options)
                            for method, (maps, _) in results.items()
                            for name, values in answers.maps(method, maps[i])]
                sheet.add([image, *pictures], answers.caption(stem, logits[i]))
            done += len(batch)
            progress.update(done)
    if options.grid:
        sheet.draw().save(out / 'grid.png')
        if sheet.left_out:
            print(f'{out / "grid.png"} shows the first {len(sheet.entries)} images')
    print(f'{len(paths)} images; maps and predictions.csv are in {out}')


def read_command_line(argv):
    parser = ArgumentParser(prog=PROGRAM, description='Draw where a trained network looks.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image files or folders of them')
    parser.add_argument('--model', required=True, help='a network file of n_fold_train.py (.npz)')
    parser.add_argument('--out', required=True, help='folder of the pictures')
    parser.add_argument('--method', default='attention', metavar='A,B',
                        help=f'of {", ".join(METHODS)} (default attention)')
    parser.add_argument('--attributes', metavar='A,B', type=lambda text: text.split(','),
                        help='of a multi-task network, such as Smiling,Male: whose maps (default all)')
    parser.add_argument('--alpha', type=float, default=0.5,
                        help='weight of the map over the image, 0 to 1 (default 0.5)')
    parser.add_argument('--colormap', default='jet', help='of matplotlib (default jet)')
    parser.add_argument('--interpolation', choices=INTERPOLATIONS, default='bilinear')
    parser.add_argument('--npy', action='store_true', help='write the raw maps too, float32 (h, w)')
    parser.add_argument('--grid', action='store_true', help='one sheet of image | maps')
    parser.add_argument('--skip-bad', action='store_true', help='leave out unreadable images')
    parser.add_argument('--batchsize', '-b', type=int, default=16)
    add_flags(parser)
    options = parser.parse_args(argv)
    if not 0 <= options.alpha <= 1:
        raise InputError(f'--alpha {options.alpha}: must be between 0 and 1')
    if options.batchsize < 1:
        raise InputError(f'--batchsize {options.batchsize}: must be at least 1')
    check_colormap(options.colormap)
    options.method = method_names(options.method)
    return options


def method_names(text):
    names = list(dict.fromkeys(text.split(',')))
    for name in names:
        if name not in METHODS:
            raise InputError(f'--method {name}: unknown; use {", ".join(METHODS)}')
    return names


def find_inputs(inputs):
    """The files named, and the images in the folders named, in order and each once."""
    paths = []
    for path in map(Path, inputs):
        if path.is_dir():
            images, others = find_images(path)
            say_ignored(others)
            if not images:
                raise InputError(f'{path}: no image in this folder')
            paths += images
        elif path.exists():
            paths.append(path)
        else:
            raise InputError(f'{path}: no such file or folder')
    return list(dict.fromkeys(paths))


def check_readable(paths, skip_bad):
    """Read every image once, so that a bad one is told before anything is written."""
    good = []
    with Progress('reading images', len(paths), 'images') as progress:
        for i, path in enumerate(paths):
            progress.update(i)
            try:
                read_image(path)
                good.append(path)
            except InputError as error:
                if not skip_bad:
                    raise InputError(f'{error}; --skip-bad leaves such images out') from None
                print(f'left out: {error}', file=sys.stderr)
    if not good:
        raise InputError('no image is left')
    return good


def make_folder(path):
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / 'predictions.csv').touch()
    except OSError as error:
        raise InputError(f'--out {path}: {error.strerror}') from None
    return path


def prepared(paths, config):
    """Yield path, stem of its output files, image and the network's input for it."""
    taken = set()
    for path in paths:
        numbered = (f'{path.stem}-{i}' for i in itertools.count(2))
        stem = next(s for s in itertools.chain([path.stem], numbered) if s not in taken)
        taken.add(stem)
        # the network sees what it saw in training: a JPEG file decoded at a fraction of its size
        small = read_image(path, config['resize'])
        yield path, stem, read_image(path), network_input(small, config)


def draw(path, image, values, options):
    """Write one map over its image; returns the picture."""
    picture = overlay(image, values, options.alpha, options.colormap, options.interpolation)
    Image.fromarray(picture).save(f'{path}.png')
    if options.npy:
        numpy.save(f'{path}.npy', values.astype('f'))
    return picture


if __name__ == '__main__':
    run_program(main, PROGRAM)
