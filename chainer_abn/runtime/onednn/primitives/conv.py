"""Convolution, its three passes."""
import functools
from typing import NamedTuple

import numpy

from chainer_abn.runtime.onednn import api
from chainer_abn.runtime.onednn.primitives.layout import empty
from chainer_abn.runtime.onednn.primitives.library import (
    Primitive,
    any_layout,
    attributes,
    copying,
    dense,
    dims,
    kept,
    library,
    maps,
    reorder,
)

ZERO = numpy.zeros(1, 'f')


class Window(NamedTuple):
    """Where the kernel of a convolution goes; pairs are (vertical, horizontal)."""
    stride: tuple = (1, 1)
    pad: tuple = (0, 0)
    dilation: tuple = (1, 1)
    groups: int = 1

    def reach(self, ksize):
        """Pixels from the first to the last that a kernel sees."""
        return [(k - 1) * d + 1 for k, d in zip(ksize, self.dilation, strict=True)]

    def out_size(self, size, ksize):
        return tuple((n + 2 * p - r) // s + 1 for n, p, r, s in
                     zip(size, self.pad, self.reach(ksize), self.stride, strict=True))

    def pad_behind(self, size, ksize, out):
        """The padding below and on the right with which ``out`` pixels come out (more with cover_all)."""
        if tuple(out) == self.out_size(size, ksize):
            return self.pad
        return [s * (o - 1) + r - n - p for n, p, r, s, o in
                zip(size, self.pad, self.reach(ksize), self.stride, out, strict=True)]


