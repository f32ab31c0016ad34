"""ResNet (He et al. 2016) as the official ABN code builds it."""
import functools
import re

from chainer_abn.links.backbones import Architecture, Backbone, named_stages
from chainer_abn.links.blocks import Stem, basic, bottleneck, stage

import chainer

# depth -> block, blocks per stage
IMAGENET = {
    18: (basic, (2, 2, 2, 2)),
    34: (basic, (3, 4, 6, 3)),
    50: (bottleneck, (3, 4, 6, 3)),
    101: (bottleneck, (3, 4, 23, 3)),
    152: (bottleneck, (3, 8, 36, 3)),
}

EXAMPLES = tuple(f'resnet{depth}' for depth in (8, 20, 32, 44, 56, 110, *IMAGENET))


def parse(name):
    """``resnetD``: an ImageNet depth, or any other 6n+2 for CIFAR; None where it is neither."""
    match = re.fullmatch(r'resnet([1-9]\d{0,3})', name)
    depth = int(match[1]) if match else 0
    if depth in IMAGENET:
        return Architecture(224, functools.partial(imagenet, depth), official_layers)
    if depth >= 8 and depth % 6 == 2:
        return Architecture(32, functools.partial(cifar, depth), official_layers)
    return None


def cifar(depth, in_channels):
    """Stages of 16, 32, 64 channels, times 4 with bottlenecks.

    As in the official code, blocks are bottlenecks from depth 44 on, with the same n: its
    "ResNet-110" has 164 convolutions.
    """
    n_block = (depth - 2) // 6
    block, expansion = (basic, 1) if depth < 44 else (bottleneck, 4)
    c1, c2, c3 = 16 * expansion, 32 * expansion, 64 * expansion
    return Backbone(
        stages=[Stem(in_channels, 16, 3),
                stage(block, 16, c1, n_block),
                stage(block, c1, c2, n_block, stride=2)],
        last_stage=lambda stride: stage(block, c2, c3, n_block, stride),
        channels=c3)


def imagenet(depth, in_channels, **gate):
    """Stages of 64, 128, 256, 512 channels, times 4 with bottlenecks, behind a 7x7 stem."""
    block, (n1, n2, n3, n4) = IMAGENET[depth]
    expansion = 1 if block is basic else 4
    block = functools.partial(block, **gate)
    c1, c2, c3, c4 = (c * expansion for c in (64, 128, 256, 512))
    return Backbone(
        stages=[Stem(in_channels, 64, 7, stride=2, pool=True),
                stage(block, 64, c1, n1),
                stage(block, c1, c2, n2, stride=2),
                stage(block, c2, c3, n3, stride=2)],
        last_stage=lambda stride: stage(block, c3, c4, n4, stride),
        channels=c4)


def official_layers(net):
    stem = net.feature_extractor[0]
    yield 'conv1', stem.conv
    yield 'bn1', stem.bn
    for name, blocks in named_stages(net, 'layer'):
        for i, block in enumerate(blocks):
            yield from block_layers(f'{name}.{i}', block)
    yield 'fc', net.perception_branch.fc


def block_layers(name, block):
    for i, layer in enumerate(block.body, 1):
        yield f'{name}.conv{i}', layer.conv
        yield f'{name}.bn{i}', layer.bn
    if isinstance(block.gate, chainer.Link):
        yield f'{name}.fc1', block.gate.fc1
        yield f'{name}.fc2', block.gate.fc2
    if isinstance(block.shortcut, chainer.Link):
        yield f'{name}.downsample.0', block.shortcut.conv
        yield f'{name}.downsample.1', block.shortcut.bn
