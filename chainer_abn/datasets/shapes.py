"""Generated images of shapes with the mask of the object: small, hard enough, needs no network.

Each 32 px scene has a textured background, clutter (smaller pieces that belong to no class), one
object of random place, size, angle, colour and shading, often partly hidden, and noise.
"""
import numpy

from chainer_abn.datasets.scenes import SIDE, blend, grid, shrink, texture
from chainer_abn.progress import Progress

_TILT = numpy.pi / 8             # the object's largest angle either way
_CLASSES = {}                   # name -> inside(x, y): object of radius about 1 around the origin


def _shape(inside):
    _CLASSES[inside.__name__.lstrip('_')] = inside
    return inside


@_shape
def _circle(x, y):
    return x * x + y * y < 0.72


@_shape
def _cross(x, y):
    x, y = abs(x), abs(y)
    return ((x < 0.3) & (y < 1)) | ((y < 0.3) & (x < 1))


@_shape
def _ring(x, y):
    r2 = x * x + y * y
    return (r2 < 0.95) & (r2 > 0.3)


@_shape
def _square(x, y):
    return numpy.maximum(abs(x), abs(y)) < 0.76


@_shape
def _star(x, y):
    # five points: the radius falls with the angle from each tip to the notches beside it
    angle = (numpy.arctan2(y, x) / (2 * numpy.pi) * 5) % 1
    return numpy.hypot(x, y) < 0.42 + 0.73 * abs(2 * angle - 1) ** 1.3


@_shape
def _triangle(x, y):
    return (y < 0.55) & (0.87 * abs(x) - 0.5 * y < 0.52)


CLASSES = tuple(sorted(_CLASSES))


class Shapes:
    """The data set ``shapes``: ``n`` RGB images, the classes in turn, with masks.

    Image ``i`` depends on ``seed`` and ``i`` alone.

    Args:
        n (int)
        seed (int)
        with_split (bool): add a fifth more as a test set, and ``split``.

    Attributes:
        classes (tuple of str)
        labels: (n,) int32.
        images: (n, 32, 32, 3) uint8.
        masks: (n, 32, 32) bool, the visible part of the object.
        split: None, or (train, test) index arrays.
    """

    N = 3000
    classes = CLASSES
    ignored = ()

    def __init__(self, n=N, seed=0, with_split=False):
        total = n + max(n // 5, len(CLASSES)) if with_split else n
        self.split = numpy.split(numpy.arange(total), [n]) if with_split else None
        self.labels = numpy.arange(total, dtype='i') % len(CLASSES)
        scenes = []
        with Progress('drawing shapes', total, 'images') as progress:
            for i, label in enumerate(self.labels):
                scenes.append(draw(label, numpy.random.default_rng((seed, i))))
                progress.update(i + 1)
        self.images = numpy.stack([image for image, _ in scenes])
        self.masks = numpy.stack([mask for _, mask in scenes])

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f'{self.classes[self.labels[i]]}_{i:05d}'

    def image(self, i, cover=None):
        return self.images[i]


def draw(label, rng):
    """One scene.

    Args:
        label (int): index of the class.
        rng (numpy.random.Generator)

    Returns:
        image (32, 32, 3) uint8 RGB and the object's visible mask (32, 32) bool.
    """
    row, column = grid()

    def place(radius, margin, turn):
        """A random place and angle -> coordinates in which the piece has radius about 1."""
        cx, cy = rng.uniform(margin, SIDE - margin, 2)
        angle = rng.uniform(-turn, turn)
        x, y = (column - cx) / radius, (row - cy) / radius
        return (numpy.cos(angle) * x + numpy.sin(angle) * y,
                numpy.cos(angle) * y - numpy.sin(angle) * x)

    def paint(scene, inside, colour, shade):
        alpha = shrink(inside.astype('f'))[..., None]
        return scene * (1 - alpha) + alpha * (colour + shade[..., None])

    scene = blend(rng.uniform(0, 0.6, 3), rng.uniform(0, 0.6, 3), texture(rng))
    for _ in range(rng.integers(3, 7)):
        scene = paint(scene, _clutter(place, rng), rng.uniform(0, 1, 3), 0.2 * texture(rng) - 0.1)

    radius = rng.uniform(5, 9)
    body = _CLASSES[CLASSES[label]](*place(radius, radius * 0.8, _TILT))
    colour = rng.uniform(0.3, 1, 3)
    colour += 0.95 - colour.max()               # brighter than the background, of any hue
    scene = paint(scene, body, colour, 0.4 * texture(rng) - 0.2)

    visible = body
    if rng.random() < 0.4:
        cover = _clutter(place, rng)
        if (cover & body).sum() < 0.35 * body.sum():
            scene = paint(scene, cover, rng.uniform(0, 1, 3), 0.2 * texture(rng) - 0.1)
            visible = body & ~cover

    scene = scene + rng.normal(0, rng.uniform(0.01, 0.06), scene.shape)
    image = (255 * scene.clip(0, 1)).round().astype('u1')
    return image, shrink(visible.astype('f')) > 0.5


def _clutter(place, rng):
    """A bar, blob or wedge that is no member of a class."""
    radius = rng.uniform(1.5, 4)
    x, y = place(radius, 0, numpy.pi)
    kind = rng.integers(3)
    if kind == 0:
        return (abs(x) < rng.uniform(1, 3)) & (abs(y) < 0.3)
    if kind == 1:
        return x * x + 2.5 * y * y < 1
    return (abs(y) < 0.5 * x) & (x < 1)
