"""Batch normalization: of maps per channel (spatial), or of vectors per element.

Scale, shift and statistics are float32 for float16 input, else of the input's dtype; arrays of another
dtype are cast, and running statistics cast back. ``x`` is (N, C, H, W), or (N, H, W, C) with d_layout
CUDNN_TENSOR_NHWC; where ``is_for_conv2d`` is False it is (..., C).
"""
import warnings
from ctypes import byref, c_int

import cupy

from chainer_abn.runtime.cudnn import api, descriptors
from chainer_abn.runtime.cudnn.api import ONE, ZERO
from chainer_abn.runtime.cudnn.constants import (
    CUDNN_BATCHNORM_OPS_BN,
    CUDNN_BATCHNORM_SPATIAL_PERSISTENT,
    CUDNN_ERRQUERY_BLOCKING,
    CUDNN_TENSOR_NCHW,
    CUDNN_TENSOR_NHWC,
)
from chainer_abn.runtime.cudnn.descriptors import arranged, contiguous, kept, statistics, tensor


def batch_normalization_forward_training_ex(
        x, gamma, beta, running_mean, running_var, mean, inv_std, eps, decay, is_for_conv2d, mode, debug,
        d_layout=CUDNN_TENSOR_NCHW):
    """As below, with what the quicker kernels keep for the backward pass -> (reserve, y, mean, inv_std)."""
    return _training(True, x, gamma, beta, running_mean, running_var, mean, inv_std, eps, decay,
                     is_for_conv2d, mode, debug, d_layout)


def batch_normalization_forward_training(
        x, gamma, beta, running_mean, running_var, mean, inv_std, eps, decay, is_for_conv2d, mode, debug,
        d_layout=CUDNN_TENSOR_NCHW):
    """Normalize by the batch's statistics -> (y, mean, inv_std), the latter two (C,).

    The running statistics are updated in place: ``decay`` of the old, 1 - decay of the new (of the
    variance, the unbiased one). Arrays given as ``mean`` and ``inv_std`` are written to.
    """
    return _training(False, x, gamma, beta, running_mean, running_var, mean, inv_std, eps, decay,
                     is_for_conv2d, mode, debug, d_layout)[1:]


def _training(with_reserve, x, gamma, beta, running_mean, running_var, mean, inv_std, eps, decay,
              is_for_conv2d, mode, debug, d_layout):
    maps = _maps(x, gamma, is_for_conv2d, d_layout)
    order = descriptors.common_order(maps)
    maps = arranged(maps, order)
    y = descriptors.empty(maps.shape, maps.dtype, order)
    dtype = _parameter_dtype(x)
    scale, shift = contiguous(gamma, dtype), contiguous(beta, dtype)
    running = [contiguous(a, dtype) for a in (running_mean, running_var)]
    if mean is None:
        mean, inv_std = cupy.empty_like(scale), cupy.empty_like(scale)
    lib, handle, char = api.library(), descriptors.handle(), maps.dtype.char
    key = maps.shape, char, order
    of_x, of_statistics = tensor(*key), statistics(*key, mode)
    shared = (of_statistics, scale.data.ptr, shift.data.ptr, 1 - decay, *[a.data.ptr for a in running], eps,
              mean.data.ptr, inv_std.data.ptr)
    reserve = None
    if with_reserve:
        workspace_size, _, reserve_size = _sizes(handle, key, mode)
        workspace, reserve = cupy.cuda.alloc(workspace_size), cupy.cuda.alloc(reserve_size)
        lib.BatchNormalizationForwardTrainingEx(
            handle, mode, CUDNN_BATCHNORM_OPS_BN, ONE[char], ZERO[char], of_x, maps.data.ptr, None, None,
            of_x, y.data.ptr, *shared, None, workspace.ptr, workspace_size, reserve.ptr, reserve_size)
    else:
        lib.BatchNormalizationForwardTraining(
            handle, mode, ONE[char], ZERO[char], of_x, maps.data.ptr, of_x, y.data.ptr, *shared)
    for updated, given in zip(running, (running_mean, running_var), strict=True):
        if updated is not given:
            given[...] = updated
    _warn_of_overflow(handle, mode, debug)
    return reserve, _as_given(y, x, is_for_conv2d, d_layout), mean, inv_std


