"""One step of training: forward, backward, update; as Chainer does it, queued on a GPU, or captured."""
import contextlib
import sys
import warnings

import numpy

from chainer_abn.errors import one_line
from chainer_abn.runtime.gpu_update import GpuUpdate, addresses_of

import chainer

WARM_UP = 3             # steps before one is captured: kernels are compiled, convolutions chosen


def make_step(optimizer, device, mixed=False, capture=False):
    """The step of an optimizer on a device.

    Args:
        optimizer: set up with a classifier: (x, t) -> loss.
        device (chainer.backend.Device)
        mixed (bool): scale the loss, as float16 needs.
        capture (bool): record the step as a CUDA graph, on a GPU.

    Returns:
        a function of (x, t); its ``loss_scaling`` (scale, whether a gradient has overflowed ever) is all
        the state that it has beside the optimizer's.
    """
    if device.xp is numpy:
        return ChainerStep(optimizer, mixed)
    return (CapturedStep if capture else GpuStep)(optimizer, mixed)


class ChainerStep:
    """The optimizer's own, with Chainer's dynamic loss scaling where ``mixed``."""

    def __init__(self, optimizer, mixed=False):
        self.optimizer = optimizer
        if mixed:
            optimizer.loss_scaling()
            # each time that the scale was too large, which is how it is found
            warnings.filterwarnings('ignore', 'Non finite number found in param.grad')

    def __call__(self, x, t):
        self.optimizer.update(self.optimizer.target, x, t)

    @property
    def loss_scaling(self):
        if not self.optimizer._loss_scaling_is_dynamic:
            return 1.0, False
        return self.optimizer._loss_scale, self.optimizer._loss_scaling_isnan_ever

    @loss_scaling.setter
    def loss_scaling(self, value):
        if self.optimizer._loss_scaling_is_dynamic:
            self.optimizer._loss_scale, self.optimizer._loss_scaling_isnan_ever = value


class GpuStep:
    """Everything is queued on the GPU; nothing waits for it."""

    def __init__(self, optimizer, mixed=False):
        self.optimizer, self.classifier = optimizer, optimizer.target
        self.update = GpuUpdate(optimizer, dynamic=mixed)

    def __call__(self, x, t):
        self.backward(x, t)
        self.update()

    def backward(self, x, t):
        loss = self.classifier(x, t)
        self.classifier.cleargrads()
        loss.grad = self.update.scale
        loss.backward()

    @property
    def loss_scaling(self):
        return self.update.loss_scaling

    @loss_scaling.setter
    def loss_scaling(self, value):
        self.update.loss_scaling = value


class CapturedStep(GpuStep):
    """The step is recorded once, as a CUDA graph, and launched as a whole from then on.

    So Python, which takes longer than the GPU over the layers of a CIFAR network, runs through them once.
    The first steps, and those of another batch size, are run as :class:`GpuStep` does; the numbers are the
    same, since the kernels are.

    What the graph reads and writes stays in its place: images and labels are copied into arrays of its own,
    the learning rate, the loss scale and the state of dropout's masks are in the GPU's memory, and all that
    is made in between comes from a pool of memory that nothing else uses. What the host decides anew in
    each step would be frozen; no network of this package does that.
    """

    def __init__(self, optimizer, mixed=False):
        super().__init__(optimizer, mixed)
        cuda = self.update.cupy.cuda
        # not one in order with the default stream, which nothing may touch then while this one is captured
        self.stream = cuda.Stream(non_blocking=True)
        self.before, self.after = (cuda.Event(disable_timing=True) for _ in range(2))
        # memory that a graph uses must never go back: CuPy's pool gives it back when it is short of some
        self.kept, self.pool = [], cuda.MemoryPool(self.keep)
        self.graph, self.steps = None, 0

    def keep(self, size):
        memory = self.update.cupy.cuda.Memory(size)
        self.kept.append(memory)
        return self.update.cupy.cuda.MemoryPointer(memory, 0)

    @contextlib.contextmanager
    def in_order(self):
        """On the step's stream: behind what the current one has to do, and before what it is given next."""
        outer = self.update.cupy.cuda.get_current_stream()
        self.before.record(outer)
        self.stream.wait_event(self.before)
        try:
            with self.stream:
                yield
        finally:
            self.after.record(self.stream)
            outer.wait_event(self.after)

    def __call__(self, x, t):
        if self.steps == WARM_UP:
            self.try_to_capture(x, t)
        self.steps += 1
        with self.in_order():
            if self.graph is None or x.shape != self.x.shape:
                with self.update.cupy.cuda.using_allocator(self.pool.malloc):
                    super().__call__(x, t)
                return
            self.x[...], self.t[...] = x, t
            self.update.set_rates()
            self.graph.launch()
        self.update.count()
        chainer.reporter.get_current_reporter().observation.update(self.observation)

    def try_to_capture(self, x, t):
        """Record the step; nothing is computed yet. Where it cannot be recorded, that is told."""
        cupy, update = self.update.cupy, self.update
        with self.in_order(), cupy.cuda.using_allocator(self.pool.malloc):
            self.x, self.t, self.observation = x.copy(), t.copy(), {}
            table = cupy.empty(len(update.params), 'u8')
            reporter = chainer.reporter.get_current_reporter()
            outside, reporter.observation = reporter.observation, self.observation
            self.stream.begin_capture()
            try:
                self.backward(self.x, self.t)
                # kept, since the graph reads them; their addresses are known only now
                self.gradients = update.gradients()
                update.launch(table)
                graph = self.stream.end_capture()
            except Exception as error:      # whatever cannot be done in a capture raises what it likes
                with contextlib.suppress(RuntimeError):
                    self.stream.end_capture()
                if isinstance(error, MemoryError):
                    raise
                print(f'--capture: the step cannot be recorded ({one_line(error)}); going on without',
                      file=sys.stderr)
                return
            finally:
                reporter.observation = outside
            table.set(addresses_of(self.gradients))
        self.graph, self.table = graph, table
