"""Short trainings on the GPU that must end in the same network, bit for bit.

    python benchmarks/gpu_trainings.py [--epoch E] [--json FILE]

The shapes data set with one seed, in float32 and mixed16: twice, and once more with the captured step. (The
two dtypes must differ, or one was not used.) The accuracies are told beside that of the CPU. All runs are
under way at the same time; none is timed.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.runtime.devices import find_gpus
from chainer_abn.training.checkpoint import read_npz
from chainer_abn.training.run_folder import RunFolder

PROGRAM = 'gpu_trainings.py'
TRAIN = Path(__file__).resolve().parent.parent / 'n_fold_train.py'
KFOLD = 3
RUNS = {                        # name: flags
    'float32': [],
    'float32 again': [],
    'float32 captured': ['--capture'],
    'mixed16': ['--dtype', 'mixed16'],
    'mixed16 again': ['--dtype', 'mixed16'],
    'mixed16 captured': ['--dtype', 'mixed16', '--capture'],
    'cpu': ['--gpu', '-1'],
}
COMPARED = {                    # run: with which, and whether they must end in the same network
    'float32 again': ('float32', True), 'float32 captured': ('float32', True),
    'mixed16': ('float32', False), 'mixed16 again': ('mixed16', True), 'mixed16 captured': ('mixed16', True)}
TOLD = 20                       # lines of the output of a run that failed


def start(name, folder, options):
    """The process of a run, which writes to ``folder``/``name``."""
    flags = {'--dataset': 'shapes', '--n-images': 540, '--arch': 'resnet8', '--kfold': KFOLD, '--folds': 1,
             '--epoch': options.epoch, '--seed': 1, '--gpu': 0, '--out': folder / name,
             '--threads': 1 if name != 'cpu' else max(os.cpu_count() - len(RUNS), 1)}
    command = [sys.executable, TRAIN, *(str(word) for flag in flags.items() for word in flag), *RUNS[name]]
    with open(folder / f'{name}.log', 'w') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def same(run, other):
    """Whether the last networks of two runs are the same, bit for bit."""
    a, b = (read_npz(folder.last_network(1)) for folder in (run, other))
    return set(a) == set(b) and all(numpy.array_equal(a[name], b[name]) for name in a)


def row_of(name, runs):
    """What is told of a finished run; ``runs`` are the folders of all that are finished, by name."""
    fold, = runs[name].summary()['folds']
    row = {'run': name, 'best': fold['best_accuracy'], 'last': fold['last_accuracy'], 'loss': fold['loss'],
           'told': '', 'wrong': False}
    if name in COMPARED:
        other, expected = COMPARED[name]
        if other not in runs:
            return {**row, 'told': f'nothing to compare with: {other} failed', 'wrong': True}
        found = same(runs[name], runs[other])
        row['wrong'] = found != expected
        row['told'] = (f'{"the same network as" if found else "another network than"} {other}'
                       f'{", which is wrong" * row["wrong"]}')
    return row


def train(folder, options):
    """Run all -> a row of each, as they end."""
    processes = {name: start(name, folder, options) for name in RUNS}
    runs = {}
    for name, process in processes.items():
        if process.wait() == 0:
            runs[name] = RunFolder(folder / name, KFOLD)
            yield row_of(name, runs)
        else:
            end = (folder / f'{name}.log').read_text().splitlines()[-TOLD:]
            yield {'run': name, 'wrong': True,
                   'told': '\n'.join([f'ended with status {process.returncode}', *end])}


def main():
    parser = ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument('--epoch', type=int, default=5)
    parser.add_argument('--json', type=Path, metavar='FILE', help='where the results go')
    options = parser.parse_args()
    count, reason = find_gpus()
    if not count:
        raise InputError(f'this needs a GPU: {reason}')
    rows = []
    print(f'{"run":18} {"best accuracy":>13} {"last":>7} {"loss":>8}')
    with tempfile.TemporaryDirectory() as folder:
        for row in train(Path(folder), options):
            figures = f'{row["best"]:13.4f} {row["last"]:7.4f} {row["loss"]:8.4f}  ' if 'best' in row else ''
            print(f'{row["run"]:18} {figures}{row["told"]}', flush=True)
            rows.append(row)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + '\n')
    return int(any(row['wrong'] for row in rows))


if __name__ == '__main__':
    run_program(main, PROGRAM)
