"""One network for many yes-or-no questions about an image, with a map for each (paper, section 4.4, Table 4).

The networks of the paper's facial attributes: the class maps of the attention branch, one per task, are
its attention maps, and each task has a classifier of its own behind a perception branch that all share.
"""
from chainer_abn.errors import InputError
from chainer_abn.functions import MECHANISMS, attend
from chainer_abn.links.blocks import fresh, global_average
from chainer_abn.links.branches import FeatureExtractor, Output
from chainer_abn.runtime.blocks import Block, single

import chainer
import chainer.functions as F
import chainer.links as L

# by the number of inputs, so that unbounded maps start near the size of the features; the blocks' own
# goes by the number of outputs, here of tasks
LECUN = chainer.initializers.LeCunNormal()


class MultiTaskABN(chainer.Chain):
    """An Attention Branch Network with T tasks.

    ========== ================ ===================== ============ =========================
    attention  map M of a task  its attention score   weighed g    source
    ========== ================ ===================== ============ =========================
    multiply   a, unbounded     maximum of a          g * M        the authors' program
    residual   sigmoid(a)       average of a          g * (1 + M)  paper, equation 3
    none       sigmoid(a)       average of a          g            the ablation
    ========== ================ ===================== ============ =========================

    a is what comes out of the branch's convolution, one map per task.

    In training the perception branch sees the B T weighed maps as one batch, so the statistics of its
    batch normalization are over images and tasks. The authors' program calls it once per task: its
    running statistics are those of the last tasks mostly. In evaluation both are the same function.

    Args:
        backbone (Backbone): a classifier of its own (VGG) gives way to global average pooling.
        n_task (int): T.
        attention (str): see above.

    Raises:
        InputError: another ``attention``.
    """

    multitask = True

    def __init__(self, backbone, n_task, attention='residual'):
        super().__init__()
        if attention not in MECHANISMS:
            raise InputError(f'attention {attention!r}: a multi-task network takes {", ".join(MECHANISMS)}')
        self.mechanism = attention
        with self.init_scope():
            self.feature_extractor = FeatureExtractor(*backbone.stages)
            self.attention_branch = TaskAttentionBranch(backbone, n_task, bounded=attention != 'multiply')
            self.perception_branch = TaskPerceptionBranch(backbone, n_task, separate=True)

    def forward(self, x, edit=None):
        """x (B, in_channels, H, W) float32, normalised -> :class:`Output`.

        Its attention logits are (B, T), logits (B, T, 2), of no and yes, and attention (B, T, h, w).
        ``edit``: as of :class:`~chainer_abn.links.abn.ABN`.
        """
        g = self.feature_extractor(x)
        attention_logits, attention = self.attention_branch(g)
        if edit is not None:
            attention = edit(attention)
        n, n_task, *size = attention.shape
        maps = F.reshape(attention, (n * n_task, 1, *size))
        logits = self.perception_branch(attend(F.repeat(g, n_task, axis=0), maps, self.mechanism))
        return Output(attention_logits, logits, attention)


class MultiTaskBaseline(chainer.Chain):
    """The backbone with T classifiers side by side: what the multi-task ABN is compared with.

    Args:
        backbone (Backbone): as of :class:`MultiTaskABN`.
        n_task (int): T.
    """

    multitask = True

    def __init__(self, backbone, n_task):
        super().__init__()
        with self.init_scope():
            self.feature_extractor = FeatureExtractor(*backbone.stages)
            self.perception_branch = TaskPerceptionBranch(backbone, n_task, separate=False)

    def forward(self, x):
        """x (B, in_channels, H, W) float32, normalised -> :class:`Output`, logits (B, T, 2) only."""
        return Output(None, self.perception_branch(self.feature_extractor(x)), None)


class TaskAttentionBranch(Block, chainer.Chain):
    """g -> attention scores (B, T) and maps (B, T, h, w): the last stage at stride 1, a 1x1 convolution.

    Args:
        backbone (Backbone)
        n_task (int): T.
        bounded (bool): sigmoid of the maps, scores by their average; else the maps as they are,
            of any sign, and scores by their maximum.
    """

    def __init__(self, backbone, n_task, bounded):
        super().__init__()
        self.bounded = bounded
        with self.init_scope():
            self.stage = backbone.last_stage(1)
            self.conv_map = L.Convolution2D(backbone.channels, n_task, 1, nobias=True, initialW=fresh(LECUN))

    def forward(self, g):
        y = self.run(self.stage(g))
        # pooling and not F.max, which would give the gradient to each of several equal maxima
        scores, attention = y if self.bounded else (F.max_pooling_2d(y, y.shape[2:]), y)
        return single(F.reshape(scores, scores.shape[:2])), attention

    def layers(self):
        return [self.conv_map]

    def declare(self, ops, x):
        """Averages (B, T, 1, 1) and sigmoids of the maps; if not bounded the maps alone."""
        maps = ops.conv(self.conv_map, x)
        return (ops.average(maps), ops.sigmoid(maps)) if self.bounded else maps


class TaskPerceptionBranch(chainer.Chain):
    """Features -> logits (B, T, 2): last stage and global average pooling for all tasks, T linear layers.

    Args:
        backbone (Backbone)
        n_task (int): T.
        separate (bool): the features of each image come T times, (B T, C, h, w), for one task each;
            else once, (B, C, h, w), for all.
    """

    def __init__(self, backbone, n_task, separate):
        super().__init__()
        with self.init_scope():
            self.stage = backbone.last_stage(2)
            self.tail = backbone.tail()
            # all linear layers as one convolution, which every device has
            groups = n_task if separate else 1
            self.fc = L.Convolution2D(backbone.channels * groups, 2 * n_task, 1, groups=groups,
                                      initialW=fresh(LECUN))

    def forward(self, g):
        h = global_average(self.tail(self.stage(g)))
        logits = self.fc(F.reshape(h, (-1, self.fc.groups * h.shape[1], 1, 1)))
        return F.reshape(logits, (len(logits), -1, 2))
