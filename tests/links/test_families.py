"""What each family says beside ResNet, from facts: layer by layer."""
import numpy
import pytest

from chainer_abn.links import build
from chainer_abn.links.backbones import densenet, resnext, senet, vgg, wrn
from chainer_abn.links.build import architecture

import chainer
import chainer.functions as F
import chainer.links as L


def convolutions(link):
    return [child for child in link.links() if isinstance(child, L.Convolution2D)]


def sizes(arch, side):
    """Shapes (C, h, w) after each shared stage, of the map, and after the perception stage."""
    net = build(arch, 3)
    h = numpy.zeros((1, 3, side, side), 'f')
    shapes = []
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        for stage in net.feature_extractor:
            h = stage(h)
            shapes.append(h.shape[1:])
        return shapes, net.attention_branch(h)[1].shape[1:], net.perception_branch.stage(h).shape[1:]


@pytest.mark.parametrize('arch, side, shared, attention, last', [
    ('wrn-10-2', 32, [(16, 32, 32), (32, 32, 32), (64, 16, 16)], (1, 16, 16), (128, 8, 8)),
    ('densenet-bc-10-12', 32, [(24, 32, 32), (36, 32, 32), (18, 16, 16), (30, 16, 16), (15, 8, 8)],
     (1, 8, 8), (27, 8, 8)),
    ('resnext-11-2x64d', 32, [(64, 32, 32), (256, 32, 32), (512, 16, 16)], (1, 16, 16), (1024, 8, 8)),
    ('se-resnet50', 64, [(64, 16, 16), (256, 16, 16), (512, 8, 8), (1024, 4, 4)], (1, 4, 4), (2048, 2, 2)),
    ('vgg16-bn', 64, [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)], (1, 4, 4), (512, 2, 2)),
    ('resnet50_fine', 64, [(64, 16, 16), (256, 16, 16), (512, 8, 8), (1024, 4, 4)], (1, 4, 4), (2048, 2, 2)),
])
def test_sizes(arch, side, shared, attention, last):
    assert sizes(arch, side) == (shared, attention, last)


@pytest.mark.parametrize('family, good, bad', [
    (wrn, ['wrn-28-10', 'wrn-40-4'], ['wrn-28', 'wrn-27-10', 'wrn-4-1', 'wrn-28-0', 'wrn-028-10']),
    (densenet, ['densenet-bc-100-12', 'densenet-bc-250-24'], ['densenet-100-12', 'densenet-bc-99-12']),
    (resnext, ['resnext-29-16x64d', 'resnext-38-8x32d'],
     ['resnext-29', 'resnext-29-8x64', 'resnext-28-8x64d']),
    (senet, ['se-resnet152'], ['se-resnet20', 'seresnet50', 'se-resnet050']),
    (vgg, ['vgg16', 'vgg16-bn'], ['vgg19', 'vgg16_bn'])])
def test_names(family, good, bad):
    assert all(family.parse(name) for name in good)
    assert not any(family.parse(name) for name in bad)
    assert all(family.parse(name) for name in family.EXAMPLES)


def test_usual_sizes():
    assert [architecture(name).image_size for name in ('wrn-28-10', 'densenet-bc-22-12', 'se-resnet18',
                                                       'vgg16', 'resnet50_fine', 'resnext-29-8x64d')] == \
        [32, 32, 224, 224, 224, 32]


def test_resnext_groups_the_3x3_and_has_no_normalization_behind_the_attention_stage():
    net = build('resnext-29-8x64d', 10)
    grouped = [c for c in convolutions(net) if c.groups > 1]
    assert {c.groups for c in grouped} == {8} and all(c.ksize == 3 for c in grouped)
    # groups * 64 channels inside of the first stage, twice as many in each next
    assert sorted({c.out_channels for c in grouped}) == [512, 1024, 2048]
    assert net.attention_branch.bn is F.identity


def test_squeeze_excitation_by_hand():
    gate = senet.SqueezeExcitation(16)
    gate.fc1.W.array[...], gate.fc2.W.array[...], gate.fc2.b.array[...] = 0.5, 1, -2
    x = numpy.zeros((1, 16, 1, 2), 'f')
    x[0, 0] = 2, 6                              # mean 4 -> 0.5 * 4 = 2 -> 2 - 2 = 0 -> sigmoid 0.5
    numpy.testing.assert_allclose(gate(x).array, x * 0.5)
    x = -x                                      # relu(-2) = 0 -> -2
    numpy.testing.assert_allclose(gate(x).array, x / (1 + numpy.exp(2)), rtol=1e-6)


def test_wrn_shortcut_is_of_the_activation_only_where_channels_change():
    block = wrn.PreActivation(4, 4, 1, 0)
    block.conv2.W.array[...] = 0
    x = numpy.random.default_rng(0).standard_normal((2, 4, 3, 3)).astype('f')
    numpy.testing.assert_array_equal(block(x).array, x)
    block = wrn.PreActivation(4, 8, 2, 0)
    block.conv2.W.array[...] = 0
    wanted = block.shortcut(F.relu(block.bn1(x)))
    numpy.testing.assert_array_equal(block(x).array, wanted.array)
    assert block.shortcut.stride == (2, 2) and block.shortcut.ksize == 1


def test_dense_layer_keeps_what_came_in():
    layer = densenet.DenseLayer(5, 3, 0)
    x = numpy.random.default_rng(0).standard_normal((2, 5, 4, 4)).astype('f')
    y = layer(x)
    assert y.shape == (2, 8, 4, 4)
    numpy.testing.assert_array_equal(y.array[:, :5], x)


@pytest.mark.parametrize('size', [(7, 7), (14, 14), (1, 1), (2, 9), (10, 3)])
def test_cell_averages(size):
    x = numpy.random.default_rng(0).standard_normal((2, 3, *size))
    found = F.identity(vgg.cell_averages(x, 7))
    found = getattr(found, 'array', found)
    h, w = size
    for i in range(7):
        for j in range(7):
            cell = x[:, :, i * h // 7:-(-(i + 1) * h // 7), j * w // 7:-(-(j + 1) * w // 7)]
            numpy.testing.assert_allclose(found[:, :, i, j], cell.mean(axis=(2, 3)))


def test_vgg_variants():
    with chainer.using_config('fresh_weights', False):
        nets = {variant: build('vgg16', 3, variant) for variant in ('abn', 'baseline', 'cam')}
    for variant, net in nets.items():
        assert hasattr(net.perception_branch.fc, 'fc6') == (variant != 'cam')
    x = numpy.zeros((1, 3, 32, 32), 'f')
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        g = nets['cam'].feature_extractor(x)
        assert nets['cam'].perception_branch.stage(g).shape == g.shape == (1, 512, 2, 2)
        assert nets['abn'].attention_branch.stage(g).shape == (1, 512, 2, 2)
        assert nets['abn'].perception_branch.stage(g).shape == (1, 512, 1, 1)
        # nothing smaller than a pixel comes of a small image
        assert nets['abn'](numpy.zeros((1, 3, 16, 48), 'f')).logits.shape == (1, 3)
