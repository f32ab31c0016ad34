"""The three branches put together (what holds for every name is in test_registry.py)."""
import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.links import ATTENTIONS, VARIANTS, Output, build

import chainer
import chainer.functions as F

EVERY = [('abn', a) for a in ATTENTIONS] + [(v, 'residual') for v in VARIANTS if v != 'abn']


def batch(size=(20, 24), n=3, dtype='f', seed=0):
    return numpy.random.default_rng(seed).standard_normal((n, 3, *size)).astype(dtype)


def total_loss(output, t):
    losses = [F.softmax_cross_entropy(logits, t)
              for logits in (output.attention_logits, output.logits) if logits is not None]
    return sum(losses)


@pytest.mark.parametrize('variant, mechanism', EVERY)
def test_the_triple(variant, mechanism):
    output = build('resnet8', 5, variant, mechanism)(batch())
    assert isinstance(output, Output)
    assert output.logits.shape == (3, 5)
    if variant == 'abn':
        assert output.attention_logits.shape == (3, 5)
        assert output.attention.shape == (3, 1, 10, 12)             # stride 2 once
        attention = output.attention.array
        assert (attention >= 0).all() if mechanism == 'log-sum' else ((attention > 0) & (attention < 1)).all()
    else:
        assert output.attention_logits is None and output.attention is None


def test_abn_is_its_branches_put_together():
    net = build('resnet8', 5, attention='multiply')
    x = batch()
    with chainer.using_config('train', False):
        output = net(x)
        g = net.feature_extractor(x)
        attention_logits, attention = net.attention_branch(g)
        logits = net.perception_branch(g * F.broadcast_to(attention, g.shape))
    numpy.testing.assert_array_equal(output.attention.array, attention.array)
    numpy.testing.assert_array_equal(output.attention_logits.array, attention_logits.array)
    numpy.testing.assert_allclose(output.logits.array, logits.array, rtol=1e-5, atol=1e-6)


def test_without_attention_the_perception_is_the_baseline():
    net, baseline = build('resnet8', 5, attention='none'), build('resnet8', 5, 'baseline')
    baseline.feature_extractor.copyparams(net.feature_extractor)
    baseline.perception_branch.copyparams(net.perception_branch)
    x = batch()
    with chainer.using_config('train', False):
        numpy.testing.assert_array_equal(net(x).logits.array, baseline(x).logits.array)


def test_attention_branch_by_hand():
    """The head on a constant map, layer by layer, with the statistics at rest (mean 0, variance 1)."""
    net = build('resnet8', 2)
    branch = net.attention_branch
    branch.stage = F.identity
    branch.conv_class.W.array[...] = 0
    branch.conv_class.W.array[0, 0], branch.conv_class.W.array[1, 0] = 1, -1
    branch.conv_score.W.array[...] = [[[[2]], [[0]]], [[[3]], [[5]]]]
    branch.conv_map.W.array[...] = 0.1
    g = numpy.zeros((1, 64, 3, 3), 'f')
    g[0, 0] = 2
    with chainer.using_config('train', False):
        scores, attention = branch(g)
    # a = relu(2), relu(-2) = 2, 0; the map sees 9, 6 or 4 cells of 0.1 * 2
    numpy.testing.assert_allclose(scores.array, [[4, 6]], rtol=1e-4)
    middle, edge, corner = (1 / (1 + numpy.exp(-0.2 * n)) for n in (9, 6, 4))
    numpy.testing.assert_allclose(
        attention.array[0, 0],
        [[corner, edge, corner], [edge, middle, edge], [corner, edge, corner]], rtol=1e-4)


