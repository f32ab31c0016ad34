"""Convolution, its two gradients, and the choice of their algorithms.

float32 is computed with CUDNN_DEFAULT_MATH, under which cuDNN may round the factors of products to
TF32 (10 bits of mantissa) on GPUs of compute capability 8.0 and later; ``chainer.config.use_cudnn_tensor_core
= 'never'`` asks for CUDNN_FMA_MATH, which does not. The headers do not say so; PyTorch (Conv_v7.cpp, its
allow_tf32) and ONNX Runtime (its use_tf32) choose between the two for that reason. float16 asks for the
tensor cores with CUDNN_TENSOR_OP_MATH and sums in float32.
"""
from ctypes import byref, c_int

import cupy

from chainer_abn.runtime.cudnn import api, descriptors
from chainer_abn.runtime.cudnn.api import ONE, ZERO
from chainer_abn.runtime.cudnn.constants import (
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT,
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT,
    CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
    CUDNN_DEFAULT_MATH,
    CUDNN_DETERMINISTIC,
    CUDNN_FMA_MATH,
    CUDNN_TENSOR_NCHW,
    CUDNN_TENSOR_NHWC,
    CUDNN_TENSOR_OP_MATH,
)
from chainer_abn.runtime.cudnn.descriptors import arranged, tensor, weights

_ALGORITHMS = {
    'Forward': CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
    'BackwardData': CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT,
    'BackwardFilter': CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT,
}
_NOT_SUPPORTED = 3      # the thousands of the status
_MOST_KEPT = 4096       # as of descriptors.kept
_found = {}             # algorithms, the best first, by all that they depend on

# A Winograd transform by tiles of 4 x 4 of 64 float32 maps of 64 x 56 x 56, in and out, takes 220 MiB. The
# block lives for one call, in CuPy's pool.
_max_workspace_size = 256 << 20


def get_max_workspace_size():
    """Bytes that an algorithm may need beside the arrays."""
    return _max_workspace_size


def set_max_workspace_size(size):
    """Allow algorithms that need up to so many bytes beside the arrays."""
    global _max_workspace_size
    _max_workspace_size = int(size)


def is_tensor_core_available(dtype):
    """Whether the tensor cores of the current GPU take this dtype: float16, or float32 as TF32."""
    least = {'e': 70, 'f': 80}.get(cupy.dtype(dtype).char)
    return least is not None and int(cupy.cuda.Device().compute_capability) >= least


def convolution_forward(x, W, b, y, pad, stride, dilation, groups, *, auto_tune, tensor_core,
                        d_layout=CUDNN_TENSOR_NCHW, w_layout=CUDNN_TENSOR_NCHW):
    """Write the convolution of ``x`` (N, C, ...) with ``W`` (K, C / groups, ...), plus ``b`` (K,), to ``y``.

    Arrays of layout CUDNN_TENSOR_NHWC have their channels last. Whatever layout is told, arrays are
    taken in the memory order that they have; where ``y``'s differs from the others', these are copied.

    Raises:
        Error: cuDNN has no algorithm for the case, or none within the limits.
    """
    x, y, W = _channels_first(x, d_layout), _channels_first(y, d_layout), _channels_first(W, w_layout)
    order = descriptors.common_order(y, x, W)
    x, W, out = arranged(x, order), arranged(W, order), arranged(y, order)
    _convolve('Forward', order, (tensor, x), (weights, W), (tensor, out),
              (pad, stride, dilation, groups), False, auto_tune, tensor_core)
    _add_bias(b, out, order)
    _write_back(out, y)


def convolution_backward_data(W, x, b, y, pad, stride, dilation, groups, *, deterministic, auto_tune,
                              tensor_core, d_layout=CUDNN_TENSOR_NCHW, w_layout=CUDNN_TENSOR_NCHW):
    """Write the gradient of a convolution's input, plus ``b``, to ``y``; that of its output is ``x``.

    Layouts and errors are those of :func:`convolution_forward`; ``deterministic`` asks for an algorithm
    that gives the same bits every time.
    """
    x, y, W = _channels_first(x, d_layout), _channels_first(y, d_layout), _channels_first(W, w_layout)
    order = descriptors.common_order(y, x, W)
    x, W, out = arranged(x, order), arranged(W, order), arranged(y, order)
    _convolve('BackwardData', order, (weights, W), (tensor, x), (tensor, out),
              (pad, stride, dilation, groups), deterministic, auto_tune, tensor_core)
    _add_bias(b, out, order)
    _write_back(out, y)


