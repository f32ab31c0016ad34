import numpy
import pytest
from attention_cases import LAYOUTS, SHAPES, check, in_memory, random_shapes
from attention_cases import arrays as three_arrays

from chainer_abn.errors import InputError
from chainer_abn.functions import MECHANISMS, attend

import chainer
from chainer import gradient_check
from chainer.backends.cuda import to_cpu


@pytest.fixture(params=['numpy', pytest.param('cupy', marks=pytest.mark.gpu)])
def xp(request):
    return pytest.importorskip(request.param)


def arrays(dtype='d', shape=(2, 3, 4, 5), seed=0, xp=numpy):
    g, attention, _ = three_arrays(shape, dtype, seed)
    return xp.asarray(g), xp.asarray(attention)


@pytest.mark.parametrize('mechanism, expected', [
    ('residual', [[[[3, -4], [0, 2.5]], [[6, 2], [1, 0]]]]),
    ('multiply', [[[[1, -2], [0, 0.5]], [[2, 1], [0, 0]]]]),
    ('none', [[[[2, -2], [3, 2]], [[4, 1], [1, 0]]]]),
])
def test_worked_values(xp, mechanism, expected):
    g = xp.array([[[[2, -2], [3, 2]], [[4, 1], [1, 0]]]], 'f')
    attention = xp.array([[[[0.5, 1], [0, 0.25]]]], 'f')
    if mechanism == 'residual':
        expected = [[[[3, -4], [3, 2.5]], [[6, 2], [1, 0]]]]
    y = attend(g, attention, mechanism)
    assert y.dtype == 'f'
    numpy.testing.assert_array_equal(to_cpu(y.array), expected)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_gradients_by_finite_differences(xp, mechanism):
    g, attention = arrays(xp=xp)
    gy = arrays(seed=1, xp=xp)[0]
    gradient_check.check_backward(
        lambda g, m: attend(g, m, mechanism), (g, attention), gy, dtype='d', atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_equals_chainers_own_functions(xp, mechanism):
    g, attention = (chainer.Variable(a) for a in arrays('f', (2, 70, 3, 7), xp=xp))
    g2, attention2 = chainer.Variable(g.array), chainer.Variable(attention.array)
    wide = chainer.functions.broadcast_to(attention2, g2.shape)
    reference = {'residual': g2 * (1 + wide), 'multiply': g2 * wide, 'none': g2 + 0 * wide}[mechanism]
    y = attend(g, attention, mechanism)
    numpy.testing.assert_allclose(to_cpu(y.array), to_cpu(reference.array), rtol=1e-6)
    y.grad = reference.grad = arrays('f', (2, 70, 3, 7), seed=1, xp=xp)[0]
    y.backward()
    reference.backward()
    numpy.testing.assert_allclose(to_cpu(g.grad), to_cpu(g2.grad), rtol=1e-6)
    numpy.testing.assert_allclose(to_cpu(attention.grad), to_cpu(attention2.grad), rtol=1e-4, atol=1e-5)


def test_float16_sums_over_many_channels_in_float32(xp):
    g = chainer.Variable(xp.ones((1, 4096, 1, 1), 'e'))
    attention = chainer.Variable(xp.zeros((1, 1, 1, 1), 'e'))
    y = attend(g, attention, 'multiply')
    y.grad = xp.full(y.shape, 0.9, 'e')
    y.backward()
    assert attention.grad.dtype == 'e'
    # in float16 the sum would stop at 2048, where 0.9 is below half a unit in the last place
    assert float(attention.grad.item()) == pytest.approx(4096 * 0.9, rel=1e-3)


def both_ways(g, attention, gy, mechanism):
    """y and the two gradients, through Chainer."""
    g, attention = chainer.Variable(g), chainer.Variable(attention)
    y = attend(g, attention, mechanism)
    y.grad = gy
    y.backward()
    return y.array, g.grad, attention.grad


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('layout', LAYOUTS)
def test_on_the_gpu_it_equals_float64_and_repeats(dtype, layout):
    import cupy

    for i, shape in enumerate(SHAPES + random_shapes(6, seed=LAYOUTS.index(layout))):
        g, attention, gy = three_arrays(shape, dtype, seed=i)
        for mechanism, gy_layout in ('residual', layout), ('multiply', 'nchw'):
            given = [on_gpu(cupy, g, layout), cupy.asarray(attention), on_gpu(cupy, gy, gy_layout)]
            found = both_ways(*given, mechanism)
            check(g, attention, gy, mechanism == 'residual', *map(to_cpu, found))
            for first, second in zip(found, both_ways(*given, mechanism), strict=True):
                assert first.tobytes() == second.tobytes()


def on_gpu(cupy, x, layout):
    """CuPy copies to C order: set the elements where they belong."""
    x = in_memory(x, layout)
    base = x if x.base is None else x.base
    return cupy.ndarray(x.shape, x.dtype, cupy.asarray(base).data, x.strides)


@pytest.mark.gpu
@pytest.mark.parametrize('layout', ['nchw', 'nhwc'])
@pytest.mark.parametrize('dtype', 'ef')
def test_on_the_gpu_the_memory_of_g_is_kept(layout, dtype):
    import cupy

    g, attention, gy = three_arrays((2, 8, 3, 4), dtype)
    g = on_gpu(cupy, g, layout)
    y, gg, _ = both_ways(g, cupy.asarray(attention), cupy.asarray(gy), 'residual')
    assert y.strides == gg.strides == g.strides


@pytest.mark.gpu
def test_on_the_gpu_a_graph_replays_it():
    import cupy

    g, attention, gy = (cupy.asarray(a) for a in three_arrays((1, 320, 2, 2), 'f'))
    expected = both_ways(g, attention, gy, 'residual')
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        both_ways(g, attention, gy, 'residual')
        stream.begin_capture()
        found = both_ways(g, attention, gy, 'residual')
        graph = stream.end_capture()
        g *= 2
        graph.launch(stream)
        stream.synchronize()
    for before, after, factor in zip(expected, found, (2, 1, 2), strict=True):
        numpy.testing.assert_array_equal(to_cpu(after), factor * to_cpu(before))


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_nothing_at_all(xp, shape):
    g, attention, gy = (xp.asarray(a) for a in three_arrays(shape, 'f'))
    y, gg, g_attention = both_ways(g, attention, gy, 'residual')
    assert y.shape == gg.shape == shape
    assert not g_attention.any() and g_attention.shape == attention.shape


def test_strided_input():
    g, attention = arrays('f')
    nhwc = numpy.ascontiguousarray(g.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    numpy.testing.assert_array_equal(attend(nhwc, attention).array, attend(g, attention).array)


def test_second_derivative_is_refused_clearly(xp):
    g, attention = (chainer.Variable(a) for a in arrays(xp=xp))
    gg, = chainer.grad([attend(g, attention)], [g], enable_double_backprop=True)
    with pytest.raises(RuntimeError, match='once only'):
        chainer.grad([gg], [attention])


def test_unknown_mechanism_is_named():
    with pytest.raises(InputError, match="'both'.*residual, multiply, none"):
        attend(*arrays(), 'both')


@pytest.mark.parametrize('shape', [(2, 2, 4, 5), (2, 1, 4, 4), (1, 1, 4, 5)])
def test_wrong_shape_of_the_map_is_refused(shape):
    with pytest.raises(chainer.utils.type_check.InvalidType):
        attend(arrays('f')[0], numpy.zeros(shape, 'f'))
