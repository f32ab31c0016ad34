"""The state of a training, saved and loaded."""
import sys

import numpy

from chainer_abn import interrupt
from chainer_abn.errors import InputError
from chainer_abn.training import checkpoint
from chainer_abn.training.run_folder import is_number

import chainer
from chainer.training import extension


class Snapshot(extension.Extension):
    """Saves the state of the training, so that a cut run goes on as if it had not been cut.

    Each ``every`` epochs, after the last one, and when a signal asks the training to end, which it does
    then. The last two are kept.

    Args:
        run (RunFolder)
        fold (int)
        every (int): epochs.
        epochs (int): of the training.
        divergence (LookForDivergence): asked before anything is saved.
    """

    trigger = 1, 'iteration'
    priority = -100             # after everything that has a state
    name = 'Snapshot'
    KEPT = 2

    def __init__(self, run, fold, every, epochs, divergence):
        self.run, self.fold, self.every, self.epochs = run, fold, every, epochs
        self.divergence = divergence

    def __call__(self, trainer):
        updater = trainer.updater
        due = updater.is_new_epoch and (updater.epoch % self.every == 0 or updater.epoch == self.epochs)
        if due or interrupt.pending():
            self.divergence.look(updater)
            self.save(trainer)
        interrupt.check()

    def save(self, trainer):
        state = chainer.serializers.DictionarySerializer()
        trainer.serialize(state)
        checkpoint.write_npz(self.run.snapshot(self.fold, trainer.updater.iteration), state.target)
        for old in self.run.snapshots(self.fold)[self.KEPT:]:
            old.unlink()


def restore(trainer, run, fold):
    """Load the newest snapshot of a fold that can be read; a damaged one is told and passed over.

    Returns:
        Path: None where the fold has no snapshot.

    Raises:
        InputError: none of them can be read.
    """
    damaged = None
    for path in run.snapshots(fold):
        if damaged:
            print(f'{damaged}; going on from {path.name}', file=sys.stderr)
        try:
            load(path, trainer)
            return path
        except InputError as error:
            damaged = error
    if damaged:
        raise InputError(f'{damaged}; no other snapshot of fold {fold} is left; remove '
                         f'{run.snapshot(fold, "*")} to train the fold anew')
    return None


def load(path, trainer):
    """Raises InputError: unreadable, or of another training."""
    arrays = checkpoint.read_npz(path)
    try:
        Exact(arrays).load(trainer)
        check(trainer)
    except Exception as error:              # what does not fit raises what it likes
        raise InputError(
            f'{path}: not a snapshot of this training ({type(error).__name__}: {error})') from None


class Exact(chainer.serializers.NpzDeserializer):
    """Chainer's, which would also spread an array of another shape over ours."""

    def __call__(self, key, value):
        name = self.path + key.lstrip('/')
        if hasattr(value, 'shape') and name in self.npz and self.npz[name].shape != value.shape:
            raise ValueError(f'{name} is {self.npz[name].shape}, not {value.shape}')
        return super().__call__(key, value)


def check(trainer):
    """Whether a trainer could have come to the state that it has: what others take for granted.

    Raises:
        ValueError: no, and why.
    """
    updater = trainer.updater
    iterator = updater.get_iterator('main')
    n, order = len(iterator.dataset), iterator._state.order         # as of datasets.examples.EpochOrder
    if (updater.iteration < 0 or not 0 <= iterator.current_position < n
            or not numpy.array_equal(numpy.sort(order), n * (iterator.epoch + 1) + numpy.arange(n))):
        raise ValueError(f'iteration {updater.iteration}, image {iterator.current_position} of {n}, epoch '
                         f'{iterator.epoch} in the order of epoch {order[0] // n - 1}')
    log, best = trainer.get_extension('LogReport').log, trainer.get_extension('KeepBest')
    needed = {'epoch', 'iteration', 'validation/main/accuracy', 'validation/main/loss'}
    if not (isinstance(log, list) and all(are_numbers(entry) and needed <= entry.keys() for entry in log)):
        raise ValueError('the log is no list of entries')
    if (iterator.epoch or best.epoch) and best.epoch not in [entry['epoch'] for entry in log]:
        raise ValueError(f'the best epoch {best.epoch} is not in the log')
    if not (best.attributes is None
            or are_numbers(best.attributes) and set(best.attributes) == set(best.config['classes'])):
        raise ValueError('accuracies of other tasks')
    for plot in map(trainer.get_extension, ('plot_loss', 'plot_accuracy')):
        if not plot.is_sound():
            raise ValueError(f'no curves: {plot.name}')


def are_numbers(entries):
    return isinstance(entries, dict) and all(map(is_number, entries.values()))
