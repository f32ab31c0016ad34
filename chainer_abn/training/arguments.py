"""The flags of ``n_fold_train.py``."""
import argparse
import math
import re

from chainer_abn.datasets import NAMES, TASKS
from chainer_abn.datasets.images import add_limit
from chainer_abn.datasets.transforms import CROPS
from chainer_abn.errors import ArgumentParser
from chainer_abn.links import ATTENTIONS, VARIANTS
from chainer_abn.runtime import devices
from chainer_abn.training.finetune import PARTS
from chainer_abn.training.options import DTYPES, MOST_FOLDS
from chainer_abn.training.schedule import SCHEDULES
from chainer_abn.training.settings import RECIPES


def make_parser(program):
    """The flags of ``n_fold_train.py``; what is not said is None."""
    parser = ArgumentParser(
        prog=program, description='Train an Attention Branch Network with k-fold cross-validation.',
        epilog='Defaults that are not told here depend on the data set: see README.md.')
    # else argparse takes the -1,-1 of --gpu for a flag
    parser._negative_number_matcher = re.compile(r'^-\d+(,-?\d+)*$|^-\d*\.\d+$')
    data = parser.add_argument_group('data')
    data.add_argument('--dataset', help=f'a folder of class folders, or {", ".join(NAMES)}')
    data.add_argument('--data-dir', help='where the files of a named data set are (default: a cache)')
    data.add_argument('--task', choices=TASKS, help='of compcars: what is to be told (default model)')
    data.add_argument('--boxes', action='store_true', default=None, help='of compcars: crop to the cars')
    data.add_argument('--n-images', type=int, help='take (shapes: generate) so many images')
    data.add_argument('--skip-bad', action='store_true', default=None,
                      help='leave out images that cannot be read')
    add_limit(data)
    data.add_argument('--image-size', type=size, metavar='S|HxW', help='of the network\'s input, px')
    data.add_argument('--resize', type=size, metavar='S|HxW',
                      help='size that images are made to cover before they are cropped')
    data.add_argument('--fit', choices=('cover', 'squeeze'),
                      help='cover --resize and keep the shape of images, or squeeze them into it')
    data.add_argument('--crop', choices=CROPS,
                      help='random: a part of the network\'s size; resized: of any size and shape')
    data.add_argument('--pad', type=int, help='black pixels around the image before a random crop')
    data.add_argument('--flip', action=argparse.BooleanOptionalAction, help='random mirroring')
    data.add_argument('--turn', action=argparse.BooleanOptionalAction, help='random turns by 90 degrees')
    data.add_argument('--rotate', type=float, metavar='DEG', help='largest random angle (default 0)')
    data.add_argument('--mean', type=three, metavar='R,G,B',
                      help='of the pixels, in [0, 1] (default: measured on each training fold)')
    data.add_argument('--std', type=three, metavar='R,G,B', help='likewise')
    data.add_argument('--workers', type=int,
                      help='processes that read images (default: 0 if all fit in memory)')

    network = parser.add_argument_group('network')
    network.add_argument('--arch', '-a', help='such as resnet20 (CIFAR style) or resnet50')
    network.add_argument('--variant', choices=VARIANTS, help='default abn')
    network.add_argument('--attention', '--attention-map', choices=ATTENTIONS, help='default residual')
    network.add_argument('--positive-map', action=argparse.BooleanOptionalAction,
                         help='start the attention map as an increasing function of the evidence')
    network.add_argument('--dropout', type=float, help='ratio, where the network has dropout')
    network.add_argument('--pretrained', metavar='FILE',
                         help='start from the weights of a network (.npz) or PyTorch checkpoint (.pth)')
    network.add_argument('--freeze', type=part_list, metavar='PART,...',
                         help=f'train the rest only: {", ".join(PARTS)}')
    network.add_argument('--summary', action='store_true', default=None,
                         help='print the network, its sizes and costs, and stop')

    training = parser.add_argument_group('training')
    training.add_argument('--recipe', choices=RECIPES,
                          help='settings of the paper, or of the original port; flags change them')
    training.add_argument('--kfold', '-k', type=int,
                          help='number of folds (default 4); 0: the data set\'s own split')
    training.add_argument('--folds', type=fold_list, metavar='I,J', help='train these folds only')
    training.add_argument('--epoch', '-e', type=int)
    training.add_argument('--batchsize', '-b', type=int)
    training.add_argument('--lr', type=float)
    training.add_argument('--momentum', type=float, help='default 0.9')
    training.add_argument('--nesterov', action='store_true', default=None)
    training.add_argument('--weight-decay', type=float)
    training.add_argument('--schedule', choices=SCHEDULES)
    training.add_argument('--milestones', type=epoch_list, metavar='E,F',
                          help='epochs at which multistep multiplies the rate by --gamma')
    training.add_argument('--gamma', type=float, help='default 0.1')
    training.add_argument('--warmup', type=float, help='epochs of linear rise (default 0)')
    training.add_argument('--seed', type=int, help='fixes everything (default 402)')
    training.add_argument('--dtype', choices=DTYPES,
                          help='mixed16: compute in float16, keep weights in float32 (default float32)')
    training.add_argument('--capture', action='store_true', default=None,
                          help='on a GPU, record the step once as a CUDA graph and replay it')
    training.add_argument('--tensorboard', action='store_true', default=None,
                          help='write curves and maps for TensorBoard too (needs tensorboardX)')
    devices.add_flags(training, several=True)
    training.add_argument('--out', help='folder of the results (default result/<date-time>)')
    training.add_argument('--snapshot-every', type=int, metavar='E',
                          help='epochs between two states that a cut run can go on from (default 1)')
    training.add_argument('--resume', '-r', metavar='DIR', help='go on with a run that was cut')
    training.add_argument('--force', action='store_true', default=None,
                          help='with --resume: go on although data, flags or versions differ')
    return parser


