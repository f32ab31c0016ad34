"""The paper's tables: list, train, show. See :mod:`chainer_abn.tables`."""
import argparse
import contextlib
import math
import os
import shlex
import sys
from pathlib import Path

from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.progress import Progress
from chainer_abn.tables import TABLES
from chainer_abn.tables.cost import petaflop
from chainer_abn.tables.runs import Request, Run
from chainer_abn.tables.show import aligned, show
from chainer_abn.tables.train import choose, train

PROGRAM = 'chainer_abn.tables'


def main():
    words = sys.argv[1:]
    split = words.index('--') if '--' in words else len(words)
    options = make_parser().parse_args(words[:split])
    if options.action != 'run' and words[split:]:
        raise InputError(f'{options.action}: takes no flags of n_fold_train.py')
    if options.table is None:
        return list_tables()
    table = TABLES[options.table]
    if options.action == 'list':
        return list_cells(table)
    out = folder_of(options.out, table)
    if options.action == 'run':
        request = Request(out, options.dataset, options.data_dir, options.gpu, options.epochs_scale,
                          tuple(words[split + 1:]))
        status = train(table, choose(table, options.rows), options.seeds or table.seeds, request)
        if status:
            return status
        print()
    show(table, out)


def folder_of(out, table):
    """The folder that ``--out`` names, whether or not it is there.

    Raises:
        InputError: no folder can have that name.
    """
    if out is None:
        return Path('result/tables', table.name)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(out)
    except OSError as error:
        raise InputError(f'--out {out}: {error.strerror}') from None
    return Path(out)


def make_parser():
    parser = ArgumentParser(prog=PROGRAM, description='The paper\'s tables: list, train, show.')
    actions = parser.add_subparsers(dest='action', required=True)
    told = actions.add_parser('list', help='the tables, or the cells of one: command, epochs, cost')
    told.add_argument('table', nargs='?', choices=TABLES)
    run = actions.add_parser('run', help='train what is missing, then show', epilog='What stands after -- is '
                             'added to every command of n_fold_train.py, and wins.')
    shown = actions.add_parser('show', help='the paper\'s figures and ours: terminal, Markdown, CSV, PNG')
    for part in run, shown:
        part.add_argument('table', choices=TABLES)
        part.add_argument('--out', help='folder of the runs (default result/tables/TABLE)')
    run.add_argument('--rows', nargs='+', metavar='PATTERN', help='such as resnet20 or resnet*/residual')
    run.add_argument('--dataset', help='train on this instead of the paper\'s data set')
    run.add_argument('--data-dir', help='where the files of a named data set are')
    run.add_argument('--gpu', '-g', help='as in n_fold_train.py')
    run.add_argument('--epochs-scale', type=scale, default=1, metavar='S', help='of the recipe\'s epochs')
    run.add_argument('--seeds', type=seed_list, metavar='S,T', help='default 402; demo 1,2,3,4,5')
    return parser


def scale(text):
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f'{text}: must be more than 0')
    return value


def seed_list(text):
    seeds = list(dict.fromkeys(int(seed) for seed in text.split(',')))
    for seed in seeds:
        if not 0 <= seed < 2 ** 32:
            raise argparse.ArgumentTypeError(f'{seed}: must be at least 0 and below 2^32')
    return seeds


def list_tables():
    for table in TABLES.values():
        trained = sum(cell.training is not None for cell in table.cells)
        quoted = len(table.cells) - trained
        print(f'{table.name:8} {table.title} ({trained} to train' + f', {quoted} quoted' * bool(quoted) + ')')


def list_cells(table):
    """The cells with what each run takes; PFLOP are of one run."""
    rows = [['cell', 'paper', 'epochs', 'PFLOP']]
    commands = []
    with Progress('counting operations', len(table.cells), 'cells') as progress:
        for i, cell in enumerate(table.cells):
            progress.update(i)
            training = cell.training
            if training is None:
                rows.append([cell.name, cell.figure, 'quoted', ''])
                continue
            cost = petaflop(training)
            rows.append([cell.name, cell.figure or '', str(training.epochs()),
                         f'{cost:,.0f}' if cost >= 100 else f'{cost:.3g}'])
            run = Run(Path('result/tables', table.name), cell, table.seeds[0])
            commands.append(f'python n_fold_train.py {shlex.join(run.command(Request(run.folder)))}')
    print(table.title, '', *aligned(rows), '', *commands, sep='\n')
    print(f'\nPFLOP: 10^15 floating-point operations of one run; seeds: {", ".join(map(str, table.seeds))}')


if __name__ == '__main__':
    run_program(main, PROGRAM)
