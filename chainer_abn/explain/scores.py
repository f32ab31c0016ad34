"""How well a map finds the object: scores of one map and one mask, and intervals of means over images.

Masks are (H, W) bool on the image's own scale, and so are maps once :func:`on_image` has resized them.
An empty map (all one value, or not finite) points nowhere: a miss, energy 0, IoU 0.
"""
from typing import NamedTuple

import numpy
from scipy.ndimage import distance_transform_edt

from chainer_abn.explain.overlay import is_empty, resize_map, scaled

THRESHOLDS = numpy.arange(100) / 100
SHARE = 15 / 500                # the usual 15 px on the photos of VOC, whose longer side is 500 px
RESAMPLES, CONFIDENCE = 2000, 0.95
BLOCK = 1 << 20                 # numbers of a bootstrap that are drawn at once


class Found(NamedTuple):
    """What the scores say of a map.

    Attributes:
        place: (row, column) of the maximum; None for an empty map.
        pointing (float): 1 for a hit, 0 for a miss, by chance what is between.
        energy (float): share of the map's sum that lies on the object.
        ious: (100,) intersection over union with the object, of where the map is at least each of
            ``THRESHOLDS``.
    """
    place: tuple | None
    pointing: float
    energy: float
    ious: numpy.ndarray


def score(values, mask, void, around):
    """All scores of a map.

    Args:
        values: (h, w) float, the map; resized bilinearly.
        mask: the object.
        void: (H, W) bool, pixels that energy and IoU leave out.
        around: :func:`within` of the object, the pixels that are a hit.

    Returns:
        Found
    """
    values = on_image(values, mask.shape)
    if values is None:
        return Found(None, 0.0, 0.0, numpy.zeros(len(THRESHOLDS)))
    place = maximum(values)
    return Found(place, float(around[place]), energy_inside(values, mask, void), ious(values, mask, void))


def uniform(mask, void, around):
    """What a map of one value is expected to score, pointing somewhere by chance.

    Returns:
        Found
    """
    share = (mask & ~void).sum() / (~void).sum()
    return Found(None, around.mean(), share, numpy.full(len(THRESHOLDS), share))


def centre_map(size):
    """A Gaussian in the middle of the image, its sigma a quarter of each side: (H, W) float64."""
    column, row = (numpy.exp(-((numpy.arange(side) - (side - 1) / 2) / (side / 4)) ** 2 / 2)
                   for side in size)
    return column[:, None] * row


def pointing_hit(values, mask, tolerance=0.0):
    """Whether the map's maximum, on the scale of the image, falls on the object or near it.

    The pointing game (Zhang et al. 2016).

    Args:
        values: (h, w) float, the map; resized bilinearly.
        mask: (H, W) bool.
        tolerance (float): the largest distance to the object in pixels that still is a hit.
    """
    values = on_image(values, mask.shape)
    return values is not None and bool(within(mask, tolerance)[maximum(values)])


def usual_tolerance(size):
    """15 px for each 500 px of the longer side of an image (H, W), in whole pixels: 1 at 32 px."""
    return round(SHARE * max(size))


def on_image(values, size):
    """The map on the scale of the image and from 0 to 1, as it is drawn: (H, W) float32; None if empty."""
    if is_empty(values):
        return None
    values = resize_map(scaled(values), size)
    return None if is_empty(values) else scaled(values)         # what is shrunk can lose all it had


def maximum(values):
    """(row, column) of a map's maximum; of several the one nearest to their middle.

    So a plateau, as resizing makes one at an edge, is represented by its middle and no corner of it.
    """
    places = numpy.argwhere(values == values.max())
    middle = numpy.floor(places.mean(axis=0) + 0.5)
    row, column = places[((places - middle) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def within(mask, tolerance):
    """(H, W) bool: the pixels at most ``tolerance`` px away from the object's."""
    around = numpy.zeros_like(mask)
    if not mask.any():
        return around
    margin = int(tolerance)
    # no farther than it matters: a photo may have many pixels
    box = tuple(slice(max(filled[0] - margin, 0), filled[-1] + margin + 1)
                for filled in (numpy.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)))
    around[box] = distance_transform_edt(~mask[box]) <= tolerance
    return around


def energy_inside(values, mask, void):
    """The share of a map's sum that lies on the object (energy-based pointing game, Wang et al. 2020).

    Args:
        values: (H, W) float in [0, 1], see :func:`on_image`; the score depends on where 0 is.
        mask: the object.
        void: pixels that are left out.
    """
    inside, everywhere = (values[part].sum(dtype='f8') for part in (mask & ~void, ~void))
    return float(inside / everywhere) if everywhere else 0.0


def ious(values, mask, void):
    """IoU of the object with where the map is at least a threshold, for all of ``THRESHOLDS`` at once.

    The best threshold is for the reader to choose, one for a method over all images: chosen for each
    image by itself it would be told by the mask.

    Args:
        values: (H, W) float in [0, 1], see :func:`on_image`.
        mask: the object.
        void: pixels that are left out.

    Returns:
        (100,) float64.
    """
    n = len(THRESHOLDS)
    level = numpy.minimum((n * values).astype(int), n - 1)       # the highest threshold that a pixel reaches
    inside, region = (numpy.bincount(level[part], minlength=n)[::-1].cumsum()[::-1]
                      for part in (mask & ~void, ~void))
    return inside / (inside[0] + region - inside)


def bootstrap(values, seed=0, resamples=RESAMPLES):
    """Percentile intervals (95 %) of means over images, by resampling the images.

    The interval of a paired difference is that of the column of differences.

    Args:
        values: (n, S) float, a row per image.
        seed (int)
        resamples (int)

    Returns:
        (S,) lower and (S,) upper ends.
    """
    rng, n = numpy.random.default_rng(seed), len(values)
    means = []
    for start in range(0, resamples, rows := max(BLOCK // n, 1)):
        shape = min(rows, resamples - start), n
        drawn = rng.integers(n, size=shape) + n * numpy.arange(shape[0])[:, None]
        how_often = numpy.bincount(drawn.ravel(), minlength=drawn.size).reshape(shape)
        means.append(how_often @ values / n)
    outside = (1 - CONFIDENCE) / 2
    return numpy.quantile(numpy.concatenate(means), [outside, 1 - outside], axis=0)
