"""Masks of dropout on a GPU."""
import numpy
import pytest

from chainer_abn.runtime import dropout

import chainer
import chainer.functions as F

pytestmark = pytest.mark.gpu


def split_mix(state, n):
    """The numbers of SplitMix64 one after the other, with Python's integers."""
    for _ in range(n):
        state = (state + 0x9e3779b97f4a7c15) % 2 ** 64
        z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9 % 2 ** 64
        z = (z ^ z >> 27) * 0x94d049bb133111eb % 2 ** 64
        yield z ^ z >> 31


@pytest.mark.parametrize('dtype', 'efd')
def test_masks_are_the_sequence_of_split_mix(dtype):
    dropout.seed(7)
    masks = [dropout.gpu_mask(shape, dtype, 0.25).get() for shape in ((2, 3, 5), (0,), (11,))]
    draws = numpy.array(list(split_mix(7, 41)), 'u8') >> numpy.uint64(32)
    kept = numpy.where(draws < 2 ** 30, 0, 4 / 3).astype(dtype)
    numpy.testing.assert_array_equal(masks[0], kept[:30].reshape(2, 3, 5))
    numpy.testing.assert_array_equal(masks[2], kept[30:])
    assert masks[0].dtype == dtype and 0 < (kept == 0).sum() < 41


def test_the_share_of_what_is_dropped_and_the_mean():
    dropout.seed(2 ** 63 + 5)
    mask = dropout.gpu_mask((200, 500), 'f', 0.3).get()
    assert abs((mask == 0).mean() - 0.3) < 0.006 and abs(mask.mean() - 1) < 0.01


def test_dropout_in_training_alone_and_its_gradient():
    import cupy
    x = chainer.Variable(cupy.arange(1, 13, dtype='f').reshape(3, 4))
    with chainer.using_config('train', False):
        assert dropout.dropout(x, 0.5) is x
    dropout.seed(1)
    y = dropout.dropout(x, 0.5)
    F.sum(y).backward()
    numpy.testing.assert_array_equal((x.grad * x.array).get(), y.array.get())
    dropout.seed(1)
    numpy.testing.assert_array_equal(dropout.dropout(x, 0.5).array.get(), y.array.get())
