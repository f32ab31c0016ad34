"""Train what is missing of a table, one run of ``n_fold_train.py`` after the other."""
import contextlib
import fnmatch
import os
import shlex
import subprocess
import sys
from pathlib import Path

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.interrupt import Terminated
from chainer_abn.tables.runs import Run, flags_of, runs_there

PATIENCE = 10                   # seconds for a child to end its iteration and write its files
OURS = {'--out': 'give --out before the --', '--dataset': 'give --dataset before the --',
        '--seed': 'give --seeds', '--resume': 'leave it out',
        # what the cell is
        **dict.fromkeys(('--arch', '--variant', '--attention', '--task'), 'choose --rows')}


def program():
    """Where ``n_fold_train.py`` is.

    Raises:
        InputError: it is not beside the package.
    """
    path = Path(chainer_abn.__file__).parents[1] / 'n_fold_train.py'
    if not path.is_file():
        raise InputError(f'{path} is missing: run this in a copy of the repository, installed by '
                         'pip install --editable')
    return path


def choose(table, patterns):
    """The cells that can be trained.

    Args:
        table (Table)
        patterns: names of cells or rows, with * and ?; None: all.

    Raises:
        InputError: a pattern that fits none, or only figures that the paper quotes.
    """
    trained = [cell for cell in table.cells if cell.training]
    if patterns is None:
        return trained
    chosen = set()
    for pattern in patterns:
        found = [cell for cell in table.cells if any(
            fnmatch.fnmatchcase(name, pattern.lower()) for name in (cell.name, cell.name.partition('/')[0]))]
        if not found:
            raise InputError(f'--rows {pattern}: fits none of {table.name}: '
                             f'{", ".join(cell.name for cell in trained)}')
        if not any(cell.training for cell in found):
            raise InputError(f'--rows {pattern}: the paper only quotes {found[0].row}; nothing to train')
        chosen |= {cell.name for cell in found}
    return [cell for cell in trained if cell.name in chosen]


def train(table, cells, seeds, request):
    """Train the runs that are not finished; one that was cut goes on.

    Args:
        table (Table)
        cells (list of Cell)
        seeds (list of int)
        request (Request)

    Returns:
        int: 0, or the exit status of the run that failed, after which nothing more is trained.

    Raises:
        InputError: a run in the way, made with other settings; nothing is trained then.
    """
    for flag in flags_of(request.more):
        if flag in OURS:
            raise InputError(f'-- {flag}: is set for each run; {OURS[flag]}')
    runs = [Run(request.out, cell, seed) for seed in seeds for cell in cells]
    for cell in cells:
        for run in runs_there(request.out, cell):       # of other seeds too: show takes them together
            run.check(request)
    script = str(program())
    for i, run in enumerate(runs, 1):
        heading = f'[{i}/{len(runs)}] {table.name} {run}'
        run.make_folder()
        if run.running:
            print(f'{heading}: another process is at it; left alone', flush=True)
            continue
        # another process may have come here since
        run = Run(request.out, run.cell, run.seed)
        if run.finished:
            print(f'{heading}: finished, left alone', flush=True)
            continue
        flags = run.command(request) if run.config is None else run.resume_command(request)
        print(f'\n{heading}\npython {os.path.basename(script)} {shlex.join(flags)}', flush=True)
        status = call([sys.executable, script, *flags])
        if status == 0 and Run(request.out, run.cell, run.seed).finished:
            continue
        if run.running:
            print(f'{heading}: another process was quicker; left alone', flush=True)
            continue
        with contextlib.suppress(OSError):              # only folders that are still empty
            os.removedirs(run.folder)
        why = f'its process was killed by signal {-status}' if status < 0 else f'status {status}'
        print(f'chainer_abn.tables: {run.cell.name}, seed {run.seed} did not finish ({why}); once the cause '
              'is mended, the same command goes on with it', file=sys.stderr)
        return status if status > 0 else 1
    return 0


def call(command):
    """The exit status of a child that has our terminal; it is never left behind.

    Ctrl-C on the terminal reaches it too. Sent to this process alone it does not, which shows when the child
    goes on.
    """
    child = subprocess.Popen(command)
    try:
        return child.wait()
    except (KeyboardInterrupt, Terminated) as stop:
        if isinstance(stop, KeyboardInterrupt):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)
        child.terminate()
        child.wait()
        raise type(stop)('; the same command goes on with it') from None
