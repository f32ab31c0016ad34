"""Networks from PyTorch, and back.

    python -m chainer_abn.convert CHECKPOINT.pth.tar OUT.npz --arch resnet110
    python -m chainer_abn.convert NETWORK.npz OUT.pth.tar --to-torch

Reads the official ABN checkpoints and, as baselines, those of bearpaw/pytorch-classification and
torchvision, and Chainer's ResNet-50 .npz of the caffemodel. PyTorch is not needed.
"""
import os

from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.links import ATTENTIONS, VARIANTS
from chainer_abn.training import checkpoint
from chainer_abn.training.weights import read_network, to_torch

PROGRAM = 'chainer_abn.convert'
LARGEST = 1 << 24               # characters of a list of classes


def main():
    options = read_command_line()
    if options.to_torch:
        net, config = checkpoint.load(options.file)
        for name in 'arch', 'variant', 'attention':
            if getattr(options, name) not in (None, config[name]):
                raise InputError(f'--{name} {getattr(options, name)}: {options.file} is {config[name]}')
        write(options.out, lambda: to_torch(options.out, net))
        print(f'a PyTorch file does not tell: {untold(config)}')
    else:
        net, config = read_network(
            options.file, options.arch, variant=options.variant, attention=options.attention,
            classes=read_classes(options.classes))
        write(options.out, lambda: checkpoint.save(options.out, net, config))
    attention = f', attention {config["attention"]}' if config['variant'] == 'abn' else ''
    print(f'{config["arch"]} {config["variant"]}{attention}, {len(config["classes"])} classes, '
          f'{sum(p.size for p in net.params()):,} parameters: {options.out}')


def read_command_line():
    parser = ArgumentParser(prog=PROGRAM, description='Networks from PyTorch, and back.')
    parser.add_argument('file', help='a checkpoint (.pth, .pth.tar); with --to-torch a network (.npz)')
    parser.add_argument('out', help='the file to write')
    parser.add_argument('--arch', '-a', help='such as resnet110; a PyTorch file does not tell it')
    parser.add_argument('--variant', choices=VARIANTS,
                        help='default: abn where the file has an attention branch, else baseline')
    parser.add_argument('--attention', choices=ATTENTIONS,
                        help='mechanism, which the weights do not tell (default residual)')
    parser.add_argument('--classes', metavar='FILE', help='names of the classes, one a line')
    parser.add_argument('--to-torch', action='store_true',
                        help='write a checkpoint for the official network')
    options = parser.parse_args()
    if options.to_torch:
        if options.classes is not None:
            raise InputError('--classes: a PyTorch checkpoint has no names of classes')
    elif options.arch is None:
        raise InputError('--arch is missing: a PyTorch file does not tell its own')
    if os.path.realpath(options.file) == os.path.realpath(options.out):
        raise InputError(f'{options.out}: is the file to read')
    for path in options.file, options.out, options.classes:
        check_file(path)
    return options


def check_file(path):
    """Refuse what is there and no file, such as a pipe, which may never end, or a device to be replaced."""
    if path is not None and os.path.lexists(path) and not os.path.isfile(path):
        raise InputError(f'{path}: is no file')


def untold(config):
    """What is lost on the way to PyTorch, in words."""
    words = ['names of classes', 'mean and std', 'size of images']
    if config['variant'] == 'cam':
        words.insert(0, 'variant cam (give --variant cam to read it back)')
    mechanism = config['attention']
    if config['variant'] == 'abn' and mechanism in ('multiply', 'none'):
        words.insert(0, f'mechanism {mechanism} (give --attention {mechanism} to read it back)')
    return ', '.join(words)


def read_classes(path):
    if path is None:
        return None
    try:
        with open(path, encoding='utf-8-sig') as file:
            names = file.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--classes {path}: {getattr(error, "strerror", None) or error}') from None
    if len(names) > LARGEST:
        raise InputError(f'--classes {path}: more than {LARGEST} characters, no list of names')
    return [name.strip() for name in names.split('\n') if name.strip()]


def write(path, save):
    try:
        save()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None


if __name__ == '__main__':
    run_program(main, PROGRAM)