def size(text):
    """'128' or '96x128' (height x width) -> [height, width]."""
    sides = [int(side) for side in text.lower().split('x')]
    if len(sides) > 2:
        raise ValueError
    return sides if len(sides) == 2 else sides * 2


def three(text):
    red, green, blue = (float(value) for value in text.split(','))
    return [red, green, blue]


def part_list(text):
    return list(dict.fromkeys(text.split(',')))


def epoch_list(text):
    return sorted(int(epoch) for epoch in text.split(','))


def fold_list(text):
    folds = sorted({int(fold) for fold in text.split(',')})
    if folds[0] < 1:
        raise ValueError
    return folds


def numbers(kind, count=None):
    """A check for rows of so many numbers."""
    return lambda row: isinstance(row, list) and count in (None, len(row)) and all(map(kind, row))


def whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def finite(value):
    return whole(value) or isinstance(value, float) and math.isfinite(value)


def text(value):
    return isinstance(value, str)


# what a flag's type makes of its words, as JSON gives it back
STORED = {None: text, int: whole, float: finite, size: numbers(whole, 2), three: numbers(finite, 3),
          part_list: numbers(text), epoch_list: numbers(whole), fold_list: numbers(whole),
          devices.gpu_numbers: lambda value: whole(value) or bool(value) and numbers(whole)(value)}
# without these no fold can be told
RANGES = {'kfold': lambda k: k == 0 or 1 < k <= MOST_FOLDS, 'seed': lambda seed: 0 <= seed < 1 << 32}


def wrong_arguments(arguments):
    """What is wrong with the values of the flags in a ``config.json``.

    Returns:
        list of str: such as ``epoch is 'ten'``.
    """
    if not isinstance(arguments, dict):
        return [f'arguments are {arguments!r:.60}']
    wrong = []
    for action in make_parser('')._actions:
        value = arguments.get(action.dest)
        if value is None:
            continue
        if action.nargs == 0:
            good = isinstance(value, bool)
        else:
            good = STORED[action.type](value) and (action.choices is None or value in action.choices)
        if not good or action.dest in RANGES and not RANGES[action.dest](value):
            wrong.append(f'{action.dest} is {value!r:.60}')
    return wrong
