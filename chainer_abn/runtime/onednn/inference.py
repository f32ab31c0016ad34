"""The operations of a block without training and gradients: batch normalization costs nothing.

It is a factor and a summand per channel by then, so it goes into the weights of the convolution
before it; ReLU and the sum with a shortcut are done by the convolution while it writes.
"""
import numpy

from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.tape import Maps, concat, sigmoid, window

import chainer


class Folded:
    """Operations on :class:`~chainer_abn.runtime.onednn.training.Maps`, whose gradients stay unused."""

    def conv(self, link, x, relu=False, add=None):
        return self._conv(link, link.W.array, None if link.b is None else link.b.array, x, relu, add)

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        factor, summand = as_affine(bn)
        if conv.b is not None:
            summand = summand + factor * conv.b.array
        return self._conv(conv, conv.W.array * factor[:, None, None, None], summand, x, relu, add)

    def _conv(self, link, weight, bias, x, relu=False, add=None):
        c_out, c_in, *ksize = weight.shape
        if c_out == 1 and c_in >= 32 and ksize == [3, 3] and add is None:
            y = primitives.Taps(x.array, weight).forward()
            y = y if bias is None else y + bias
            return Maps(numpy.maximum(y, 0) if relu else y)
        if link.groups > 1:
            x = Maps(narrow(x))
        if x.array.shape[1] != x.channels:
            weight = numpy.pad(weight, ((0, 0), (0, x.array.shape[1] - x.channels), (0, 0), (0, 0)))
        # a ReLU in the convolution would turn the NaN of a network that diverged into 0
        late_relu = relu and bias is not None and not numpy.isfinite(bias).all()
        post_ops = ('add',) * (add is not None) + ('relu',) * (relu and not late_relu)
        conv = primitives.convolution(x.array.shape, weight.shape, window(link), bias is not None, post_ops)
        more = [a for a in (bias, None if add is None else narrow(add)) if a is not None]
        y = conv.forward(x.array, weight, *more)
        return Maps(numpy.maximum(y, 0) if late_relu else y)

    def bn(self, link, x, relu=False, add=None):
        arrays = link.gamma.array, link.beta.array, link.avg_mean, link.avg_var
        c, wide = x.channels, primitives.round_up(x.array.shape[1])
        array = x.array if x.array.shape[1] == wide else primitives.widened(x.array, wide)
        late_relu = relu and not all(numpy.isfinite(a).all() for a in arrays)
        relu = relu and not late_relu
        bn = primitives.batch_normalization(array.shape, link.eps, relu and add is None, fixed=True)
        y = bn.forward(array, *(primitives.pad(a, wide) for a in arrays))[0]
        if add is not None:
            primitives.add(y, primitives.widened_as(add.array, y), relu, out=y)
        return Maps(numpy.maximum(y, 0) if late_relu else y, c)

    def add(self, a, b, relu=False):
        return Maps(primitives.add(narrow(a), narrow(b), relu))

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
        return Maps(primitives.pixel_mean(x.array)[:, :x.channels, None, None])

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
    outputs = [chainer.Variable(maps.array[:, :maps.channels], requires_grad=False)
               for maps in (y if isinstance(y, tuple) else (y,))]
    return tuple(outputs) if isinstance(y, tuple) else outputs[0]
