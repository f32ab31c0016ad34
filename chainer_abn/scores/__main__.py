"""Score how well maps find the object. See :mod:`chainer_abn.scores`."""
import itertools
import math
import os
import sys
from pathlib import Path

from chainer_abn.datasets.images import add_limit, set_limit
from chainer_abn.errors import ArgumentParser, InputError, one_line, run_program
from chainer_abn.explain import METHODS
from chainer_abn.progress import Progress
from chainer_abn.runtime.devices import add_flags, choose_device
from chainer_abn.scores.judge import judge, methods_of
from chainer_abn.scores.report import report, write
from chainer_abn.scores.sources import check_images, of_model, of_run, some, with_object

PROGRAM = 'chainer_abn.scores'


def main():
    options = read_command_line(sys.argv[1:])
    set_limit(options.max_pixels)
    check_writable(options.out)
    device = choose_device(options.gpu, options.accelerator, options.threads)
    sources = [of_run(root, options) for root in options.run] if options.run else [of_model(options)]
    sources = [some(with_object(source, options.missing), options.n, options.seed) for source in sources]
    methods = [methods_of(source, options, device) for source in sources]
    sizes = [check_images(source) for source in sources]
    judged = {}
    with Progress('scoring maps', sum(map(len, sizes)), 'images') as progress:
        for i, (source, names, size) in enumerate(zip(sources, methods, sizes, strict=True)):
            before = sum(map(len, sizes[:i]))
            judged[different_name(source.name, judged)] = judge(
                source, names, size, options, device,
                lambda done, before=before: progress.update(before + done))
    written = write(options.out, judged)
    for name, one in judged.items():
        print(*report(name, one, options.tolerance), '', sep='\n')
    print('written:', ', '.join(map(one_line, written)))


def different_name(name, taken):
    numbered = (f'{name}-{i}' for i in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def read_command_line(argv):
    parser = ArgumentParser(prog=PROGRAM, description='Score how well maps find the object.')
    images = parser.add_argument_group('networks and images')
    images.add_argument('--run', nargs='+', metavar='DIR',
                        help='runs of n_fold_train.py: networks judge what they were not trained on')
    images.add_argument('--model', metavar='FILE', help='or a network file (.npz), with --images')
    images.add_argument('--images', nargs='+', metavar='INPUT', help='image files or folders of them')
    add_limit(images)
    images.add_argument('--n', type=int, metavar='N', help='take so many of the images, drawn by --seed')
    truth = parser.add_argument_group('objects; a run on shapes has its own')
    truth.add_argument('--boxes', metavar='DIR', help='<stem>.xml for each image, as in Pascal VOC')
    truth.add_argument('--masks', metavar='DIR', help='<stem>.png for each image, of one channel')
    truth.add_argument('--object', type=value_list, metavar='V,V',
                       help='values of --masks that are the object (default: all but 0 and --void)')
    truth.add_argument('--void', type=value_list, metavar='V,V',
                       help='values of --masks that energy and IoU leave out')
    truth.add_argument('--missing', choices=('error', 'skip'), default='error',
                       help='skip: leave out images without a box or mask')
    maps = parser.add_argument_group('maps and scores')
    maps.add_argument('--method', metavar='A,B', type=lambda text: list(dict.fromkeys(text.split(','))),
                      help=f'of {", ".join(METHODS)} (default: all that apply to the network)')
    maps.add_argument('--layer', metavar='NAME', help='where maps by gradient are made')
    maps.add_argument('--tolerance', type=float, metavar='PX',
                      help='of pointing (default 15 px for each 500 px of an image\'s longer side)')
    maps.add_argument('--steps', type=int, default=0, metavar='N',
                      help='of insertion and deletion, which cost 2 N passes for each image and method '
                           '(default 0: left out)')
    maps.add_argument('--seed', type=int, default=0,
                      help='of --n, the examples and the intervals (default 0)')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the results')
    parser.add_argument('--batchsize', '-b', type=int, default=16)
    add_flags(parser)
    options = parser.parse_args(argv)
    check_flags(options)
    return options


def check_flags(options):
    if bool(options.run) == bool(options.model):
        raise InputError('name either --run DIR or --model FILE with --images')
    if bool(options.model) != bool(options.images):
        raise InputError('--model and --images go together (the images of a run are those of its data set)')
    if options.boxes and options.masks:
        raise InputError('--boxes and --masks: name one of them')
    for flag in 'object', 'void':
        if getattr(options, flag) is not None and not options.masks:
            raise InputError(f'--{flag}: is for --masks')
    both = set(options.object or ()) & set(options.void or ())
    if both:
        raise InputError(f'--void {min(both)}: is a value of --object too')
    for flag, least in {'n': 1, 'tolerance': 0, 'steps': 0, 'seed': 0, 'batchsize': 1}.items():
        value = getattr(options, flag)
        if value is not None and not least <= value < math.inf:
            raise InputError(f'--{flag} {value}: must be at least {least}')
    for name in options.method or ():
        if name not in METHODS:
            raise InputError(f'--method {name}: unknown; use {", ".join(METHODS)}')
    if options.layer is not None and options.method and not {'grad-cam', 'grad-cam++'} & {*options.method}:
        raise InputError(f'--layer {options.layer}: is for --method grad-cam and grad-cam++')


def value_list(text):
    values = [int(value) for value in text.split(',')]
    if not all(0 <= value <= 255 for value in values):
        raise ValueError
    return values


def check_writable(out):
    """Told at once and not after all is scored; the folder is made when there is something to write."""
    there = next(path for path in (Path(out), *Path(out).absolute().parents)
                 if os.path.lexists(path))          # a link that leads nowhere is there too
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f'--out {out}: {there} is no folder that can be written to')


if __name__ == '__main__':
    run_program(main, PROGRAM)
