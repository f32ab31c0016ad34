"""The operations of a block without training and gradients: batch normalization costs nothing.

It is a factor and a summand per channel by then, so it goes into the weights of the convolution
before it; ReLU and the sum with a shortcut are done by the convolution while it writes.
"""
import numpy

from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.training import sigmoid, window

import chainer


class Folded:
    """Operations on arrays with channels-last memory."""

    def conv(self, link, x, relu=False, add=None):
        return self._conv(link, link.W.array, None if link.b is None else link.b.array, x, relu, add)

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        factor, summand = as_affine(bn)
        if conv.b is not None:
            summand = summand + factor * conv.b.array
        return self._conv(conv, conv.W.array * factor[:, None, None, None], summand, x, relu, add)

    def _conv(self, link, weight, bias, x, relu=False, add=None):
        if weight.shape[:2] == (1, x.shape[1]) and weight.shape[2:] == (3, 3) and x.shape[1] >= 32 and add is None:
            y = primitives.Taps(x, weight).forward()
            y = y if bias is None else y + bias
            return numpy.maximum(y, 0) if relu else y
        post_ops = ('add',) * (add is not None) + ('relu',) * relu
        conv = primitives.convolution(x.shape, weight.shape, window(link), bias is not None, post_ops)
        more = [a for a in (bias, add) if a is not None]
        return conv.forward(x, weight, *more)

    def bn(self, link, x, relu=False, add=None):
        arrays = (link.gamma.array, link.beta.array, link.avg_mean, link.avg_var)
        c, wide = x.shape[1], primitives.round_up(x.shape[1])
        if c != wide:
            x, arrays = primitives.widened(x, wide), [primitives.pad(a, wide) for a in arrays]
        bn = primitives.batch_normalization(x.shape, link.eps, relu and add is None, fixed=True)
        y = bn.forward(x, *arrays)[0]
        y = y if c == wide else primitives.channels_last(y[:, :c])
        return y if add is None else primitives.add(y, add, relu, out=y)

    def add(self, a, b, relu=False):
        return primitives.add(a, b, relu)

    def concat(self, xs):
        return primitives.concat(xs, sum(x.shape[1] for x in xs))

    def dropout(self, x, ratio):
        return x

    def max_pool(self, x, ksize, stride, pad):
        return primitives.pooling(x.shape, True, *[(v, v) for v in (ksize, stride, pad)]).forward(x)[0]

    def avg_pool(self, x, ksize):
        return primitives.pooling(x.shape, False, (ksize,) * 2, (ksize,) * 2, (0, 0)).forward(x)[0]

    def average(self, x):
        return primitives.pixel_mean(x)[:, :, None, None]

    def excite(self, fc1, fc2, x):
        hidden = numpy.maximum(primitives.pixel_mean(x) @ fc1.W.array.T + fc1.b.array, 0)
        return primitives.scale(x, sigmoid(hidden @ fc2.W.array.T + fc2.b.array))

    def sigmoid(self, x):
        return sigmoid(x)


def as_affine(bn):
    """The factor and the summand per channel that batch normalization is at inference."""
    factor = bn.gamma.array / numpy.sqrt(bn.avg_var + numpy.float32(bn.eps))
    return factor, bn.beta.array - bn.avg_mean * factor


def run(block, x):
    """The block's outputs, as variables."""
    y = block.declare(Folded(), primitives.channels_last(x.array))
    outputs = [chainer.Variable(a, requires_grad=False) for a in (y if isinstance(y, tuple) else (y,))]
    return tuple(outputs) if isinstance(y, tuple) else outputs[0]
