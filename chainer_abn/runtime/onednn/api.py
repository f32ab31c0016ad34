"""The part of oneDNN 3's C API that is used, and where its library is.

Sizes and strides are in elements. The library comes from the wheel
``onednn-cpu-gomp``, which holds nothing else.
"""
import ctypes
import re
import site
import sys
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_uint, c_void_p
from pathlib import Path

NAME = 'libdnnl.so.3'

# dnnl_types.h
F32 = 3
ANY = 1
TRAINING, BACKWARD = 64, 128
CONVOLUTION = 1
RELU, RELU_BY_OUTPUT = 32, 256
ADD, MULTIPLY, MAXIMUM = 0x1fff0, 0x1fff1, 0x1fff2
MAX_POOLING, AVERAGE_POOLING = 0x1ff, 0x2ff                     # the average counts the padding
GLOBAL_STATISTICS, SCALE, SHIFT, FUSE_RELU = 1, 2, 4, 8         # of batch normalization
WEIGHTS_MD, DIFF_WEIGHTS_MD, WORKSPACE_MD = 131, 132, 135
SRC, SRC_1, DST, WEIGHTS, BIAS, MEAN, VARIANCE, SCALES, SHIFTS = 1, 2, 17, 33, 41, 49, 50, 51, 52
WORKSPACE, DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 64, 129, 145, 161
DIFF_BIAS, DIFF_SCALES, DIFF_SHIFTS = 169, 255, 256


def post_op_source(index):
    """The argument that is the second source of the post-operation with this number."""
    return 32768 * (index + 1) | SRC_1


class Argument(Structure):
    """dnnl_exec_arg_t"""
    _fields_ = [('argument', c_int), ('memory', c_void_p)]


DIMS = c_int64 * 12
_OUT, _IN, _DIMS = POINTER(c_void_p), c_void_p, POINTER(c_int64)
_SIGNATURES = {
    'engine_create': (_OUT, c_int, ctypes.c_size_t),
    'stream_create': (_OUT, _IN, c_uint),
    'memory_desc_create_with_strides': (_OUT, c_int, _DIMS, c_int, _DIMS),
    'memory_desc_create_with_tag': (_OUT, c_int, _DIMS, c_int, c_int),
    'memory_create': (_OUT, _IN, _IN, c_void_p),
    'memory_set_data_handle': (_IN, c_void_p),
    'convolution_forward_primitive_desc_create': (
        _OUT, _IN, c_int, c_int, _IN, _IN, _IN, _IN, _DIMS, _DIMS, _DIMS, _DIMS, _IN),
    'convolution_backward_data_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, _IN, _DIMS, _DIMS, _DIMS, _DIMS, _IN, _IN),
    'convolution_backward_weights_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, _IN, _IN, _DIMS, _DIMS, _DIMS, _DIMS, _IN, _IN),
    'batch_normalization_forward_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, c_float, c_uint, _IN),
    'batch_normalization_backward_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, _IN, c_float, c_uint, _IN, _IN),
    'eltwise_forward_primitive_desc_create': (_OUT, _IN, c_int, c_int, _IN, _IN, c_float, c_float, _IN),
    'eltwise_backward_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, _IN, c_float, c_float, _IN, _IN),
    'pooling_forward_primitive_desc_create': (
        _OUT, _IN, c_int, c_int, _IN, _IN, _DIMS, _DIMS, _DIMS, _DIMS, _DIMS, _IN),
    'pooling_backward_primitive_desc_create': (
        _OUT, _IN, c_int, _IN, _IN, _DIMS, _DIMS, _DIMS, _DIMS, _DIMS, _IN, _IN),
    'matmul_primitive_desc_create': (_OUT, _IN, _IN, _IN, _IN, _IN, _IN),
    'binary_primitive_desc_create': (_OUT, _IN, c_int, _IN, _IN, _IN, _IN),
    'reorder_primitive_desc_create': (_OUT, _IN, _IN, _IN, _IN, _IN),
    'primitive_create': (_OUT, _IN),
    'primitive_execute': (_IN, _IN, c_int, POINTER(Argument)),
    'primitive_attr_create': (_OUT,),
    'primitive_attr_set_post_ops': (_IN, _IN),
    'post_ops_create': (_OUT,),
    'post_ops_append_sum': (_IN, c_float, ctypes.c_int32, c_int),
    'post_ops_append_eltwise': (_IN, c_int, c_float, c_float),
    'post_ops_append_binary': (_IN, c_int, _IN),
    'set_primitive_cache_capacity': (c_int,),
}


