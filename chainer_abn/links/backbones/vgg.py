"""VGG16 (Simonyan and Zisserman 2015), without and with batch normalization.

There is no official ABN code for it; the paper splits VGG before its last stage of convolutions.
Layers, biases and initial weights are torchvision's, whose weights fit.
"""
import functools

import numpy

from chainer_abn.links.backbones import Architecture, Backbone, last_stages
from chainer_abn.links.blocks import Sequence, batch_norm, conv, linear
from chainer_abn.runtime.blocks import Block, apply_linear
from chainer_abn.runtime.dropout import dropout

import chainer
import chainer.functions as F

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
POOLED = 7                      # side of the map that the fully connected layers see
EXAMPLES = ('vgg16', 'vgg16-bn')


def parse(name):
    """``vgg16`` or ``vgg16-bn``."""
    if name not in EXAMPLES:
        return None
    return Architecture(224, functools.partial(declare, name == 'vgg16-bn'), official_layers,
                        dropout=0.5)


def declare(bn, in_channels, dropout):
    """Five stages of 3x3 convolutions with max pooling, two hidden layers of 4096 units."""
    *shared, last = STAGES
    inputs = [in_channels, *(channels[-1] for channels in shared)]
    return Backbone(
        stages=[VGGStage(before, channels, bn, 2)
                for before, channels in zip(inputs, shared, strict=False)],
        last_stage=lambda stride: VGGStage(inputs[-1], last, bn, stride),
        channels=last[-1],
        classifier=functools.partial(FullyConnected, last[-1], dropout=dropout))


class VGGStage(Sequence):
    """Convolutions with ReLU; max pooling 2x2 behind them where the stride is 2."""

    def __init__(self, in_channels, channels, bn, stride):
        super().__init__(*(ConvReLU(before, after, bn) for before, after
                           in zip((in_channels, *channels), channels, strict=False)))
        self.stride = stride

    def forward(self, x):
        h = super().forward(x)
        # a map of one pixel stays what it is
        return F.max_pooling_2d(h, 2, cover_all=min(h.shape[2:]) == 1) if self.stride == 2 else h


class ConvReLU(Block, chainer.Chain):
    """3x3 convolution with bias, batch normalization if asked for, ReLU."""

    def __init__(self, in_channels, channels, bn):
        super().__init__()
        with self.init_scope():
            self.conv = conv(in_channels, channels, 3, bias=True)
            self.bn = batch_norm(channels) if bn else F.identity

    def declare(self, ops, x):
        if self.bn is F.identity:
            return ops.conv(self.conv, x, relu=True)
        return ops.conv_bn(self.conv, self.bn, x, relu=True)


class FullyConnected(chainer.Chain):
    """The three linear layers, behind an average over 7x7 cells where the map is of another size."""

    def __init__(self, channels, n_class, dropout):
        super().__init__()
        self.dropout = dropout
        normal = chainer.initializers.Normal(0.01)
        with self.init_scope():
            self.fc6 = linear(channels * POOLED ** 2, 4096, normal)
            self.fc7 = linear(4096, 4096, normal)
            self.fc8 = linear(4096, n_class, normal)

    def forward(self, x):
        h = cell_averages(x, POOLED)
        h = dropout(F.relu(apply_linear(self.fc6, h)), self.dropout)
        return apply_linear(self.fc8, dropout(F.relu(apply_linear(self.fc7, h)), self.dropout))


def cell_averages(x, side):
    """Average over ``side`` x ``side`` cells that cover the map (adaptive average pooling).

    Cell i of n spans floor(i size / n) to ceil((i + 1) size / n), so cells of a small map overlap.

    Args:
        x: (B, C, h, w).
        side (int)

    Returns:
        chainer.Variable: (B, C, side, side), of the dtype of x.
    """
    if x.shape[2:] == (side, side):
        return x
    xp = chainer.backend.get_array_module(x)
    for _ in range(2):          # each turn pools the third axis and puts it last
        size = x.shape[2]
        weights = numpy.zeros((side, size), x.dtype)
        for i in range(side):
            start, stop = i * size // side, -(-(i + 1) * size // side)
            weights[i, start:stop] = 1 / (stop - start)
        x = F.tensordot(x, xp.asarray(weights), axes=(2, 1))
    return x


def official_layers(net):
    """torchvision's names; the attention stage, which it does not have, is ``att_features``."""
    index = 0
    for blocks in net.feature_extractor:
        yield from stage_layers('features', index, blocks)
        index += sum(3 if isinstance(block.bn, chainer.Link) else 2 for block in blocks) + 1
    for prefix, blocks in last_stages(net):
        yield from stage_layers(f'{prefix}features', index, blocks)
    fc = net.perception_branch.fc
    if isinstance(fc, FullyConnected):
        yield from (('classifier.0', fc.fc6), ('classifier.3', fc.fc7), ('classifier.6', fc.fc8))
    else:
        yield 'classifier', fc


def stage_layers(name, index, blocks):
    """torchvision numbers convolution, normalization, ReLU and pooling in one list."""
    for block in blocks:
        yield f'{name}.{index}', block.conv
        if isinstance(block.bn, chainer.Link):
            yield f'{name}.{index + 1}', block.bn
            index += 1
        index += 2
