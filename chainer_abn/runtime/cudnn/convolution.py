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
_OPERANDS = {           # how to describe what comes in and goes out
    'Forward': (tensor, weights, tensor),
    'BackwardData': (weights, tensor, tensor),
    'BackwardFilter': (tensor, tensor, weights),
}
_NOT_SUPPORTED = 3      # the thousands of the status
_MOST_KEPT = 4096       # as of descriptors.kept
_found = {}             # calls, by all that they depend on

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
    order = _order(y, x, W)
    x, W, out = arranged(x, order), arranged(W, order), arranged(y, order)
    _convolve('Forward', order, x, W, out, (pad, stride, dilation, groups), False, auto_tune, tensor_core)
    _add_bias(b, out, order)
    _write_back(out, y)


def convolution_backward_data(W, x, b, y, pad, stride, dilation, groups, *, deterministic, auto_tune,
                              tensor_core, d_layout=CUDNN_TENSOR_NCHW, w_layout=CUDNN_TENSOR_NCHW):
    """Write the gradient of a convolution's input, plus ``b``, to ``y``; that of its output is ``x``.

    Layouts and errors are those of :func:`convolution_forward`; ``deterministic`` asks for an algorithm
    that gives the same bits every time.
    """
    x, y, W = _channels_first(x, d_layout), _channels_first(y, d_layout), _channels_first(W, w_layout)
    order = _order(y, x, W)
    x, W, out = arranged(x, order), arranged(W, order), arranged(y, order)
    _convolve('BackwardData', order, W, x, out, (pad, stride, dilation, groups), deterministic, auto_tune,
              tensor_core)
    _add_bias(b, out, order)
    _write_back(out, y)


def convolution_backward_filter(x, gy, gW, pad, stride, dilation, groups, *, deterministic, auto_tune,
                                tensor_core, d_layout=CUDNN_TENSOR_NCHW, w_layout=CUDNN_TENSOR_NCHW):
    """Write the gradient of a convolution's filter to ``gW``.

    Layouts and errors are those of :func:`convolution_forward`; ``deterministic`` asks for an algorithm
    that gives the same bits every time.
    """
    x, gy, gW = _channels_first(x, d_layout), _channels_first(gy, d_layout), _channels_first(gW, w_layout)
    order = _order(gW, x, gy)
    x, gy, out = arranged(x, order), arranged(gy, order, x.dtype), arranged(gW, order)
    _convolve('BackwardFilter', order, x, gy, out, (pad, stride, dilation, groups), deterministic, auto_tune,
              tensor_core)
    _write_back(out, gW)


def _order(out, *arrays):
    """The order of memory to compute in; with the channels last cuDNN convolves no float64."""
    return CUDNN_TENSOR_NCHW if out.dtype.char == 'd' else descriptors.common_order(out, *arrays)


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
    if tensor_core == 'never':
        # with the channels last there may be nothing but tensor cores for float16, which lose nothing there
        return CUDNN_FMA_MATH if char == 'f' else CUDNN_DEFAULT_MATH
    return CUDNN_TENSOR_OP_MATH if char == 'e' else CUDNN_DEFAULT_MATH


def _convolve(kind, order, first, second, out, window, deterministic, auto_tune, tensor_core):
    """Run the best algorithm for these arrays."""
    if not (first.size and second.size):
        out.fill(0)
        return
    window = (*map(tuple, window[:3]), window[3])
    char, handle = out.dtype.char, descriptors.handle()
    key = (kind, handle.device, order, char, first.shape, second.shape, out.shape, window, deterministic,
           auto_tune, tensor_core == 'never', _max_workspace_size)
    call = _found.get(key)
    if call is None:
        call = Call(kind, order, char, (first.shape, second.shape, out.shape), window, deterministic,
                    auto_tune, tensor_core)
    call(handle, first.data.ptr, second.data.ptr, out.data.ptr)
    if call.settled:
        if len(_found) >= _MOST_KEPT:
            _found.clear()
        _found[key] = call


class Call:
    """A convolution or one of its gradients, for arrays of these shapes on one device.

    What does not fit into memory, or is refused in spite of the library's own list, gives way to the
    next in line, for good.

    Args:
        kind: 'Forward': (x, W) -> y; 'BackwardData': (W, gy) -> gx; 'BackwardFilter': (x, gy) -> gW.
        shapes: of these three, as (N, C, spatial ...); their memory has all the same ``order``.
        window: (pad, stride, dilation, groups), tuples but for the last.

    Attributes:
        settled: whether the algorithms have been found; while a stream is captured none are timed.
    """

    def __init__(self, kind, order, char, shapes, window, deterministic, auto_tune, tensor_core):
        self._kind, self._deterministic, self._auto_tune = kind, deterministic, auto_tune
        self._operands = [describe(shape, char, order)
                          for describe, shape in zip(_OPERANDS[kind], shapes, strict=True)]
        self._window, self._math_type = (*window, char), _math_type(tensor_core, char)
        self._function = getattr(api.library(), f'Convolution{kind}')
        self._one, self._zero = ONE[char], ZERO[char]
        self._limit, self.settled = _max_workspace_size, False

    def estimate(self, handle):
        """Take what the library thinks best.

        Raises:
            Error: it has no algorithm.
        """
        self._choose(handle, (None, None, None), False)

    def _choose(self, handle, addresses, search):
        self._take(_search(self._kind, handle, *zip(self._operands, addresses, strict=True),
                           descriptors.convolution(*self._window, self._math_type), self._deterministic,
                           search, self._limit))
        self.settled = search == self._auto_tune

    def __call__(self, handle, first, second, out):
        """Write to the array at the address ``out``."""
        of_first, of_second, of_out = self._operands
        if not self.settled:
            search = self._auto_tune and not cupy.cuda.get_current_stream().is_capturing()
            self._choose(handle, (first, second, out), search)
        while True:
            best = self._algorithms[0]
            try:
                workspace = cupy.cuda.alloc(self._memory)
                self._function(handle, self._one, of_first, first, of_second, second, self._described,
                               self._algorithm, workspace.ptr, self._memory, self._zero, of_out, out)
                return
            except cupy.cuda.memory.OutOfMemoryError:
                others = [a for a in self._algorithms if a.memory < best.memory]
                if not others:
                    raise
            except api.Error as error:
                others = self._algorithms[1:]
                if error.status // 1000 != _NOT_SUPPORTED or not others:
                    raise
            self._take(others)

    def _take(self, algorithms):
        self._algorithms, best = algorithms, algorithms[0]
        self._algorithm, self._memory = best.algo, best.memory
        # of the pairs of algorithm and math type that were listed, the very pair; but FMA is a promise
        self._described = descriptors.convolution(
            *self._window, CUDNN_FMA_MATH if self._math_type == CUDNN_FMA_MATH else best.mathType)


def _search(kind, handle, first, second, out, descriptor, deterministic, auto_tune, limit):
    """The usable algorithms, the best first: by the library's estimate, or timed on these arrays.

    Each operand is (descriptor, address).
    """
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
        return ask(getattr(lib, f'FindConvolution{kind}AlgorithmEx'), *first, *second, descriptor, *out,
                   after=(workspace.ptr, size))
    return usable


def _limits(deterministic, limit):
    return f'that needs up to {limit} bytes of workspace' + deterministic * ' and is deterministic'
