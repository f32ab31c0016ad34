"""Max and average pooling."""
import functools

import numpy

from chainer_abn.runtime.onednn import api
from chainer_abn.runtime.onednn.primitives.conv import Window
from chainer_abn.runtime.onednn.primitives.layout import empty
from chainer_abn.runtime.onednn.primitives.library import Primitive, dims, kept, library, maps


class _Pooling:
    def __init__(self, x, out, algorithm, ksize, stride, pad, pad_behind):
        lib = library()
        self._x_shape, self._y_shape = x, (*x[:2], *out)
        self._x, self._y = maps(*x), maps(*self._y_shape)
        self._rest = [dims(v) for v in (stride, ksize, (0, 0), pad, pad_behind)]
        self._algorithm = algorithm
        self._descriptor = lib.pooling_forward_primitive_desc_create(
            lib.engine, api.TRAINING, algorithm, self._x, self._y, *self._rest, None)
        self._more = {}
        self._size = 0
        if algorithm == api.MAX_POOLING:
            workspace = lib.query_md(self._descriptor, api.WORKSPACE_MD, 0)
            self._more, self._size = {'WORKSPACE': workspace}, lib.md_size(workspace)
        self._forward = Primitive(self._descriptor, SRC=self._x, DST=self._y, **self._more)

    def forward(self, x):
        """y, and a workspace for :meth:`backward`."""
        y, workspace = empty(self._y_shape), numpy.empty(self._size, 'u1')
        self._forward(x, y, *[workspace] * len(self._more))
        return y, workspace

    @functools.cached_property
    def _backward(self):
        lib = library()
        descriptor = lib.pooling_backward_primitive_desc_create(
            lib.engine, self._algorithm, self._x, self._y, *self._rest, self._descriptor, None)
        return Primitive(descriptor, DIFF_DST=self._y, DIFF_SRC=self._x, **self._more)

    def backward(self, gy, workspace):
        gx = empty(self._x_shape)
        self._backward(gy, gx, *[workspace] * len(self._more))
        return gx


@kept
def pooling(x, maximum, ksize, stride, pad, out=None):
    """Max or average pooling of maps of shape ``x``; arguments are pairs.

    Args:
        out: (height, width) of the result where it is not the usual one (cover_all).
    """
    window = Window(stride, pad)
    out = out or window.out_size(x[2:], ksize)
    algorithm = api.MAX_POOLING if maximum else api.AVERAGE_POOLING
    return _Pooling(x, out, algorithm, ksize, stride, pad, window.pad_behind(x[2:], ksize, out))
