"""From a name to a network."""
import difflib
import re

from chainer_abn.errors import InputError
from chainer_abn.links.abn import ABN, ATTENTIONS
from chainer_abn.links.backbones import densenet, resnet, resnet_fine, resnext, senet, vgg, wrn
from chainer_abn.links.baseline import Baseline
from chainer_abn.links.cam import CAM
from chainer_abn.links.multitask import MultiTaskABN, MultiTaskBaseline

FAMILIES = (resnet, resnet_fine, senet, resnext, wrn, densenet, vgg)
NETWORKS = {'abn': ABN, 'baseline': Baseline, 'cam': CAM}
MULTITASK = {'abn': MultiTaskABN, 'baseline': MultiTaskBaseline}
VARIANTS = tuple(NETWORKS)
LARGEST = 2000                  # number in a name; ResNet-1202 is the deepest that was published


def architecture(arch):
    """The :class:`~chainer_abn.links.backbones.Architecture` that ``arch`` names.

    Raises:
        InputError: no family knows the name, and the message gives the nearest ones; or it tells of a depth
            or width that only a mistake can mean.
    """
    for family in FAMILIES:
        found = family.parse(arch)
        if found is not None:
            if max(map(int, re.findall(r'\d+', arch)), default=0) > LARGEST:
                raise InputError(f'architecture {arch}: no depth or width is more than {LARGEST}')
            return found
    known = [name for family in FAMILIES for name in family.EXAMPLES]
    near = difflib.get_close_matches(arch, known, n=3, cutoff=0.3) or known
    raise InputError(f'unknown architecture {arch!r}: nearest are {", ".join(near)}')


def dropout_of(arch, dropout=None):
    """The dropout ratio of a network, the family's own where ``dropout`` is None.

    Returns:
        float: or None, where the family has no dropout.

    Raises:
        InputError: a ratio out of range, or one for a family without dropout.
    """
    usual = architecture(arch).dropout
    if dropout is None:
        return usual
    if usual is None:
        raise InputError(f'dropout {dropout}: {arch} has none')
    if not 0 <= dropout < 1:
        raise InputError(f'dropout {dropout}: must be from 0 to below 1')
    return dropout


def build(arch, n_class, variant='abn', attention='residual', in_channels=3, dropout=None,
          multitask=False):
    """A network with fresh weights, drawn from NumPy's global random state.

    Args:
        arch (str): its name. CIFAR style: ``resnetD`` (any depth 6n+2 that is no ImageNet name),
            ``wrn-D-k``, ``densenet-bc-L-k``, ``resnext-D-GxWd``. ImageNet style: ``resnetD`` and
            ``se-resnetD`` (D = 18, 34, 50, 101, 152), ``vgg16``, ``vgg16-bn``, ``resnet50_fine``.
        n_class (int): number of classes, K; of tasks, T, where ``multitask``.
        variant (str): ``abn``, ``baseline`` (no map) or ``cam`` (GAP classifier on a last stage
            of stride 1, no map).
        attention (str): mechanism of ``abn``: ``residual`` g(1+M), ``multiply`` gM, ``none`` g, or
            ``log-sum``, g(1+M) with the map of the official SENet.
        in_channels (int): of the images.
        dropout (float): its ratio in training; None: the family's own (wrn 0.3, VGG 0.5,
            DenseNet 0).
        multitask (bool): T yes-or-no tasks instead of K classes, see
            :mod:`chainer_abn.links.multitask`; not ``cam``, not ``log-sum``.

    Returns:
        chainer.Chain: takes (B, in_channels, H, W) float32, H and W from 16 px up, returns
        :class:`~chainer_abn.links.Output`. Its ``arch`` is the name; its ``multitask`` as given.

    Raises:
        InputError: an unknown name, a number out of its range, dropout where there is none, a
            variant or mechanism that there is not for several tasks.
    """
    if variant not in VARIANTS:
        raise InputError(f'unknown variant {variant!r}: use {", ".join(VARIANTS)}')
    if attention not in ATTENTIONS:
        raise InputError(f'unknown attention mechanism {attention!r}: use {", ".join(ATTENTIONS)}')
    for name, number in ('n_class', n_class), ('in_channels', in_channels):
        if number < 1:
            raise InputError(f'{name} must be at least 1, not {number}')
    ratio = dropout_of(arch, dropout)
    backbone = architecture(arch).declare(in_channels, **({} if ratio is None else {'dropout': ratio}))
    networks = MULTITASK if multitask else NETWORKS
    if variant not in networks:
        raise InputError(f'variant {variant}: a multi-task network is {" or ".join(networks)}')
    mechanism = [attention] if variant == 'abn' else []
    net = networks[variant](backbone, n_class, *mechanism)
    net.arch, net.multitask = arch, bool(multitask)
    return net
