"""Wide ResNet (Zagoruyko and Komodakis 2016): pre-activation blocks with dropout."""
import functools
import re

from chainer_abn.links.backbones import Architecture, Backbone, named_stages
from chainer_abn.links.blocks import BNReLU, batch_norm, conv, stage
from chainer_abn.runtime.blocks import Block

import chainer
import chainer.functions as F

EXAMPLES = ('wrn-10-1', 'wrn-16-2', 'wrn-28-10')


def parse(name):
    """``wrn-D-k``: depth 6n+4, k times as wide as a ResNet."""
    match = re.fullmatch(r'wrn-([1-9]\d{0,2})-([1-9]\d?)', name)
    if match is None:
        return None
    depth, widen = map(int, match.groups())
    if depth % 6 != 4 or depth < 10:
        return None
    return Architecture(32, functools.partial(declare, depth, widen), official_layers, dropout=0.3)


def declare(depth, widen, in_channels, dropout):
    """Groups of 16k, 32k, 64k channels behind a plain convolution; BN-ReLU at the end."""
    n_block = (depth - 4) // 6
    block = functools.partial(PreActivation, dropout=dropout)
    c1, c2, c3 = 16 * widen, 32 * widen, 64 * widen
    return Backbone(
        stages=[conv(in_channels, 16, 3),
                stage(block, 16, c1, n_block),
                stage(block, c1, c2, n_block, stride=2)],
        last_stage=lambda stride: stage(block, c2, c3, n_block, stride),
        channels=c3, tail=lambda: BNReLU(c3))


class PreActivation(Block, chainer.Chain):
    """BN-ReLU-conv twice, 3x3, the stride in the first, dropout between the convolutions.

    Where the channels change, the shortcut is a 1x1 convolution of what the first BN-ReLU gives;
    else it is the input itself.
    """

    def __init__(self, in_channels, channels, stride, dropout):
        super().__init__()
        self.dropout = dropout
        with self.init_scope():
            self.bn1 = batch_norm(in_channels)
            self.conv1 = conv(in_channels, channels, 3, stride)
            self.bn2 = batch_norm(channels)
            self.conv2 = conv(channels, channels, 3)
            self.shortcut = (F.identity if in_channels == channels
                             else conv(in_channels, channels, 1, stride))

    def declare(self, ops, x):
        pre = ops.bn(self.bn1, x, relu=True)
        shortcut = x if self.shortcut is F.identity else ops.conv(self.shortcut, pre)
        h = ops.conv_bn(self.conv1, self.bn2, pre, relu=True)
        return ops.conv(self.conv2, ops.dropout(h, self.dropout), add=shortcut)


def official_layers(net):
    yield 'conv1', net.feature_extractor[0]
    for name, blocks in named_stages(net, 'block'):
        for i, block in enumerate(blocks):
            path = f'{name}.layer.{i}'
            for layer in 'bn1', 'conv1', 'bn2', 'conv2':
                yield f'{path}.{layer}', block[layer]
            if isinstance(block.shortcut, chainer.Link):
                yield f'{path}.convShortcut', block.shortcut
    yield 'bn1', net.perception_branch.tail.bn
    yield 'fc', net.perception_branch.fc
