"""Batch normalization."""
import functools

import numpy

from chainer_abn.runtime.onednn import api
from chainer_abn.runtime.onednn.primitives.layout import empty
from chainer_abn.runtime.onednn.primitives.library import Primitive, dense, kept, library, maps


class _BatchNormalization:
    """Batch normalization of maps of one shape, and a ReLU behind it if asked for.

    oneDNN sums up the pixels of a channel one after the other in float32, which loses three digits on
    large maps. Where there are many, the statistics are taken of groups of pixels first (the same
    memory seen as more channels) and put together in float64.
    """

    def __init__(self, shape, eps, relu=False, groups=1, fixed=False):
        lib = library()
        n, c, h, w = shape
        self._relu, self._eps, self._c, self._groups = relu, eps, c, groups
        self._maps, self._vector = maps(*shape), dense(c)
        self._flags = (api.SCALE | api.SHIFT | relu * api.FUSE_RELU | fixed * api.GLOBAL_STATISTICS)
        # kept, for the descriptor of the workspace is a part of it
        self._descriptor = self._describe(self._flags | (groups > 1) * api.GLOBAL_STATISTICS)
        self._workspace = lib.query_md(self._descriptor, api.WORKSPACE_MD, 0) if relu else None
        self._size = lib.md_size(self._workspace) if relu else 0
        md, vector = self._maps, self._vector
        self._forward = Primitive(self._descriptor, SRC=md, SCALES=vector, SHIFTS=vector, MEAN=vector,
                                  VARIANCE=vector, DST=md, **self._more())
        if groups > 1:
            md, vector = maps(n, c * groups, h * w // groups, 1), dense(c * groups)
            statistics = lib.batch_normalization_forward_primitive_desc_create(
                lib.engine, api.TRAINING, md, md, eps, 0, None)
            self._statistics = Primitive(statistics, SRC=md, MEAN=vector, VARIANCE=vector, DST=md)

    def _describe(self, flags):
        lib = library()
        return lib.batch_normalization_forward_primitive_desc_create(
            lib.engine, api.TRAINING, self._maps, self._maps, self._eps, flags, None)

    def _more(self):
        return {'WORKSPACE': self._workspace} if self._relu else {}

    def forward(self, x, gamma, beta, mean=None, var=None):
        """y, mean, variance (of the batch unless given) and the workspace for :meth:`backward`."""
        y = empty(x.shape)
        if mean is None:
            mean, var = numpy.empty((2, self._c), 'f')
            if self._groups > 1:
                mean[:], var[:] = self._combined_statistics(x, y)
        workspace = numpy.empty(self._size, 'u1')
        self._forward(x, gamma, beta, mean, var, y, *[workspace] * self._relu)
        return y, mean, var, workspace

    def _combined_statistics(self, x, y):
        means, variances = numpy.empty((2, self._groups * self._c), 'f')
        self._statistics(x, means, variances, y)
        means, variances = (a.reshape(self._groups, self._c).astype('d') for a in (means, variances))
        mean = means.mean(0)
        return mean, (variances + (means - mean) ** 2).mean(0)

    @functools.cached_property
    def _backward(self):
        lib, md, vector = library(), self._maps, self._vector
        descriptor = lib.batch_normalization_backward_primitive_desc_create(
            lib.engine, api.BACKWARD, md, md, md, self._eps, self._flags, self._describe(self._flags), None)
        return Primitive(descriptor, SRC=md, SCALES=vector, MEAN=vector, VARIANCE=vector, DIFF_DST=md,
                         DIFF_SRC=md, DIFF_SCALES=vector, DIFF_SHIFTS=vector, **self._more())

    def backward(self, x, gamma, mean, var, workspace, gy, out=None):
        """gx, ggamma, gbeta; ``out`` may be gy itself."""
        gx = empty(x.shape) if out is None else out
        ggamma, gbeta = numpy.empty((2, self._c), 'f')
        self._backward(x, gamma, mean, var, gy, gx, ggamma, gbeta, *[workspace] * self._relu)
        return gx, ggamma, gbeta


# The most pixels that are summed up one after the other, and how many once there are more: groups cost
# another pass over the maps, however small they are.
MOST_SUMMED, GROUP = 1 << 15, 1 << 13


@kept
def batch_normalization(shape, eps, relu=False, fixed=False):
    """Batch normalization of maps of this shape, ``fixed``: by statistics that are given."""
    n, _, h, w = shape
    groups = 1
    if n * h * w > MOST_SUMMED and not fixed:
        groups = next(k for k in range(1, h * w + 1) if h * w % k == 0 and n * h * w <= max(k * GROUP, n * k))
    return _BatchNormalization(shape, eps, relu, groups, fixed)
