"""What the scenes of generated images are made of; colours and shades are in [0, 1]."""
import numpy

SIDE = 32                       # of an image, in pixels
FINE = 3                        # subpixels per pixel and axis, for smooth edges


def grid():
    """Row and column of every subpixel, (96, 96) each, in pixels."""
    n = SIDE * FINE
    return (numpy.mgrid[:n, :n] + 0.5) / FINE


def texture(rng):
    """Smooth noise of several scales in [0, 1], (32, 32)."""
    total = numpy.zeros((SIDE, SIDE))
    for cells, weight in (2, 1.0), (4, 0.6), (8, 0.4), (16, 0.25):
        values = rng.random((cells + 1, cells + 1))
        at = (numpy.arange(SIDE) + 0.5) * cells / SIDE
        i, f = at.astype(int), at % 1
        rows = values[i] * (1 - f)[:, None] + values[i + 1] * f[:, None]
        total += weight * (rows[:, i] * (1 - f) + rows[:, i + 1] * f)
    return (total - total.min()) / (numpy.ptp(total) + 1e-9)


def blend(a, b, t):
    """From colour a, (3,), to b, by the weights t, (h, w) -> (h, w, 3)."""
    return a * (1 - t[..., None]) + b * t[..., None]


def shrink(fine):
    """Mean over the subpixels of each pixel, (96, 96) -> (32, 32)."""
    return fine.reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))
