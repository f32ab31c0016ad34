"""The pieces that backbones are declared with.

Shapes are (B, C, h, w), float32. Convolutions have no bias and start from N(0, 2 / (k k out));
batch normalization has eps 1e-5 and a running average that keeps 0.9 of its past, as in the
official networks (Chainer's own eps is 2e-5).
"""
import chainer
import chainer.functions as F
import chainer.links as L


def conv(in_channels, out_channels, ksize, stride=1):
    """A convolution without bias that keeps the size at stride 1."""
    return L.Convolution2D(
        in_channels, out_channels, ksize, stride, pad=ksize // 2, nobias=True,
        initialW=chainer.initializers.HeNormal(fan_option='fan_out'))


def batch_norm(channels):
    return L.BatchNormalization(channels, eps=1e-5, decay=0.9)


class ConvBN(chainer.Chain):
    """Convolution and batch normalization."""

    def __init__(self, in_channels, out_channels, ksize, stride=1):
        super().__init__()
        with self.init_scope():
            self.conv = conv(in_channels, out_channels, ksize, stride)
            self.bn = batch_norm(out_channels)

    def forward(self, x):
        return self.bn(self.conv(x))


class Stem(ConvBN):
    """The first layers: ConvBN, ReLU and, for ImageNet sizes, max pooling 3x3 of stride 2."""

    def __init__(self, in_channels, out_channels, ksize, stride=1, pool=False):
        super().__init__(in_channels, out_channels, ksize, stride)
        self.pool = pool

    def forward(self, x):
        h = F.relu(super().forward(x))
        # cover_all=False gives 56x56 at 224 px, as in the official network; the default 57x57
        return F.max_pooling_2d(h, 3, 2, pad=1, cover_all=False) if self.pool else h


class Sequence(chainer.ChainList):
    """Links applied in turn. (chainer.Sequential stores its children out of order.)"""

    def forward(self, x):
        for link in self:
            x = link(x)
        return x


class Residual(chainer.Chain):
    """relu(body(x) + shortcut(x)), He et al. 2016; ReLU stands between the layers of the body.

    Args:
        in_channels (int)
        layers: (kernel size, channels, stride) of each ConvBN of the body. The shortcut is the
            identity, or a 1x1 ConvBN where the body changes the shape.
    """

    def __init__(self, in_channels, layers):
        super().__init__()
        stride = 1
        body, channels = [], in_channels
        for ksize, out_channels, layer_stride in layers:
            body.append(ConvBN(channels, out_channels, ksize, layer_stride))
            channels = out_channels
            stride *= layer_stride
        with self.init_scope():
            self.body = chainer.ChainList(*body)
            same_shape = stride == 1 and channels == in_channels
            self.shortcut = F.identity if same_shape else ConvBN(in_channels, channels, 1, stride)

    def forward(self, x):
        *inner, last = self.body
        h = x
        for layer in inner:
            h = F.relu(layer(h))
        return F.relu(last(h) + self.shortcut(x))


def basic(in_channels, channels, stride=1):
    """Two 3x3 convolutions; the first has the stride."""
    return Residual(in_channels, [(3, channels, stride), (3, channels, 1)])


def bottleneck(in_channels, channels, stride=1):
    """1x1, 3x3 with the stride, 1x1; ``channels`` come out, a quarter of them inside."""
    inner = channels // 4
    return Residual(in_channels, [(1, inner, 1), (3, inner, stride), (1, channels, 1)])


def stage(block, in_channels, channels, n_block, stride=1):
    """``n_block`` blocks; the first changes the channels and has the stride."""
    return Sequence(block(in_channels, channels, stride),
                    *(block(channels, channels) for _ in range(n_block - 1)))
