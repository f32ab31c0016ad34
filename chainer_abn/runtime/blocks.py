"""Blocks of layers, declared once and run in three ways.

A :class:`Block` says what it does in terms of ``ops``, a handful of operations on links and maps:

============================================ =========================================================
conv(link, x, relu=False, add=None)          convolution, then ``add``, then ReLU
bn(link, x, relu=False, add=None)            batch normalization, then ``add``, then ReLU
conv_bn(conv, bn, x, relu=False, add=None)   both, which fold into one convolution at inference
add(a, b, relu=False)                        sum
concat(xs)                                   along the channels
dropout(x, ratio)                            in training
max_pool(x, ksize, stride, pad), avg_pool(x, ksize)
average(x)                                   over the pixels, (B, C, h, w) -> (B, C, 1, 1)
excite(fc1, fc2, x)                          x times a weight per channel (squeeze and excitation)
sigmoid(x)
============================================ =========================================================

:data:`PLAIN` runs them with Chainer's functions, on any device, as a graph that can be differentiated
again. On the CPU with oneDNN, and on a GPU with cuDNN, a whole block is one node of the graph in training
(:mod:`~chainer_abn.runtime.node`). On the CPU batch normalization is folded into the convolutions when
neither training nor gradients are asked for (:mod:`~chainer_abn.runtime.onednn.inference`).

The dtype of x decides what is computed in. With float16 the weights stay float32 and are cast where they
are used, so that gradients arrive, and updates are made, in float32 (Micikevicius et al. 2018, section 3.1);
statistics, averages over maps and linear layers are float32 throughout.
"""
import numpy

from chainer_abn.runtime import gpu_blocks, onednn
from chainer_abn.runtime.dropout import gpu_mask, mask_of_maps

import chainer
import chainer.functions as F
import chainer.links as L


class Block:
    """Mixin of a link: what its layers do is told by :meth:`declare`.

    The blocks inside of a block are declared, not called: hooks see its layers and itself.
    """

    def declare(self, ops, x):
        """What comes out of x, one value or a tuple of them, by operations of ``ops``."""
        raise NotImplementedError

    def layers(self):
        """The links that :meth:`declare` uses."""
        return [self]

    def forward(self, x):
        return self.run(x)

    def run(self, x):
        """What is declared, on oneDNN or as one node on cuDNN where that can be."""
        x = chainer.as_variable(x)
        runner = onednn.runner(self, x) or gpu_blocks.runner(self, x)
        try:
            return self.run_plainly(x) if runner is None else runner(self, x)
        except onednn.Failed:           # such as too few channels: Chainer says what is wrong
            return self.run_plainly(x)

    def run_plainly(self, x):
        """The same with Chainer's functions."""
        return self.declare(PLAIN, x)


class Plain:
    """The operations as Chainer's functions."""

    def conv(self, link, x, relu=False, add=None):
        return self.end(in_dtype_of(x, link), relu, add)

    def bn(self, link, x, relu=False, add=None):
        return self.end(link(x), relu, add)

    def end(self, y, relu, add):
        y = y if add is None else y + add
        return F.relu(y) if relu else y

    def conv_bn(self, conv, bn, x, relu=False, add=None):
        return self.bn(bn, self.conv(conv, x), relu, add)

    def add(self, a, b, relu=False):
        return F.relu(a + b) if relu else a + b

    def concat(self, xs):
        return F.concat(xs, axis=1)

    def dropout(self, x, ratio):
        if not chainer.config.train or ratio == 0:
            return x
        return F.dropout(x, ratio, mask=self.mask(x, ratio))

    def mask(self, x, ratio):
        if isinstance(x.array, numpy.ndarray):
            return mask_of_maps(x.shape, ratio).astype(x.dtype, copy=False)
        return gpu_mask(x.shape, x.dtype, ratio)

    def max_pool(self, x, ksize, stride, pad):
        # cover_all=False gives 56x56 at 224 px, as in the official network; the default 57x57
        return F.max_pooling_2d(x, ksize, stride, pad, cover_all=False)

    def avg_pool(self, x, ksize):
        return F.average_pooling_2d(x, ksize)

    def average(self, x):
        return cast(F.average(single(x), axis=(2, 3), keepdims=True), x.dtype)

    def excite(self, fc1, fc2, x):
        weight = F.sigmoid(apply_linear(fc2, F.relu(apply_linear(fc1, F.average(single(x), axis=(2, 3))))))
        return x * F.broadcast_to(F.reshape(cast(weight, x.dtype), (*weight.shape, 1, 1)), x.shape)

    def sigmoid(self, x):
        return F.sigmoid(x)


PLAIN = Plain()


def in_dtype_of(x, link):
    """``link(x)``; a convolution's float32 weights are cast to the dtype of x first."""
    if not isinstance(link, L.Convolution2D) or link.W.dtype == x.dtype:
        return link(x)
    W, b = (p if p is None else cast(p, x.dtype) for p in (link.W, link.b))
    return F.convolution_2d(x, W, b, link.stride, link.pad, dilate=link.dilate, groups=link.groups)


def apply_linear(link, x):
    """A linear layer, x (B, ...) -> (B, K), in float32 at least.

    On a GPU it is a 1x1 convolution, by cuDNN: CuPy lets no cuBLAS into a captured graph.
    """
    x = single(chainer.as_variable(x))
    if isinstance(x.array, numpy.ndarray):
        return link(x)
    y = F.convolution_2d(F.reshape(x, (len(x), -1, 1, 1)), F.reshape(link.W, (*link.W.shape, 1, 1)), link.b)
    return F.reshape(y, y.shape[:2])


def single(x):
    """x in float32, where it is float16."""
    return cast(x, 'f') if x.dtype == 'e' else x


def cast(x, dtype):
    return x if x.dtype == dtype else F.cast(x, dtype)
