"""cuDNN's functions for arrays of given shapes, prepared once: Python is slower than the GPU on small maps.

Arrays are *physical*: C-contiguous, (N, C, h, w) or, with the channels last, (N, h, w, C).
"""
import math

import cupy

from chainer_abn.runtime.cudnn import api, constants, convolution, descriptors
from chainer_abn.runtime.cudnn.api import ONE, ZERO

import chainer
from chainer.utils.conv import get_conv_outsize

# Channels last are what the tensor cores take for float16: other orders would be transposed before and after
# (cuDNN developer guide, "Tensor Core Operations"). A design, not a measurement.
ORDERS = {'f': constants.CUDNN_TENSOR_NCHW, 'e': constants.CUDNN_TENSOR_NHWC}
_MOST = 2 ** 31 - 1         # elements: the kernels count in 32 bits
_MOST_KEPT = 4096           # as of cudnn.descriptors.kept
_kept = {}                  # Calls by what they depend on


class Unfit(ValueError):
    """Shapes that do not fit each other, or for which cuDNN has nothing in this order of memory."""


def calls(char):
    """The :class:`Calls` of a dtype ('e' or 'f') for the current device and configuration."""
    config = chainer.config
    key = (char, cupy.cuda.runtime.getDevice(), config.cudnn_deterministic, config.autotune,
           config.use_cudnn_tensor_core, config.cudnn_fast_batch_normalization,
           convolution.get_max_workspace_size())
    if key not in _kept:
        _kept[key] = Calls(char, *key[2:6])
    return _kept[key]


class Calls:
    """What is called in one dtype under one configuration.

    Attributes:
        dtype: of the maps.
        last: whether the channels are the last axis of maps.
        pixels: the axes of a map.
    """

    def __init__(self, char, deterministic, auto_tune, tensor_core, fast_batch_normalization):
        self.dtype, self.order = cupy.dtype(char), ORDERS[char]
        self.last = self.order == constants.CUDNN_TENSOR_NHWC
        self.pixels = (1, 2) if self.last else (2, 3)
        self._char, self._one, self._zero = char, ONE[char], ZERO[char]
        self._options = bool(deterministic), auto_tune, tensor_core
        # with the channels last cuDNN's quick kernels are those of the persistent mode; PyTorch takes it too
        self._mode = (constants.CUDNN_BATCHNORM_SPATIAL_PERSISTENT if fast_batch_normalization or self.last
                      else constants.CUDNN_BATCHNORM_SPATIAL)
        self._max_mode = (constants.CUDNN_POOLING_MAX_DETERMINISTIC if deterministic
                          else constants.CUDNN_POOLING_MAX)
        self._made = {}

    def logical(self, shape):
        """(N, C, h, w) of a physical shape."""
        return (shape[0], shape[3], shape[1], shape[2]) if self.last else shape

    def physical(self, shape):
        return (shape[0], shape[2], shape[3], shape[1]) if self.last else shape

    def _get(self, kind, *key):
        made = self._made.get((kind, key))
        if made is None:
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            made = self._made[kind, key] = kind(self, *key)
        return made

    def convolution(self, x_shape, w_shape, stride, pad, dilate, groups):
        return self._get(Convolution, x_shape, w_shape, stride, pad, dilate, groups)

    def normalization(self, shape, channels):
        return self._get(Normalization, shape, channels)

    def pooling(self, shape, maximum, ksize, stride, pad):
        return self._get(Pooling, shape, maximum, ksize, stride, pad)


class Convolution:
    """:class:`~chainer_abn.runtime.cudnn.convolution.Call` in three directions.

    Attributes:
        y_shape: physical.
        forward, data, weights: calls of (handle, addresses): (x, W) -> y, (W, gy) -> gx, (x, gy) -> gW.
    """

    def __init__(self, calls, x_shape, w_shape, stride, pad, dilate, groups):
        x = n, c, h, w = calls.logical(x_shape)
        out = [get_conv_outsize(size, k, s, p, d=d)
               for size, k, s, p, d in zip((h, w), w_shape[2:], stride, pad, dilate, strict=True)]
        y = n, w_shape[0], *out
        if c != w_shape[1] * groups or min(out) < 1 or math.prod(y) > _MOST:
            raise Unfit(f'maps {x} for filters {w_shape}')
        self.y_shape = calls.physical(y)
        deterministic, *options = calls._options

        def call(kind, shapes, deterministic=deterministic):
            return convolution.Call(kind, calls.order, calls._char, shapes, (pad, stride, dilate, groups),
                                    deterministic, *options)
        self.forward = call('Forward', (x, w_shape, y), False)
        self.data = call('BackwardData', (w_shape, y, x))
        self.weights = call('BackwardFilter', (x, y, w_shape))
        handle = descriptors.handle()
        try:                    # on the way back it would be too late
            for each in self.forward, self.data, self.weights:
                each.estimate(handle)
        except api.Error as error:
            raise Unfit(str(error)) from None


