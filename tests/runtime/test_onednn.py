"""Chainer's functions on oneDNN: what they give is what Chainer's own give.

Every body runs with the accelerator on and off against the same in float64.
"""
import ctypes
import functools
import gc
import multiprocessing
import weakref

import numpy
import pytest

from chainer_abn import runtime
from chainer_abn.runtime import onednn
from chainer_abn.runtime.onednn import drop_ins, primitives

import chainer
import chainer.functions as F
import chainer.links as L
from chainer.functions.normalization.batch_normalization import (
    BatchNormalization,
    GeneralBatchNormalizationImpl,
)

NEEDS_LIBRARY = pytest.mark.skipif(not primitives.available(), reason=f'no oneDNN: {primitives.why_not()}')


@pytest.fixture(params=[pytest.param('auto', marks=NEEDS_LIBRARY), 'never'])
def accelerator(request):
    """The accelerator on and off; in the end, whether primitives of oneDNN were run must agree."""
    with chainer.using_config('use_ideep', request.param), pytest.MonkeyPatch.context() as patch:
        calls = []
        run = primitives.Primitive.__call__

        def counted(self, *arrays):
            calls.append(self)
            run(self, *arrays)

        patch.setattr(primitives.Primitive, '__call__', counted)
        patch.setattr(drop_ins, 'LEAST_VALUES', 0)
        patch.setattr(drop_ins, 'LEAST_PRODUCTS', 0)
        yield
        assert bool(calls) == (request.param == 'auto')


def draw(*shape, seed=0):
    return numpy.random.default_rng((seed, *shape)).standard_normal(shape).astype('f')


def results(function, arrays, twice):
    """Result, gradients and, ``twice``, gradients of the gradients, of a scalar that depends on all."""
    inputs = [chainer.Variable(a) for a in arrays]
    y = function(*inputs)
    weights = numpy.cos(numpy.arange(y.size)).reshape(y.shape).astype(y.dtype)
    gradients = chainer.grad([F.sum(y * weights)], inputs, enable_double_backprop=twice)
    found = [y, *gradients]
    if twice:
        found += chainer.grad([sum(F.sum(g * g) for g in gradients)], inputs)
    return [v.array for v in found if v is not None]


def check(function, *arrays, twice=True):
    """float32 against float64, 1e-5 of the largest value; dtypes and shapes are Chainer's."""
    found = results(function, arrays, twice)
    with chainer.using_config('use_ideep', 'never'):
        exact = results(function, [a.astype('d') for a in arrays], twice)
        plain = results(function, arrays, twice)
    assert len(found) == len(exact)
    for a, b, c in zip(found, exact, plain, strict=True):
        assert (a.dtype, a.shape) == (numpy.float32, b.shape)
        error, chainers = (abs(v - b).max() / abs(b).max() for v in (a, c))
        assert error < max(1e-5, 4 * chainers)      # deep inside a gradient of a gradient both are worse


# batch, channels in, out, (height, width), kernel, stride, pad, dilation, groups, cover_all, bias
CONVOLUTIONS = [
    (1, 1, 1, (1, 1), 1, 1, 0, 1, 1, False, False),
    (2, 3, 16, (9, 7), 3, 1, 1, 1, 1, False, True),
    (3, 16, 32, (9, 8), 3, 2, 1, 1, 1, False, False),
    (2, 5, 7, (9, 8), (3, 2), (1, 2), (0, 1), 1, 1, True, True),
    (1, 130, 17, (5, 5), 1, 1, 0, 1, 1, False, True),
    (2, 17, 130, (6, 5), 3, 1, 1, 1, 1, False, False),
    (3, 8, 12, (7, 7), 3, 1, 1, 1, 4, False, True),
    (2, 32, 32, (6, 6), 3, 2, 1, 1, 32, False, False),
    (2, 4, 6, (11, 11), 3, 1, 2, 2, 2, False, False),
    (2, 3, 4, (8, 8), 1, 2, 0, 1, 1, False, False),
    (2, 4, 6, (8, 8), 2, 3, 1, 1, 1, True, False),
]
WIDE_PAD = (2, 6, 4, (5, 5), 5, 1, 4, 1, 1, False, True)


