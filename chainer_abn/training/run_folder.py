"""What a training run leaves behind, and where."""
import contextlib
import datetime
import fcntl
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy

from chainer_abn.errors import InputError
from chainer_abn.files import open_file, replacing
from chainer_abn.training.arguments import wrong_arguments
from chainer_abn.training.checkpoint import check_config

LARGEST = 16 << 20              # bytes of a JSON file of a run


class RunFolder:
    """The folder of a k-fold run.

    Args:
        root (Path)
        kfold (int): K of the file names; 0 for the data set's own split.
    """

    def __init__(self, root, kfold):
        self.root, self.kfold = Path(root), kfold

    @classmethod
    def new(cls, root, kfold):
        """The folder of a run to be, made where it is not there (None: a new ``result/<date-time>``).

        Raises:
            InputError: it cannot be made.
        """
        try:
            if root is None:
                root = new_folder('result', f'{datetime.datetime.now():%Y-%m-%d-%H-%M-%S}')
            else:
                Path(root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'--out {root or error.filename}: {error.strerror}') from None
        return cls(root, kfold)

    def begin(self, config):
        """Write ``config.json``, and make the folders in which the other files lie.

        Only the process that writes to the folder may do that.

        Raises:
            InputError: it cannot be written, or holds a run already.
        """
        if self.config_file.exists():
            raise InputError(f'--out {self.root}: holds a run already; go on with it by --resume '
                             f'{self.root}, or name another folder')
        if self.summary_file.exists() or any(self.root.glob('snap/*')):
            raise InputError(f'--out {self.root}: holds a run without its config.json; name another folder')
        try:
            self.make_folders()
            self.write_config(config)
        except OSError as error:
            raise InputError(f'--out {self.root}: {error.strerror}') from None

    @classmethod
    def open(cls, root):
        """An existing run and its config.

        Raises:
            InputError: there is none, or its ``config.json`` says what cannot be.
        """
        path = Path(root, 'config.json')
        config = read_json(path, f'{root}: no run there')
        try:
            arguments = config['arguments']
            kfold = arguments['kfold']
            if None in (kfold, arguments.get('seed', 0), arguments.get('dataset', '')):
                raise TypeError
        except (KeyError, TypeError):
            raise InputError(f'{path}: not a run of this program') from None
        if wrong := [*wrong_arguments(arguments), *wrong_entries(config)]:
            raise InputError(f'{path}: damaged ({"; ".join(wrong)})')
        return cls(root, kfold), config

    @property
    def config_file(self):
        return self.root / 'config.json'

    @property
    def summary_file(self):
        return self.root / 'summary.json'

    def log(self, fold):
        return self.root / f'log/{self.kfold}-{fold}_fold_log.json'

    def best_network(self, fold):
        return self.root / f'snap/{self.kfold}-{fold}_fold_model.npz'

    def last_network(self, fold):
        return self.root / f'model/{self.kfold}-{fold}_fold.npz'

    def snapshot(self, fold, iteration):
        """State of the training of a fold that is not finished."""
        return self.root / f'snap/{self.kfold}-{fold}_fold_trainer-{iteration}.npz'

    def snapshots(self, fold):
        """Those that there are, the newest first."""
        before, after = self.snapshot(fold, '*').name.split('*')
        found = {path.name[len(before):-len(after)]: path
                 for path in self.root.glob(f'snap/{before}*{after}')}
        return [found[name] for name in sorted(filter(str.isdecimal, found), key=int, reverse=True)]

    def drop_snapshots(self, fold):
        for path in self.snapshots(fold):
            path.unlink()

    def matrix(self, fold):
        """Without its suffix: .png and .npy."""
        return self.root / f'matrix/{fold}-fold_heatmap'

    def predictions(self, fold):
        """What the best network says of each validation image."""
        return self.root / f'matrix/{fold}-fold_predictions.csv'

    @property
    def report(self):
        return self.root / 'report.html'

    def error(self, what):
        """What a process left that failed at something, such as ``fold 2``."""
        return self.root / f'log/{what.replace(" ", "-")}-error.txt'

    def curve(self, what, fold):
        return self.root / f'{what}{fold}.png'

    def write_config(self, config):
        write_json(self.config_file, config)

    def make_folders(self):
        for folder in 'log', 'snap', 'model', 'matrix':
            (self.root / folder).mkdir(exist_ok=True)

    def tidy(self):
        """Make the folders that a copy may lack for they were empty, and remove what a process left that was
        killed while it wrote, and snapshots of finished folds.

        Only the process that writes to the folder may do that.

        Raises:
            InputError: a file is in a folder's place.
        """
        try:
            self.make_folders()
        except OSError as error:
            raise InputError(f'{error.filename}: {error.strerror}') from None
        for path in filter(Path.is_file, self.root.rglob('*.part')):
            path.unlink()
        for path in filter(Path.is_dir, self.root.glob(f'log/{self.kfold}-*_fold_log.json?*')):
            shutil.rmtree(path)         # where Chainer makes its logs
        for fold in self.finished_folds():
            self.drop_snapshots(fold)

    def summary(self):
        """The content of ``summary.json``; without folds where none is finished.

        Raises:
            InputError: it is damaged.
        """
        if not self.summary_file.exists():
            return {'folds': []}
        summary = read_json(self.summary_file, 'no summary')
        rows = summary.get('folds') if isinstance(summary, dict) else None
        if not (isinstance(rows, list) and all(map(is_row, rows))):
            raise InputError(f'{self.summary_file}: damaged (not the accuracies of folds)')
        beyond = [row['fold'] for row in rows if row['fold'] > max(self.kfold, 1)]
        if beyond:
            raise InputError(f'{self.summary_file}: damaged (fold {beyond[0]} of {max(self.kfold, 1)})')
        return summary

    def finished_folds(self):
        """The numbers of the folds that are finished, in order."""
        return [row['fold'] for row in self.summary()['folds']]

    def add_summary(self, row):
        """Add a finished fold to ``summary.json``; mean and (population) deviation follow."""
        with open(self.config_file) as file:
            # other processes may be training other folds
            with contextlib.suppress(OSError):          # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            rows = sorted([*self.summary()['folds'], row], key=lambda row: row['fold'])
            accuracies = [row['best_accuracy'] for row in rows]
            write_json(self.summary_file, {
                'folds': rows,
                'mean_accuracy': float(numpy.mean(accuracies)),
                'std_accuracy': float(numpy.std(accuracies)),
            })


