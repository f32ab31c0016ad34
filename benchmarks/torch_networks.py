"""The networks of ``chainer_abn.build`` (variant abn, residual attention) in plain PyTorch.

Layer for layer the same, so that parameter counts agree; the reference that ``cpu.py`` and
``gpu_steps.py`` time.
"""
import re

import torch
import torch.nn.functional as F
from torch import nn


def conv(in_channels, out_channels, ksize, stride=1, groups=1):
    layer = nn.Conv2d(in_channels, out_channels, ksize, stride, ksize // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode='fan_out')
    return layer


def conv_bn(in_channels, out_channels, ksize, stride=1, groups=1):
    return [conv(in_channels, out_channels, ksize, stride, groups), nn.BatchNorm2d(out_channels)]


def bn_relu(channels):
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); sums and activations are in place, as in torchvision."""

    def __init__(self, in_channels, channels, stride, *body):
        super().__init__()
        self.body = nn.Sequential(*body)
        same_shape = stride == 1 and channels == in_channels
        self.shortcut = nn.Identity() if same_shape else nn.Sequential(
            *conv_bn(in_channels, channels, 1, stride))

    def forward(self, x):
        h = self.body(x)
        h += self.shortcut(x)
        return F.relu(h, inplace=True)


def basic(in_channels, channels, stride):
    return Residual(
        in_channels, channels, stride,
        *conv_bn(in_channels, channels, 3, stride), nn.ReLU(inplace=True),
        *conv_bn(channels, channels, 3))


def bottleneck(in_channels, channels, stride, inner=None, groups=1):
    inner = inner or channels // 4
    return Residual(
        in_channels, channels, stride,
        *conv_bn(in_channels, inner, 1), nn.ReLU(inplace=True),
        *conv_bn(inner, inner, 3, stride, groups), nn.ReLU(inplace=True),
        *conv_bn(inner, channels, 1))


class PreActivation(nn.Module):
    """The block of a wide ResNet; a shortcut that changes the channels starts behind the first ReLU."""

    def __init__(self, in_channels, channels, stride, dropout=0.3):
        super().__init__()
        self.first = nn.Sequential(*bn_relu(in_channels))
        self.shortcut = None if in_channels == channels else conv(in_channels, channels, 1, stride)
        self.body = nn.Sequential(
            conv(in_channels, channels, 3, stride), *bn_relu(channels), nn.Dropout(dropout),
            conv(channels, channels, 3))

    def forward(self, x):
        h = self.first(x)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.body(h)
        h += shortcut
        return h


class DenseLayer(nn.Module):
    def __init__(self, in_channels, growth):
        super().__init__()
        self.body = nn.Sequential(
            *bn_relu(in_channels), conv(in_channels, 4 * growth, 1),
            *bn_relu(4 * growth), conv(4 * growth, growth, 3))

    def forward(self, x):
        return torch.cat((x, self.body(x)), 1)


# depth -> block, blocks per stage
IMAGENET = {18: (basic, (2, 2, 2, 2)), 50: (bottleneck, (3, 4, 6, 3))}


def stage(block, in_channels, channels, n_block, stride=1):
    return nn.Sequential(block(in_channels, channels, stride),
                         *(block(channels, channels, 1) for _ in range(n_block - 1)))


class ABN(nn.Module):
    """Feature extractor, attention branch and perception branch.

    Args:
        extractor (list): the shared layers.
        last_stage: stride -> a fresh last stage.
        channels (int): that it gives.
        n_class (int)
        attention_bn (bool): whether the attention branch's last stage is followed by a BN.
        tail (list): layers between the perception branch's last stage and its pooling.
    """

    def __init__(self, extractor, last_stage, channels, n_class, attention_bn=True, tail=()):
        super().__init__()
        self.extractor = nn.Sequential(*extractor)
        self.evidence = nn.Sequential(
            last_stage(1), *([nn.BatchNorm2d(channels)] if attention_bn else []),
            *conv_bn(channels, n_class, 1), nn.ReLU(inplace=True))
        self.map = nn.Sequential(*conv_bn(n_class, 1, 3), nn.Sigmoid())
        self.score = nn.Sequential(conv(n_class, n_class, 1), *pooled())
        self.perception = nn.Sequential(last_stage(2), *tail, *pooled(), nn.Linear(channels, n_class))

    def forward(self, x):
        g = self.extractor(x)
        a = self.evidence(g)
        attention = self.map(a)
        return self.score(a), self.perception(g * (1 + attention)), attention


def pooled():
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def cifar_resnet(n_class, depth):
    n = (depth - 2) // 6
    block, widen = (basic, 1) if depth < 44 else (bottleneck, 4)
    c1, c2, c3 = 16 * widen, 32 * widen, 64 * widen
    return ABN([*conv_bn(3, 16, 3), nn.ReLU(inplace=True),
                stage(block, 16, c1, n), stage(block, c1, c2, n, 2)],
               lambda stride: stage(block, c2, c3, n, stride), c3, n_class)


def imagenet_resnet(n_class, depth):
    block, (n1, n2, n3, n4) = IMAGENET[depth]
    c1, c2, c3, c4 = (c if block is basic else 4 * c for c in (64, 128, 256, 512))
    return ABN([*conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
                stage(block, 64, c1, n1), stage(block, c1, c2, n2, 2), stage(block, c2, c3, n3, 2)],
               lambda stride: stage(block, c3, c4, n4, stride), c4, n_class)


def resnet(n_class, depth):
    return (imagenet_resnet if depth in IMAGENET else cifar_resnet)(n_class, depth)


def wrn(n_class, depth, widen):
    n = (depth - 4) // 6
    c1, c2, c3 = 16 * widen, 32 * widen, 64 * widen
    return ABN([conv(3, 16, 3), stage(PreActivation, 16, c1, n), stage(PreActivation, c1, c2, n, 2)],
               lambda stride: stage(PreActivation, c2, c3, n, stride), c3, n_class, tail=bn_relu(c3))


def densenet_bc(n_class, depth, growth):
    n = (depth - 4) // 6
    c1 = 2 * growth
    c2 = (c1 + n * growth) // 2
    c3 = (c2 + n * growth) // 2
    last = c3 + n * growth

    def dense(channels):
        return nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(n)))

    def transition(channels):
        return [*bn_relu(channels), conv(channels, channels // 2, 1), nn.AvgPool2d(2)]

    return ABN([conv(3, c1, 3),
                dense(c1), *transition(c1 + n * growth),
                dense(c2), *transition(c2 + n * growth)],
               lambda stride: dense(c3), last, n_class, tail=bn_relu(last))


def resnext(n_class, depth, groups, width):
    n = (depth - 2) // 9

    def block(in_channels, channels, stride):
        return bottleneck(in_channels, channels, stride, groups * width * channels // 256, groups)

    return ABN([*conv_bn(3, 64, 3), nn.ReLU(inplace=True),
                stage(block, 64, 256, n), stage(block, 256, 512, n, 2)],
               lambda stride: stage(block, 512, 1024, n, stride), 1024, n_class, attention_bn=False)


FAMILIES = {
    r'resnet(\d+)': resnet,
    r'wrn-(\d+)-(\d+)': wrn,
    r'densenet-bc-(\d+)-(\d+)': densenet_bc,
    r'resnext-(\d+)-(\d+)x(\d+)d': resnext,
}


def build(arch, n_class):
    """The network of a name that ``chainer_abn.build`` takes: those of the benchmark's cases."""
    for pattern, family in FAMILIES.items():
        match = re.fullmatch(pattern, arch)
        if match:
            return family(n_class, *map(int, match.groups()))
    raise ValueError(f'{arch}: no reference network')