@pytest.mark.parametrize('case', [*CONVOLUTIONS, WIDE_PAD], ids=str)
def test_convolution(accelerator, case):
    n, c, o, size, k, stride, pad, dilate, groups, cover_all, bias = case
    kernel = (k, k) if isinstance(k, int) else k
    options = {'stride': stride, 'pad': pad, 'dilate': dilate, 'groups': groups}
    arrays = [draw(n, c, *size), draw(o, c // groups, *kernel)] + [draw(o)] * bias
    check(lambda x, w, b=None: F.convolution_2d(x, w, b, cover_all=cover_all, **options), *arrays)


@pytest.mark.parametrize('case', CONVOLUTIONS, ids=str)
def test_deconvolution(accelerator, case):
    n, c, o, size, k, stride, pad, dilate, groups, _, bias = case
    kernel = (k, k) if isinstance(k, int) else k
    options = {'stride': stride, 'pad': pad, 'dilate': dilate, 'groups': groups}
    arrays = [draw(n, c, *size), draw(c, o // groups, *kernel)] + [draw(o)] * bias
    check(lambda x, w, b=None: F.deconvolution_2d(x, w, b, **options), *arrays)


def test_deconvolution_to_a_size(accelerator):
    deconvolution = functools.partial(F.deconvolution_2d, stride=2, pad=1, outsize=(8, 10))
    check(lambda x, w: deconvolution(x, w), draw(2, 3, 4, 5), draw(3, 4, 3, 3))


MAPS = [(4, 16, 6, 6), (2, 10, 5, 7), (3, 130, 3, 3), (1, 1, 4, 4), (1, 7, 2, 3), (16, 16, 32, 32)]


@pytest.mark.parametrize('shape', MAPS, ids=str)
def test_batch_normalization(accelerator, shape):
    c = shape[1]
    check(functools.partial(F.batch_normalization, eps=1e-5), 2 * draw(*shape) + 1, draw(c), draw(c, seed=1))


@pytest.mark.parametrize('shape', MAPS, ids=str)
def test_fixed_batch_normalization(accelerator, shape):
    vectors = [draw(shape[1], seed=i) for i in range(4)]
    check(lambda x, gamma, beta, mean, root:
          F.fixed_batch_normalization(x, gamma, beta, mean, root ** 2 + 0.1), 2 * draw(*shape) + 1, *vectors)


def test_batch_normalization_over_other_axes(accelerator):
    x = draw(2, 3, 4, 5, 6)
    check(functools.partial(F.batch_normalization, axis=(0, 2, 3)), x, draw(3, 6), draw(3, 6), twice=False)
    F.relu(F.batch_normalization(draw(2, 3, 4, 4), draw(3), draw(3)))


def test_statistics_over_several_processes_are_left_to_chainer():
    """chainermn overrides where the mean comes from."""
    class Shifted(GeneralBatchNormalizationImpl):
        def get_mean_and_var(self, axis, gamma, x, xp, interm_dtype):
            return x.mean(axis) + 5, x.var(axis)

    x = draw(4, 3, 5, 5)
    function = BatchNormalization(impl_selector=lambda *_: Shifted())
    with chainer.using_config('use_ideep', 'auto'):
        y, = function.apply((x, numpy.ones(3, 'f'), numpy.zeros(3, 'f')))
    assert y.array.mean() < -4


def test_running_statistics_are_updated_in_place(accelerator):
    link = L.BatchNormalization(5, decay=0.7)
    mean, var, x = link.avg_mean, link.avg_var, 3 * draw(4, 5, 6, 7) + 2
    link(x)
    assert link.avg_mean is mean and link.avg_var is var
    axes, exact = (0, 2, 3), x.astype('d')
    numpy.testing.assert_allclose(mean, 0.3 * exact.mean(axes), rtol=1e-5)
    numpy.testing.assert_allclose(var, 0.7 + 0.3 * exact.var(axes, ddof=1), rtol=1e-5)


def test_statistics_of_many_pixels(accelerator):
    """Summed up one after the other in float32, so many would lose two digits more."""
    for shape in (32, 16, 64, 64), (64, 3, 33, 35):
        x = 0.5 * draw(*shape) + 3
        link = L.BatchNormalization(shape[1], decay=0)
        link(x)
        numpy.testing.assert_allclose(link.avg_var, x.astype('d').var((0, 2, 3), ddof=1), rtol=3e-6)


@pytest.mark.parametrize('shape', [*MAPS, (5, 7)], ids=str)
def test_relu(accelerator, shape):
    check(F.relu, draw(*shape), twice=False)
    if len(shape) == 4:
        check(lambda x: F.relu(F.transpose(x, (0, 3, 1, 2))), draw(*shape), twice=False)


@pytest.mark.parametrize('shape', MAPS, ids=str)
def test_add(accelerator, shape):
    n, c, h, w = shape
    check(lambda a, b: a + b, draw(*shape), draw(*shape, seed=1), twice=False)
    check(lambda a, b: F.transpose(a, (0, 1, 3, 2)) + b, draw(*shape), draw(n, c, w, h), twice=False)
    check(lambda a, b: a + F.broadcast_to(b, a.shape), draw(*shape), draw(1, c, 1, 1), twice=False)
    F.add(draw(2, 3), draw(2, 3))


@pytest.mark.parametrize('pooling', [F.max_pooling_2d, F.average_pooling_2d])
@pytest.mark.parametrize('window', [(3, 2, 1), (2, 2, 0), (3, 1, 1), ((3, 2), (2, 1), (1, 0))], ids=str)
def test_pooling(accelerator, pooling, window):
    for shape in (2, 16, 8, 8), (2, 3, 7, 6), (1, 130, 5, 5):
        check(lambda x: pooling(x, *window), draw(*shape))


def test_max_pooling_does_not_cover_all(accelerator):
    check(lambda x: F.max_pooling_2d(x, 3, 2, 1, cover_all=False), draw(2, 5, 8, 9))
    check(lambda x: F.max_pooling_2d(x, 2, 3, cover_all=False), draw(2, 5, 8, 9))


def test_equal_maxima_give_the_gradient_to_the_first(accelerator):
    x = chainer.Variable(numpy.zeros((1, 16, 4, 4), 'f'))
    y = F.max_pooling_2d(x, 2)
    F.sum(y).backward()
    numpy.testing.assert_array_equal(x.grad[0, 0], [[1, 0, 1, 0], [0, 0, 0, 0]] * 2)


def test_linear(accelerator):
    check(F.linear, draw(5, 7), draw(3, 7), draw(3))
    check(F.linear, draw(1, 130), draw(1, 130))
    check(lambda x, w: F.linear(x, F.transpose(w)), draw(5, 7), draw(7, 3))
    x, w, b = draw(5, 7), draw(3, 7), draw(6)
    numpy.testing.assert_allclose(F.linear(x, w, b[::-2]).array, x @ w.T + b[::-2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('strides', [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_any_memory_layout(accelerator, strides):
    x, w = draw(4, 3, 8, 6), draw(5, 3, 3, 3)
    odd = numpy.ascontiguousarray(x.transpose(strides)).transpose(numpy.argsort(strides))
    every_second = numpy.repeat(odd, 2, axis=3)[..., ::2]
    for same in odd, every_second, numpy.asfortranarray(x):
        for a, b in zip(results(functools.partial(F.convolution_2d, pad=1), [same, w[:, :, ::-1]], True),
                        results(functools.partial(F.convolution_2d, pad=1), [x, w[:, :, ::-1].copy()], True),
                        strict=True):
            numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_nan_is_not_swallowed(accelerator):
    x = draw(2, 16, 4, 4)
    x[0, 3, 1, 1] = numpy.nan
    for y in F.relu(x), F.max_pooling_2d(x, 2), F.relu(x.transpose(0, 2, 3, 1)):
        assert numpy.isnan(y.array).sum() == 1
    assert numpy.isnan(L.BatchNormalization(16)(x).array[:, 3]).all()


@pytest.mark.parametrize('dtype', ['e', 'd'])
def test_other_dtypes_are_left_to_chainer(dtype):
    x, w = draw(2, 3, 5, 5).astype(dtype), draw(4, 3, 3, 3).astype(dtype)
    outputs = []
    for choice in 'auto', 'never':
        with chainer.using_config('use_ideep', choice):
            outputs.append(F.max_pooling_2d(F.relu(F.convolution_2d(x, w)), 2).array)
    assert outputs[0].dtype == dtype
    numpy.testing.assert_array_equal(*outputs)


def test_a_batch_of_nothing(accelerator):
    outputs = F.relu(F.convolution_2d(numpy.zeros((0, 3, 5, 5), 'f'), draw(4, 3, 3, 3)))
    assert outputs.shape == (0, 4, 3, 3)
    F.relu(draw(1, 2))


@NEEDS_LIBRARY
def test_the_switches(monkeypatch):
    monkeypatch.setattr(chainer.global_config, 'use_ideep', 'auto')
    assert onednn.active()
    with chainer.using_config('use_ideep', 'never'):
        assert not onednn.active()
    runtime.set_accelerator('off')
    assert not onednn.active()
    assert 'switched off' in runtime.info()['cpu accelerator']
    runtime.set_accelerator('auto')
    assert onednn.active()
    assert 'oneDNN 3' in runtime.info()['cpu accelerator']
    with pytest.raises(ValueError, match="'on': use auto or off"):
        runtime.set_accelerator('on')


PROGRAM = '''
import sys
import numpy, chainer_abn, chainer
from chainer_abn.links import build
numpy.random.seed(0)
net = build('resnet8', 3)
x = numpy.random.randn(4, 3, 16, 16).astype('f')
a, logits, m = net(x)
loss = chainer.functions.sum(a * a + logits * logits)
loss.backward()
sys.stdout.write(repr([float(loss.array), float(sum(abs(p.grad).sum() for p in net.params()))]))
'''


def test_without_the_library_the_same_comes_out_and_one_line_says_so(python):
    hide = 'from chainer_abn.runtime.onednn import api; api.NAME = "libnothere.so"\n'
    without, off = python('-c', hide + PROGRAM), python('-c', PROGRAM, CHAINER_USE_IDEEP='never')
    assert without.returncode == off.returncode == 0
    assert without.stdout == off.stdout
    assert len(without.stderr.splitlines()) == 1
    assert without.stderr.startswith('oneDNN is not used: libnothere.so')
    assert off.stderr == ''


@NEEDS_LIBRARY
def test_the_bits_are_the_same_again_at_a_number_of_threads(python):
    one, two = (f'import chainer_abn; chainer_abn.runtime.set_threads({n})\n' for n in (1, 2))
    for threads in one, two:
        found = [python('-c', threads + PROGRAM).stdout for _ in range(2)]
        assert found[0].startswith('[') and found[0] == found[1]


@NEEDS_LIBRARY
def test_threads():
    with pytest.raises(ValueError, match='0 threads: at least 1'):
        runtime.set_threads(0)
    function = primitives.convolution
    try:
        runtime.set_threads(1)
        assert runtime.info()['threads'] == '1'
        F.convolution_2d(draw(2, 3, 8, 8), draw(4, 3, 3, 3))
        made = function.cache_info().currsize
        runtime.set_threads(2)          # primitives are made for a number of threads
        assert function.cache_info().currsize == 0 < made
    finally:
        runtime.set_threads()


def convolve(queue):
    runtime.set_threads(2)
    x, w = draw(8, 16, 16, 16), draw(16, 16, 3, 3)
    chainer.global_config.use_ideep = 'auto'
    queue.put(F.convolution_2d(x, w, pad=1).array)


@NEEDS_LIBRARY
@pytest.mark.parametrize('method', ['fork', 'spawn'])
@pytest.mark.filterwarnings('ignore:This process .* is multi-threaded:DeprecationWarning')
def test_worker_processes(method):
    """A forked child must not wait for threads of OpenMP that only its parent has."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    with chainer.using_config('use_ideep', 'auto'):
        expected = F.convolution_2d(draw(8, 16, 16, 16), draw(16, 16, 3, 3), pad=1).array
    worker = context.Process(target=convolve, args=(queue,), daemon=True)
    worker.start()
    found = queue.get(timeout=60)
    worker.join(60)
    numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


class Malloc(ctypes.Structure):
    """What mallinfo2 of the GNU C library returns."""
    _fields_ = [(name, ctypes.c_size_t) for name in (
        'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks', 'fordblks',
        'keepcost')]


@NEEDS_LIBRARY
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallinfo2'), reason='no C library that counts memory')
def test_primitives_leave_no_memory_behind():
    """oneDNN's own ReLU in a convolution left 17 KB. Of larger shapes it still leaves something by itself."""
    count = ctypes.CDLL(None).mallinfo2
    count.restype = Malloc

    def used(sizes):
        for size in sizes:
            primitives.convolution((1, 16, size, 8), (16, 16, 3, 3), primitives.Window(pad=(1, 1)), True,
                                   ('add', 'relu'))
        primitives.convolution.cache_clear()
        gc.collect()
        return count().uordblks + count().hblkhd

    before = used(range(8, 16))
    assert used(range(16, 116)) - before < 100 * 2000


@NEEDS_LIBRARY
def test_idle_primitives_do_not_pile_up():
    """Images of ever new sizes must not fill the memory: what falls out of the cache is freed."""
    make = primitives.convolution
    first = weakref.ref(make((1, 16, 9, 9), (16, 16, 1, 1), primitives.Window()))
    for width in range(make.cache_info().maxsize):
        make((1, 16, 1, 1 + width), (16, 16, 1, 1), primitives.Window())
    assert first() is None
