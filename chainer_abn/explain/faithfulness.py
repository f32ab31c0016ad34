"""Insertion and deletion (RISE, Petsiuk et al. 2018): what the pixels of a map mean to the network.

Pixels of the network's own input are added to a blurred image, or replaced by the mean colour, from the
map's highest place to its lowest; the score is the area under the probability of the class on the way.
"""
import numpy
from scipy.ndimage import gaussian_filter

from chainer_abn.explain.overlay import is_empty, resize_map

BLUR = 0.1                      # sigma as a share of the shorter side; RISE's 5 px on 224 px would leave a
                                # small image as it is


def insertion(probability, x, values, steps, batchsize):
    """The probability while a blurred image becomes the image; a good map lifts it early.

    Args:
        probability: function, (B, C, h, w) float32 -> (B,) of the class.
        x: (C, h, w) float32, the normalised input of the network, in which 0 is the mean colour.
        values: the map, of any size; an empty one adds nothing.
        steps (int): parts, of as many pixels each, that are added one after the other.
        batchsize (int)

    Returns:
        (steps + 1,) float64.
    """
    sigma = BLUR * min(x.shape[1:])
    blurred = gaussian_filter(x, (0, sigma, sigma), mode='nearest')
    return _curve(probability, blurred, x, values, steps, batchsize)


def deletion(probability, x, values, steps, batchsize):
    """The probability while the image becomes the mean colour; a good map lowers it early.

    See :func:`insertion`; an empty map removes nothing.
    """
    return _curve(probability, x, numpy.zeros_like(x), values, steps, batchsize)


def area(curve):
    """Under a curve over [0, 1], by trapezoids."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def _curve(probability, start, end, values, steps, batchsize):
    order = resize_map(values, start.shape[1:])
    if is_empty(order):
        return numpy.full(steps + 1, probability(start[None])[0], 'f8')
    rank = numpy.empty(order.size, int)
    rank[numpy.argsort(-order, axis=None, kind='stable')] = numpy.arange(order.size)
    after = (rank * steps // order.size).reshape(order.shape)       # steps after which a pixel changes
    curve = []
    for done in numpy.split(numpy.arange(steps + 1), range(batchsize, steps + 1, batchsize)):
        changed = after < done[:, None, None]
        curve.append(probability(numpy.where(changed[:, None], end, start)))
    return numpy.concatenate(curve).astype('f8')
