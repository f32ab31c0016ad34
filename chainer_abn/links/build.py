"""From a name to a network."""
import difflib

from chainer_abn.errors import InputError
from chainer_abn.functions import MECHANISMS
from chainer_abn.links.abn import ABN
from chainer_abn.links.backbones import resnet
from chainer_abn.links.baseline import Baseline
from chainer_abn.links.cam import CAM

FAMILIES = (resnet,)
VARIANTS = ('abn', 'baseline', 'cam')


def architecture(arch):
    """The :class:`~chainer_abn.links.backbones.Architecture` that ``arch`` names.

    Raises:
        InputError: no family knows the name; the message gives the nearest ones.
    """
    for family in FAMILIES:
        found = family.parse(arch)
        if found is not None:
            return found
    known = [name for family in FAMILIES for name in family.EXAMPLES]
    near = difflib.get_close_matches(arch, known, n=3, cutoff=0.3) or known
    raise InputError(f'unknown architecture {arch!r}: nearest are {", ".join(near)}')


def build(arch, n_class, variant='abn', attention='residual', in_channels=3):
    """A network with fresh weights, drawn from NumPy's global random state.

    Args:
        arch (str): its name, such as ``resnet20`` (CIFAR style: any depth 6n+2 that is no ImageNet
            name) or ``resnet50`` (ImageNet style: 18, 34, 50, 101, 152).
        n_class (int): number of classes, K.
        variant (str): ``abn``, ``baseline`` (no map) or ``cam`` (GAP classifier on a last stage
            of stride 1, no map).
        attention (str): mechanism of ``abn``: ``residual`` g(1+M), ``multiply`` gM, ``none`` g.
        in_channels (int): of the images.

    Returns:
        chainer.Chain: takes (B, in_channels, H, W) float32, H and W from 16 px up, returns
        :class:`~chainer_abn.links.Output`.

    Raises:
        InputError: an unknown name, or a number below 1.
    """
    if variant not in VARIANTS:
        raise InputError(f'unknown variant {variant!r}: use {", ".join(VARIANTS)}')
    if attention not in MECHANISMS:
        raise InputError(f'unknown attention mechanism {attention!r}: use {", ".join(MECHANISMS)}')
    for name, number in ('n_class', n_class), ('in_channels', in_channels):
        if number < 1:
            raise InputError(f'{name} must be at least 1, not {number}')
    backbone = architecture(arch).declare(in_channels)
    if variant == 'abn':
        return ABN(backbone, n_class, attention)
    return {'baseline': Baseline, 'cam': CAM}[variant](backbone, n_class)