class _Convolution:
    """The three passes of a convolution of one shape; weights are handed over in C order."""

    def __init__(self, x, w, out, window, bias=False, post_ops=()):
        lib = library()
        n, c_out = x[0], w[0]
        self._x, self._y = maps(*x), maps(n, c_out, *out)
        g = window.groups
        shape = w if g == 1 else (g, w[0] // g, *w[1:])
        self._w_shape, self._w = w, dense(*shape)
        self._any_w = any_layout(*shape)
        self._bias = dense(c_out) if bias else None
        self._geometry = [dims(values) for values in (
            window.stride, [d - 1 for d in window.dilation], window.pad,
            window.pad_behind(x[2:], w[2:], out))]
        self._out_shape, self._window = (n, c_out, *out), window
        self._x_shape = x
        # not oneDNN's own ReLU: a convolution with one leaves 17 KB behind when it is freed
        second = {'add': (api.ADD, self._y), 'relu': (api.MAXIMUM, dense(1, 1, 1, 1))}
        self._last = (ZERO,) if 'relu' in post_ops else ()
        post_ops = [second.get(op, op) for op in post_ops]
        self._descriptor = lib.convolution_forward_primitive_desc_create(
            lib.engine, api.TRAINING, api.CONVOLUTION, self._x, self._any_w, self._bias, self._y,
            *self._geometry, attributes(*post_ops) if post_ops else None)
        w_md = lib.query_md(self._descriptor, api.WEIGHTS_MD, 0)
        self._to_forward = reorder(self._w, w_md)
        arguments = {'SRC': self._x, 'WEIGHTS': w_md, 'DST': self._y}
        if bias:
            arguments['BIAS'] = self._bias
        for i, op in enumerate(post_ops):
            if op != 'sum':
                arguments[f'_{api.post_op_source(i)}'] = op[1]
        self._forward = Primitive(self._descriptor, **arguments)

    def forward(self, x, w, *more, out=None):
        y = empty(self._out_shape) if out is None else out
        self._forward(x, w if self._to_forward is None else self._to_forward(w), y, *more, *self._last)
        return y

    @functools.cached_property
    def _data(self):
        lib = library()
        descriptor = lib.convolution_backward_data_primitive_desc_create(
            lib.engine, api.CONVOLUTION, self._x, self._any_w, self._y, *self._geometry,
            self._descriptor, None)
        w_md = lib.query_md(descriptor, api.WEIGHTS_MD, 0)
        return reorder(self._w, w_md), Primitive(descriptor, DIFF_DST=self._y, WEIGHTS=w_md, DIFF_SRC=self._x)

    def data(self, gy, w):
        reorder, run = self._data
        gx = empty(self._x_shape)
        run(gy, w if reorder is None else reorder(w), gx)
        return gx

    @functools.cached_property
    def _weights(self):
        lib = library()
        descriptor = lib.convolution_backward_weights_primitive_desc_create(
            lib.engine, api.CONVOLUTION, self._x, self._any_w, self._bias, self._y, *self._geometry,
            self._descriptor, None)
        w_md = lib.query_md(descriptor, api.DIFF_WEIGHTS_MD, 0)
        run = Primitive(descriptor, SRC=self._x, DIFF_DST=self._y, DIFF_WEIGHTS=w_md,
                        **({'DIFF_BIAS': self._bias} if self._bias else {}))
        back = None
        if not lib.md_equal(w_md, self._w):
            back = copying(w_md, self._w)
        return run, back, lib.md_size(w_md) // 4

    def weights(self, x, gy):
        """The gradients of the weights and of the bias, None where there is none."""
        run, back, size = self._weights
        gw = numpy.empty(self._w_shape, 'f')
        gb = numpy.empty(self._w_shape[0], 'f') if self._bias else None
        more = () if gb is None else (gb,)
        if back is None:
            run(x, gy, gw, *more)
        else:
            blocked = numpy.empty(size, 'f')
            run(x, gy, blocked, *more)
            back(blocked, gw)
        return gw, gb

    @functools.cached_property
    def _transposed(self):
        """At stride 1 the data gradient is a convolution with the kernels turned around, which can add."""
        kh, kw = self._w_shape[2:]
        (ph, pw), n_out, n_in = self._window.pad, *self._w_shape[:2]
        window = Window(pad=(kh - 1 - ph, kw - 1 - pw))
        return convolution(self._out_shape, (n_in, n_out, kh, kw), window, False, ('sum',))

    @property
    def can_accumulate(self):
        ksize = self._w_shape[2:]
        return (self._window.stride == (1, 1) and self._window.dilation == (1, 1) and self._window.groups == 1
                and all(0 <= k - 1 - p for k, p in zip(ksize, self._window.pad, strict=True)))

    def accumulate(self, gy, w, gx):
        """Add the data gradient to ``gx`` in place."""
        turned = numpy.ascontiguousarray(w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        self._transposed.forward(gy, turned, out=gx)


@kept
def convolution(x, w, window, bias=False, post_ops=(), out=None):
    """The convolution of maps of shape ``x`` with weights of shape ``w``.

    Args:
        window (Window)
        bias (bool)
        post_ops: of 'add' (another array, handed over last), 'sum' (to what ``out`` holds), 'relu'.
        out: (height, width) of the result where it is not the usual one (cover_all).

    Raises:
        Failed: there is none of such shapes.
    """
    out = out or window.out_size(x[2:], w[2:])
    if min(out) < 1:
        raise api.Failed('nothing comes out')
    return _Convolution(x, w, out, window, bias, post_ops)


class Taps:
    """Convolution 3x3, pad 1, to one map: 1x1 to nine maps, which are shifted and added.

    oneDNN's own takes twice as long for 100 channels (``benchmarks/onednn_choices.py``).
    """

    def __init__(self, x, w):
        self._x, c = x, w.shape[1]
        weight = numpy.zeros((16, x.shape[1], 1, 1), 'f')
        weight[:9, :c, 0, 0] = w[0].reshape(c, 9).T
        self._weight, self._c = weight, c
        self._conv = convolution(x.shape, weight.shape, Window())

    def forward(self):
        n, _, h, w = self._x.shape
        taps = self._conv.forward(self._x, self._weight)
        padded = numpy.zeros((n, h + 2, w + 2), 'f')
        for i, (top, left) in enumerate(numpy.ndindex(3, 3)):
            padded[:, 2 - top:2 - top + h, 2 - left:2 - left + w] += taps[:, i]
        return numpy.ascontiguousarray(padded[:, None, 1:-1, 1:-1])

    def backward(self, gy, data=True):
        n, _, h, w = gy.shape
        padded = numpy.pad(gy[:, 0], ((0, 0), (1, 1), (1, 1)))
        g_taps = empty((n, 16, h, w))
        for i, (top, left) in enumerate(numpy.ndindex(3, 3)):
            g_taps[:, i] = padded[:, 2 - top:2 - top + h, 2 - left:2 - left + w]
        g_taps[:, 9:] = 0
        gw = self._conv.weights(self._x, g_taps)[0][:9, :self._c, 0, 0].T.reshape(1, self._c, 3, 3)
        return self._conv.data(g_taps, self._weight) if data else None, gw
