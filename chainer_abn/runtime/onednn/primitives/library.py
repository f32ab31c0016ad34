"""The library, primitives on arrays, and the descriptors that they are made of."""
import ctypes
import functools
import sys
import threading

import numpy

from chainer_abn.runtime import threads
from chainer_abn.runtime.onednn import api

_lock = threading.Lock()        # a primitive's memory objects hold the addresses of one call
_library = None
_why_not = None                 # why there is none, once that is known
_caches = []


def kept(function):
    """Cache by shape: a network has some dozens, and images of ever new sizes must not fill the memory."""
    cached = functools.lru_cache(maxsize=1024)(function)
    _caches.append(cached)
    return cached


def _start_anew():
    """Forget the primitives, which were made for another number of threads."""
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
            threads.load_openmp()
        except (OSError, AttributeError, api.Failed) as error:
            _library, _why_not = None, str(error)
            print(f'oneDNN is not used: {error}; on the CPU the same is computed many times slower '
                  '(pip install onednn-cpu-gomp)', file=sys.stderr)
        else:
            threads.listeners.append(_start_anew)
    if _library is None:
        return False
    threads.tell_openmp()       # primitives are made for a number of threads
    return True


def loaded():
    return _library is not None


def why_not():
    return _why_not


def _address_in_object(array):
    """The address of the data, which CPython keeps behind the two words of every object."""
    return ctypes.c_void_p.from_address(id(array) + 16).value


def _address_by_numpy(array):
    return array.ctypes.data


def _quickest_address():
    """NumPy's way takes a microsecond, thousands of times per step of a deep network."""
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

    Args:
        descriptor: of the primitive.
        arguments: memory descriptors by the names of the arguments in ``api``; ``_1024`` is the number.
    """

    def __init__(self, descriptor, **arguments):
        lib = library()
        self._primitive = lib.primitive_create(descriptor)
        self._memories = [lib.memory_create(md, lib.engine, None) for md in arguments.values()]
        self._arguments = (api.Argument * len(arguments))()
        for argument, name, memory in zip(self._arguments, arguments, self._memories, strict=True):
            argument.argument = int(name[1:]) if name[0] == '_' else getattr(api, name)
            argument.memory = memory._as_parameter_
        self._set_handle, self._execute, self._stream = lib.set_handle, lib.execute, lib.stream

    def __call__(self, *arrays):
        threads.tell_openmp()
        with _lock:
            for memory, array in zip(self._memories, arrays, strict=True):
                self._set_handle(memory, address(array))
            status = self._execute(self._primitive, self._stream, len(self._memories), self._arguments)
        if status:
            raise api.Failed(f'execution: status {status}')


def dims(values):
    return api.DIMS(*values)


@kept
def dense(*shape):
    """Memory descriptor of an array in C order."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 1, 0, -1):
        strides[i - 1] = strides[i] * shape[i]
    return library().memory_desc_create_with_strides(len(shape), dims(shape), api.F32, dims(strides))


@kept
def maps(n, c, h, w, of=None):
    """Memory descriptor of maps with channels-last memory, or of some of the channels of wider ones."""
    of = of or c
    return library().memory_desc_create_with_strides(
        4, dims((n, c, h, w)), api.F32, dims((h * w * of, 1, w * of, of)))


@kept
def any_layout(*shape):
    """Memory descriptor whose layout the primitive chooses."""
    return library().memory_desc_create_with_tag(len(shape), dims(shape), api.F32, api.ANY)


def attributes(*post_ops):
    """Attributes with post-operations: 'sum', 'relu', or (operation, descriptor of its second source)."""
    lib = library()
    operations = lib.post_ops_create()
    for post_op in post_ops:
        if post_op == 'sum':
            lib.post_ops_append_sum(operations, 1.0, 0, 0)
        elif post_op == 'relu':
            lib.post_ops_append_eltwise(operations, api.RELU, 0.0, 0.0)
        else:
            lib.post_ops_append_binary(operations, *post_op)
    attributes = lib.primitive_attr_create()
    lib.primitive_attr_set_post_ops(attributes, operations)
    return attributes


def copying(source, target):
    """The primitive that copies between two layouts."""
    lib = library()
    return Primitive(lib.reorder_primitive_desc_create(source, lib.engine, target, lib.engine, None),
                     SRC=source, DST=target)


def reorder(source, target):
    """A copy between two layouts as a function of the array, None where they are the same."""
    lib = library()
    if lib.md_equal(source, target):
        return None
    run = copying(source, target)
    size = lib.md_size(target) // 4

    def copy(array):
        out = numpy.empty(size, 'f')
        run(array, out)
        return out
    return copy
