"""One file per family: each parses its names and declares its networks as data."""
from collections.abc import Callable
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
    """
    stages: list[chainer.Link]
    last_stage: Callable[[int], chainer.Link]
    channels: int
    tail: Callable[[], Callable] = lambda: chainer.functions.identity


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Attributes:
        image_size (int): the side of its usual square input, in pixels.
        declare: in_channels -> Backbone.
    """
    image_size: int
    declare: Callable[[int], Backbone]
