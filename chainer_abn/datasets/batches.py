"""Whole batches instead of lists of examples."""
from chainer.iterators import SerialIterator, _statemachine


class BatchIterator(SerialIterator):
    """Chainer's serial iterator, which asks ``Examples`` for a batch at once.

    The state, and so what is saved and resumed, is Chainer's.
    """

    def __next__(self):
        self._previous_epoch_detail = self.epoch_detail
        self._state, numbers = _statemachine.iterator_statemachine(
            self._state, self.batch_size, self.repeat, self.order_sampler, len(self.dataset))
        if numbers is None:
            raise StopIteration
        # the one line that differs
        return self.dataset.batch(numbers)

    next = __next__
