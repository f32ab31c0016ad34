"""Networks on float16 images, with float32 weights."""
import numpy
import pytest

from chainer_abn.links import build
from chainer_abn.runtime.blocks import PLAIN, in_dtype_of

import chainer
import chainer.functions as F
import chainer.links as L


def images(side=32, n=1):
    return numpy.random.default_rng(0).standard_normal((n, 3, side, side)).astype('f')


def fresh(arch, **variant):
    numpy.random.seed(0)
    return build(arch, 6, **variant)


def close(x, y, tolerance):
    """Whether x is y but for a share ``tolerance`` of the largest value."""
    return numpy.abs(x - y).max() <= tolerance * numpy.abs(y).max()


NETWORKS = [('resnet8', {}), ('resnet8', {'attention': 'log-sum'}), ('resnet8', {'variant': 'baseline'}),
            ('densenet-bc-10-12', {}), ('wrn-10-1', {}), ('vgg16', {}), ('se-resnet18', {}),
            ('resnet50_fine', {})]


@pytest.mark.parametrize('arch, variant', NETWORKS)
def test_evaluation_is_that_of_float32_but_for_rounding(arch, variant):
    net, x = fresh(arch, **variant), images()
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        exact, rounded = net(x), net(x.astype('e'))
    assert rounded.logits.dtype == 'f'
    assert close(rounded.logits.array, exact.logits.array, 0.02)
    if exact.attention is not None:
        assert rounded.attention_logits.dtype == 'f' and rounded.attention.dtype == 'e'
        assert close(rounded.attention_logits.array, exact.attention_logits.array, 0.02)
        assert close(rounded.attention.array, exact.attention.array, 0.02)


@pytest.mark.parametrize('arch', ['resnet8', 'densenet-bc-10-12', 'wrn-10-1'])
def test_gradients_are_float32_and_those_of_float32_but_for_rounding(arch):
    t, gradients = numpy.array([1, 2], 'i'), []
    for dtype in 'fe':
        net = fresh(arch)
        numpy.random.seed(1)            # dropout
        out = net(images(n=2).astype(dtype))
        loss = F.softmax_cross_entropy(out.logits, t) + F.softmax_cross_entropy(out.attention_logits, t)
        net.cleargrads()
        loss.grad = numpy.array(256, 'f')
        loss.backward()
        assert all(param.grad.dtype == 'f' and param.dtype == 'f' for param in net.params())
        gradients.append(numpy.concatenate([p.grad.ravel() / 256 for _, p in sorted(net.namedparams())]))
    exact, rounded = gradients
    assert numpy.linalg.norm(rounded - exact) < 0.1 * numpy.linalg.norm(exact)


def test_small_gradients_survive_when_the_loss_is_scaled():
    def gradient(scale):
        link = L.Convolution2D(2, 2, 1, initialW=0.5)
        y = F.sum(F.cast(in_dtype_of(chainer.Variable(numpy.ones((1, 2, 1, 1), 'e')), link), 'f'))
        link.cleargrads()
        y.grad = numpy.array(1e-9 * scale, 'f')     # float16 holds nothing below 6e-8
        y.backward()
        return link.W.grad / scale
    assert not gradient(1).any()
    numpy.testing.assert_allclose(gradient(2 ** 16), 1e-9, rtol=1e-2)


def test_a_convolution_takes_its_weights_rounded():
    link = L.Convolution2D(3, 4, 3, 2, 1, initial_bias=0.3)
    x = images(9).astype('e')
    W, b = (numpy.asarray(p.array, 'e') for p in (link.W, link.b))
    numpy.testing.assert_array_equal(
        PLAIN.conv(link, x).array, F.convolution_2d(x, W, b, 2, 1).array)


def test_averages_over_large_maps_do_not_overflow():
    x = numpy.full((1, 3, 60, 60), 100, 'e')        # the sum is 360,000; float16 ends at 65,504
    numpy.testing.assert_array_equal(PLAIN.average(chainer.Variable(x)).array, 100)


def test_a_network_of_float64_stays_so():
    net = fresh('resnet8')
    with chainer.using_config('dtype', numpy.float64):
        net64 = fresh('resnet8')
    net64.copyparams(net)
    out = net64(images().astype('d'))
    assert out.logits.dtype == out.attention_logits.dtype == out.attention.dtype == 'd'
