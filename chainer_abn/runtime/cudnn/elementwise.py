"""Activations and softmax."""
import math

import cupy

from chainer_abn.runtime.cudnn import api, descriptors
from chainer_abn.runtime.cudnn.api import ONE, ZERO
from chainer_abn.runtime.cudnn.constants import CUDNN_SOFTMAX_MODE_CHANNEL
from chainer_abn.runtime.cudnn.descriptors import contiguous, matrix, tensor


def activation_forward(x, mode, coef=0.0):
    """The activation of every element -> y; ``coef`` is the ceiling of CUDNN_ACTIVATION_CLIPPED_RELU."""
    x = contiguous(x, x.dtype)
    y, char = cupy.empty_like(x), x.dtype.char
    if x.size:
        of_x = matrix(x)
        api.library().ActivationForward(
            descriptors.handle(), descriptors.activation(mode, coef),
            ONE[char], of_x, x.data.ptr, ZERO[char], of_x, y.data.ptr)
    return y


def activation_backward(x, y, gy, mode, coef=0.0):
    """Gradient of :func:`activation_forward` -> gx."""
    x, y, gy = (contiguous(a, x.dtype) for a in (x, y, gy))
    gx, char = cupy.empty_like(x), x.dtype.char
    if x.size:
        of_x = matrix(x)
        api.library().ActivationBackward(
            descriptors.handle(), descriptors.activation(mode, coef),
            ONE[char], of_x, y.data.ptr, of_x, gy.data.ptr, of_x, x.data.ptr, ZERO[char], of_x, gx.data.ptr)
    return gx


def softmax_forward(x, axis, algorithm):
    """Softmax, or its logarithm (CUDNN_SOFTMAX_LOG), along one axis -> y."""
    x = contiguous(x, x.dtype)
    y, char = cupy.empty_like(x), x.dtype.char
    if x.size:
        of_x = _along(axis, x)
        api.library().SoftmaxForward(
            descriptors.handle(), algorithm, CUDNN_SOFTMAX_MODE_CHANNEL,
            ONE[char], of_x, x.data.ptr, ZERO[char], of_x, y.data.ptr)
    return y


def softmax_backward(y, gy, axis, algorithm):
    """Gradient of :func:`softmax_forward` -> gx."""
    y, gy = (contiguous(a, y.dtype) for a in (y, gy))
    gx, char = cupy.empty_like(y), y.dtype.char
    if y.size:
        of_y = _along(axis, y)
        api.library().SoftmaxBackward(
            descriptors.handle(), algorithm, CUDNN_SOFTMAX_MODE_CHANNEL,
            ONE[char], of_y, y.data.ptr, of_y, gy.data.ptr, ZERO[char], of_y, gx.data.ptr)
    return gx


def _along(axis, array):
    """Descriptor with the axis where channels are: (all before, the axis, all after, 1)."""
    axis %= array.ndim
    before, after = math.prod(array.shape[:axis]), math.prod(array.shape[axis + 1:])
    return tensor((before, array.shape[axis], after, 1), array.dtype.char)
