"""A map as a picture."""
import functools

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


def is_empty(values):
    """Whether a map (h, w) has no highest place: one value all over, or a value that is not finite."""
    return not (numpy.isfinite(values).all() and numpy.ptp(values) > 0)


def scaled(values):
    """A map that is not empty -> the same from 0 to 1, float32."""
    values = numpy.asarray(values, 'f8')
    low = values.min()
    return ((values - low) / (values.max() - low)).astype('f')


def overlay(image, values, alpha=0.5, colormap='jet', interpolation='bilinear'):
    """Lay a map over an image, as in the paper's figures: resized, JET, half transparent.

    The colours span the map's own range, so that the strongest place is always the last colour. An empty
    map (:func:`is_empty`) is drawn as nothing: the image comes back as it is.

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
    if is_empty(values):
        return image.copy()
    values = resize_map(scaled(values), image.shape[:2], interpolation)
    low, high = values.min(), values.max()              # bicubic overshoots, shrinking loses peaks
    n = matplotlib.colormaps[colormap].N
    index = ((values - low) * (n / max(high - low, 1e-6))).astype('i').clip(0, n - 1)
    laid = numpy.empty_like(image)
    for channel, colours in enumerate(alpha * colours_of(colormap).T):      # one by one: a photo is large
        laid[..., channel] = (colours[index] + (1 - alpha) * image[..., channel]).round()
    return laid


@functools.cache
def colours_of(colormap):
    """(N, 3) float, 0 to 255: the colours of a colormap."""
    colours = matplotlib.colormaps[colormap]
    return colours(numpy.arange(colours.N))[:, :3] * 255
