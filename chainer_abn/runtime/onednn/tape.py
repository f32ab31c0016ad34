"""The operations of a block in training, which run at once and note their way back.

Nothing is allocated, converted or summed that the next layer does not need: ReLU rides on batch
normalization, gradients are written over the ones that they come from, and the gradient of a shortcut is
added by the convolution that completes it.
"""
import numpy

from chainer_abn.runtime.dropout import mask_of_maps
from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.api import Failed

import chainer


class Maps:
    """Maps inside of a block and, on the way back, their gradient.

    Batch normalization is slower where the channels are no multiple of 16, so there may be more of them
    behind the ``channels`` that count. What is in those is finite and without effect:
    factors and weights for them are zero. ``spare``: :func:`concat` may fill them.
    """

    __slots__ = 'array', 'channels', 'needs_grad', 'grad', 'owned', 'spare'

    def __init__(self, array, channels=None, needs_grad=True):
        self.array, self.channels = array, channels or array.shape[1]
        self.needs_grad, self.grad, self.owned, self.spare = needs_grad, None, False, False

    def give(self, grad, owned):
        """Add to the gradient; an ``owned`` array may be written over later."""
        if self.grad is None:
            self.grad, self.owned = grad, owned
        elif self.owned or owned:
            out = self.grad if self.owned else grad
            self.grad, self.owned = primitives.add(self.grad, grad, out=out), True
        else:
            self.grad, self.owned = primitives.add(self.grad, grad), True

    def take(self):
        """The gradient and whether it may be written over; it is forgotten here."""
        taken = self.grad, self.owned
        self.grad, self.owned = None, False
        return taken


