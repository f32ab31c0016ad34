"""The operations of a block without training and gradients: batch normalization costs nothing.

It is a factor and a summand per channel by then, so it goes into the weights of the convolution
before it; ReLU and the sum with a shortcut are done by the convolution while it writes.
"""
import numpy

from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.tape import (
    Maps,
    check_channels,
    concat,
    goes_by_taps,
    sigmoid,
    sum_of,
    window,
)

import chainer


class Folded:
    """Operations on :class:`~chainer_abn.runtime.onednn.tape.Maps`, whose gradients stay unused."""

    def conv(self, link, x, relu=False, add=None):
        y = self._conv(link, link.W.array, None if link.b is None else link.b.array, x, False, add)
        if relu:
            if primitives.contains_nan(y.array):
                y.array = numpy.maximum(y.array, 0)
            else:
                primitives.relu(y.array, out=y.array)
        return y

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        factor, summand = as_affine(bn)
        if conv.b is not None:
            summand = summand + factor * conv.b.array
        return self._conv(conv, conv.W.array * factor[:, None, None, None], summand, x, relu, add)

    def _conv(self, link, weight, bias, x, relu, add):
        c_in = weight.shape[1] * link.groups
        check_channels(x, c_in)
        if goes_by_taps(link) and add is None:
            y = primitives.Taps(x.array, weight).forward()
            y = y if bias is None else y + bias
            return Maps(numpy.maximum(y, 0) if relu else y)
        if link.groups > 1:
            x = Maps(narrow(x))
        if x.array.shape[1] != c_in:
            weight = numpy.pad(weight, ((0, 0), (0, x.array.shape[1] - c_in), (0, 0), (0, 0)))
        # a ReLU in the convolution would turn the NaN of a network that diverged into 0
        late_relu = relu and bool(numpy.isnan(bias).any() or primitives.may_overflow(weight)
                                  or primitives.may_overflow(x.array)
                                  or add is not None and primitives.contains_nan(narrow(add)))
        post_ops = ('add',) * (add is not None) + ('relu',) * (relu and not late_relu)
        conv = primitives.convolution(x.array.shape, weight.shape, window(link), bias is not None, post_ops)
        more = [a for a in (bias, None if add is None else narrow(add)) if a is not None]
        y = conv.forward(x.array, weight, *more)
        return Maps(numpy.maximum(y, 0) if late_relu else y)

    def bn(self, link, x, relu=False, add=None):
        arrays = link.gamma.array, link.beta.array, link.avg_mean, link.avg_var
        check_channels(x, len(link.gamma))
        c, wide = x.channels, primitives.round_up(x.array.shape[1])
        array = x.array if x.array.shape[1] == wide else primitives.widened(x.array, wide)
        late_relu = relu and (add is not None or not numpy.isfinite(sum(arrays)).all()
                              or primitives.may_overflow(array))
        bn = primitives.batch_normalization(array.shape, link.eps, relu and not late_relu, fixed=True)
        y = bn.forward(array, *(primitives.pad(a, wide) for a in arrays))[0]
        if add is not None:
            y = sum_of(y, primitives.widened_as(add.array, y), relu)
        elif late_relu:
            y = numpy.maximum(y, 0)
        return Maps(y, c)

    def add(self, a, b, relu=False):
        return Maps(sum_of(narrow(a), narrow(b), relu))

    def concat(self, xs):
        return concat(xs)

    def dropout(self, x, ratio):
        return x

    def max_pool(self, x, ksize, stride, pad):
        return self._pool(x, True, ksize, stride, pad)

    def avg_pool(self, x, ksize):
        return self._pool(x, False, ksize, ksize, 0)

    def _pool(self, x, maximum, *window):
        pooling = primitives.pooling(x.array.shape, maximum, *((v, v) for v in window))
        return Maps(pooling.forward(x.array)[0], x.channels)

    def average(self, x):
        return Maps(primitives.pixel_mean(narrow(x))[:, :, None, None])

    def excite(self, fc1, fc2, x):
        array = narrow(x)
        hidden = numpy.maximum(primitives.pixel_mean(array) @ fc1.W.array.T + fc1.b.array, 0)
        return Maps(primitives.scale(array, sigmoid(hidden @ fc2.W.array.T + fc2.b.array)))

    def sigmoid(self, x):
        return Maps(sigmoid(x.array), x.channels)


def narrow(x):
    """The channels that count, with channels-last memory."""
    return primitives.channels_last(x.array[:, :x.channels])


def as_affine(bn):
    """The factor and the summand per channel that batch normalization is at inference."""
    factor = bn.gamma.array / numpy.sqrt(bn.avg_var + numpy.float32(bn.eps))
    return factor, bn.beta.array - bn.avg_mean * factor


def run(block, x):
    """The block's outputs, as variables."""
    array = primitives.channels_last(x.array)
    if primitives.contains_nan(array):
        return block.run_plainly(x)             # a convolution's own ReLU would make it 0
    y = block.declare(Folded(), Maps(array))
    outputs = [chainer.Variable(maps.array[:, :maps.channels])
               for maps in (y if isinstance(y, tuple) else (y,))]
    return tuple(outputs) if isinstance(y, tuple) else outputs[0]
