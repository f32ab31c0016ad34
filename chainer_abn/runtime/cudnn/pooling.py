"""Pooling of maps (N, C, spatial ...), with two or three spatial axes."""
from chainer_abn.runtime.cudnn import api, descriptors
from chainer_abn.runtime.cudnn.api import ONE, ZERO
from chainer_abn.runtime.cudnn.descriptors import arranged, tensor


def pooling_forward(x, y, ksize, stride, pad, mode):
    """Write the pooled ``x`` to ``y``, whose shape says how many windows there are -> y."""
    order = descriptors.common_order(y, x)
    x, out = arranged(x, order), arranged(y, order)
    char = x.dtype.char
    if y.size:
        api.library().PoolingForward(
            descriptors.handle(), descriptors.pooling(*map(tuple, (ksize, stride, pad)), mode),
            ONE[char], tensor(x.shape, char, order), x.data.ptr,
            ZERO[char], tensor(y.shape, char, order), out.data.ptr)
    if out is not y:
        y[...] = out
    return y


def pooling_backward(x, y, gy, ksize, stride, pad, mode):
    """Gradient of :func:`pooling_forward` -> gx."""
    order = descriptors.common_order(x, y)
    x, y, gy = arranged(x, order), arranged(y, order), arranged(gy, order, x.dtype)
    gx = descriptors.empty(x.shape, x.dtype, order)
    char = x.dtype.char
    if y.size:
        of_x, of_y = tensor(x.shape, char, order), tensor(y.shape, char, order)
        api.library().PoolingBackward(
            descriptors.handle(), descriptors.pooling(*map(tuple, (ksize, stride, pad)), mode),
            ONE[char], of_y, y.data.ptr, of_y, gy.data.ptr, of_x, x.data.ptr,
            ZERO[char], of_x, gx.data.ptr)
    return gx
