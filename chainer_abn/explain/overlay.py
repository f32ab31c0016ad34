"""A map as a picture."""
import matplotlib
import numpy
from PIL import Image

from chainer_abn.errors import InputError

INTERPOLATIONS = {
    'bilinear': Image.Resampling.BILINEAR,
    'nearest': Image.Resampling.NEAREST,
    'bicubic': Image.Resampling.BICUBIC,
}


def check_colormap(name):
    """Raises InputError unless matplotlib has a colormap of this name."""
    if name not in matplotlib.colormaps:
        raise InputError(f'--colormap {name}: matplotlib has no such colormap')


def resize_map(values, size, interpolation='bilinear'):
    """Scale a map to the size of an image.

    Args:
        values: (h, w) float.
        size: (H, W) in pixels.
        interpolation (str): one of ``INTERPOLATIONS``.

    Returns:
        (H, W) float32.
    """
    image = Image.fromarray(numpy.asarray(values, 'f'))
    return numpy.asarray(image.resize(size[::-1], INTERPOLATIONS[interpolation]))


def overlay(image, values, alpha=0.5, colormap='jet', interpolation='bilinear'):
    """Lay a map over an image, as in the paper's figures: resized, JET, half transparent.

    The colours span the map's own range, so that the strongest place is always the last colour;
    a map of one value takes the first.

    Args:
        image: (H, W, 3) uint8 RGB.
        values: (h, w) float, the map.
        alpha (float): weight of the map, 0 (image alone) to 1 (map alone).
        colormap (str): matplotlib's name of it.
        interpolation (str)

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: no such colormap.
    """
    check_colormap(colormap)
    values = resize_map(values, image.shape[:2], interpolation)
    values = (values - values.min()) / max(numpy.ptp(values), 1e-12)
    colours = matplotlib.colormaps[colormap](values)[..., :3] * 255
    return (alpha * colours + (1 - alpha) * image).round().astype('u1')
