"""Handles, and descriptors of arrays and operations, cached by what they say.

Tensors are described as (N, C, spatial ...) whatever their memory order: channels first (NCHW) or
channels last (NHWC), packed. An array in another order is copied into one of these.
"""
import ctypes
import functools
import threading

import cupy

from chainer_abn.runtime.cudnn import api
from chainer_abn.runtime.cudnn.api import DATA_TYPES
from chainer_abn.runtime.cudnn.constants import (
    CUDNN_CROSS_CORRELATION,
    CUDNN_DATA_FLOAT,
    CUDNN_PROPAGATE_NAN,
    CUDNN_TENSOR_NCHW,
    CUDNN_TENSOR_NHWC,
)

# a network has some dozens of shapes, and images of ever new sizes must not fill the memory
kept = functools.lru_cache(maxsize=4096)
_handles = threading.local()


class _Handle:
    """cuDNN's context of one device and thread; kept, as at the interpreter's end the driver may be gone."""

    def __init__(self, device):
        self.device, self.stream = device, 0
        self._as_parameter_ = api.library().make('')


def handle():
    """The handle of the current device and thread, set to the current stream."""
    device = cupy.cuda.runtime.getDevice()
    handles = _handles.__dict__
    if device not in handles:
        handles[device] = _Handle(device)
    found = handles[device]
    stream = cupy.cuda.get_current_stream().ptr
    if found.stream != stream:
        api.library().SetStream(found, stream)
        found.stream = stream
    return found


class Descriptor:
    """A descriptor of the library; it is freed with this object."""

    __slots__ = '_as_parameter_', '_destroy'

    def __init__(self, thing):
        self._destroy = getattr(api.library(), f'Destroy{thing}Descriptor')
        self._as_parameter_ = api.library().make(f'{thing}Descriptor')

    def __del__(self):
        if hasattr(self, '_as_parameter_'):
            self._destroy(self._as_parameter_)


def _ints(values):
    if max(values) > 0x7fffffff:
        raise ValueError(f'{values}: cuDNN takes sizes up to 2 ** 31 - 1')
    return (ctypes.c_int * len(values))(*values)


# Memory order

def _strides(shape, order):
    """In elements, of a packed array (N, C, spatial ...)."""
    axes = [0, *range(2, len(shape)), 1] if order == CUDNN_TENSOR_NHWC else range(len(shape))
    strides, step = [0] * len(shape), 1
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


@kept
def _orders(shape, strides, itemsize):
    """The orders in which an array with these strides (in bytes) is packed."""
    return tuple(order for order in (CUDNN_TENSOR_NCHW, CUDNN_TENSOR_NHWC)
                 if all(n == 1 or a == b * itemsize
                        for n, a, b in zip(shape, strides, _strides(shape, order), strict=True)))


def common_order(*arrays):
    """The memory order of the first array that is packed in one order only; else channels first."""
    for array in arrays:
        orders = _orders(array.shape, array.strides, array.itemsize)
        if len(orders) == 1:
            return orders[0]
    return CUDNN_TENSOR_NCHW


def arranged(array, order, dtype=None):
    """The array, or a copy of it, packed in this order and with this dtype."""
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    if order in _orders(array.shape, array.strides, array.itemsize):
        return array
    if order == CUDNN_TENSOR_NCHW:
        return contiguous(array, array.dtype)
    return channels_first(contiguous(channels_last(array), array.dtype))


def contiguous(array, dtype):
    """The array, or a copy of it, in C order and with this dtype."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    return array.astype(dtype, order='C')


def empty(shape, dtype, order):
    """A new array, packed in this order."""
    if order == CUDNN_TENSOR_NCHW:
        return cupy.empty(shape, dtype)
    return channels_first(cupy.empty((shape[0], *shape[2:], shape[1]), dtype))


def channels_first(array):
    """A view (N, C, spatial ...) of an array (N, spatial ..., C)."""
    return array.transpose(0, array.ndim - 1, *range(1, array.ndim - 1))


def channels_last(array):
    """A view (N, spatial ..., C) of an array (N, C, spatial ...)."""
    return array.transpose(0, *range(2, array.ndim), 1)


# Descriptors

@kept
def tensor(shape, dtype_char, order=CUDNN_TENSOR_NCHW):
    """Of a packed array (N, C, spatial ...)."""
    descriptor = Descriptor('Tensor')
    api.library().SetTensorNdDescriptor(
        descriptor, DATA_TYPES[dtype_char], len(shape), _ints(shape), _ints(_strides(shape, order)))
    return descriptor


def matrix(array):
    """Of a C-contiguous array whose shape does not matter, as (first axis, the others, 1, 1)."""
    rows = array.shape[0] if array.ndim else 1
    return tensor((rows, array.size // rows, 1, 1), array.dtype.char)


@kept
def weights(shape, dtype_char, order=CUDNN_TENSOR_NCHW):
    """Of the filter (K, C / groups, spatial ...)."""
    descriptor = Descriptor('Filter')
    api.library().SetFilterNdDescriptor(
        descriptor, DATA_TYPES[dtype_char], order, len(shape), _ints(shape))
    return descriptor


@kept
def convolution(pad, stride, dilation, groups, dtype_char, math_type):
    """Of a cross-correlation; that of float16 sums in float32."""
    compute = CUDNN_DATA_FLOAT if dtype_char == 'e' else DATA_TYPES[dtype_char]
    lib, descriptor = api.library(), Descriptor('Convolution')
    lib.SetConvolutionNdDescriptor(descriptor, len(pad), _ints(pad), _ints(stride), _ints(dilation),
                                   CUDNN_CROSS_CORRELATION, compute)
    lib.SetConvolutionGroupCount(descriptor, groups)
    lib.SetConvolutionMathType(descriptor, math_type)
    return descriptor


@kept
def pooling(ksize, stride, pad, mode):
    """Of a pooling; a NaN in a window makes its maximum NaN, as on the CPU."""
    descriptor = Descriptor('Pooling')
    api.library().SetPoolingNdDescriptor(
        descriptor, mode, CUDNN_PROPAGATE_NAN, len(ksize), _ints(ksize), _ints(pad), _ints(stride))
    return descriptor


@kept
def activation(mode, coef):
    """Of an activation; NaN stays NaN, as on the CPU, so that loss scaling can see it."""
    descriptor = Descriptor('Activation')
    api.library().SetActivationDescriptor(descriptor, mode, CUDNN_PROPAGATE_NAN, coef)
    return descriptor


@kept
def statistics(shape, dtype_char, order, mode):
    """Of scale, shift, mean and variance of a batch normalization of ``tensor(shape, dtype_char, order)``."""
    descriptor = Descriptor('Tensor')
    api.library().DeriveBNTensorDescriptor(descriptor, tensor(shape, dtype_char, order), mode)
    return descriptor
