"""``resnet50_fine`` of the original port: ResNet-50 as Chainer's ``ResNet50Layers`` computes it.

It is the network of the weights that He et al. published for Caffe: the stride of a bottleneck sits
on its first 1x1 convolution, the stem has a bias, its pooling no padding; images are BGR, 0 to 255,
with the mean subtracted.
"""
from chainer_abn.links.backbones import Architecture, Backbone, named_stages
from chainer_abn.links.blocks import Residual, batch_norm, conv, stage
from chainer_abn.runtime.blocks import in_dtype_of

import chainer
import chainer.functions as F
import chainer.links as L

EXAMPLES = ('resnet50_fine',)


def parse(name):
    if name not in EXAMPLES:
        return None
    return Architecture(224, declare, official_layers, channel_order='BGR')


def declare(in_channels):
    return Backbone(
        stages=[CaffeStem(in_channels),
                caffe_stage(64, 256, 3, 1),
                caffe_stage(256, 512, 4, 2),
                caffe_stage(512, 1024, 6, 2)],
        last_stage=lambda stride: caffe_stage(1024, 2048, 3, stride),
        channels=2048)


class CaffeStem(chainer.Chain):
    def __init__(self, in_channels):
        super().__init__()
        with self.init_scope():
            self.conv = conv(in_channels, 64, 7, 2, bias=True)
            self.bn = chainer_eps(batch_norm(64))

    def forward(self, x):
        return F.max_pooling_2d(F.relu(self.bn(in_dtype_of(x, self.conv))), 3, 2)


def caffe_stage(in_channels, channels, n_block, stride):
    def block(in_channels, channels, stride):
        inner = channels // 4
        return Residual(in_channels, [(inner, 1, stride), (inner, 3, 1), (channels, 1, 1)])

    return chainer_eps(stage(block, in_channels, channels, n_block, stride))


def chainer_eps(link):
    """Give a link's batch normalizations Chainer's eps, with which its ResNet50Layers compute."""
    for child in link.links():
        if isinstance(child, L.BatchNormalization):
            child.eps = 2e-5
    return link


def official_layers(net):
    """(name in Chainer's ResNet50Layers, layer); the attention stage is ``att_res5``."""
    stem = net.feature_extractor[0]
    yield 'conv1', stem.conv
    yield 'bn1', stem.bn
    for name, blocks in named_stages(net, 'res', first=2):
        for i, block in enumerate(blocks):
            path = f'{name}.b{i}' if i else f'{name}.a'
            for j, layer in enumerate(block.body, 1):
                yield f'{path}.conv{j}', layer.conv
                yield f'{path}.bn{j}', layer.bn
            if isinstance(block.shortcut, chainer.Link):
                yield f'{path}.conv4', block.shortcut.conv
                yield f'{path}.bn4', block.shortcut.bn
    yield 'fc6', net.perception_branch.fc