class Normalization:
    """Batch normalization in training, of maps per channel."""

    def __init__(self, calls, shape, channels):
        logical = calls.logical(shape)
        if logical[1] != channels or math.prod(logical) > _MOST:
            raise Unfit(f'maps {logical} for {channels} channels')
        key = logical, calls._char, calls.order
        self._of_x, self._of_statistics = descriptors.tensor(*key), descriptors.statistics(*key, calls._mode)
        self._mode, self._one, self._zero = calls._mode, calls._one, calls._zero
        plain = calls._mode, constants.CUDNN_BATCHNORM_OPS_BN
        size, handle = api.library().size, descriptors.handle()
        x, statistics = self._of_x, self._of_statistics
        self._forward_size = size('GetBatchNormalizationForwardTrainingExWorkspaceSize', handle, *plain,
                                  x, None, x, statistics, None)
        self._backward_size = size('GetBatchNormalizationBackwardExWorkspaceSize', handle, *plain,
                                   x, None, x, None, x, statistics, None)
        self._reserve_size = size('GetBatchNormalizationTrainingExReserveSpaceSize', handle, *plain, None, x)
        self._forward = api.library().BatchNormalizationForwardTrainingEx
        self._backward = api.library().BatchNormalizationBackwardEx

    def forward(self, handle, x, y, gamma, beta, rate, running_mean, running_var, eps, mean, inv_std):
        """Write to y, mean and inv_std -> what the way back needs; all are addresses.

        The running statistics get a share ``rate`` of the batch's, unless they are None.
        """
        workspace, reserve = cupy.cuda.alloc(self._forward_size), cupy.cuda.alloc(self._reserve_size)
        self._forward(
            handle, self._mode, constants.CUDNN_BATCHNORM_OPS_BN, self._one, self._zero, self._of_x, x,
            None, None, self._of_x, y, self._of_statistics, gamma, beta, rate, running_mean, running_var, eps,
            mean, inv_std, None, workspace.ptr, self._forward_size, reserve.ptr, self._reserve_size)
        return reserve

    def backward(self, handle, x, gy, gx, gamma, ggamma, gbeta, eps, mean, inv_std, reserve):
        """Write to gx, ggamma and gbeta."""
        workspace = cupy.cuda.alloc(self._backward_size)
        one, zero, of_x = self._one, self._zero, self._of_x
        self._backward(
            handle, self._mode, constants.CUDNN_BATCHNORM_OPS_BN, one, zero, one, zero, of_x, x, None, None,
            of_x, gy, None, None, of_x, gx, self._of_statistics, gamma, None, ggamma, gbeta, eps,
            mean, inv_std, None, workspace.ptr, self._backward_size, reserve.ptr, self._reserve_size)


class Pooling:
    """Maximum or average of windows that lie within the maps and their padding."""

    def __init__(self, calls, shape, maximum, ksize, stride, pad):
        logical = n, c, h, w = calls.logical(shape)
        y = n, c, *(get_conv_outsize(size, ksize, stride, pad) for size in (h, w))
        if min(y) < 1:
            raise Unfit(f'maps {logical} for windows of {ksize}')
        self.y_shape = calls.physical(y)
        mode = calls._max_mode if maximum else constants.CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING
        self._described = descriptors.pooling((ksize,) * 2, (stride,) * 2, (pad,) * 2, mode)
        self._of_x, self._of_y = (descriptors.tensor(s, calls._char, calls.order) for s in (logical, y))
        self._one, self._zero = calls._one, calls._zero

    def forward(self, handle, x, y):
        api.library().PoolingForward(handle, self._described, self._one, self._of_x, x,
                                     self._zero, self._of_y, y)

    def backward(self, handle, x, y, gy, gx):
        api.library().PoolingBackward(handle, self._described, self._one, self._of_y, y, self._of_y, gy,
                                      self._of_x, x, self._zero, self._of_x, gx)
