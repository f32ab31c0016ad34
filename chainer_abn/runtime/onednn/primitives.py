"""oneDNN's primitives on NumPy arrays, made once per shape.

Maps are float32 (N, C, H, W) arrays with channels-last memory (:func:`empty` makes such, any other is
copied); every other NumPy and Chainer function works on them. What a function returns is new.
"""
import ctypes
import functools
import os
import sys
import threading
from typing import NamedTuple

import numpy

from chainer_abn.runtime import threads
from chainer_abn.runtime.onednn import api

_lock = threading.Lock()        # a primitive's memory objects hold the addresses of one call
_library = None
_why_not = None                 # why there is none, once that is known


_caches = []


def _kept(function):
    """Cache by shape: a network has some dozens, and images of ever new sizes must not fill the memory."""
    cached = functools.lru_cache(maxsize=1024)(function)
    _caches.append(cached)
    return cached


def _start_anew():
    """In a forked child, which has none of the threads that its parent's primitives count on."""
    global _lock
    _lock = threading.Lock()
    for cached in _caches:
        cached.cache_clear()


def library():
    """The library; :func:`available` must have been asked before."""
    return _library


def available():
    """Whether there is a library. The first call loads it; that there is none is said once."""
    global _library, _why_not
    if _library is None and _why_not is None:
        try:
            _library = api.Library()
        except (OSError, AttributeError, api.Failed) as error:
            _why_not = str(error)
            print(f'oneDNN is not used: {error}; on the CPU the same is computed many times slower '
                  '(pip install onednn-cpu-gomp)', file=sys.stderr)
        else:
            threads.hand_over_to_openmp()
            os.register_at_fork(after_in_child=_start_anew)
    return _library is not None


def loaded():
    return _library is not None


def why_not():
    return _why_not


def empty(shape):
    """A float32 array (N, C, H, W) with channels-last memory."""
    n, c, h, w = shape
    return numpy.empty((n, h, w, c), 'f').transpose(0, 3, 1, 2)


def is_channels_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def channels_last(x):
    """``x`` itself, or a copy of it with channels-last memory."""
    if is_channels_last(x):
        return x
    y = empty(x.shape)
    copy(x, y)
    return y


def contains_nan(x):
    """Whether there is a NaN in an array of a dense layout."""
    flat = pixels(x).ravel() if x.ndim == 4 and is_channels_last(x) else x.ravel()
    with numpy.errstate(over='ignore'):
        return bool(numpy.isnan(numpy.dot(flat, flat)))


def _address_in_object(array):
    """The address of the data, which CPython keeps behind the two words of every object."""
    return ctypes.c_void_p.from_address(id(array) + 16).value


def _address_by_numpy(array):
    return array.ctypes.data


def _quickest_address():
    """NumPy's way takes a microsecond, ten thousand times per step of a deep network."""
    array = numpy.empty(3)
    try:
        right = sys.implementation.name == 'cpython' and all(
            _address_in_object(a) == a.ctypes.data for a in (array, array[1:]))
    except ValueError:
        right = False
    return _address_in_object if right else _address_by_numpy


address = _quickest_address()


class Primitive:
    """A primitive and memory for its arguments, called with one array for each.

    Arrays must have the layout that the primitive was made for; this is not checked here.
    """

    def __init__(self, descriptor, **arguments):
        lib = library()
        self._primitive = lib.primitive_create(descriptor)
        self._memories = [lib.memory_create(md, lib.engine, None) for md in arguments.values()]
        numbers = [int(name[1:]) if name[0] == '_' else getattr(api, name) for name in arguments]
        self._arguments = (api.Argument * len(numbers))(
            *((number, memory._as_parameter_) for number, memory in zip(numbers, self._memories, strict=True)))
        self._set_handle, self._execute, self._stream = lib.set_handle, lib.execute, lib.stream

    def __call__(self, *arrays):
        with _lock:
            for memory, array in zip(self._memories, arrays, strict=True):
                self._set_handle(memory, address(array))
            status = self._execute(self._primitive, self._stream, len(self._memories), self._arguments)
        if status:
            raise api.Failed(f'execution: status {status}')


def _dims(values):
    return api.DIMS(*values)


