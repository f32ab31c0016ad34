"""SE-ResNet (Hu et al. 2018): an ImageNet ResNet whose blocks weigh their channels."""
import functools
import re

from chainer_abn.links.backbones import Architecture, resnet
from chainer_abn.links.blocks import global_average, linear

import chainer
import chainer.functions as F

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


class SqueezeExcitation(chainer.Chain):
    """x times a weight in (0, 1) per channel: GAP, linear C -> C/16, ReLU, linear, sigmoid."""

    def __init__(self, channels):
        super().__init__()
        with self.init_scope():
            self.fc1 = linear(channels, channels // RATIO)
            self.fc2 = linear(channels // RATIO, channels)

    def forward(self, x):
        weight = F.sigmoid(self.fc2(F.relu(self.fc1(global_average(x)))))
        return x * F.broadcast_to(weight[:, :, None, None], x.shape)
