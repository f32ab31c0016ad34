"""The loss of the paper (section 3.4) around a network."""
import chainer
import chainer.functions as F


class ABNClassifier(chainer.Chain):
    """L = L_att + L_per, both softmax cross entropy (paper, equation 4).

    Reports, in training and validation alike and each as a mean over the images of the batch:
    ``loss``; ``perception_loss``, ``accuracy`` and, where there are more than 5 classes,
    ``top5_accuracy`` of the perception branch; ``attention_loss`` and ``attention_accuracy`` where
    the network has an attention branch. The prediction is the perception branch's.

    Args:
        network: x (B, C, H, W) -> :class:`chainer_abn.links.Output`.

    Attributes:
        logits: (B, K) array, of the last batch.
    """

    def __init__(self, network):
        super().__init__()
        with self.init_scope():
            self.network = network
        self.logits = None

    def forward(self, x, t):
        """x: (B, C, H, W), t: (B,) int32 labels -> loss, a scalar variable."""
        attention_logits, logits, _ = self.network(x)
        self.logits = logits.array
        terms = self.perception_terms(logits, t)
        loss = terms['perception_loss']
        if attention_logits is not None:
            terms |= self.attention_terms(attention_logits, t)
            loss = terms['attention_loss'] + loss
        chainer.report({'loss': loss, **terms}, self)
        return loss

    def perception_terms(self, logits, t):
        terms = {'perception_loss': F.softmax_cross_entropy(logits, t), 'accuracy': F.accuracy(logits, t)}
        if logits.shape[1] > 5:
            terms['top5_accuracy'] = top_k_accuracy(logits.array, t, 5)
        return terms

    def attention_terms(self, logits, t):
        return {'attention_loss': F.softmax_cross_entropy(logits, t),
                'attention_accuracy': F.accuracy(logits, t)}


class MultiTaskClassifier(ABNClassifier):
    """L = L_att + L_per of a multi-task network: sigmoid and softmax cross entropy (paper, section 4.4).

    Reports as :class:`ABNClassifier` does, each as a mean over images and tasks.

    Args:
        network: x (B, C, H, W) -> :class:`chainer_abn.links.Output` of a network of
            :mod:`chainer_abn.links.multitask`. The labels are (B, T) int32, 0 or 1.

    Attributes:
        logits: (B, T, 2) array, of the last batch.
    """

    def perception_terms(self, logits, t):
        logits, t = F.reshape(logits, (-1, 2)), t.reshape(-1)
        return {'perception_loss': F.softmax_cross_entropy(logits, t), 'accuracy': F.accuracy(logits, t)}

    def attention_terms(self, logits, t):
        return {'attention_loss': F.sigmoid_cross_entropy(logits, t),
                'attention_accuracy': ((logits.array > 0) == t).mean(dtype='f')}


def make_classifier(network):
    """The classifier for a network made by :func:`chainer_abn.build`."""
    return (MultiTaskClassifier if network.multitask else ABNClassifier)(network)


def top_k_accuracy(logits, t, k):
    """Share of the rows whose label is among the k largest logits; of equals the first wins.

    Args:
        logits: (B, K) array.
        t: (B,) int array.
        k (int)
    """
    xp = chainer.backend.get_array_module(logits)
    # counted, not sorted: CuPy's sort waits for the GPU
    own = xp.take_along_axis(logits, t[:, None], axis=1)
    before = xp.arange(logits.shape[1]) < t[:, None]
    ahead = ~(logits <= own) | (logits == own) & before         # a NaN is ahead of everything
    return (ahead.sum(axis=1) < k).mean(dtype='f')
