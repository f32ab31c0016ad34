"""Attention by hand: a map in place of the network's own, or combined with it, and what it says then.

The perception branch sees g(1+M) or gM; with another M it shows how much the map matters, and whether
somebody who knows where to look can correct an answer.
"""
import re

import numpy
from PIL import Image

from chainer_abn.datasets.images import read_image
from chainer_abn.errors import InputError
from chainer_abn.explain.scores import centre_map

import chainer

MODES = {
    'replace': lambda own, given: given,
    'multiply': lambda own, given: own * given,
    'add': lambda own, given: own + given,
}


def check(net):
    """Raises InputError unless the network's map can be edited."""
    if not hasattr(net, 'attention_branch'):
        raise InputError('--edit: the network has no attention branch (it is a baseline or CAM variant)')
    if net.mechanism == 'none':
        raise InputError('--edit: the network does not use its map (--attention none)')


def read_edit(text):
    """What ``--edit`` names.

    Args:
        text (str): ``centre``, a Gaussian in the middle of the image (sigma is a quarter of each side);
            ``box:x0,y0,x1,y1``, 1 inside of it and 0 outside, in pixels from 0, without x1 and y1; or an
            image file, black is 0 and white is 1, that is laid over the whole image.

    Returns:
        (image's (H, W), map's (h, w)) -> map (h, w) float32 in [0, 1].

    Raises:
        InputError: none of these; from the function, a box that is not in the image.
    """
    if text == 'centre':
        return lambda size, map_size: centre_map(map_size).astype('f')
    if text.startswith('box:'):
        match = re.fullmatch(r'box:(-?\d{1,6}),(-?\d{1,6}),(-?\d{1,6}),(-?\d{1,6})', text)
        if not match:
            raise InputError(f'--edit {text}: not box:x0,y0,x1,y1 in whole pixels')
        corners = x0, y0, x1, y1 = [int(number) for number in match.groups()]
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise InputError(f'--edit {text}: empty, or not inside any image')
        return lambda size, map_size: box(corners, size, map_size)
    picture = Image.fromarray(read_image(text)).convert('L')
    return lambda size, map_size: numpy.asarray(
        picture.resize(map_size[::-1], Image.Resampling.BILINEAR), 'f') / 255


def box(corners, size, map_size):
    """A box of the image as a map: of each cell the share that lies inside.

    Args:
        corners: x0, y0, x1, y1 in pixels; pixels from (x0, y0) on and before (x1, y1) are inside.
        size: (H, W) of the image.
        map_size: (h, w).

    Raises:
        InputError: the box is empty or not inside the image.
    """
    (x0, y0, x1, y1), (height, width) = corners, size
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise InputError(f'--edit box:{x0},{y0},{x1},{y1}: empty, or not inside the image, which has '
                         f'{width} x {height} pixels')
    pixels = numpy.zeros(size, 'f')
    pixels[y0:y1, x0:x1] = 1
    return numpy.asarray(Image.fromarray(pixels).resize(map_size[::-1], Image.Resampling.BOX))


def edited(net, x, given, mode='replace'):
    """The network's answers with other maps.

    Args:
        net: an ABN, see :func:`check`.
        x: (B, in_channels, H, W) float32, normalised, on its device.
        given: sizes (h, w) of the maps -> (B, h, w) float32 in [0, 1]. Where the network's own maps are
            not bounded by 1 (``log-sum``, or ``multiply`` of several tasks) they are scaled to the largest
            absolute value of the image's own map, of each task.
        mode (str): ``replace``; ``multiply``, own times given; ``add``, own plus given, where maps are
            bounded no more than 1.

    Returns:
        logits (B, K) and the maps used (B, h, w), NumPy float32; of a multi-task network (B, T, 2) and
        (B, T, h, w).
    """
    branch = net.attention_branch
    bounded = branch.bounded if net.multitask else not branch.log_sum

    def edit(attention):
        own, xp = attention.array, chainer.backend.get_array_module(attention)
        new = xp.asarray(given(own.shape[2:]))[:, None]
        if not bounded and mode != 'multiply':
            new = new * abs(own).max(axis=(2, 3), keepdims=True)
        used = MODES[mode](own, new)
        if bounded:
            used = used.clip(0, 1)
        return chainer.Variable(xp.broadcast_to(used, own.shape).astype(own.dtype))

    with chainer.using_config('train', False), chainer.no_backprop_mode():
        _, logits, attention = net(x, edit)
    logits, attention = (chainer.cuda.to_cpu(y.array) for y in (logits, attention))
    return logits, attention if net.multitask else attention[:, 0]
