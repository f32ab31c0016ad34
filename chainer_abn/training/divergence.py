"""Losses that are not finite numbers any more."""
import numpy

from chainer_abn.errors import Diverged

import chainer
from chainer.training import extension


class LookForDivergence(extension.Extension):
    """Ends a training whose loss is not a finite number any more.

    On the CPU that is at the iteration where it happens. On a GPU nothing waits for the losses: they are
    looked at every ``EVERY`` iterations, and before anything is made of an epoch; the iteration that is named
    is the one where it happened.

    Args:
        run (RunFolder)
        fold (int)
    """

    trigger = 1, 'iteration'
    priority = extension.PRIORITY_WRITER + 2    # before validation
    name = 'LookForDivergence'
    EVERY = 50

    def __init__(self, run, fold):
        self.run, self.fold = run, fold
        self.first = None                       # where it happened, 0 as long as it did not
        self.rates = {}                         # of the iterations since it was last looked at

    def __call__(self, trainer):
        """Raises Diverged."""
        updater, loss = trainer.updater, trainer.observation['main/loss']
        loss, now = getattr(loss, 'array', loss), updater.iteration
        self.rates[now] = updater.get_optimizer('main').lr
        if isinstance(loss, chainer.backends.cuda.ndarray):
            if self.first is None:
                self.first = chainer.backends.cuda.cupy.zeros((), 'i8')
            _note_divergence()(loss, now, self.first, size=1)
            if now % self.EVERY and not updater.is_new_epoch:
                return
        else:
            self.first = 0 if numpy.isfinite(loss) else now
        self.look(updater)

    def look(self, updater):
        """Look at what has not been looked at yet, before something is kept of it. Raises Diverged."""
        if at := int(self.first):
            raise Diverged(self.message(updater, at))
        self.rates.clear()

    def message(self, updater, at):
        iterator, snapshots = updater.get_iterator('main'), self.run.snapshots(self.fold)
        epoch = (at - 1) * iterator.batch_size // len(iterator.dataset)
        return (f'fold {self.fold}: the loss is not a finite number any more at iteration {at} (epoch '
                f'{epoch + 1}) with learning rate {self.rates[at]:g}; '
                + (f'the last good snapshot is {snapshots[0]}' if snapshots else
                   'there is no good snapshot yet'))


def _note_divergence():
    return chainer.backends.cuda.elementwise(
        'raw T loss, int64 now', 'raw int64 first',
        'if (first[0] == 0 && !isfinite((float)loss[0])) first[0] = now', 'abn_note_divergence')