def convolution_backward_filter(x, gy, gW, pad, stride, dilation, groups, *, deterministic, auto_tune,
                                tensor_core, d_layout=CUDNN_TENSOR_NCHW, w_layout=CUDNN_TENSOR_NCHW):
    """Write the gradient of a convolution's filter to ``gW``.

    Layouts and errors are those of :func:`convolution_forward`; ``deterministic`` asks for an algorithm
    that gives the same bits every time.
    """
    x, gy, gW = _channels_first(x, d_layout), _channels_first(gy, d_layout), _channels_first(gW, w_layout)
    order = descriptors.common_order(gW, x, gy)
    x, gy, out = arranged(x, order), arranged(gy, order, x.dtype), arranged(gW, order)
    _convolve('BackwardFilter', order, (tensor, x), (tensor, gy), (weights, out),
              (pad, stride, dilation, groups), deterministic, auto_tune, tensor_core)
    _write_back(out, gW)


def _channels_first(array, layout):
    return descriptors.channels_first(array) if layout == CUDNN_TENSOR_NHWC else array


def _write_back(out, array):
    if out is not array:
        array[...] = out


def _add_bias(b, y, order):
    if b is None or not y.size:
        return
    char = y.dtype.char
    b = arranged(b.reshape(1, b.size, *[1] * (y.ndim - 2)), order, y.dtype)
    api.library().AddTensor(descriptors.handle(), ONE[char], tensor(b.shape, char, order), b.data.ptr,
                            ONE[char], tensor(y.shape, char, order), y.data.ptr)


def _math_type(tensor_core, char):
    if char == 'd':
        return CUDNN_DEFAULT_MATH
    if tensor_core == 'never':
        return CUDNN_FMA_MATH
    return CUDNN_TENSOR_OP_MATH if char == 'e' else CUDNN_DEFAULT_MATH


def _convolve(kind, order, first, second, out, window, deterministic, auto_tune, tensor_core):
    """Run the best algorithm; each operand is (how to describe it, array).

    What does not fit into memory, or is refused in spite of the library's own list, gives way to the
    next in line, for good.
    """
    if not (first[1].size and second[1].size):
        out[1].fill(0)
        return
    char = out[1].dtype.char
    first, second, out = ((describe(array.shape, array.dtype.char, order), array)
                          for describe, array in (first, second, out))
    math_type = _math_type(tensor_core, char)
    described = (*map(tuple, window[:3]), window[3], char)
    handle = descriptors.handle()
    limit = _max_workspace_size
    key = (kind, handle.device, order, first[1].shape, second[1].shape, out[1].shape, described, math_type,
           deterministic, auto_tune, limit)
    algorithms = _found.get(key)
    if algorithms is None:
        search = auto_tune and not cupy.cuda.get_current_stream().is_capturing()
        algorithms = _search(kind, handle, first, second, out,
                             descriptors.convolution(*described, math_type), deterministic, search, limit)
        if search == auto_tune:
            if len(_found) >= _MOST_KEPT:
                _found.clear()
            _found[key] = algorithms
    while True:
        best = algorithms[0]
        try:
            workspace = cupy.cuda.alloc(best.memory)
            # of the pairs of algorithm and math type that were listed, the very pair; but FMA is a promise
            run_with = CUDNN_FMA_MATH if math_type == CUDNN_FMA_MATH else best.mathType
            getattr(api.library(), f'Convolution{kind}')(
                handle, ONE[char], *_pointers(first), *_pointers(second),
                descriptors.convolution(*described, run_with), best.algo, workspace.ptr, best.memory,
                ZERO[char], *_pointers(out))
            return
        except cupy.cuda.memory.OutOfMemoryError:
            others = [a for a in algorithms if a.memory < best.memory]
            if not others:
                raise
        except api.Error as error:
            others = algorithms[1:]
            if error.status // 1000 != _NOT_SUPPORTED or not others:
                raise
        algorithms[:] = others


def _pointers(operand):
    descriptor, array = operand
    return descriptor, array.data.ptr


def _search(kind, handle, first, second, out, descriptor, deterministic, auto_tune, limit):
    """The usable algorithms, the best first: by the library's estimate, or timed on these arrays."""
    lib, most = api.library(), _ALGORITHMS[kind]

    def ask(function, *arguments, after=()):
        results, returned = (api.Algorithm * most)(), c_int()
        function(handle, *arguments, most, byref(returned), results, *after)
        usable = [a for a in results[:returned.value]
                  if not a.status and a.memory <= limit
                  and (not deterministic or a.determinism == CUDNN_DETERMINISTIC)]
        if not usable:
            raise api.Error(function.__name__, 0, 'no algorithm', _limits(deterministic, limit))
        return usable

    usable = ask(getattr(lib, f'GetConvolution{kind}Algorithm_v7'), first[0], second[0], descriptor, out[0])
    if not auto_tune:
        return usable
    for size in sorted({a.memory for a in usable}, reverse=True):
        try:
            workspace = cupy.cuda.alloc(size)
        except cupy.cuda.memory.OutOfMemoryError:
            continue
        return ask(getattr(lib, f'FindConvolution{kind}AlgorithmEx'), *_pointers(first), *_pointers(second),
                   descriptor, *_pointers(out), after=(workspace.ptr, size))
    return usable


def _limits(deterministic, limit):
    return f'that needs up to {limit} bytes of workspace' + deterministic * ' and is deterministic'
