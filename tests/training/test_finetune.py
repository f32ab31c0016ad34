import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.links import build
from chainer_abn.training.checkpoint import arrays_of
from chainer_abn.training.classifier import ABNClassifier
from chainer_abn.training.finetune import check_parts, freeze, start_from

import chainer


def same(net, source, part, source_part=None):
    """Whether all arrays of a part are equal (True), or all weights in it differ (False)."""
    found, wanted = arrays_of(net), arrays_of(source)
    equal = {name: numpy.array_equal(array, wanted[name.replace(part, source_part or part, 1)])
             for name, array in found.items() if name.startswith(part + '/')}
    weights = {name: value for name, value in equal.items() if name.endswith('/W')}
    assert weights and len(set(weights.values())) == 1, equal
    return next(iter(weights.values())) and all(equal.values())


def trained(net):
    """Every array away from where it starts."""
    for array in arrays_of(net).values():
        array += numpy.random.default_rng(array.size).uniform(0.1, 0.2, array.shape).astype('f')
    return net


def test_both_copies_of_the_last_stage_come_from_the_one_of_a_baseline():
    source = trained(build('resnet8', 10, 'baseline'))
    net = build('resnet8', 10)
    assert start_from(net, source) == ['attention head']
    assert same(net, source, 'feature_extractor') and same(net, source, 'perception_branch')
    assert same(net, source, 'attention_branch/stage', 'perception_branch/stage')
    fresh = arrays_of(net)
    assert (fresh['attention_branch/bn/gamma'] == 1).all()
    assert (fresh['attention_branch/bn_class/avg_mean'] == 0).all()


def test_another_number_of_classes_gets_a_new_head():
    source = trained(build('resnet8', 10))
    net = build('resnet8', 3)
    assert start_from(net, source) == ['attention head', 'classifier']
    parts = ('feature_extractor/', 'attention_branch/stage/', 'attention_branch/bn/',
             'perception_branch/stage/')
    wanted = arrays_of(source)
    for name, array in arrays_of(net).items():
        assert numpy.array_equal(array, wanted[name]) == name.startswith(parts), name


def test_the_same_number_of_classes_takes_all():
    source = trained(build('wrn-10-1', 4))
    net = build('wrn-10-1', 4)
    assert start_from(net, source) == []
    found, wanted = arrays_of(net), arrays_of(source)
    assert all(numpy.array_equal(array, wanted[name]) for name, array in found.items())


def test_a_map_of_another_kind_makes_the_whole_attention_head_fresh():
    source = trained(build('resnet8', 4, attention='log-sum'))
    net = build('resnet8', 4)
    assert start_from(net, source) == ['attention head']
    assert not same(net, source, 'attention_branch/conv_class')
    assert same(net, source, 'perception_branch')


def test_an_abn_starts_a_baseline():
    source = trained(build('resnext-11-2x64d', 4))
    net = build('resnext-11-2x64d', 4, 'baseline')
    assert start_from(net, source) == []
    assert same(net, source, 'feature_extractor') and same(net, source, 'perception_branch')


def test_vgg_keeps_its_hidden_layers_where_it_has_them():
    with chainer.using_config('fresh_weights', False):
        source, net, cam = build('vgg16', 5, 'baseline'), build('vgg16', 3), build('vgg16', 3, 'cam')
    for p in source.params():
        p.array[...] = 1
    assert start_from(net, source) == ['attention head', 'classifier']
    fc = net.perception_branch.fc
    assert fc.fc6.W.array.min() == fc.fc7.b.array.min() == 1 and not fc.fc8.W.array.any()
    assert start_from(cam, source) == ['classifier']
    assert cam.perception_branch.stage[2].conv.W.array.min() == 1


@pytest.mark.parametrize('arch, message', [
    ('resnet14', 'missing: attention_branch/stage/1/body/0/bn/avg_mean, '),
    ('wrn-10-1', 'a resnet8 does not fit a wrn-10-1: missing: .*; left over: '),
    ('resnet18', r'of another shape: attention_branch/bn/avg_mean \(64,\) for \(512,\), ')])
def test_another_architecture_is_refused_by_name_and_changes_nothing(arch, message):
    net = build(arch, 4)
    before = {name: array.copy() for name, array in arrays_of(net).items()}
    with pytest.raises(InputError, match=message):
        start_from(net, build('resnet8', 4))
    assert all(numpy.array_equal(array, before[name]) for name, array in arrays_of(net).items())


@pytest.mark.parametrize('part', ['feature_extractor', 'attention_branch', 'perception_branch/stage'])
def test_a_frozen_part_stays_and_the_rest_moves(part):
    classifier = ABNClassifier(trained(build('wrn-10-1', 3)))
    net = classifier.network
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(classifier)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(0.1))
    freeze(net, part)
    before = {name: array.copy() for name, array in arrays_of(net).items()}
    x = numpy.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype('f')
    for _ in range(2):
        optimizer.update(classifier, x, numpy.array([0, 1, 2, 0], 'i'))
    for name, array in arrays_of(net).items():
        assert numpy.array_equal(array, before[name]) == name.startswith(part + '/'), name


def test_a_frozen_extractor_computes_as_in_evaluation_and_needs_no_gradient():
    net = trained(build('wrn-10-1', 3))                         # it has dropout
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(net)
    freeze(net, 'feature_extractor')
    x = numpy.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype('f')
    g = net.feature_extractor(x)
    with chainer.using_config('train', False):
        numpy.testing.assert_array_equal(g.array, net.feature_extractor(x).array)
    assert g.creator is None
    assert chainer.config.train and chainer.config.enable_backprop
    optimizer.update(lambda: chainer.functions.sum(net(x).logits))
    assert all(not p.grad.any() for p in net.feature_extractor.params())


@pytest.mark.parametrize('parts, variant, message', [
    (['head'], 'abn', '--freeze head: use feature_extractor, '),
    (['attention_branch/stage'], 'cam', 'a cam network has none'),
    (['feature_extractor', 'perception_branch'], 'baseline', 'nothing is left to train'),
    (['perception_branch', 'attention_branch', 'feature_extractor'], 'abn', 'nothing is left')])
def test_parts_that_cannot_be_frozen(parts, variant, message):
    with pytest.raises(InputError, match=message):
        check_parts(parts, variant)
