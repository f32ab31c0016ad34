"""The operations of a block in training on a GPU, which are queued at once and note their way back.

What follows a convolution or batch normalization is one kernel, in place; the gradient of a ReLU is told by
what came out of it, and is taken in the same kernel that adds the gradients of what came out.
"""
import cupy
from cupy import ndarray

from chainer_abn.runtime.cudnn import descriptors
from chainer_abn.runtime.dropout import gpu_mask
from chainer_abn.runtime.gpu_blocks import kernels
from chainer_abn.runtime.gpu_blocks.calls import Unfit, calls
from chainer_abn.runtime.gpu_blocks.weights import HalfWeights, SingleWeights, collect

import chainer

_SINGLE = cupy.dtype('f')
_POINT = (1, 1), (0, 0), (1, 1), 1          # the window of a 1x1 convolution


class Maps:
    """A physical array, see :mod:`~chainer_abn.runtime.gpu_blocks.calls`, and its gradient on the way back.

    Two gradients are kept apart until they are taken: what takes them may add them on the way.
    """

    __slots__ = 'array', 'needs_grad', 'grad', 'owned', 'more', 'more_owned'

    def __init__(self, array, needs_grad=True):
        self.array, self.needs_grad = array, needs_grad
        self.grad = self.more = None
        self.owned = self.more_owned = False

    def give(self, grad, owned):
        """Add to the gradient; an ``owned`` array may be written over later."""
        if self.more is not None:
            self.grad, self.owned = self.take()
        if self.grad is None:
            self.grad, self.owned = grad, owned
        else:
            self.more, self.more_owned = grad, owned

    def take(self, relu=False):
        """The gradient, before the ``relu`` that gave the array, and whether it may be written over.

        It is forgotten here.
        """
        grad, owned, more, more_owned = self.grad, self.owned, self.more, self.more_owned
        self.grad = self.more = None
        if more is None and not relu:
            return grad, owned
        out = grad if owned else more if more_owned else ndarray(grad.shape, grad.dtype)
        if more is None:
            kernels.MASK(self.array, grad, out)
        elif relu:
            kernels.MASK_SUM(self.array, grad, more, out)
        else:
            kernels.ADD(grad, more, out)
        return out, True


