"""What a run has left in its folder so far."""
import shlex

import numpy

from chainer_abn.errors import InputError
from chainer_abn.files import open_file
from chainer_abn.training import predictions
from chainer_abn.training.run_folder import RunFolder, is_number, read_json

# what a config has to tell
CONFIG = 'arch', 'variant', 'attention', 'classes', 'image_size', 'resize'
ARGUMENTS = 'dataset', 'data_dir', 'n_images', 'kfold', 'folds', 'epoch', 'seed'


def open_run(root):
    """An existing run and its config, which tells all that the report needs.

    Raises:
        InputError: there is no run, or its config does not.
    """
    run, config = RunFolder.open(root)
    lacking = [name for names, there in ((CONFIG, config), (ARGUMENTS, config['arguments']))
               for name in names if name not in there]
    if lacking:
        raise InputError(f'{run.config_file}: damaged (it does not tell {", ".join(lacking)})')
    return run, config


class Found:
    """The files of a run, read; what is missing or damaged is told in ``missing``.

    Args:
        run (RunFolder)
        config (dict): of the run, as of :func:`open_run`.

    Attributes:
        summary (dict): of ``summary.json``; without folds where none is finished.
        folds (list of int): that the run was asked to train.
        finished (list of int)
        logs (dict): fold -> entries of its log, where there are some.
        counts (dict): finished fold -> its confusion matrix, (K, K) int, of several tasks (T, 2, 2).
        predictions (dict): finished fold -> :class:`~chainer_abn.training.predictions.Predictions`.
        failed (dict): fold that is not finished -> file that tells why.
        missing (list of str): one line each.

    Raises:
        InputError: ``summary.json`` is damaged.
    """

    def __init__(self, run, config):
        self.run, self.config, self.missing = run, config, []
        self.classes, self.multitask = config['classes'], config.get('multitask', False)
        self.arguments = config['arguments']
        self.folds = self.arguments['folds'] or list(range(1, max(run.kfold, 1) + 1))
        self.summary = run.summary()
        self.finished = run.finished_folds()
        self.logs = self._read(self.folds, self._log)
        self.counts = self._read(self.finished, self._counts)
        self.predictions = self._read(self.finished, self._predictions)
        self.failed = {fold: run.error(f'fold {fold}') for fold in self.folds
                       if fold not in self.finished and run.error(f'fold {fold}').exists()}

    @property
    def unfinished(self):
        return [fold for fold in self.folds if fold not in self.finished]

    @property
    def go_on(self):
        """The command that trains what is left."""
        return f'python n_fold_train.py --resume {shlex.quote(str(self.run.root))}'

    def _read(self, folds, read):
        found = {}
        for fold in folds:
            try:
                found[fold] = read(fold)
            except InputError as error:
                self.missing.append(str(error))
        return {fold: content for fold, content in found.items() if content is not None}

    def _log(self, fold):
        if not self.run.log(fold).exists() and fold not in self.finished:
            return None                     # not begun
        log = read_json(self.run.log(fold), f'no curves of fold {fold}')
        if not (isinstance(log, list) and log and all(map(is_entry, log))):
            raise InputError(f'{self.run.log(fold)}: damaged (not the entries of epochs)')
        return log

    def _counts(self, fold):
        path = f'{self.run.matrix(fold)}.npy'
        n = len(self.classes)
        try:
            with open_file(path) as file:
                counts = numpy.load(file, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f'no confusion matrix of fold {fold} ({path} is missing)') from None
        except Exception as error:          # a damaged header can raise anything
            raise InputError(f'{path}: unreadable ({error})') from None
        if counts.shape != ((n, 2, 2) if self.multitask else (n, n)):
            raise InputError(f'{path}: not a confusion matrix of the classes of this run')
        return counts

    def _predictions(self, fold):
        path = self.run.predictions(fold)
        if not path.exists():
            raise InputError(f'no images of fold {fold} ({path} is missing; older versions do not write it)')
        return predictions.read(path, self.classes, self.multitask)


def is_entry(entry):
    """Whether it is what the log tells of an epoch."""
    return (isinstance(entry, dict) and isinstance(entry.get('epoch'), int)
            and all(map(is_number, entry.values())))
