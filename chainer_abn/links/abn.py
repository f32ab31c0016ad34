from chainer_abn.functions import MECHANISMS, attend
from chainer_abn.links.branches import (
    AttentionBranch,
    FeatureExtractor,
    Output,
    PerceptionBranch,
)

import chainer

ATTENTIONS = (*MECHANISMS, 'log-sum')


class ABN(chainer.Chain):
    """Attention Branch Network (Fukui et al., CVPR 2019, Figure 2).

    Args:
        backbone (Backbone)
        n_class (int): K.
        attention (str): the mechanism, see :func:`chainer_abn.functions.attend`; or ``log-sum``,
            g(1+M) with the map of the official SENet, see :class:`AttentionBranch`.
    """

    def __init__(self, backbone, n_class, attention='residual'):
        super().__init__()
        log_sum = attention == 'log-sum'
        self.mechanism = 'residual' if log_sum else attention
        with self.init_scope():
            self.feature_extractor = FeatureExtractor(*backbone.stages)
            self.attention_branch = AttentionBranch(backbone, n_class, log_sum)
            self.perception_branch = PerceptionBranch(backbone, n_class)

    def forward(self, x, edit=None):
        """x: (B, in_channels, H, W) float32, normalised -> :class:`Output`.

        ``edit``, where given, is a function of the map that gives the one to use in its place, of the same
        shape and dtype.
        """
        g = self.feature_extractor(x)
        attention_logits, attention = self.attention_branch(g)
        if edit is not None:
            attention = edit(attention)
        logits = self.perception_branch(attend(g, attention, self.mechanism))
        return Output(attention_logits, logits, attention)
