"""ResNeXt for CIFAR (Xie et al. 2017) as the official ABN code builds it."""
import functools
import re

from chainer_abn.links.backbones import Architecture, Backbone, named_stages
from chainer_abn.links.blocks import Stem, bottleneck, stage

import chainer

EXAMPLES = ('resnext-11-2x64d', 'resnext-29-8x64d', 'resnext-29-16x64d')


def parse(name):
    """``resnext-D-GxWd``: depth 9n+2, G groups of W channels in the first stage."""
    match = re.fullmatch(r'resnext-([1-9]\d{0,2})-([1-9]\d{0,2})x([1-9]\d{0,2})d', name)
    if match is None:
        return None
    depth, groups, width = map(int, match.groups())
    if depth % 9 != 2 or depth < 11:
        return None
    return Architecture(32, functools.partial(declare, depth, groups, width), official_layers)


def declare(depth, groups, width, in_channels):
    """Stages of 256, 512, 1024 channels.

    Inside of a block of stage s are groups * width * 2^(s-1) channels, which for a width of 64 is
    the official code's cardinality * out // widen_factor. That code declares a BN after the
    attention stage and never applies it: there is none here.
    """
    n_block = (depth - 2) // 9

    def block(in_channels, channels, stride):
        return bottleneck(in_channels, channels, stride, groups * width * channels // 256, groups)

    return Backbone(
        stages=[Stem(in_channels, 64, 3),
                stage(block, 64, 256, n_block),
                stage(block, 256, 512, n_block, stride=2)],
        last_stage=lambda stride: stage(block, 512, 1024, n_block, stride),
        channels=1024, attention_bn=False)


def official_layers(net):
    stem = net.feature_extractor[0]
    yield 'conv_1_3x3', stem.conv
    yield 'bn_1', stem.bn
    for name, blocks in named_stages(net, 'stage_'):
        name = 'stage_att' if name == 'att_stage_3' else name
        for i, block in enumerate(blocks):
            path = f'{name}.{name}_bottleneck_{i}'
            for layer, conv, bn in zip(block.body, ('conv_reduce', 'conv_conv', 'conv_expand'),
                                       ('bn_reduce', 'bn', 'bn_expand'), strict=True):
                yield f'{path}.{conv}', layer.conv
                yield f'{path}.{bn}', layer.bn
            if isinstance(block.shortcut, chainer.Link):
                yield f'{path}.shortcut.shortcut_conv', block.shortcut.conv
                yield f'{path}.shortcut.shortcut_bn', block.shortcut.bn
    yield 'classifier', net.perception_branch.fc
