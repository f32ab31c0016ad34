"""One file per family: each parses its names and declares its networks as data.

A family module has ``EXAMPLES`` (names, for messages and tests) and ``parse(name)``, which gives an
:class:`Architecture`, or None where the name is not of the family.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import chainer


@dataclass(frozen=True)
class Backbone:
    """A network declared once, from which every variant is made.

    Attributes:
        stages: the links shared by the branches, in order.
        last_stage: stride -> a fresh last stage. The perception branch calls it with 2, the
            stride it has in every family; a family without a stride there ignores it.
        channels (int): that come out of the last stage.
        tail: () -> a fresh BN-ReLU for pre-activation families, else the identity.
        classifier: n_class -> a fresh link (B, channels, h, w) -> (B, n_class) for a family whose
            end is not global average pooling and one linear layer.
        attention_bn (bool): whether the attention stage is followed by batch normalization.
    """
    stages: list[chainer.Link]
    last_stage: Callable[[int], chainer.Link]
    channels: int
    tail: Callable[[], Callable] = lambda: chainer.functions.identity
    classifier: Callable[[int], chainer.Link] | None = None
    attention_bn: bool = True


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Attributes:
        image_size (int): the side of its usual square input, in pixels.
        declare: in_channels -> Backbone; (in_channels, dropout) where there is dropout.
        official_layers: network -> (name, layer) of every convolution, normalization and linear
            layer outside of the attention head, by the names of the official PyTorch network.
        dropout (float): its usual ratio, None for a family without dropout.
        channel_order (str): of the images that published weights were trained on, RGB or BGR.
    """
    image_size: int
    declare: Callable[..., Backbone]
    official_layers: Callable[[chainer.Chain], Iterable[tuple[str, chainer.Link]]]
    dropout: float | None = None
    channel_order: str = 'RGB'


def last_stages(net):
    """(prefix of the official name, link) of the copies of the last stage that a network has."""
    if hasattr(net, 'attention_branch'):
        yield 'att_', net.attention_branch.stage
    yield '', net.perception_branch.stage


def named_stages(net, name, first=1):
    """(official name, blocks) of the stages behind the stem: ``name`` and a number from ``first`` on.

    The attention branch's copy of the last one has the prefix ``att_``.
    """
    _, *shared = net.feature_extractor
    for i, blocks in enumerate(shared, first):
        yield f'{name}{i}', blocks
    for prefix, blocks in last_stages(net):
        yield f'{prefix}{name}{first + len(shared)}', blocks