class Tape:
    """The operations in training; :meth:`backward` goes back over them once.

    The ways back do not hold the tape: a graph that is dropped must free its maps at once.

    Attributes:
        gradients (dict): id of a parameter -> array, after the way back.
        masks (list): of dropout, in order.
    """

    def __init__(self, masks=None):
        self._steps, self.gradients = [], {}
        self._replay = iter(masks) if masks is not None else None
        self.masks = [] if masks is None else masks

    def enter(self, x, needs_grad):
        return Maps(primitives.channels_last(x), None, needs_grad)

    def leave(self, maps):
        return maps.array[:, :maps.channels]

    def give(self, maps, gy):
        maps.give(primitives.widened_as(gy, maps.array), False)

    def gradient(self, maps):
        return maps.grad

    def backward(self):
        while self._steps:
            y, back = self._steps.pop()         # and with the step go the maps that only it needs
            if y.grad is not None:
                back()

    def conv(self, link, x, relu=False, add=None):
        width = link.W.shape[0] if add is None or link.groups > 1 else add.array.shape[1]
        y = self._conv(link, x, add, width)
        return self._relu(y) if relu else y

    def _relu(self, x):
        if primitives.contains_nan(x.array):    # oneDNN's ReLU makes it 0
            y = Maps(numpy.maximum(x.array, 0), x.channels)
        else:
            y = Maps(primitives.relu(x.array, out=x.array), x.channels)

        def back():
            gy, owned = y.take()
            x.give(primitives.relu_backward(y.array, gy, gy if owned else None), True)

        self._steps.append((y, back))
        return y

    def _conv(self, link, x, add, width):
        """``width`` channels come out, at least the link's; the others are zero."""
        gradients = self.gradients
        weight, bias = link.W.array, None if link.b is None else link.b.array
        c_out, c_in = weight.shape[:2]
        check_channels(x, c_in * link.groups)
        if bias is None and add is None and goes_by_taps(link):
            return self._conv_to_one(link, x)
        if link.groups > 1:
            x = self._narrow(x)
        wide_in = x.array.shape[1] // link.groups
        if (width, wide_in) != (c_out, c_in):
            weight = numpy.zeros((width, wide_in, *weight.shape[2:]), 'f')
            weight[:c_out, :c_in] = link.W.array
            bias = None if bias is None else numpy.pad(bias, (0, width - c_out))
        if add is not None:
            add = self._widen(add, width)
        conv = primitives.convolution(x.array.shape, weight.shape, window(link), bias is not None,
                                      () if add is None else ('add',))
        more = [a for a in (bias, None if add is None else add.array) if a is not None]
        y = Maps(conv.forward(x.array, weight, *more), c_out)

        def back():
            gy, owned = y.take()
            gw, gb = conv.weights(x.array, gy)
            collect(gradients, link.W, primitives.cut(gw, link.W.shape))
            if gb is not None:
                collect(gradients, link.b, gb[:c_out])
            if x.needs_grad:
                if x.owned and conv.can_accumulate:
                    conv.accumulate(gy, weight, x.grad)
                else:
                    x.give(conv.data(gy, weight), True)
            if add is not None:
                add.give(gy, owned)

        self._steps.append((y, back))
        return y

    def _conv_to_one(self, link, x):
        """3x3 to one map, the slowest shape of all: 1x1 to nine maps, shifted and added."""
        gradients = self.gradients
        taps = primitives.Taps(x.array, link.W.array)
        y = Maps(taps.forward())

        def back():
            gx, gw = taps.backward(y.take()[0], x.needs_grad)
            collect(gradients, link.W, gw)
            if x.needs_grad:
                x.give(gx, True)

        self._steps.append((y, back))
        return y

    def bn(self, link, x, relu=False, add=None):
        gradients = self.gradients
        check_channels(x, len(link.gamma))
        c, wide = x.channels, primitives.round_up(x.array.shape[1])
        x = self._widen(x, wide)
        add = add and self._widen(add, wide)
        gamma, beta = (primitives.pad(p.array, wide) for p in (link.gamma, link.beta))
        bn = primitives.batch_normalization(x.array.shape, link.eps, relu and add is None)
        array, mean, var, workspace = bn.forward(x.array, gamma, beta)
        if add is not None:
            primitives.add(array, add.array, relu, out=array)
        if relu and (wrong := numpy.isnan(mean + var + gamma + beta)).any():
            array[:, wrong] = numpy.nan         # oneDNN's ReLU makes it 0, which would hide a divergence
        if not chainer.config.in_recomputing:
            update_statistics(link, mean[:c], var[:c], x.array.size // wide)
        y = Maps(array, c)

        def back():
            gy, owned = y.take()
            if add is not None and relu:
                gy, owned = primitives.relu_backward(array, gy, gy if owned else None), True
            # what the sum hands to its other term must not be written over
            out = gy if owned and add is None else None
            gx, ggamma, gbeta = bn.backward(x.array, gamma, mean, var, workspace, gy, out)
            collect(gradients, link.gamma, ggamma[:c])
            collect(gradients, link.beta, gbeta[:c])
            if x.needs_grad:
                x.give(gx, True)
            if add is not None:
                add.give(gy, owned)

        self._steps.append((y, back))
        return y

    def _widen(self, x, wide):
        narrow = x.array.shape[1]
        if narrow == wide:
            return x
        y = Maps(primitives.widened(x.array, wide), x.channels, x.needs_grad)

        def back():
            gy, owned = y.take()
            part = primitives.widened_as(gy[:, :narrow], x.array)
            x.give(part, owned or not numpy.may_share_memory(part, gy))

        if x.needs_grad:
            self._steps.append((y, back))
        return y

    def _narrow(self, x):
        """Without the zero channels."""
        wide = x.array.shape[1]
        if wide == x.channels:
            return x
        y = Maps(primitives.channels_last(x.array[:, :x.channels]), None, x.needs_grad)

        def back():
            x.give(primitives.widened(y.take()[0], wide), True)

        self._steps.append((y, back))
        return y

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        width = primitives.round_up(conv.W.shape[0]) if conv.groups == 1 else conv.W.shape[0]
        return self.bn(bn, self._conv(conv, x, None, width), relu, add)

    def add(self, a, b, relu=False):
        wide = max(a.array.shape[1], b.array.shape[1])
        a, b = self._widen(a, wide), self._widen(b, wide)
        array = sum_of(a.array, b.array, relu)
        y = Maps(array, a.channels)

        def back():
            gy, owned = y.take()
            if relu:
                gy, owned = primitives.relu_backward(array, gy, gy if owned else None), True
            a.give(gy, False)
            b.give(gy, False)

        self._steps.append((y, back))
        return y

    def concat(self, xs):
        y = concat(xs)

        def back():
            gy, owned = y.take()
            start = 0
            for i, x in enumerate(xs):
                part = gy[:, start:start + x.channels]
                if i or x.array is not y.array:
                    x.give(primitives.widened(part, x.array.shape[1]), True)
                start += x.channels
            if xs[0].array is y.array:
                xs[0].give(gy, owned)           # the channels behind are another's

        self._steps.append((y, back))
        return y

    def dropout(self, x, ratio):
        if ratio == 0:
            return x
        if self._replay is not None:
            mask = next(self._replay)
        else:
            n, _, h, w = x.array.shape
            mask = mask_of_maps((n, x.channels, h, w), ratio)
            self.masks.append(mask)
        if x.channels != x.array.shape[1]:
            mask = primitives.widened(mask, x.array.shape[1])
        y = Maps(primitives.multiply(x.array, mask), x.channels)

        def back():
            gy, owned = y.take()
            x.give(primitives.multiply(gy, mask, gy if owned else None), True)

        self._steps.append((y, back))
        return y

    def max_pool(self, x, ksize, stride, pad):
        return self._pool(primitives.pooling(x.array.shape, True, *[(v, v) for v in (ksize, stride, pad)]), x)

    def avg_pool(self, x, ksize):
        return self._pool(primitives.pooling(x.array.shape, False, (ksize,) * 2, (ksize,) * 2, (0, 0)), x)

    def _pool(self, pooling, x):
        array, workspace = pooling.forward(x.array)
        y = Maps(array, x.channels)

        def back():
            x.give(pooling.backward(y.take()[0], workspace), True)

        self._steps.append((y, back))
        return y

    def average(self, x):
        n, c, h, w = x.array.shape
        y = Maps(primitives.pixel_mean(x.array).reshape(n, c, 1, 1), x.channels)

        def back():
            gx = primitives.empty(x.array.shape)
            gx[...] = y.take()[0] * numpy.float32(1 / (h * w))
            x.give(gx, True)

        self._steps.append((y, back))
        return y

    def excite(self, fc1, fc2, x):
        gradients = self.gradients
        h, w = x.array.shape[2:]
        x = self._narrow(x)
        mean = primitives.pixel_mean(x.array)
        hidden = numpy.maximum(mean @ fc1.W.array.T + fc1.b.array, 0)
        weight = sigmoid(hidden @ fc2.W.array.T + fc2.b.array)
        y = Maps(primitives.scale(x.array, weight))

        def back():
            gy, _ = y.take()
            g_weight = primitives.pixel_dot(x.array, gy)
            g2 = g_weight * weight * (1 - weight)
            g1 = (g2 @ fc2.W.array) * (hidden > 0)
            for fc, g, seen in (fc2, g2, hidden), (fc1, g1, mean):
                collect(gradients, fc.W, g.T @ seen)
                collect(gradients, fc.b, g.sum(0))
            g_mean = (g1 @ fc1.W.array) * numpy.float32(1 / (h * w))
            x.give(primitives.scale(gy, weight, g_mean), True)

        self._steps.append((y, back))
        return y

    def sigmoid(self, x):
        y = Maps(sigmoid(x.array), x.channels)

        def back():
            x.give(y.take()[0] * y.array * (1 - y.array), True)

        self._steps.append((y, back))
        return y


def collect(gradients, parameter, gradient):
    """Add to the gradient of a parameter, which several layers may share."""
    before = gradients.get(id(parameter))
    gradients[id(parameter)] = gradient if before is None else before + gradient


def check_channels(x, channels):
    """Raises Failed where Chainer is to say that they do not fit."""
    if x.channels != channels:
        raise Failed(f'{x.channels} channels for {channels}')


def goes_by_taps(link):
    """Whether :class:`~chainer_abn.runtime.onednn.primitives.Taps` computes this convolution, and faster."""
    c_out, c_in, *ksize = link.W.shape
    return c_out == 1 and c_in >= 32 and ksize == [3, 3] and window(link) == primitives.Window(pad=(1, 1))


def sum_of(a, b, relu):
    """a + b with a ReLU that lets NaN through."""
    if relu and (primitives.contains_nan(a) or primitives.contains_nan(b)):
        return numpy.maximum(a + b, 0)
    return primitives.add(a, b, relu)


SPARE = 64                      # channels that concat rounds up to


def concat(xs):
    """Maps beside each other, in place where the first has room for the others.

    A dense block adds a few channels at a time: with room for the next ones its maps are copied in one
    of several layers, which share the memory.
    """
    first, *others = xs
    channels = sum(x.channels for x in xs)
    if not (first.spare and channels <= first.array.shape[1]):
        wide = -(-channels // SPARE) * SPARE
        first = Maps(primitives.widened(first.array[:, :first.channels], wide), first.channels)
    start = first.channels
    for x in others:
        primitives.copy(x.array[:, :x.channels], first.array[:, start:start + x.channels])
        start += x.channels
    first.spare = False             # another sum of channels must not fill them again
    y = Maps(first.array, channels)
    y.spare = True
    return y


def window(link):
    """The :class:`~chainer_abn.runtime.onednn.primitives.Window` of a convolution link."""
    return primitives.Window(tuple(link.stride), tuple(link.pad), tuple(link.dilate), link.groups)


def update_statistics(link, mean, var, n):
    """Chainer's running statistics, in place; its running variance is the unbiased one."""
    link.avg_mean *= link.decay
    link.avg_mean += (1 - link.decay) * mean
    link.avg_var *= link.decay
    link.avg_var += (1 - link.decay) * (n / max(n - 1.0, 1.0)) * var


def sigmoid(x):
    """As Chainer computes it."""
    half = x.dtype.type(0.5)
    return numpy.tanh(x * half) * half + half