def new_folder(parent, name):
    """Make ``parent/name``, or where that is there (a run of the same second) ``name-2`` and so on."""
    Path(parent).mkdir(parents=True, exist_ok=True)
    for suffix in itertools.chain([''], (f'-{number}' for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            folder = Path(parent, name + suffix)
            folder.mkdir()
            return folder


def is_row(row):
    """Whether it is what ``summary.json`` tells of a fold."""
    if not isinstance(row, dict):
        return False
    others = {name: value for name, value in row.items() if name != 'attribute_accuracy'}
    return (isinstance(row.get('fold'), int) and row['fold'] > 0
            and is_number(row.get('best_accuracy')) and math.isfinite(row['best_accuracy'])
            and all(is_number(row.get(name, 0)) for name in ('best_epoch', 'last_accuracy'))
            and isinstance(row.get('attribute_accuracy', {}), dict)
            and all(value is None or is_number(value) for value in others.values()))


def is_number(value):
    return isinstance(value, float) or isinstance(value, int) and abs(value) < 1 << 63


def wrong_entries(config):
    """What cannot be in a ``config.json``, beside its arguments, in words; what is missing is not told."""
    def texts(value):
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())

    wrong = []
    for name, kind in (('arch', str), ('variant', str), ('attention', str), ('device', str), ('command', str),
                       ('folds_digest', str), ('multitask', bool), ('classes', list), ('folds', list),
                       ('forced', list)):
        if not isinstance(config.get(name, kind()), kind):
            wrong.append(f'{name} is {config[name]!r:.60}')
    for name in 'versions', 'data':
        if not texts(config.get(name, {})):
            wrong.append(f'{name} is {config[name]!r:.60}')
    if not wrong:
        try:
            check_config(config, required=())
        except (TypeError, ValueError) as error:
            wrong.append(str(error))
    return wrong


def write_json(path, value):
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b'\n')


def read_json(path, missing):
    """The content of a JSON file; ``missing`` is what to say when it is not there.

    Raises:
        InputError: it is not there, is no JSON or larger than any of ours.
    """
    try:
        with open_file(path) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError('larger than 16 MB')
        return json.loads(content)
    except FileNotFoundError:
        raise InputError(f'{missing} ({path} is missing)') from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{path}: unreadable ({error})') from None
