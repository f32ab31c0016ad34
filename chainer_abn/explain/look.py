"""One pass over a batch of images, and what the methods take from it.

Up to the layer that a map is made at nothing is kept, as at inference; from there on Chainer's graph is
built, so that gradients go back over the rest of the network alone.
"""
import functools
from typing import NamedTuple

import numpy

from chainer_abn.explain import METHODS
from chainer_abn.explain.layers import Tap, layer_of, no_such_layer, pooled_layer

import chainer


class Look(NamedTuple):
    """What came of a batch, NumPy arrays of float32.

    Attributes:
        logits: (B, K), of the perception branch; of a multi-task network (B, T, 2).
        maps (dict): method -> (B, h, w); of a multi-task network (B, T, h, w). NaN where the network
            gives NaN.
    """
    logits: numpy.ndarray
    maps: dict


class Seen:
    """A pass over a batch, as a method sees it; arrays are on the network's device.

    Attributes:
        net
        targets: (B,) int, the class of each image that maps are made for; of a multi-task network all
            tasks are.
        attention: (B, 1, h, w) or (B, T, h, w), None where the network has none.
        features: (B, C, h, w), what comes out of the layer.
        pooled: (B, C, h, w), what the classifier averages.
    """

    def __init__(self, net, output, targets, features, pooled):
        self.net, self.targets = net, targets
        self.attention = None if output.attention is None else output.attention.array
        self.features, self.pooled = features.array, pooled.array
        self._logits, self._features = output.logits, features

    def by_gradient(self, formula):
        """Maps by a formula of features and gradient, both (B, C, h, w) -> (B, h, w)."""
        if not self.net.multitask:
            return formula(self.features, self._gradients[0])
        n_task = self._logits.shape[1]
        xp = chainer.backend.get_array_module(self.features)
        # features behind the attention are there for each task
        rows = [slice(t, None, n_task) if len(self.features) == self._logits.size // 2 else slice(None)
                for t in range(n_task)]
        return xp.stack([formula(self.features[r], g[r]) for r, g in
                         zip(rows, self._gradients, strict=True)], axis=1)

    @functools.cached_property
    def _gradients(self):
        """dS / dA, one for the classes or for each task; S is the sum of the images' own scores."""
        images = numpy.arange(len(self._logits))
        if self.net.multitask:
            scores = [self._logits[:, t, 1] for t in range(self._logits.shape[1])]
        else:
            scores = [self._logits[images, chainer.cuda.to_cpu(self.targets)]]
        found = [chainer.grad([chainer.functions.sum(s)], [self._features])[0] for s in scores]
        xp = chainer.backend.get_array_module(self.features)
        # None: the score does not depend on the layer
        return [xp.zeros_like(self.features) if g is None else g.array for g in found]


def look(net, x, methods, layer=None, targets=None):
    """Logits and maps of a batch, in evaluation mode; the network is left as it was, come what may.

    Args:
        net: of :func:`chainer_abn.build`.
        x: (B, in_channels, H, W) float32, normalised, on the network's device.
        methods: names of :data:`~chainer_abn.explain.METHODS`, that apply to the network.
        layer (str): where the maps by gradient are made, a name of
            :func:`~chainer_abn.explain.layers.layers_of`; None: what the classifier averages.
        targets: (B,) int or one int, the class to make the maps for; None: the predicted one. The maps
            of a multi-task network are for the answer yes of each task.

    Returns:
        Look

    Raises:
        InputError: there is no such layer.
    """
    link = layer_of(net, layer)
    if link is None:
        raise no_such_layer(net, x[:1], layer)
    with chainer.using_config('train', False), chainer.using_config('enable_backprop', False), \
            Tap(link) as tap, Tap(pooled_layer(net)) as pooled:
        output = net(chainer.Variable(x))
        if getattr(tap.out, 'ndim', None) != 4:
            raise no_such_layer(net, x[:1], layer)
        if targets is None:
            targets = output.logits.array.argmax(axis=-1)
        elif numpy.ndim(targets) == 0:
            targets = numpy.full(len(x), targets)
        seen = Seen(net, output, targets, tap.out, pooled.out)
        maps = {name: chainer.cuda.to_cpu(METHODS[name].maps(seen)) for name in methods}
    return Look(chainer.cuda.to_cpu(output.logits.array), maps)
