"""Batches that are made and sent to the GPU while it works on the one before."""
from concurrent.futures import ThreadPoolExecutor

import numpy

from chainer_abn.datasets.on_gpu import Cuts, Cutter, cuts_of

import chainer
from chainer.backends import cuda
from chainer.iterators import SerialIterator


def send_ahead(iterators, normalize, device):
    """Iterators whose batches are on a device, and the converter that goes with them.

    Args:
        iterators (sequence): whose batches are what ``normalize`` takes, or those of :class:`Cuts`.
        normalize (Normalize)
        device (chainer.backend.Device)

    Returns:
        list of iterators and a converter, so that ``converter(iterator.next(), device)`` is x and t on the
        device. On the CPU they are those given.
    """
    if device.xp is numpy:
        return list(iterators), normalize
    cutter = Cutter(normalize, device)
    # its table and the images are sent on the stream of now, and read on any
    device.xp.cuda.get_current_stream().synchronize()
    return [(AheadOfCuts if isinstance(iterator.dataset, Cuts) else Ahead)(iterator, cutter, device)
            for iterator in iterators], _as_it_is


def _as_it_is(batch, device=None):
    return batch


class Ahead(SerialIterator):
    """Chainer iterator of (x, t) on a GPU.

    As soon as a batch is handed out, a thread takes the next one from ``iterator``, copies its uint8 images
    into pinned memory and sends them on a stream of its own. The stream that is current when the batch is
    asked for waits for them, the host does not.

    ``epoch`` and so on, and what is saved, are of the batch that was handed out last. An exception, and the
    end of an epoch without repetition, are raised where the batch would have been handed out.

    Args:
        iterator: BatchIterator or WorkerIterator; it belongs to this one from now on.
        cutter (Cutter)
        device (chainer.backends.cuda.GpuDevice)
    """

    _pending = None

    def __init__(self, iterator, cutter, device):
        self.iterator, self.cutter, self.device = iterator, cutter, device
        with device.device:
            stream = cuda.cupy.cuda.Stream(non_blocking=True)
            # one in use, one being filled
            self._slots = [Slot(stream), Slot(stream)]
        self._thread = ThreadPoolExecutor(1)
        super().__init__(iterator.dataset, iterator.batch_size, iterator.repeat)

    def pack(self, batch):
        """The arrays to send: numbers, then (B, H, W, 3) uint8 images."""
        images, labels = batch
        return cuts_of(numpy.arange(len(labels)), 0, False, labels), images

    def unpack(self, cuts, images):
        """The arrays, sent -> x and t."""
        return self.cutter(images, cuts, images.shape[1:3])

    def __next__(self):
        # the first batch is made in this thread: workers are forked then
        made = self._make() if self._pending is None else self._pending.result()
        self._pending = None
        self._follow()
        if isinstance(made, Exception):
            raise made
        with made as arrays:
            x, t = self.unpack(*arrays)
        self._pending = self._thread.submit(self._make)
        return x, t.reshape(len(t), *self.dataset.store.dataset.labels.shape[1:])

    next = __next__

    def _make(self):
        """The slot with the next batch, or an exception in its place."""
        try:
            batch = self.iterator.next()
            made, _ = self._slots
            self._slots.reverse()
            with self.device.device:
                made.send(self.pack(batch))
        except Exception as error:
            return error
        return made

    def _follow(self):
        """Take over the iterator's state, while no batch is being made."""
        self._state, self._previous_epoch_detail = self.iterator._state, self.iterator._previous_epoch_detail

    def serialize(self, serializer):
        if isinstance(serializer, chainer.serializer.Deserializer):
            self._drop()
            self.iterator.serialize(serializer)
            self._follow()
        else:
            super().serialize(serializer)

    def reset(self):
        self._drop()
        self.iterator.reset()
        self._follow()

    def finalize(self):
        self._drop()
        self._thread.shutdown()
        while self._slots:
            self._slots.pop().close()
        self.iterator.finalize()

    def __del__(self):
        """Chainer's would wait for the thread, and garbage may be collected in a fork, which has none."""

    def _drop(self):
        """Forget the batch that was made ahead; it can be made again, the same."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None


class AheadOfCuts(Ahead):
    """The same where the images are on the GPU already, and only cuts are sent."""

    def pack(self, batch):
        return batch,

    def unpack(self, cuts):
        return self.cutter(self.dataset.images, cuts, self.dataset.size)


class Slot:
    """A place for a batch in pinned memory and one on the device, and when they may be written again.

    Args:
        stream (cupy.cuda.Stream): on which batches are sent.
    """

    def __init__(self, stream):
        event = cuda.cupy.cuda.Event
        self.stream, self.size = stream, 0
        self.sent, self.used = event(block=True, disable_timing=True), event(disable_timing=True)

    def send(self, arrays):
        """Copy arrays into the slot and start sending them.

        Args:
            arrays: those of larger items first, so that all are aligned.
        """
        # the pinned memory was read by a copy, the device's by a kernel
        self.sent.synchronize()
        self.stream.wait_event(self.used)
        self._reserve(sum(array.nbytes for array in arrays))
        self.arrays, start = [], 0
        for array in arrays:
            part = slice(start, start + array.nbytes)
            self.pinned[part].view(array.dtype).reshape(array.shape)[...] = array
            self.arrays.append(self.on_device[part].view(array.dtype).reshape(array.shape))
            start += array.nbytes
        self.on_device.data.copy_from_host_async(self.pinned.ctypes.data, start, self.stream)
        self.sent.record(self.stream)

    def close(self):
        """Wait until nothing uses the memory any more."""
        self.sent.synchronize()
        self.used.synchronize()

    def _reserve(self, size):
        if size > self.size:
            cupy = cuda.cupy
            self.size = size
            self.pinned = numpy.frombuffer(cupy.cuda.alloc_pinned_memory(size), 'u1', size)
            with self.stream:
                self.on_device = cupy.empty(size, 'u1')

    def __enter__(self):
        """The arrays on the device, for use on the current stream."""
        cuda.cupy.cuda.get_current_stream().wait_event(self.sent)
        return self.arrays

    def __exit__(self, *_):
        self.used.record()
