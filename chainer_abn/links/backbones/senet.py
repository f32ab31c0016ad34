"""SE-ResNet (Hu et al. 2018): an ImageNet ResNet whose blocks weigh their channels."""
import functools
import re

from chainer_abn.links.backbones import Architecture, resnet
from chainer_abn.links.blocks import linear
from chainer_abn.runtime.blocks import Block

import chainer

EXAMPLES = tuple(f'se-resnet{depth}' for depth in resnet.IMAGENET)
RATIO = 16


def parse(name):
    """``se-resnetD`` with an ImageNet depth."""
    match = re.fullmatch(r'se-resnet([1-9]\d{1,2})', name)
    depth = int(match[1]) if match else 0
    if depth in resnet.IMAGENET:
        return Architecture(224, functools.partial(resnet.imagenet, depth, gate=SqueezeExcitation),
                            resnet.official_layers)
    return None


class SqueezeExcitation(Block, chainer.Chain):
    """x times a weight in (0, 1) per channel: GAP, linear C -> C/16, ReLU, linear, sigmoid."""

    def __init__(self, channels):
        super().__init__()
        with self.init_scope():
            self.fc1 = linear(channels, channels // RATIO)
            self.fc2 = linear(channels // RATIO, channels)

    def declare(self, ops, x):
        return ops.excite(self.fc1, self.fc2, x)
