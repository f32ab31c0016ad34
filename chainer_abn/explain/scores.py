"""How well a map finds the object."""
import numpy

from chainer_abn.explain.overlay import resize_map


def pointing_hit(values, mask):
    """Whether the map's maximum, on the scale of the image, falls inside the object's mask.

    The pointing game (Zhang et al. 2016) without tolerance; of equal maxima the first counts.

    Args:
        values: (h, w) float, the map; resized bilinearly.
        mask: (H, W) bool.
    """
    values = resize_map(values, mask.shape)
    return bool(mask[numpy.unravel_index(values.argmax(), values.shape)])


def centre_hit(mask):
    """What pointing always at the middle of the image would give."""
    return bool(mask[mask.shape[0] // 2, mask.shape[1] // 2])