# what is made by the thousands; engine and stream stay
_FREED = 'primitive_desc', 'memory_desc', 'primitive_attr', 'post_ops', 'primitive', 'memory'


class Failed(Exception):
    """oneDNN refused a call: it has no such primitive, or no memory."""


class Version(Structure):
    """The head of dnnl_version_t"""
    _fields_ = [('major', c_int), ('minor', c_int), ('patch', c_int)]


def find():
    """Paths where the wheel may have put the library, that of the loader's own search last."""
    roots = dict.fromkeys((sys.prefix, site.getuserbase()))
    # pip --target leaves lib/ beside the packages
    roots.update(dict.fromkeys(p for p in sys.path if p))
    paths = [Path(root, 'lib', NAME) for root in roots]
    return [str(path) for path in paths if path.is_file()] + [NAME]


class Library:
    """oneDNN on the CPU: its functions as methods, an engine and a stream.

    A function that makes something returns its handle; status codes become :class:`Failed`.

    Raises:
        OSError: there is no library, what it needs is missing, or it is not oneDNN 3.
    """

    def __init__(self):
        *paths, last = find()
        for path in paths:
            try:
                self.path, self._lib = path, ctypes.CDLL(path)
                break
            except OSError:
                continue        # of another system, say; the last one's error is told
        else:
            self.path, self._lib = last, ctypes.CDLL(last)
        self._lib.dnnl_version.restype = POINTER(Version)
        version = self._lib.dnnl_version().contents
        self.version = f'{version.major}.{version.minor}.{version.patch}'
        if version.major != 3:
            raise OSError(f'{self.path}: oneDNN {self.version}, 3 is needed')
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._lib, f'dnnl_{name}')
            function.argtypes, function.restype = arguments, c_int
            setattr(self, name, self._maker(function, name) if arguments[0] is _OUT else _checked(function))
        self._lib.dnnl_primitive_desc_query_md.argtypes = c_void_p, c_int, c_int
        self._lib.dnnl_primitive_desc_query_md.restype = c_void_p
        self._lib.dnnl_memory_desc_get_size.argtypes = c_void_p,
        self._lib.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self._lib.dnnl_memory_desc_equal.argtypes = c_void_p, c_void_p
        self.query_md = self._lib.dnnl_primitive_desc_query_md
        self.md_size = self._lib.dnnl_memory_desc_get_size
        self.md_equal = self._lib.dnnl_memory_desc_equal
        # unchecked: called for every argument and primitive of a step
        self.set_handle = self._lib.dnnl_memory_set_data_handle
        self.execute = self._lib.dnnl_primitive_execute
        self.engine = self.engine_create(1, 0)
        self.stream = self.stream_create(self.engine, 1)
        # primitives are kept by shape in Python already; twice would be twice the memory
        self.set_primitive_cache_capacity(0)


    def _maker(self, function, name):
        checked = _checked(function)
        thing = next((thing for thing in _FREED if re.fullmatch(rf'.*{thing}_create\w*', name)), None)
        free = thing and getattr(self._lib, f'dnnl_{thing}_destroy')
        if free:
            free.argtypes = c_void_p,

        def make(*arguments):
            pointer = c_void_p()
            checked(ctypes.byref(pointer), *arguments)
            return Handle(pointer.value, free) if free else pointer.value
        return make


class Handle:
    """Something that the library made; it is freed with this object."""

    __slots__ = '_as_parameter_', '_free'

    def __init__(self, pointer, free):
        self._as_parameter_, self._free = pointer, free

    def __del__(self):
        self._free(self._as_parameter_)


def _checked(function):
    def call(*arguments):
        status = function(*arguments)
        if status:
            raise Failed(f'{function.__name__}: status {status}')
    return call

