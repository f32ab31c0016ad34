"""Products of matrices."""
import numpy

from chainer_abn.runtime.onednn import api
from chainer_abn.runtime.onednn.primitives.library import Primitive, dense, dims, kept, library


@kept
def _matmul(m, k, n, a_strides, b_strides, bias):
    lib = library()
    a = lib.memory_desc_create_with_strides(2, dims((m, k)), api.F32, dims(a_strides))
    b = lib.memory_desc_create_with_strides(2, dims((k, n)), api.F32, dims(b_strides))
    c, row = dense(m, n), dense(1, n)
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
