"""oneDNN's primitives on NumPy arrays, made once per shape.

Maps are float32 (N, C, H, W) arrays with channels-last memory (:func:`empty` makes such, any other is
copied by :func:`channels_last`); every other NumPy and Chainer function works on them. What a function
returns is new unless it takes ``out``. Arrays must have the layout that is asked for: it is not checked.
"""
from chainer_abn.runtime.onednn.primitives.conv import Taps, Window, convolution
from chainer_abn.runtime.onednn.primitives.elementwise import add, multiply, relu, relu_backward
from chainer_abn.runtime.onednn.primitives.layout import (
    channels_last,
    contains_nan,
    copy,
    cut,
    empty,
    is_channels_last,
    may_overflow,
    pad,
    pixel_dot,
    pixel_mean,
    round_up,
    scale,
    widened,
    widened_as,
)
from chainer_abn.runtime.onednn.primitives.library import Primitive, available, library, loaded, why_not
from chainer_abn.runtime.onednn.primitives.matrix import matmul
from chainer_abn.runtime.onednn.primitives.norm import batch_normalization
from chainer_abn.runtime.onednn.primitives.pool import pooling
