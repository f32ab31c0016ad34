"""Counts of parameters are the official networks', worked out from facts: layer by layer."""
import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.links import build
from chainer_abn.links.backbones import resnet

import chainer
import chainer.links as L


def convolutions(link):
    return [child for child in link.links() if isinstance(child, L.Convolution2D)]


def n_parameters(net):
    return sum(p.size for p in net.params())


@pytest.mark.parametrize('arch, n_class, count', [
    ('resnet20', 10, 272_474), ('resnet110', 100, 1_727_284), ('resnet18', 1000, 11_689_512),
    ('resnet34', 1000, 21_797_672), ('resnet50', 1000, 25_557_032), ('resnet101', 1000, 44_549_160),
    ('resnet152', 1000, 60_192_808)])
def test_parameters_of_the_published_baselines(arch, n_class, count):
    assert n_parameters(build(arch, n_class, 'baseline')) == count


def test_attention_branch_adds_a_last_stage_and_its_head():
    k, c = 7, 64
    added = n_parameters(build('resnet20', k)) - n_parameters(build('resnet20', k, 'baseline'))
    last_stage = n_parameters(resnet.cifar(20, 3).last_stage(1))
    head = 2 * c + c * k + 2 * k + k * k + 9 * k + 2     # BN, 1x1, BN, 1x1, 3x3, BN
    assert added == last_stage + head


def test_depth_110_has_164_convolutions_on_the_longest_path():
    net = build('resnet110', 10, 'baseline')
    shortcuts = [link for name, link in net.namedlinks() if name.endswith('shortcut/conv')]
    assert len(convolutions(net)) - len(shortcuts) == 163           # and the linear layer
    assert len(shortcuts) == 3


def test_blocks_are_basic_below_depth_44():
    assert {c.ksize for c in convolutions(build('resnet38', 2, 'baseline')) if c.ksize != 3} == {1}
    assert all(c.ksize == 3 for name, c in build('resnet38', 2, 'baseline').namedlinks()
               if isinstance(c, L.Convolution2D) and 'shortcut' not in name)


def test_the_stride_of_a_bottleneck_is_on_its_3x3():
    strided = [c for c in convolutions(build('resnet50', 2, 'baseline')) if c.stride == (2, 2)]
    assert sorted(c.ksize for c in strided) == [1, 1, 1, 3, 3, 3, 7]


@pytest.mark.parametrize('size, g, attention', [
    ((224, 224), (14, 14), (14, 14)), ((64, 96), (4, 6), (4, 6)), ((16, 16), (1, 1), (1, 1))])
def test_sizes_of_an_imagenet_network(size, g, attention):
    net = build('resnet18', 3)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        x = numpy.zeros((1, 3, *size), 'f')
        assert net.feature_extractor(x).shape == (1, 256, *g)
        assert net(x).attention.shape == (1, 1, *attention)


def test_stem_of_an_imagenet_network_gives_56_of_224():
    stem = resnet.imagenet(18, 3).stages[0]
    assert stem(numpy.zeros((1, 3, 224, 224), 'f')).shape == (1, 64, 56, 56)


@pytest.mark.parametrize('name', ['resnet21', 'resnet2', 'resnet0', 'resnet', 'resnet020', 'xresnet20'])
def test_other_names_are_no_resnet(name):
    assert resnet.parse(name) is None


@pytest.mark.parametrize('arch, nearest', [('resnet21', 'resnet20'), ('resnet-50', 'resnet50')])
def test_unknown_architecture_is_refused_with_the_nearest(arch, nearest):
    with pytest.raises(InputError, match=f'{arch!r}.*{nearest}'):
        build(arch, 2)


def test_fresh_weights_and_normalization():
    numpy.random.seed(0)
    for arch in 'resnet20', 'resnet18':
        net = build(arch, 10)
        for c in convolutions(net):
            assert c.b is None
            k, out = c.ksize, c.out_channels
            expected = numpy.sqrt(2 / (k * k * out))
            tolerance = 4 / numpy.sqrt(c.W.size)
            assert c.W.array.std() == pytest.approx(expected, rel=tolerance)
            assert abs(c.W.array.mean()) < tolerance * expected
        for bn in net.links():
            if isinstance(bn, L.BatchNormalization):
                assert (bn.eps, bn.decay) == (1e-5, 0.9)
                assert (bn.gamma.array == 1).all() and (bn.beta.array == 0).all()
