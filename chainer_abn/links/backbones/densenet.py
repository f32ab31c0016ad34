"""DenseNet-BC (Huang et al. 2017) as the official ABN code builds it."""
import functools
import re

from chainer_abn.links.backbones import Architecture, Backbone, last_stages
from chainer_abn.links.blocks import BNReLU, BNReLUConv, Sequence, conv
from chainer_abn.runtime.blocks import Block

import chainer

EXAMPLES = ('densenet-bc-10-12', 'densenet-bc-22-12', 'densenet-bc-100-12', 'densenet-bc-190-40')


def parse(name):
    """``densenet-bc-L-k``: depth 6n+4, growth rate k."""
    match = re.fullmatch(r'densenet-bc-([1-9]\d{0,2})-([1-9]\d{0,2})', name)
    if match is None:
        return None
    depth, growth = map(int, match.groups())
    if depth % 6 != 4 or depth < 10:
        return None
    return Architecture(32, functools.partial(declare, depth, growth), official_layers, dropout=0.0)


def declare(depth, growth, in_channels, dropout):
    """Three dense blocks of (depth - 4) / 6 layers, the first two with a transition that halves.

    There is no stride in the last block, so the network's map is an eighth of the image.
    """
    n_layer = (depth - 4) // 6
    c1 = 2 * growth
    c2 = (c1 + n_layer * growth) // 2
    c3 = (c2 + n_layer * growth) // 2

    def dense(channels):
        return Sequence(*(DenseLayer(channels + i * growth, growth, dropout)
                          for i in range(n_layer)))

    return Backbone(
        stages=[conv(in_channels, c1, 3),
                dense(c1), Transition(c1 + n_layer * growth, c2, 1),
                dense(c2), Transition(c2 + n_layer * growth, c3, 1)],
        last_stage=lambda stride: dense(c3),
        channels=c3 + n_layer * growth, tail=lambda: BNReLU(c3 + n_layer * growth))


class DenseLayer(Block, chainer.Chain):
    """x and ``growth`` new channels: BN-ReLU-conv 1x1 to four times as many, then 3x3."""

    def __init__(self, in_channels, growth, dropout):
        super().__init__()
        self.dropout = dropout
        with self.init_scope():
            self.reduce = BNReLUConv(in_channels, 4 * growth, 1)
            self.expand = BNReLUConv(4 * growth, growth, 3)

    def declare(self, ops, x):
        h = ops.bn(self.reduce.bn, x, relu=True)
        h = ops.conv_bn(self.reduce.conv, self.expand.bn, h, relu=True)
        return ops.concat((x, ops.dropout(ops.conv(self.expand.conv, h), self.dropout)))


class Transition(BNReLUConv):
    """BN-ReLU-conv 1x1 and average pooling 2x2."""

    def declare(self, ops, x):
        return ops.avg_pool(super().declare(ops, x), 2)


def official_layers(net):
    stem, dense1, trans1, dense2, trans2 = net.feature_extractor
    yield 'conv1', stem
    named = [('dense1', dense1), ('dense2', dense2)]
    named += [(f'{prefix}dense3', layers) for prefix, layers in last_stages(net)]
    for name, layers in named:
        for i, layer in enumerate(layers):
            for j, part in enumerate((layer.reduce, layer.expand), 1):
                yield f'{name}.{i}.bn{j}', part.bn
                yield f'{name}.{i}.conv{j}', part.conv
    for name, transition in ('trans1', trans1), ('trans2', trans2):
        yield f'{name}.bn1', transition.bn
        yield f'{name}.conv1', transition.conv
    yield 'bn', net.perception_branch.tail.bn
    yield 'fc', net.perception_branch.fc
