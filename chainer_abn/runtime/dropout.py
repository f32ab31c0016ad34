"""Random masks for dropout."""
import numpy

import chainer
import chainer.functions as F
from chainer.backends import cuda

_STEP = 0x9e3779b97f4a7c15      # of SplitMix64 (Steele, Lea and Flood 2014)
_states = {}                    # number of a GPU -> (1,) uint64 array there


def dropout(x, ratio):
    """``chainer.functions.dropout`` whose masks on a GPU are ours; a variable of any shape."""
    if not chainer.config.train or ratio == 0:
        return x
    if isinstance(x.array, cuda.ndarray):
        return F.dropout(x, ratio, mask=gpu_mask(x.shape, x.dtype, ratio))
    return F.dropout(x, ratio)


def mask_of_maps(shape, ratio):
    """A mask of 0 and 1 / (1 - ratio), float32 with channels-last memory, from NumPy's global state.

    16 bits decide about each value: half the time of Chainer's float64 ones.
    """
    n, c, h, w = shape
    rng = numpy.random.Generator(numpy.random.SFC64(numpy.random.randint(2 ** 31, size=4)))
    draws = numpy.frombuffer(rng.bytes(2 * n * c * h * w), 'u2')
    mask = numpy.multiply(draws >= round(ratio * 65536), numpy.float32(1 / (1 - ratio)), dtype='f')
    return mask.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def gpu_mask(shape, dtype, ratio):
    """The same on the current GPU, in any dtype.

    cuRAND and cuDNN keep their random state on the host, so that a captured step would repeat it, and
    cuDNN's cannot be set anew. This one is a number in the GPU's memory, which each mask moves on.
    """
    mask = cuda.cupy.empty(shape, dtype)
    if not mask.size:
        return mask
    state = _state()
    cuda.elementwise(
        'raw uint64 state, uint64 dropped, T kept', 'T mask',
        f'''
        unsigned long long z = state[0] + (i + 1) * {_STEP}ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        mask = (z ^ z >> 31) >> 32 < dropped ? T(0) : kept;
        ''', 'abn_dropout')(state, round(ratio * 2 ** 32), 1 / (1 - ratio), mask)
    state += numpy.uint64(mask.size * _STEP % 2 ** 64)
    return mask


def seed(number):
    """Of the masks of the current GPU, 0 to 2^64 - 1."""
    _state(number).fill(number)


def state():
    """Where the masks of the current GPU are; waits for it."""
    return int(_state()[0])


def _state(number=None):
    """Made from NumPy's global state where no seed was set."""
    device = cuda.cupy.cuda.Device().id
    if device not in _states:
        number = numpy.random.randint(2 ** 63) if number is None else number
        _states[device] = cuda.cupy.full(1, number, 'u8')
    return _states[device]
