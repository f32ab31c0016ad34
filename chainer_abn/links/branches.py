"""The three branches of the network (paper, Figure 2)."""
from typing import NamedTuple

from chainer_abn.links.blocks import Sequence, batch_norm, conv, global_average, linear
from chainer_abn.runtime.blocks import Block, apply_linear, cast, single

import chainer
import chainer.functions as F
import chainer.links as L


class Output(NamedTuple):
    """What every network returns; None where a variant has none.

    Attributes:
        attention_logits: (B, K), of the attention branch; float32 at least, as the logits are.
        logits: (B, K), of the perception branch: the prediction.
        attention: the map M, (B, 1, h, w), in (0, 1); with ``log-sum`` from 0 up, unbounded. Of the
            dtype of the images.
    """
    attention_logits: chainer.Variable | None
    logits: chainer.Variable
    attention: chainer.Variable | None


class FeatureExtractor(Sequence):
    """The shared stages, x (B, in_channels, H, W) -> g (B, C, h, w)."""


class AttentionBranch(Block, chainer.Chain):
    """g -> class scores and the attention map (paper, section 3.1).

    The last stage at stride 1, BN without ReLU, 1x1 convolution to K maps, BN, ReLU =: a; then a
    1x1 convolution and global average pooling give the scores, a 3x3 convolution to one map, BN
    and sigmoid the attention. (The paper draws 1x1 for the latter; its numbers were made with 3x3.)

    Args:
        backbone (Backbone)
        n_class (int): K.
        log_sum (bool): the attention is the sum of log(1 + a) over the K maps instead, as in the
            official SENet: no weights of its own, 0 where nothing is seen, unbounded.
    """

    def __init__(self, backbone, n_class, log_sum=False):
        super().__init__()
        self.log_sum = log_sum
        with self.init_scope():
            self.stage = backbone.last_stage(1)
            self.bn = batch_norm(backbone.channels) if backbone.attention_bn else F.identity
            self.conv_class = conv(backbone.channels, n_class, 1)
            self.bn_class = batch_norm(n_class)
            self.conv_score = conv(n_class, n_class, 1)
            if not log_sum:
                self.conv_map = conv(n_class, 1, 3)
                self.bn_map = batch_norm(1)

    def start_positive(self):
        """Make the map start as an increasing function of the class evidence: |W| of its 3x3 conv.

        Nothing in the loss says whether attended places are high or low in the map, so with the
        signs of W left to chance a short training may end with the object dark, or high for some
        classes and low for others. A log-sum map is such a function by itself.
        """
        if not self.log_sum:
            weight = self.conv_map.W.array
            weight[...] = abs(weight)

    def forward(self, g):
        scores, attention = self.run(self.stage(g))
        if self.log_sum:
            attention = cast(F.sum(F.log1p(single(attention)), axis=1, keepdims=True), g.dtype)
        return single(F.reshape(scores, scores.shape[:2])), attention

    def layers(self):
        return [link for link in self.children() if link is not self.stage]

    def declare(self, ops, x):
        """Scores (B, K, 1, 1) and the map of what comes out of the stage; with ``log_sum`` a itself."""
        h = x if self.bn is F.identity else ops.bn(self.bn, x)
        a = ops.conv_bn(self.conv_class, self.bn_class, h, relu=True)
        # the average of a 1x1 convolution is the convolution of the average
        scores = ops.conv(self.conv_score, ops.average(a))
        return scores, a if self.log_sum else ops.sigmoid(ops.conv_bn(self.conv_map, self.bn_map, a))


class PerceptionBranch(chainer.Chain):
    """g -> logits: the last stage, global average pooling over whatever map there is, linear.

    Args:
        backbone (Backbone)
        n_class (int)
        stride (int): of the last stage.
        gap (bool): pool and classify so even where the backbone has a classifier of its own.
    """

    def __init__(self, backbone, n_class, stride=2, gap=False):
        super().__init__()
        own = None if gap else backbone.classifier
        self.pool = global_average if own is None else F.identity
        with self.init_scope():
            self.stage = backbone.last_stage(stride)
            self.tail = backbone.tail()
            self.fc = linear(backbone.channels, n_class) if own is None else own(n_class)

    def forward(self, g):
        # in float32: its sums are long and its logits are what softmax magnifies
        h = single(self.pool(self.tail(self.stage(g))))
        return apply_linear(self.fc, h) if isinstance(self.fc, L.Linear) else self.fc(h)