def batch_normalization_forward_inference(x, gamma, beta, mean, var, eps, is_for_conv2d, mode,
                                          d_layout=CUDNN_TENSOR_NCHW):
    """Normalize by given statistics (C,) -> y."""
    maps = _maps(x, gamma, is_for_conv2d, d_layout)
    order = descriptors.common_order(maps)
    maps = arranged(maps, order)
    y = descriptors.empty(maps.shape, maps.dtype, order)
    parameters = [contiguous(a, _parameter_dtype(x)) for a in (gamma, beta, mean, var)]
    char = maps.dtype.char
    key = maps.shape, char, order
    of_x = tensor(*key)
    api.library().BatchNormalizationForwardInference(
        descriptors.handle(), mode, ONE[char], ZERO[char], of_x, maps.data.ptr, of_x, y.data.ptr,
        statistics(*key, mode), *[a.data.ptr for a in parameters], eps)
    return _as_given(y, x, is_for_conv2d, d_layout)


def batch_normalization_backward(x, gamma, gy, mean, inv_std, eps, is_for_conv2d, mode, debug,
                                 d_layout=CUDNN_TENSOR_NCHW, *, reserve_space=None):
    """Gradients of :func:`batch_normalization_forward_training` -> (gx, ggamma, gbeta).

    ``reserve_space`` is what the _ex of the forward pass returned, or None after the other.
    """
    maps = _maps(x, gamma, is_for_conv2d, d_layout)
    order = descriptors.common_order(maps)
    maps = arranged(maps, order)
    gmaps = arranged(_maps(gy, gamma, is_for_conv2d, d_layout), order, x.dtype)
    gx = descriptors.empty(maps.shape, maps.dtype, order)
    scale, mean, inv_std = (contiguous(a, _parameter_dtype(x)) for a in (gamma, mean, inv_std))
    gscale, gshift = cupy.empty_like(scale), cupy.empty_like(scale)
    lib, handle, char = api.library(), descriptors.handle(), maps.dtype.char
    key = maps.shape, char, order
    of_x, of_statistics = tensor(*key), statistics(*key, mode)
    factors = ONE[char], ZERO[char], ONE[char], ZERO[char]
    if reserve_space is None:
        lib.BatchNormalizationBackward(
            handle, mode, *factors, of_x, maps.data.ptr, of_x, gmaps.data.ptr, of_x, gx.data.ptr,
            of_statistics, scale.data.ptr, gscale.data.ptr, gshift.data.ptr, eps, mean.data.ptr,
            inv_std.data.ptr)
    else:
        _, workspace_size, reserve_size = _sizes(handle, key, mode)
        workspace = cupy.cuda.alloc(workspace_size)
        lib.BatchNormalizationBackwardEx(
            handle, mode, CUDNN_BATCHNORM_OPS_BN, *factors, of_x, maps.data.ptr, None, None,
            of_x, gmaps.data.ptr, None, None, of_x, gx.data.ptr, of_statistics, scale.data.ptr, None,
            gscale.data.ptr, gshift.data.ptr, eps, mean.data.ptr, inv_std.data.ptr, None,
            workspace.ptr, workspace_size, reserve_space.ptr, reserve_size)
    _warn_of_overflow(handle, mode, debug)
    return _as_given(gx, x, is_for_conv2d, d_layout), gscale, gshift


def _maps(x, gamma, is_for_conv2d, layout):
    if not is_for_conv2d:
        return x.reshape(-1, gamma.size, 1, 1)
    return descriptors.channels_first(x) if layout == CUDNN_TENSOR_NHWC else x


def _as_given(maps, x, is_for_conv2d, layout):
    if not is_for_conv2d:
        return maps.reshape(x.shape)
    return descriptors.channels_last(maps) if layout == CUDNN_TENSOR_NHWC else maps


def _parameter_dtype(x):
    return cupy.dtype('d' if x.dtype.char == 'd' else 'f')


@kept
def _sizes(handle, key, mode):
    """Bytes of the workspaces forward and backward, and of the reserve between them."""
    lib, of_x, of_statistics = api.library(), tensor(*key), statistics(*key, mode)
    plain = handle, mode, CUDNN_BATCHNORM_OPS_BN
    return (
        lib.size('GetBatchNormalizationForwardTrainingExWorkspaceSize', *plain, of_x, None, of_x,
                 of_statistics, None),
        lib.size('GetBatchNormalizationBackwardExWorkspaceSize', *plain, of_x, None, of_x, None, of_x,
                 of_statistics, None),
        lib.size('GetBatchNormalizationTrainingExReserveSpaceSize', *plain, None, of_x))


def _warn_of_overflow(handle, mode, debug):
    """The persistent mode sums in scaled integers, which large values overflow; debug mode waits to see."""
    if not debug or mode != CUDNN_BATCHNORM_SPATIAL_PERSISTENT:
        return
    status = c_int()
    api.library().QueryRuntimeError(handle, byref(status), CUDNN_ERRQUERY_BLOCKING, None)
    if status.value:
        warnings.warn(f'overflow in batch normalization (cuDNN status {status.value}): '
                      'set chainer.config.cudnn_fast_batch_normalization = False', stacklevel=3)
