"""Errors of ResNet-110 with and without attention on CIFAR-10's training images, one fold of 5.

    python benchmarks/gpu_cifar.py FOLDER OUT [--epoch 30] [--variants abn baseline] [--capture]

FOLDER holds a folder of images per class. The recipe is that of the official code, with the milestones of
its learning rate at the same shares of the run. A run that OUT holds already is gone on with.
"""
import json
import subprocess
import sys
from pathlib import Path

from chainer_abn.errors import ArgumentParser, run_program
from chainer_abn.training.run_folder import RunFolder

PROGRAM = 'gpu_cifar.py'
TRAIN = Path(__file__).resolve().parent.parent / 'n_fold_train.py'
KFOLD = 5


def train(variant, out, options):
    """Train one fold, or the rest of it -> exit status."""
    if RunFolder(out, KFOLD).config_file.exists():
        return run('--resume', out)
    return run('--recipe', 'paper', '--dataset', options.folder, '--arch', 'resnet110', '--variant', variant,
               '--kfold', KFOLD, '--folds', 1, '--seed', 1, '--gpu', options.gpu, '--out', out,
               '--epoch', options.epoch, *(['--capture'] if options.capture else []))


def run(*words):
    return subprocess.run([sys.executable, TRAIN, *map(str, words)]).returncode


def report(options):
    """The lines of the table, of what is finished in OUT."""
    yield '| variant | error at the best epoch | (epoch) | error at the last of | epochs | images/s |'
    yield '|---|---:|---:|---:|---:|---:|'
    for variant in 'abn', 'baseline':
        folder = RunFolder(options.out / variant, KFOLD)
        for row in folder.summary()['folds']:
            epochs = len(json.loads(folder.log(row['fold']).read_text()))
            yield (f'| {variant} | {1 - row["best_accuracy"]:.2%} | {row["best_epoch"]} | '
                   f'{1 - row["last_accuracy"]:.2%} | {epochs} | {row["images_per_second"]} |')


def main():
    parser = ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--epoch', type=int, default=30)
    parser.add_argument('--variants', nargs='+', choices=('abn', 'baseline'), default=('abn', 'baseline'))
    parser.add_argument('--capture', action='store_true', help='the captured step')
    parser.add_argument('--gpu', type=int, default=0)
    options = parser.parse_args()
    status = [train(variant, options.out / variant, options) for variant in options.variants]
    table = '\n'.join(report(options))
    print(f'\n{table}')
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / 'errors.md').write_text(f'{table}\n')
    return max(status)


if __name__ == '__main__':
    run_program(main, PROGRAM)
