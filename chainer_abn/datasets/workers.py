"""Batches of images that are read in worker processes.

A worker is forked and has a pipe to this process that nobody else holds; images come back through memory that
both share. No lock, queue or file is shared: a worker that dies takes nothing along, and its pipe tells. One
whose parent has died sees that on the pipe too and ends, whatever it is doing.
"""
import collections
import contextlib
import gc
import math
import mmap
import os
import select
import signal
import sys
import threading
import time
import traceback
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy

from chainer_abn import interrupt
from chainer_abn.errors import InputError
from chainer_abn.progress import clear

import chainer
from chainer.iterators import SerialIterator, _statemachine

SLOTS = 3                   # places for batches: one in use, two being filled
PATIENCE = 2                # seconds for a worker to end that has been killed
NOTHING = -1                # what a worker reads that waits for work


class WorkerIterator(SerialIterator):
    """Chainer iterator whose batches are read ahead by worker processes.

    The batches are those of :class:`~chainer_abn.datasets.batches.BatchIterator`, to the bit, and so is what
    is saved; it belongs to the batch that was handed out last. The workers are forked in the thread that asks
    for the first batch, and stay until :meth:`finalize`. What was read ahead is lost when a state is loaded,
    a data set is broken off by :meth:`reset`, or a batch cannot be made; the next batch forks anew then.

    A batch is (images, labels): the images (B, height, width, 3) uint8 lie in shared memory and are
    overwritten after the next batch has been asked for.

    Raises, where the batch would have been handed out:
        InputError: an image cannot be read, the first of the batch; a worker has died, or not answered for
            ``Readers.LIMIT`` seconds.

    Args:
        dataset (Examples)
        batch_size (int)
        n_processes (int)
        repeat, shuffle, order_sampler: as Chainer's serial iterator takes them.
    """

    _readers = None

    def __init__(self, dataset, batch_size, n_processes, repeat=True, shuffle=None, order_sampler=None):
        self.n_processes = n_processes
        self._ahead = collections.deque()       # (state, numbers) of the batches that are being read
        super().__init__(dataset, batch_size, repeat, shuffle, order_sampler)

    def __next__(self):
        self._previous_epoch_detail = self.epoch_detail
        try:
            self._ask_ahead()
            if self._ahead:
                self._state, numbers = self._ahead.popleft()
                return self._readers.take(), self.dataset.labels(numbers)
        except BaseException:
            self.finalize()
            raise
        raise StopIteration

    next = __next__

    def _ask_ahead(self):
        while len(self._ahead) < SLOTS:
            state, numbers = _statemachine.iterator_statemachine(
                self._ahead[-1][0] if self._ahead else self._state,
                self.batch_size, self.repeat, self.order_sampler, len(self.dataset))
            if numbers is None:
                return
            if self._readers is None:
                self._readers = Readers(self.dataset, self.batch_size, self.n_processes)
            self._readers.ask(numbers)
            self._ahead.append((state, numbers))

    def serialize(self, serializer):
        if self._ahead and isinstance(serializer, chainer.serializer.Deserializer):
            self.finalize()
        super().serialize(serializer)

    def reset(self):
        if self._ahead:
            self.finalize()
        super().reset()

    def finalize(self):
        """End the workers. Safe to call again, and in a forked process, which has none."""
        if self._readers is not None:
            self._readers.end()
            self._readers = None
            self._ahead.clear()


