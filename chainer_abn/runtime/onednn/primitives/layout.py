"""Arrays as oneDNN likes them: channels last, sixteen at a time."""
import numpy

from chainer_abn.runtime.onednn.primitives.library import copying, kept, maps


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
    return bool(numpy.isnan(_square(x)))


def may_overflow(x):
    """Whether a sum of products with an array of a dense layout may come to NaN.

    Not where neither array says so: |sum of x y| <= |x| |y|, and both norms are below the root of the largest
    number.
    """
    return not numpy.isfinite(_square(x))


def _square(x):
    flat = pixels(x).ravel() if x.ndim == 4 and is_channels_last(x) else x.ravel()
    with numpy.errstate(over='ignore'):
        return numpy.dot(flat, flat)


def round_up(channels):
    """The next multiple of 16, which batch normalization is faster on (``benchmarks/onednn_choices.py``)."""
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


@kept
def _copy(shape, width_x, width_y):
    return copying(maps(*shape, width_x), maps(*shape, width_y))


def widened(x, channels):
    """A channels-last copy with ``channels`` channels: new ones are zero, those too many left out."""
    y = empty((len(x), channels, *x.shape[2:]))
    both = min(x.shape[1], channels)
    copy(x[:, :both], y[:, :both])
    y[:, both:] = 0
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
