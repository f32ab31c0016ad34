"""The pieces that backbones are declared with.

Shapes are (B, C, h, w), float32 or, with float32 weights all the same, float16. Convolutions have no
bias and start from N(0, 2 / (k k out)); batch normalization has eps 1e-5 and a running average that
keeps 0.9 of its past, as in the official networks (Chainer's own eps is 2e-5).
"""
from chainer_abn.runtime.blocks import Block, in_dtype_of, single

import chainer
import chainer.functions as F
import chainer.links as L

# using_config('fresh_weights', False): what is built inside gets its weights from elsewhere, so none
# are drawn; a VGG takes seconds to draw, and the random state stays as it was. They are `empty_weights`
# then, a number or an initializer
chainer.global_config.fresh_weights = True
chainer.global_config.empty_weights = 0


def conv(in_channels, out_channels, ksize, stride=1, groups=1, bias=False):
    """A convolution that keeps the size at stride 1, without bias unless asked for."""
    return L.Convolution2D(
        in_channels, out_channels, ksize, stride, pad=ksize // 2, nobias=not bias, groups=groups,
        initialW=fresh(chainer.initializers.HeNormal(fan_option='fan_out')))


def linear(in_size, out_size, initial_weights=None):
    """A linear layer with bias; weights start from LeCun's normal distribution unless told."""
    return L.Linear(in_size, out_size, initialW=fresh(initial_weights))


def fresh(initializer):
    return initializer if chainer.config.fresh_weights else chainer.config.empty_weights


def batch_norm(channels):
    return L.BatchNormalization(channels, eps=1e-5, decay=0.9)


class ConvBN(Block, chainer.Chain):
    """Convolution and batch normalization."""

    def __init__(self, in_channels, out_channels, ksize, stride=1, groups=1):
        super().__init__()
        with self.init_scope():
            self.conv = conv(in_channels, out_channels, ksize, stride, groups)
            self.bn = batch_norm(out_channels)

    def declare(self, ops, x, relu=False, add=None):
        return ops.conv_bn(self.conv, self.bn, x, relu, add)


class BNReLU(Block, chainer.Chain):
    """Batch normalization and ReLU: the end of pre-activation networks."""

    def __init__(self, channels):
        super().__init__()
        with self.init_scope():
            self.bn = batch_norm(channels)

    def declare(self, ops, x):
        return ops.bn(self.bn, x, relu=True)


class BNReLUConv(Block, chainer.Chain):
    """Batch normalization, ReLU, convolution: the layer of pre-activation networks."""

    def __init__(self, in_channels, out_channels, ksize, stride=1):
        super().__init__()
        with self.init_scope():
            self.bn = batch_norm(in_channels)
            self.conv = conv(in_channels, out_channels, ksize, stride)

    def declare(self, ops, x):
        return ops.conv(self.conv, ops.bn(self.bn, x, relu=True))


class Stem(ConvBN):
    """The first layers: ConvBN, ReLU and, for ImageNet sizes, max pooling 3x3 of stride 2."""

    def __init__(self, in_channels, out_channels, ksize, stride=1, pool=False):
        super().__init__(in_channels, out_channels, ksize, stride)
        self.pool = pool

    def declare(self, ops, x):
        h = super().declare(ops, x, relu=True)
        return ops.max_pool(h, 3, 2, 1) if self.pool else h


class Sequence(Block, chainer.ChainList):
    """Links applied in turn. (chainer.Sequential stores its children out of order.)"""

    def forward(self, x):
        return self.run(x) if declares(self) else self.run_plainly(x)

    def run_plainly(self, x):
        for link in self:
            x = in_dtype_of(x, link)
        return x

    def declare(self, ops, x):
        for link in self:
            x = link.declare(ops, x) if isinstance(link, Block) else ops.conv(link, x)
        return x


def declares(link):
    """Whether all that a link does is in its declaration, those of its parts, and convolutions."""
    if 'forward' in link.__dict__:
        return False
    if isinstance(link, Sequence):
        return type(link).forward is Sequence.forward and all(map(declares, link))
    return type(link) is L.Convolution2D or isinstance(link, Block) and type(link).forward is Block.forward


class Residual(Block, chainer.Chain):
    """relu(gate(body(x)) + shortcut(x)), He et al. 2016; ReLU stands between the layers of the body.

    Args:
        in_channels (int)
        layers: (channels, kernel size, stride[, groups]) of each ConvBN of the body. The shortcut
            is the identity, or a 1x1 ConvBN where the body changes the shape.
        gate: channels -> a link on what comes out of the body; None: nothing.
    """

    def __init__(self, in_channels, layers, gate=None):
        super().__init__()
        stride = 1
        body, channels = [], in_channels
        for out_channels, ksize, layer_stride, *groups in layers:
            body.append(ConvBN(channels, out_channels, ksize, layer_stride, *groups))
            channels = out_channels
            stride *= layer_stride
        with self.init_scope():
            self.body = chainer.ChainList(*body)
            self.gate = F.identity if gate is None else gate(channels)
            same_shape = stride == 1 and channels == in_channels
            self.shortcut = F.identity if same_shape else ConvBN(in_channels, channels, 1, stride)

    def declare(self, ops, x):
        *inner, last = self.body
        h = x
        for layer in inner:
            h = layer.declare(ops, h, relu=True)
        shortcut = x if self.shortcut is F.identity else self.shortcut.declare(ops, x)
        if self.gate is F.identity:
            return last.declare(ops, h, relu=True, add=shortcut)
        return ops.add(self.gate.declare(ops, last.declare(ops, h)), shortcut, relu=True)


def basic(in_channels, channels, stride=1, gate=None):
    """Two 3x3 convolutions; the first has the stride."""
    return Residual(in_channels, [(channels, 3, stride), (channels, 3, 1)], gate)


def bottleneck(in_channels, channels, stride=1, inner=None, groups=1, gate=None):
    """1x1, 3x3 with the stride, 1x1.

    ``channels`` come out, ``inner`` (a quarter of them) are inside; the 3x3 may be grouped.
    """
    inner = inner or channels // 4
    return Residual(in_channels, [(inner, 1, 1), (inner, 3, stride, groups), (channels, 1, 1)], gate)


def stage(block, in_channels, channels, n_block, stride=1):
    """``n_block`` blocks; the first changes the channels and has the stride."""
    return Sequence(block(in_channels, channels, stride),
                    *(block(channels, channels, 1) for _ in range(n_block - 1)))


def global_average(x):
    """(B, C, h, w) -> (B, C), float32 at least."""
    return F.average(single(x), axis=(2, 3))
