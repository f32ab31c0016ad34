"""ReLU, sums and products of arrays of one dense layout."""
import numpy

from chainer_abn.runtime.onednn import api
from chainer_abn.runtime.onednn.primitives.library import Primitive, attributes, dense, kept, library


@kept
def _relu(size):
    lib, md = library(), dense(size)
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


@kept
def _binary(size, operation, relu):
    lib, md = library(), dense(size)
    descriptor = lib.binary_primitive_desc_create(
        lib.engine, operation, md, md, md, attributes('relu') if relu else None)
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
