"""Weights and images that can be drawn anew anywhere, so that no file has to keep them."""
import zlib

import numpy


def weights(name, shape):
    """An array of a network by its official name, (shape) float64, of a size that keeps signals alive."""
    rng = numpy.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rpartition('.')[2]
    if kind == 'num_batches_tracked':
        return numpy.array(0)
    if kind == 'running_var' or (kind == 'weight' and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape)
    scale = numpy.sqrt(2 / numpy.prod(shape[1:])) if kind == 'weight' else 0.1
    return scale * rng.standard_normal(shape)


def batch(arch, size, n, n_class):
    """x (n, 3, size, size) float64 and t (n,) int."""
    rng = numpy.random.default_rng(zlib.crc32(arch.encode()))
    return rng.standard_normal((n, 3, size, size)), rng.integers(0, n_class, n)