def test_log_sum_by_hand():
    """M is the sum of log(1 + a) over the classes, and acts as g(1 + M)."""
    net = build('resnet8', 2, attention='log-sum')
    branch = net.attention_branch
    branch.stage = F.identity
    branch.conv_class.W.array[...] = 0
    branch.conv_class.W.array[0, 0], branch.conv_class.W.array[1, 1] = 1, 3
    g = numpy.zeros((1, 64, 1, 2), 'f')
    g[0, 0], g[0, 1, 0, 0] = 2, -1
    with chainer.using_config('train', False):
        _, attention = branch(g)
    # a = relu(2), relu(-3) and relu(2), relu(0)
    numpy.testing.assert_allclose(attention.array, [[[[numpy.log(3), numpy.log(3)]]]], rtol=1e-4)
    g[0, 1] = 1
    with chainer.using_config('train', False):
        _, attention = branch(g)
    numpy.testing.assert_allclose(attention.array, [[[[numpy.log(12), numpy.log(12)]]]], rtol=1e-4)
    x = batch()
    net = build('resnet8', 2, attention='log-sum')
    with chainer.using_config('train', False):
        g, output = net.feature_extractor(x), net(x)
        logits = net.perception_branch(g * (1 + F.broadcast_to(output.attention, g.shape)))
    numpy.testing.assert_allclose(output.logits.array, logits.array, rtol=1e-4, atol=1e-5)


def test_cam_keeps_the_resolution_of_the_last_stage():
    x = batch((32, 32), 1)
    last = {}
    for variant in 'baseline', 'cam':
        net = build('resnet8', 2, variant)
        last[variant] = net.perception_branch.stage(net.feature_extractor(x)).shape
    assert last == {'baseline': (1, 64, 8, 8), 'cam': (1, 64, 16, 16)}


def test_start_positive_makes_the_map_grow_with_the_evidence():
    branch = build('resnet8', 5).attention_branch
    before = branch.conv_map.W.array.copy()
    branch.start_positive()
    numpy.testing.assert_array_equal(branch.conv_map.W.array, abs(before))


def test_gradients_of_a_tiny_abn_by_finite_differences():
    numpy.random.seed(0)
    with chainer.using_config('dtype', numpy.float64):
        net = build('resnet8', 3)
    x, t = batch((16, 16), 2, 'd'), numpy.array([0, 2], 'i')
    net.cleargrads()
    total_loss(net(x), t).backward()
    rng = numpy.random.default_rng(0)
    eps = 1e-6
    for name, p in net.namedparams():
        index = tuple(rng.integers(0, s) for s in p.shape)
        kept, losses = p.array[index], []
        for step in eps, -eps:
            p.array[index] = kept + step
            losses.append(float(total_loss(net(x), t).array))
        p.array[index] = kept
        slope = (losses[0] - losses[1]) / (2 * eps)
        assert p.grad[index] == pytest.approx(slope, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize('arguments, message', [
    ({'variant': 'abm'}, "variant 'abm'"), ({'attention': 'sum'}, "mechanism 'sum'"),
    ({'n_class': 0}, 'n_class'), ({'in_channels': 0}, 'in_channels'),
    ({'dropout': 0.3}, 'dropout 0.3: resnet8 has none'),
    ({'arch': 'wrn-10-1', 'dropout': 1}, 'dropout 1: must be')])
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        build(**{'arch': 'resnet8', 'n_class': 2, **arguments})


def test_other_numbers_of_channels():
    assert build('resnet8', 2, in_channels=1)(numpy.zeros((2, 1, 16, 16), 'f')).logits.shape == (2, 2)


def test_dropout_acts_in_training_where_the_family_has_it():
    x = batch()
    for arch, ratio in ('wrn-10-1', None), ('densenet-bc-10-12', 0.2), ('wrn-10-1', 0):
        net = build(arch, 2, 'baseline', dropout=ratio)
        same = [numpy.array_equal(net(x).logits.array, net(x).logits.array)]
        with chainer.using_config('train', False):
            same.append(numpy.array_equal(net(x).logits.array, net(x).logits.array))
        assert same == [ratio == 0, True]


def test_a_network_without_fresh_weights_draws_nothing():
    numpy.random.seed(1)
    before = numpy.random.get_state()[1].copy()
    with chainer.using_config('fresh_weights', False):
        net = build('se-resnet18', 3)
    assert (numpy.random.get_state()[1] == before).all()
    assert not any(p.array.any() for name, p in net.namedparams() if name.endswith('/W'))