class Readers:
    """Workers that share out each batch, and the memory that the images come back in.

    Up to ``SLOTS`` batches are asked for in turn, and taken in the same order.

    Args:
        examples (Examples)
        batch_size (int): of the largest batch.
        n_processes (int)

    Attributes:
        TICK (float): seconds between two looks at what the workers do.
        WARNING (float): seconds that a worker is busy with one image, after which a line on stderr says so;
            again after twice as many, and so on.
        LIMIT (float): such seconds, after which it is given up.

    Raises:
        InputError: so many processes cannot be started.
        MemoryError
    """

    TICK, WARNING, LIMIT = 1, 60, 600

    def __init__(self, examples, batch_size, n_processes):
        self.examples = examples
        self.numbers = shared((SLOTS, batch_size), 'i8')
        self.images = shared((SLOTS, batch_size, *examples.transform.size, 3), 'u1')
        self.reading = shared((n_processes,), 'i8')     # the number of the example that each worker is at
        self.reading[:] = NOTHING
        self.batches, self.n_asked, self.workers = collections.deque(), 0, []
        try:
            for i in range(n_processes):
                self.workers.append(Worker(i, self._serve))
        except OSError as error:
            self.end()
            raise InputError(f'--workers {n_processes}: only {len(self.workers)} processes could be started '
                             f'({error.strerror})') from None

    def ask(self, numbers):
        """Have a batch read, of the examples with these numbers, (B,) int."""
        slot = self.n_asked % SLOTS
        self.n_asked += 1
        self.numbers[slot, :len(numbers)] = numbers
        sharing = self.workers[:len(numbers)]
        self.batches.append(Batch(slot, len(numbers), set(sharing), []))
        for worker in sharing:
            try:
                worker.connection.send((slot, len(numbers)))
            except OSError:
                self._lost(worker)

    def take(self):
        """The images of the first batch that has been asked for: a view, (B, height, width, 3) uint8.

        Raises:
            InputError: see :class:`WorkerIterator`.
            RuntimeError: another exception in a worker, with the traceback.
        """
        batch = self.batches[0]
        while batch.missing:
            self._hear()
        self.batches.popleft()
        if batch.errors:
            _, kind, message = min(batch.errors)        # the first in the order of the batch
            raise kind(message)
        return self.images[batch.slot, :batch.size]

    def end(self):
        # they hold nothing that could be left behind
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.reap()

    def _hear(self):
        """Note what the workers answer, each to the batches in turn; else, look how long they take."""
        by_connection = {worker.connection: worker for worker in self.workers}
        answering = wait(by_connection, self.TICK)
        for connection in answering:
            worker = by_connection[connection]
            try:
                error = connection.recv()
            except (EOFError, OSError):
                self._lost(worker)
            worker.seen = None
            batch = next(batch for batch in self.batches if worker in batch.missing)
            batch.missing.remove(worker)
            if error:
                batch.errors.append(error)
        if not answering:
            self._watch(self.batches[0].missing)

    def _watch(self, workers):
        """Called after each ``TICK`` of silence; a clock would also count while all processes are stopped."""
        for worker in workers:
            number = self.reading[worker.index]
            if number != worker.seen:
                worker.seen, worker.seconds, worker.warning = number, 0, self.WARNING
            worker.seconds += self.TICK
            line = (f'a process that reads images has not answered for {worker.seconds:.4g} s'
                    f'{self._while_reading(worker)}')
            if worker.seconds >= self.LIMIT:
                raise InputError(f'{line}; are the disk and the network in order?')
            if worker.seconds >= worker.warning:
                worker.warning *= 2
                clear(sys.stderr)
                print(line, file=sys.stderr, flush=True)

    def _lost(self, worker):
        worker.kill()
        status = worker.reap()
        hint = ''
        if status == -signal.SIGKILL:
            hint = '; was the memory full?' + ' --workers 1 takes less' * (len(self.workers) > 1)
        raise InputError(f'a process that reads images {interrupt.how_it_ended(status)}'
                         f'{self._while_reading(worker)}{hint}')

    def _while_reading(self, worker):
        number = self.reading[worker.index]
        return '' if number == NOTHING else f' while reading {self.examples.name(number)}'

    def _serve(self, index, connection):
        """In a worker: read the shares of batches that are asked for."""
        while True:
            slot, size = connection.recv()
            error = None
            try:
                for row in range(index, size, len(self.reading)):
                    self.reading[index] = number = self.numbers[slot, row]
                    self.images[slot, row], _ = self.examples.get_example(number)
            except InputError as reason:
                error = row, InputError, str(reason)
            except Exception:
                error = row, RuntimeError, f'in a process that reads images:\n{traceback.format_exc()}'
            self.reading[index] = NOTHING
            connection.send(error)


class Batch(NamedTuple):
    """One that has been asked for."""
    slot: int
    size: int
    missing: set                # of workers whose share is not done
    errors: list                # of (row, exception class, message)


class Worker:
    """A forked process, as its parent sees it.

    Args:
        index (int): among the workers.
        serve: (index, connection); what the process does, until it is ended.
    """

    def __init__(self, index, serve):
        self.index = index
        self.seen, self.seconds, self.warning = None, 0, 0      # how long it has been at which example
        self.connection, theirs = Pipe()
        _ours.add(self.connection)
        self.process = os.fork()
        if self.process == 0:
            try:
                _begin(theirs)
                serve(index, theirs)
            finally:
                os._exit(1)
        theirs.close()

    def kill(self):
        if not self.connection.closed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def reap(self):
        """The exit status of a process that was killed, None if it is not known. Waits for a moment."""
        if self.connection.closed:
            return None
        self.connection.close()
        deadline = time.monotonic() + PATIENCE
        # one that waits for a broken disk cannot be killed
        while time.monotonic() < deadline:
            try:
                ended, status = os.waitpid(self.process, os.WNOHANG)
            except ChildProcessError:
                return None
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        return None


_ours = weakref.WeakSet()       # the ends of pipes on the parent's side


def _close_ours():
    """In a forked process, whoever forked it: the workers are not its children, but its parent's."""
    for connection in _ours:
        connection.close()


os.register_at_fork(after_in_child=_close_ours)


def _begin(connection):
    """The first thing in a worker."""
    # what is garbage of the parent's may lie on a GPU, or wait for a thread
    gc.freeze()
    for signum in interrupt.EXCEPTIONS:         # sent to the whole group; the parent ends its workers
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=[connection], daemon=True).start()


def _end_with_parent(connection):
    """Wait until the other end is closed, and end this process, whatever it is doing."""
    poll = select.poll()
    poll.register(connection.fileno(), 0)       # a hang-up is always told
    poll.poll()
    os._exit(0)


def shared(shape, dtype):
    """An array of zeros, which this process shares with those that it forks from now on.

    Raises:
        MemoryError
    """
    size = math.prod(shape) * numpy.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, size)
    except OSError:
        raise MemoryError(f'{size} bytes for images') from None
    return numpy.frombuffer(memory, dtype).reshape(shape)
