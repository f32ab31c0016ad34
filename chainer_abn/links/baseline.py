from chainer_abn.links.branches import FeatureExtractor, Output, PerceptionBranch

import chainer


class Baseline(chainer.Chain):
    """The plain backbone: what ABN is compared with (paper, Tables 1 and 2)."""

    last_stride = 2
    gap = False

    def __init__(self, backbone, n_class):
        super().__init__()
        with self.init_scope():
            self.feature_extractor = FeatureExtractor(*backbone.stages)
            self.perception_branch = PerceptionBranch(
                backbone, n_class, self.last_stride, self.gap)

    def forward(self, x):
        """x: (B, in_channels, H, W) float32, normalised -> :class:`Output`, logits only."""
        return Output(None, self.perception_branch(self.feature_extractor(x)), None)
