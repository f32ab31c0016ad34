"""CuPy's sorting in NumPy: Thrust's kernels come compiled for a GPU, with CuPy's module."""
import ctypes

import numpy


def _view(address, dtype, shape):
    n_bytes = int(numpy.prod(shape, dtype=int)) * numpy.dtype(dtype).itemsize
    return numpy.frombuffer((ctypes.c_char * n_bytes).from_address(address), dtype).reshape(shape)


def replace(thrust, current_stream):
    """Puts these functions in the place of those of cupy.cuda.thrust."""

    def sort(dtype, data, keys, shape):
        _wait()
        _view(data, dtype, shape).sort(axis=-1)

    def argsort(dtype, indices, data, keys, shape):
        _wait()
        _view(indices, numpy.intp, shape)[...] = _view(data, dtype, shape).argsort(axis=-1, kind='stable')

    def lexsort(dtype, indices, keys, k, n):
        _wait()
        _view(indices, numpy.intp, (n,))[...] = numpy.lexsort(_view(keys, dtype, (k, n)))

    def _wait():
        # refused in a capture, as some of Thrust's own synchronisations are
        current_stream().synchronize()

    thrust.sort, thrust.argsort, thrust.lexsort = sort, argsort, lexsort