@_kept
def _dense(*shape):
    """Memory descriptor of an array in C order."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 1, 0, -1):
        strides[i - 1] = strides[i] * shape[i]
    return library().memory_desc_create_with_strides(len(shape), _dims(shape), api.F32, _dims(strides))


@_kept
def _maps(n, c, h, w, of=None):
    """Memory descriptor of maps with channels-last memory, or of some of the channels of wider ones."""
    of = of or c
    return library().memory_desc_create_with_strides(
        4, _dims((n, c, h, w)), api.F32, _dims((h * w * of, 1, w * of, of)))


@_kept
def _any(*shape):
    """Memory descriptor whose layout the primitive chooses."""
    return library().memory_desc_create_with_tag(len(shape), _dims(shape), api.F32, api.ANY)


def _attributes(*post_ops):
    """Attributes with post-operations: 'sum', 'relu', or a memory descriptor to add."""
    lib = library()
    operations = lib.post_ops_create()
    for post_op in post_ops:
        if post_op == 'sum':
            lib.post_ops_append_sum(operations, 1.0, 0, 0)
        elif post_op == 'relu':
            lib.post_ops_append_eltwise(operations, api.RELU, 0.0, 0.0)
        else:
            lib.post_ops_append_binary(operations, api.ADD, post_op)
    attributes = lib.primitive_attr_create()
    lib.primitive_attr_set_post_ops(attributes, operations)
    return attributes


def _reorder(source, target):
    """A copy between two layouts as a function of the array, None where they are the same."""
    lib = library()
    if lib.md_equal(source, target):
        return None
    run = Primitive(lib.reorder_primitive_desc_create(source, lib.engine, target, lib.engine, None),
                    SRC=source, DST=target)
    size = lib.md_size(target) // 4

    def copy(array):
        out = numpy.empty(size, 'f')
        run(array, out)
        return out
    return copy


# Convolution

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
        self._x, self._y = _maps(*x), _maps(n, c_out, *out)
        g = window.groups
        shape = w if g == 1 else (g, w[0] // g, *w[1:])
        self._w_shape, self._w = w, _dense(*shape)
        self._any_w = _any(*shape)
        self._bias = _dense(c_out) if bias else None
        self._geometry = [_dims(values) for values in (
            window.stride, [d - 1 for d in window.dilation], window.pad,
            window.pad_behind(x[2:], w[2:], out))]
        self._out_shape, self._window = (n, c_out, *out), window
        self._x_shape = x
        # a memory descriptor among the post-operations is of what is added to y
        post_ops = [self._y if op == 'add' else op for op in post_ops]
        self._descriptor = lib.convolution_forward_primitive_desc_create(
            lib.engine, api.TRAINING, api.CONVOLUTION, self._x, self._any_w, self._bias, self._y,
            *self._geometry, _attributes(*post_ops) if post_ops else None)
        w_md = lib.query_md(self._descriptor, api.WEIGHTS_MD, 0)
        self._to_forward = _reorder(self._w, w_md)
        arguments = {'SRC': self._x, 'WEIGHTS': w_md, 'DST': self._y}
        if bias:
            arguments['BIAS'] = self._bias
        if self._y in post_ops:
            arguments[f'_{api.post_op_source(post_ops.index(self._y))}'] = self._y
        self._forward = Primitive(self._descriptor, **arguments)

    def forward(self, x, w, *more, out=None):
        y = empty(self._out_shape) if out is None else out
        self._forward(x, w if self._to_forward is None else self._to_forward(w), y, *more)
        return y

    @functools.cached_property
    def _data(self):
        lib = library()
        descriptor = lib.convolution_backward_data_primitive_desc_create(
            lib.engine, api.CONVOLUTION, self._x, self._any_w, self._y, *self._geometry,
            self._descriptor, None)
        w_md = lib.query_md(descriptor, api.WEIGHTS_MD, 0)
        return _reorder(self._w, w_md), Primitive(descriptor, DIFF_DST=self._y, WEIGHTS=w_md, DIFF_SRC=self._x)

    def data(self, gy, w, out=None):
        reorder, run = self._data
        gx = empty(self._x_shape) if out is None else out
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
            back = Primitive(lib.reorder_primitive_desc_create(w_md, lib.engine, self._w, lib.engine, None),
                             SRC=w_md, DST=self._w)
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


@_kept
def convolution(x, w, window, bias=False, post_ops=(), out=None):
    """The convolution of maps of shape ``x`` with weights of shape ``w``.

    Args:
        window (Window)
        bias (bool)
        post_ops: of 'add' (another array, handed over last), 'sum' (to what ``out`` holds), 'relu'.
        out: (height, width) of the result where it is not the usual one (cover_all).
    """
    return _Convolution(x, w, out or window.out_size(x[2:], w[2:]), window, bias, post_ops)


# Batch normalization

class _BatchNormalization:
    """Batch normalization of maps of one shape, and a ReLU behind it if asked for.

    oneDNN sums up the pixels of a channel one after the other in float32, which loses five digits on
    large maps. Where there are many, the statistics are taken of groups of pixels first (the same
    memory seen as more channels) and put together in float64.
    """

    def __init__(self, shape, eps, relu=False, groups=1, fixed=False):
        lib = library()
        n, c, h, w = shape
        self._relu, self._eps, self._c, self._groups = relu, eps, c, groups
        self._maps, self._vector = _maps(*shape), _dense(c)
        flags = api.SCALE | api.SHIFT | relu * api.FUSE_RELU
        self._training = self._describe(flags)
        self._flags = flags | fixed * api.GLOBAL_STATISTICS
        # kept, for the descriptor of the workspace is a part of it
        self._describes_forward = forward = self._describe(self._flags | (groups > 1) * api.GLOBAL_STATISTICS)
        self._workspace = lib.query_md(forward, api.WORKSPACE_MD, 0) if relu else None
        self._size = lib.md_size(self._workspace) if relu else 0
        md, vector = self._maps, self._vector
        self._forward = Primitive(forward, SRC=md, SCALES=vector, SHIFTS=vector, MEAN=vector, VARIANCE=vector,
                                  DST=md, **self._more())
        if groups > 1:
            md, vector = _maps(n, c * groups, h, w // groups), _dense(c * groups)
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
            lib.engine, api.BACKWARD, md, md, md, self._eps, self._flags, self._training, None)
        return Primitive(descriptor, SRC=md, SCALES=vector, MEAN=vector, VARIANCE=vector, DIFF_DST=md,
                         DIFF_SRC=md, DIFF_SCALES=vector, DIFF_SHIFTS=vector, **self._more())

    def backward(self, x, gamma, mean, var, workspace, gy, out=None):
        """gx, ggamma, gbeta; ``out`` may be gy itself."""
        gx = empty(x.shape) if out is None else out
        ggamma, gbeta = numpy.empty((2, self._c), 'f')
        self._backward(x, gamma, mean, var, gy, gx, ggamma, gbeta, *[workspace] * self._relu)
        return gx, ggamma, gbeta


MOST_SUMMED = 1 << 17           # pixels summed up one after the other


@_kept
def batch_normalization(shape, eps, relu=False, fixed=False):
    """Batch normalization of maps of this shape, ``fixed``: by statistics that are given."""
    n, _, h, w = shape
    groups = 1
    while not fixed and n * h * w > groups * MOST_SUMMED and w % (2 * groups) == 0:
        groups *= 2
    return _BatchNormalization(shape, eps, relu, groups, fixed)


# Channels

def round_up(channels):
    """Batch normalization is several times as fast on a multiple of 16 channels."""
    return channels if channels == 1 else -(-channels // 16) * 16


def pad(vector, size):
    """``vector`` with zeros behind it."""
    return vector if len(vector) == size else numpy.pad(vector, (0, size - len(vector)))


def copy(x, y):
    """Copy maps to ``y``; both may be some of the channels of wider channels-last maps."""
    widths = _width(x), _width(y)
    if None in widths:
        y[...] = x
    else:
        _copy(x.shape, *widths)(x, y)


def _width(x):
    """Channels of the channels-last memory that maps are a part of; None: it is not such memory."""
    n, c, h, w = x.shape
    width = x.strides[3] // 4
    return width if width >= c and x.strides == (h * w * width * 4, 4, w * width * 4, width * 4) else None


@_kept
def _copy(shape, width_x, width_y):
    lib = library()
    x, y = _maps(*shape, width_x), _maps(*shape, width_y)
    return Primitive(lib.reorder_primitive_desc_create(x, lib.engine, y, lib.engine, None), SRC=x, DST=y)


def widened(x, channels):
    """A channels-last copy with ``channels`` channels, the new ones zero."""
    y = empty((len(x), channels, *x.shape[2:]))
    copy(x, y[:, :x.shape[1]])
    y[:, x.shape[1]:] = 0
    return y


def cut(w, shape):
    """Weights without the rows and columns that stand for zero channels."""
    return w if w.shape == shape else numpy.ascontiguousarray(w[:shape[0], :shape[1]])


def widened_as(x, like):
    """``x`` with channels-last memory and zero channels behind it as ``like`` has them."""
    return channels_last(x) if x.shape == like.shape else widened(x, like.shape[1])


def pixels(x):
    """Maps as (N, H W, C), the same memory."""
    n, c, h, w = x.shape
    return x.transpose(0, 2, 3, 1).reshape(n, h * w, c)


def pixel_mean(x):
    """(N, C) means over the pixels."""
    return pixels(x).mean(axis=1)


def pixel_dot(a, b):
    """(N, C) sums of a b over the pixels."""
    return numpy.einsum('nsc,nsc->nc', pixels(a), pixels(b))


def scale(x, weight, shift=None):
    """x weight + shift with one factor and summand per image and channel, (N, C)."""
    y = empty(x.shape)
    numpy.multiply(pixels(x), weight[:, None], out=pixels(y))
    if shift is not None:
        out = pixels(y)
        out += shift[:, None]
    return y


# Elementwise

@_kept
def _relu(size):
    lib, md = library(), _dense(size)
    forward = lib.eltwise_forward_primitive_desc_create(
        lib.engine, api.TRAINING, api.RELU_BY_OUTPUT, md, md, 0.0, 0.0, None)
    backward = lib.eltwise_backward_primitive_desc_create(
        lib.engine, api.RELU_BY_OUTPUT, md, md, md, 0.0, 0.0, forward, None)
    return (Primitive(forward, SRC=md, DST=md),
            Primitive(backward, DST=md, DIFF_DST=md, DIFF_SRC=md))


def relu(x, out=None):
    """max(x, 0); arrays of any one dense layout. ``out`` may be x."""
    y = numpy.empty_like(x) if out is None else out
    _relu(x.size)[0](x, y)
    return y


def relu_backward(y, gy, out=None):
    """gy where y > 0, else 0; both of one dense layout. ``out`` may be gy."""
    gx = numpy.empty_like(gy) if out is None else out
    _relu(y.size)[1](y, gy, gx)
    return gx


@_kept
def _binary(size, operation, relu):
    lib, md = library(), _dense(size)
    descriptor = lib.binary_primitive_desc_create(
        lib.engine, operation, md, md, md, _attributes('relu') if relu else None)
    return Primitive(descriptor, SRC=md, SRC_1=md, DST=md)


def multiply(a, b, out=None):
    """a * b; arrays of one dense layout. ``out`` may be a or b."""
    y = numpy.empty_like(a) if out is None else out
    _binary(a.size, api.MULTIPLY, False)(a, b, y)
    return y


def add(a, b, relu=False, out=None):
    """a + b, and a ReLU behind it if asked for; arrays of one dense layout. ``out`` may be a or b."""
    y = numpy.empty_like(a) if out is None else out
    _binary(a.size, api.ADD, relu)(a, b, y)
    return y


# Pooling

class _Pooling:
    def __init__(self, x, out, algorithm, ksize, stride, pad, pad_behind):
        lib = library()
        self._x_shape, self._y_shape = x, (*x[:2], *out)
        self._x, self._y = _maps(*x), _maps(*self._y_shape)
        self._rest = [_dims(v) for v in (stride, ksize, (0, 0), pad, pad_behind)]
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


@_kept
def pooling(x, maximum, ksize, stride, pad, out=None):
    """Max or average pooling of maps of shape ``x``; arguments are pairs.

    Args:
        out: (height, width) of the result where it is not the usual one (cover_all).
    """
    window = Window(stride, pad)
    out = out or window.out_size(x[2:], ksize)
    algorithm = api.MAX_POOLING if maximum else api.AVERAGE_POOLING
    return _Pooling(x, out, algorithm, ksize, stride, pad, window.pad_behind(x[2:], ksize, out))


# Matrices

@_kept
def _matmul(m, k, n, a_strides, b_strides, bias):
    lib = library()
    a = lib.memory_desc_create_with_strides(2, _dims((m, k)), api.F32, _dims(a_strides))
    b = lib.memory_desc_create_with_strides(2, _dims((k, n)), api.F32, _dims(b_strides))
    c, row = _dense(m, n), _dense(1, n)
    descriptor = lib.matmul_primitive_desc_create(lib.engine, a, b, row if bias else None, c, None)
    return Primitive(descriptor, SRC=a, WEIGHTS=b, DST=c, **({'BIAS': row} if bias else {}))


def matmul(a, b, bias=None):
    """a @ b + bias, of float32 matrices in C order or transposed."""
    a, b = (m if m.flags.c_contiguous or m.flags.f_contiguous else numpy.ascontiguousarray(m) for m in (a, b))
    y = numpy.empty((a.shape[0], b.shape[1]), 'f')
    strides = [_matrix_strides(m) for m in (a, b)]
    more = () if bias is None else (numpy.ascontiguousarray(bias),)
    _matmul(*a.shape, b.shape[1], *strides, bias is not None)(a, b, y, *more)
    return y


def _matrix_strides(m):
    return (m.shape[1], 1) if m.flags.c_contiguous else (1, m.shape[0])


# A 3x3 convolution to one map

class Taps:
    """Convolution 3x3, pad 1, to one map: 1x1 to nine maps, which are shifted and added.

    oneDNN's own takes ten times as long for 100 channels (``benchmarks/primitives.py``).
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
