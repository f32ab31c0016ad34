"""A run: one cell with one seed, in a folder of its own."""
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from chainer_abn.errors import InputError
from chainer_abn.files import only_writer
from chainer_abn.training.run_folder import RunFolder, is_number, read_json

# flags of n_fold_train.py that change where or how a run computes, not what; --resume takes them too
HOW = '--gpu', '--accelerator', '--threads', '--workers'
WHERE = '--out', '--data-dir'
SHORT = {'-g': '--gpu', '-a': '--arch', '-b': '--batchsize', '-e': '--epoch', '-k': '--kfold',
         '-r': '--resume', '--attention-map': '--attention'}


class Request(NamedTuple):
    """What was asked for on the command line, for all cells.

    Attributes:
        out (Path): folder of the table.
        dataset (str): to train on; None: the table's.
        data_dir, gpu (str): for ``n_fold_train.py``, or None.
        scale (float): of the recipe's epochs.
        more (list of str): further flags of ``n_fold_train.py``; they win.
    """
    out: Path
    dataset: str | None = None
    data_dir: str | None = None
    gpu: str | None = None
    scale: float = 1
    more: tuple = ()


class Run:
    """The run of a cell with a seed, whether or not it is there.

    Args:
        out: folder of the table.
        cell (Cell): with a training.
        seed (int)

    Raises:
        InputError: what is there cannot be read.
    """

    def __init__(self, out, cell, seed):
        self.cell, self.seed = cell, seed
        self.folder = Path(out, cell.name, f'seed-{seed}')
        self.files = self.config = None
        if Path(self.folder, 'config.json').exists():
            self.files, self.config = RunFolder.open(self.folder)
            if not {'dataset', 'epoch', 'kfold'} <= set(self.arguments):
                raise InputError(f'{self.folder}: its config.json is of another version of this program')

    def __str__(self):
        return f'{self.cell.row} {self.cell.column}, seed {self.seed}'

    @property
    def arguments(self):
        """Its settings, by name."""
        return self.config['arguments']

    @property
    def folds(self):
        """Numbers of the folds that it is to train."""
        return self.arguments.get('folds') or range(1, max(self.arguments['kfold'], 1) + 1)

    @property
    def finished(self):
        return self.config is not None and set(self.folds) <= set(self.files.finished_folds())

    @property
    def rows(self):
        """What ``summary.json`` tells of its finished folds.

        Raises:
            InputError: it is damaged, or does not tell what the tables show.
        """
        rows = self.files.summary()['folds']
        if not all(is_number(row.get('last_accuracy')) for row in rows):
            raise InputError(f'{self.files.summary_file}: damaged (a fold without last_accuracy)')
        return rows

    @property
    def epochs(self):
        """Epochs that it is to train, over all folds."""
        return self.arguments['epoch'] * len(self.folds)

    @property
    def epochs_done(self):
        logs = [self.files.log(fold) for fold in self.folds]
        return sum(last_epoch(log) for log in logs if log.exists())

    @property
    def flags(self):
        """Flags that it was started with, as :func:`flags_of` gives them."""
        try:
            words = shlex.split(self.config.get('command', ''))
        except ValueError as error:
            raise InputError(f'{self.files.config_file}: damaged (its command: {error})') from None
        return flags_of(words[1:])

    def command(self, request):
        """Flags of ``n_fold_train.py`` that start it."""
        training = self.cell.training
        flags = [*training.flags(request.dataset), '--kfold', '0', '--seed', str(self.seed)]
        if request.scale != 1:
            flags += ['--epoch', str(max(1, round(request.scale * training.epochs(request.dataset))))]
        for flag, value in ('--data-dir', request.data_dir), ('--gpu', request.gpu):
            if value is not None:
                flags += [flag, value]
        return [*flags, '--out', str(self.folder), *request.more]

    def resume_command(self, request):
        """Flags of ``n_fold_train.py`` that go on with it."""
        asked = flags_of(self.command(request))
        return ['--resume', str(self.folder),
                *(word for flag in HOW if flag in asked for word in (flag, asked[flag]))]

    def check(self, request):
        """Refuse a run that is there and was made with other settings than are asked for now."""
        there, asked = self.flags, flags_of(self.command(request))
        for flag in {**asked, **there}:
            if flag in HOW + WHERE or there.get(flag) == asked.get(flag):
                continue
            used = self.arguments.get(flag[2:].replace('-', '_'))
            if flag in asked and str(used) == asked[flag]:
                continue                        # it was the recipe's anyway
            was = f'with {flag} {there[flag]}' if flag in there else f'without {flag}'
            now = f'{flag} {asked[flag]} is' if flag in asked else 'none is'
            raise InputError(f'{self.folder}: was made {was}, and now {now} asked for; name another '
                             'folder with --out')

    @property
    def running(self):
        """Whether a process trains it."""
        try:
            with only_writer(self.folder):
                return False
        except FileNotFoundError:
            return False
        except InputError:
            return True

    def make_folder(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'--out: {self.folder}: {error.strerror}') from None


def last_epoch(path):
    """The last epoch in the log of a fold, 0 in an empty one."""
    log = read_json(path, 'no log')
    try:
        return log[-1]['epoch'] + 0 if log else 0
    except (LookupError, TypeError):
        raise InputError(f'{path}: damaged (not the entries of epochs)') from None


def runs_there(out, cell):
    """The runs of a cell that are in the table's folder, by seed."""
    seeds = [int(found[1]) for path in Path(out, cell.name).glob('seed-*/config.json')
             if (found := re.fullmatch(r'seed-(\d+)', path.parent.name))]
    return [Run(out, cell, seed) for seed in sorted(seeds)]


def flags_of(words):
    """A command line as a dict: flag -> its value, '' for one that has none; the last one wins."""
    flags, flag = {}, None
    for word in words:
        if re.match(r'--?[a-zA-Z]', word):
            flag, _, value = word.partition('=')
            if word[1] != '-':              # -e5 is -e 5
                flag, value = word[:2], word[2:].removeprefix('=')
            flag = SHORT.get(flag, flag)
            flags[flag] = value
        elif flag is not None:
            flags[flag] = f'{flags[flag]} {word}'.strip()
    return flags
