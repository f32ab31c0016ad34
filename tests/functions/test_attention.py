import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.functions import MECHANISMS, attend

import chainer
from chainer import gradient_check


def arrays(dtype='d', shape=(2, 3, 4, 5), seed=0):
    rng = numpy.random.default_rng(seed)
    b, _, h, w = shape
    return rng.standard_normal(shape).astype(dtype), rng.uniform(0, 1, (b, 1, h, w)).astype(dtype)


@pytest.mark.parametrize('mechanism, expected', [
    ('residual', [[[[3, -4], [0, 2.5]], [[6, 2], [1, 0]]]]),
    ('multiply', [[[[1, -2], [0, 0.5]], [[2, 1], [0, 0]]]]),
    ('none', [[[[2, -2], [3, 2]], [[4, 1], [1, 0]]]]),
])
def test_worked_values(mechanism, expected):
    g = numpy.array([[[[2, -2], [3, 2]], [[4, 1], [1, 0]]]], 'f')
    attention = numpy.array([[[[0.5, 1], [0, 0.25]]]], 'f')
    if mechanism == 'residual':
        expected = [[[[3, -4], [3, 2.5]], [[6, 2], [1, 0]]]]
    y = attend(g, attention, mechanism)
    assert y.dtype == 'f'
    numpy.testing.assert_array_equal(y.array, expected)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_gradients_by_finite_differences(mechanism):
    g, attention = arrays()
    gy = arrays(seed=1)[0]
    gradient_check.check_backward(
        lambda g, m: attend(g, m, mechanism), (g, attention), gy, dtype='d', atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_equals_chainers_own_functions(mechanism):
    g, attention = (chainer.Variable(a) for a in arrays('f', (2, 70, 3, 7)))
    g2, attention2 = chainer.Variable(g.array), chainer.Variable(attention.array)
    wide = chainer.functions.broadcast_to(attention2, g2.shape)
    reference = {'residual': g2 * (1 + wide), 'multiply': g2 * wide, 'none': g2 + 0 * wide}[mechanism]
    y = attend(g, attention, mechanism)
    numpy.testing.assert_allclose(y.array, reference.array, rtol=1e-6)
    y.grad = reference.grad = arrays('f', (2, 70, 3, 7), seed=1)[0]
    y.backward()
    reference.backward()
    numpy.testing.assert_allclose(g.grad, g2.grad, rtol=1e-6)
    numpy.testing.assert_allclose(attention.grad, attention2.grad, rtol=1e-4, atol=1e-5)


def test_float16_sums_over_many_channels_in_float32():
    g = chainer.Variable(numpy.ones((1, 4096, 1, 1), 'e'))
    attention = chainer.Variable(numpy.zeros((1, 1, 1, 1), 'e'))
    y = attend(g, attention, 'multiply')
    y.grad = numpy.full(y.shape, 0.9, 'e')
    y.backward()
    assert attention.grad.dtype == 'e'
    # in float16 the sum would stop at 2048, where 0.9 is below half a unit in the last place
    assert float(attention.grad.item()) == pytest.approx(4096 * 0.9, rel=1e-3)


def test_strided_input():
    g, attention = arrays('f')
    nhwc = numpy.ascontiguousarray(g.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    numpy.testing.assert_array_equal(attend(nhwc, attention).array, attend(g, attention).array)


def test_second_derivative_is_refused_clearly():
    g, attention = (chainer.Variable(a) for a in arrays())
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