class Tape:
    """The operations in training; :meth:`backward` goes back over them once.

    The ways back do not hold the tape: a graph that is dropped must free its maps at once.

    Args:
        block (chainer_abn.runtime.blocks.Block)
        char: the dtype of the maps, 'e' or 'f'.
        masks (list): of dropout, (N, C, h, w); None: they are drawn.

    Attributes:
        gradients (dict): id of a parameter -> float32 array, after the way back.
        masks (list): as above.
    """

    def __init__(self, block, char, masks=None):
        self._calls, self._handle = calls(char), descriptors.handle()
        self._weights = HalfWeights(block) if char == 'e' else SingleWeights()
        self._update_statistics = not chainer.config.in_recomputing
        self._steps, self.gradients = [], {}
        self._replay = iter(masks) if masks is not None else None
        self.masks = [] if masks is None else masks

    # between Chainer's arrays and maps

    def enter(self, x, needs_grad):
        return Maps(self._inside(x), needs_grad)

    def leave(self, maps):
        return self._outside(maps.array)

    def give(self, maps, gy):
        inside = self._inside(gy)
        maps.give(inside, inside.data.ptr != gy.data.ptr)

    def gradient(self, maps):
        grad, _ = maps.take()
        return None if grad is None else self._outside(grad)

    def _inside(self, array):
        return cupy.ascontiguousarray(array.transpose(0, 2, 3, 1) if self._calls.last else array)

    def _outside(self, array):
        return array.transpose(0, 3, 1, 2) if self._calls.last else array

    def backward(self):
        steps, handle = self._steps, descriptors.handle()
        while steps:
            y, back = steps.pop()       # and with the step go the maps that only it needs
            if y.grad is not None:
                back(handle)
        self._weights.collect(self.gradients)

    # the operations

    def conv(self, link, x, relu=False, add=None):
        weights, gradients, calls = self._weights, self.gradients, self._calls
        W, b = link.W, link.b
        call = calls.convolution(x.array.shape, W.array.shape, tuple(link.stride), tuple(link.pad),
                                 tuple(link.dilate), link.groups)
        array = ndarray(call.y_shape, calls.dtype)
        call.forward(self._handle, x.array.data.ptr, weights.address(W), array.data.ptr)
        self._end(array, b, add, relu)
        y, pixels = Maps(array), calls.pixels

        def back(handle):
            gy, owned = y.take(relu)
            weights.gradient(W, lambda out: call.weights(handle, x.array.data.ptr, gy.data.ptr, out))
            if b is not None:
                collect(gradients, b, gy.sum((0, *pixels), 'f'))
            if x.needs_grad:
                gx = ndarray(x.array.shape, gy.dtype)
                call.data(handle, weights.address(W), gy.data.ptr, gx.data.ptr)
                x.give(gx, True)
            if add is not None:
                add.give(gy, owned)

        self._steps.append((y, back))
        return y

    def _end(self, array, bias, add, relu):
        """What ends a layer, in place."""
        if add is not None and add.array.shape != array.shape:
            raise Unfit(f'{add.array.shape} to {array.shape}')
        more = () if add is None else (add.array,)
        if bias is not None:
            _, channels, h, w = self._calls.logical(array.shape)
            more = bias.array, 1 if self._calls.last else h * w, channels, *more
        if more or relu:
            kernels.end(bias is not None, add is not None, relu)(array, *more, array)

    def bn(self, link, x, relu=False, add=None):
        gradients, eps = self.gradients, link.eps
        gamma, beta = link.gamma, link.beta
        channels = gamma.array.size
        call = self._calls.normalization(x.array.shape, channels)
        array, statistics = ndarray(x.array.shape, x.array.dtype), ndarray((2, channels), _SINGLE)
        mean = statistics.data.ptr
        inv_std = mean + 4 * channels
        running = (link.avg_mean.data.ptr, link.avg_var.data.ptr) if self._update_statistics else (None, None)
        reserve = call.forward(self._handle, x.array.data.ptr, array.data.ptr, gamma.array.data.ptr,
                               beta.array.data.ptr, 1 - link.decay, *running, eps, mean, inv_std)
        self._end(array, None, add, relu)
        y = Maps(array)

        def back(handle):
            gy, owned = y.take(relu)
            gx = ndarray(gy.shape, gy.dtype)
            ggamma, gbeta = ndarray((channels,), _SINGLE), ndarray((channels,), _SINGLE)
            mean = statistics.data.ptr
            call.backward(handle, x.array.data.ptr, gy.data.ptr, gx.data.ptr, gamma.array.data.ptr,
                          ggamma.data.ptr, gbeta.data.ptr, eps, mean, mean + 4 * channels, reserve)
            collect(gradients, gamma, ggamma)
            collect(gradients, beta, gbeta)
            if x.needs_grad:
                x.give(gx, True)
            if add is not None:
                add.give(gy, owned)

        self._steps.append((y, back))
        return y

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        return self.bn(bn, self.conv(conv, x), relu, add)

    def add(self, a, b, relu=False):
        if a.array.shape != b.array.shape:
            raise Unfit(f'{b.array.shape} to {a.array.shape}')
        array = ndarray(a.array.shape, a.array.dtype)
        (kernels.ADD_RELU if relu else kernels.ADD)(a.array, b.array, array)
        y = Maps(array)

        def back(handle):
            gy, _ = y.take(relu)
            a.give(gy, False)
            b.give(gy, False)

        self._steps.append((y, back))
        return y

    def concat(self, xs):
        axis = 3 if self._calls.last else 1
        places, stop = [], 0
        for x in xs:
            start, stop = stop, stop + x.array.shape[axis]
            places.append((slice(None),) * axis + (slice(start, stop),))
        shape = list(xs[0].array.shape)
        shape[axis] = stop
        array = ndarray(tuple(shape), xs[0].array.dtype)
        for x, place in zip(xs, places, strict=True):
            array[place] = x.array
        y = Maps(array)

        def back(handle):
            gy, _ = y.take()
            for x, place in zip(xs, places, strict=True):
                x.give(gy[place].copy(), True)

        self._steps.append((y, back))
        return y

    def dropout(self, x, ratio):
        if ratio == 0:
            return x
        if self._replay is not None:
            mask = self._inside(next(self._replay))
        else:
            mask = gpu_mask(x.array.shape, x.array.dtype, ratio)
            self.masks.append(self._outside(mask))
        array = ndarray(x.array.shape, x.array.dtype)
        kernels.MULTIPLY(x.array, mask, array)
        y = Maps(array)

        def back(handle):
            gy, owned = y.take()
            out = gy if owned else ndarray(gy.shape, gy.dtype)
            kernels.MULTIPLY(gy, mask, out)
            x.give(out, True)

        self._steps.append((y, back))
        return y

    def max_pool(self, x, ksize, stride, pad):
        return self._pool(x, True, ksize, stride, pad)

    def avg_pool(self, x, ksize):
        return self._pool(x, False, ksize, ksize, 0)

    def _pool(self, x, *window):
        call = self._calls.pooling(x.array.shape, *window)
        array = ndarray(call.y_shape, x.array.dtype)
        call.forward(self._handle, x.array.data.ptr, array.data.ptr)
        y = Maps(array)

        def back(handle):
            gy, _ = y.take()
            gx = ndarray(x.array.shape, gy.dtype)
            call.backward(handle, x.array.data.ptr, y.array.data.ptr, gy.data.ptr, gx.data.ptr)
            x.give(gx, True)

        self._steps.append((y, back))
        return y

    def average(self, x):
        mean = x.array.mean(self._calls.pixels, 'f', keepdims=True)
        y = Maps(mean.astype(x.array.dtype, copy=False))
        inner, channels, pixels = self._sizes(x)

        def back(handle):
            gy, _ = y.take()
            gx = ndarray(x.array.shape, gy.dtype)
            kernels.SPREAD(gy, 1 / pixels, inner, channels, pixels, gx)
            x.give(gx, True)

        self._steps.append((y, back))
        return y

    def _sizes(self, x):
        """What the kernels are to know of maps beside (N, C) arrays."""
        _, channels, h, w = self._calls.logical(x.array.shape)
        return 1 if self._calls.last else h * w, channels, h * w

    def excite(self, fc1, fc2, x):
        gradients, axes, sizes = self.gradients, self._calls.pixels, self._sizes(x)
        single, handle = calls('f'), self._handle
        mean = x.array.mean(axes, 'f')
        hidden, back1 = self._linear(single, handle, fc1, mean)
        kernels.RELU(hidden, hidden)
        weight, back2 = self._linear(single, handle, fc2, hidden)
        kernels.SIGMOID(weight, weight)
        array = ndarray(x.array.shape, x.array.dtype)
        kernels.SCALE(x.array, weight, *sizes, array)
        y = Maps(array)

        def back(handle):
            gy, owned = y.take()
            g = kernels.DOT(x.array, gy, axis=axes)
            kernels.SIGMOID_BACK(weight, g, g)
            g = back2(handle, gradients, g)
            kernels.MASK(hidden, g, g)
            g = back1(handle, gradients, g)
            gx = gy if owned else ndarray(gy.shape, gy.dtype)
            kernels.SCALE_BACK(gy, weight, g, *sizes, gx)
            x.give(gx, True)

        self._steps.append((y, back))
        return y

    @staticmethod
    def _linear(calls, handle, link, x):
        """x (B, C) -> (B, K) and its way back, as a 1x1 convolution: no cuBLAS in a captured graph."""
        W, b = link.W, link.b
        call = calls.convolution((*x.shape, 1, 1), (*W.array.shape, 1, 1), *_POINT)
        y = ndarray(call.y_shape[:2], _SINGLE)
        call.forward(handle, x.data.ptr, W.array.data.ptr, y.data.ptr)
        kernels.end(True, False, False)(y, b.array, 1, y.shape[1], y)

        def back(handle, gradients, gy):
            gx, gW = ndarray(x.shape, _SINGLE), ndarray(W.array.shape, _SINGLE)
            call.weights(handle, x.data.ptr, gy.data.ptr, gW.data.ptr)
            collect(gradients, W, gW)
            collect(gradients, b, gy.sum(0))
            call.data(handle, W.array.data.ptr, gy.data.ptr, gx.data.ptr)
            return gx

        return y, back

    def sigmoid(self, x):
        array = ndarray(x.array.shape, x.array.dtype)
        kernels.SIGMOID(x.array, array)
        y = Maps(array)

        def back(handle):
            gy, owned = y.take()
            out = gy if owned else ndarray(gy.shape, gy.dtype)
            kernels.SIGMOID_BACK(array, gy, out)
            x.give(out, True)

        self._steps.append((y, back))
        return y
