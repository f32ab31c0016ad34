"""What a training run leaves behind, and where."""
import contextlib
import datetime
import fcntl
import json
import os
from pathlib import Path

import numpy

from chainer_abn.errors import InputError


class RunFolder:
    """The folder of a k-fold run.

    Args:
        root (Path)
        kfold (int): K of the file names; 0 for the data set's own split.
    """

    def __init__(self, root, kfold):
        self.root, self.kfold = Path(root), kfold

    @classmethod
    def create(cls, root, config):
        """Make the folder (None: ``result/<date-time>``) and write ``config.json``.

        Raises:
            InputError: it cannot be written, or holds a run already.
        """
        if root is None:
            root = Path('result', datetime.datetime.now().strftime('%Y-%m-%d-%H-%M-%S'))
        run = cls(root, config['arguments']['kfold'])
        if run.config_file.exists():
            raise InputError(f'--out {root}: holds a run already; go on with it by --resume {root}, '
                             'or name another folder')
        try:
            for folder in 'log', 'snap', 'model', 'matrix':
                (run.root / folder).mkdir(parents=True, exist_ok=True)
            write_json(run.config_file, config)
        except OSError as error:
            raise InputError(f'--out {root}: {error.strerror}') from None
        return run

    @classmethod
    def open(cls, root):
        """An existing run and its config.

        Raises:
            InputError: there is none.
        """
        config = read_json(Path(root, 'config.json'), f'{root}: no run there')
        try:
            return cls(root, config['arguments']['kfold']), config
        except (KeyError, TypeError):
            raise InputError(f'{Path(root, "config.json")}: not a run of this program') from None

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

    def snapshot(self, fold):
        """State of the training of a fold that is not finished."""
        return self.root / f'snap/{self.kfold}-{fold}_fold_trainer.npz'

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


def is_row(row):
    """Whether it is what ``summary.json`` tells of a fold."""
    return (isinstance(row, dict) and isinstance(row.get('fold'), int) and is_number(row.get('best_accuracy'))
            and all(value is None or is_number(value) or isinstance(value, dict) for value in row.values()))


def is_number(value):
    return isinstance(value, (int, float))


def write_json(path, value):
    part = path.with_name(path.name + '.part')
    part.write_text(json.dumps(value, indent=2) + '\n')
    os.replace(part, path)


def read_json(path, missing):
    """The content of a JSON file; ``missing`` is what to say when it is not there."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f'{missing} ({path} is missing)') from None
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: unreadable ({error})') from None
