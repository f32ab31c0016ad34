"""Generated images of faces with two attributes of known places: small, needs no network.

Each 32 px scene has a textured background, clutter (rings, curves and bars such as glasses and mouths
have) and one face of random place, size, tilt and colours. It may wear glasses and it may smile, each by
the toss of a coin.
"""
import numpy

from chainer_abn.datasets.scenes import SIDE, blend, grid, shrink, texture
from chainer_abn.progress import Progress

EYE, MOUTH = (0.36, -0.13), 0.5     # in face coordinates: right, left and down, of a face that is 1 high


class Faces:
    """The data set ``faces``: ``n`` RGB images, two attributes each, and where these show.

    Image ``i`` depends on ``seed`` and ``i`` alone.

    Args:
        n (int)
        seed (int)
        with_split (bool): add a fifth more as a test set, and ``split``.

    Attributes:
        classes (tuple of str): the attributes.
        labels: (n, 2) int32, 1 where an image has the attribute; fair and independent.
        images: (n, 32, 32, 3) uint8.
        masks: (n, 32, 32) bool, the face.
        places: (n, 2, 32, 32) bool, the band of the eyes and the surroundings of the mouth, whether
            or not the attribute is there.
        split: None, or (train, test) index arrays.
    """

    N = 3000
    multitask = True
    classes = 'Eyeglasses', 'Smiling'
    ignored = ()

    def __init__(self, n=N, seed=0, with_split=False):
        total = n + max(n // 5, 1) if with_split else n
        self.split = numpy.split(numpy.arange(total), [n]) if with_split else None
        scenes = []
        with Progress('drawing faces', total, 'images') as progress:
            for i in range(total):
                scenes.append(draw(numpy.random.default_rng((seed, i))))
                progress.update(i + 1)
        self.labels, self.images, self.masks, self.places = map(numpy.stack, zip(*scenes, strict=True))

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f'face_{i:05d}'

    def image(self, i, cover=None):
        return self.images[i]


def draw(rng):
    """One scene.

    Args:
        rng (numpy.random.Generator)

    Returns:
        labels (2,) int32, image (32, 32, 3) uint8 RGB, the face's mask (32, 32) bool and the places
        (2, 32, 32) bool.
    """
    glasses, smile = labels = rng.integers(0, 2, 2, 'i')
    scene = blend(rng.uniform(0, 1, 3), rng.uniform(0, 1, 3), texture(rng))

    def paint(inside, colour, opacity=1.0):
        nonlocal scene
        alpha = opacity * shrink(inside.astype('f'))[..., None]
        scene = scene * (1 - alpha) + alpha * colour

    for _ in range(rng.integers(4, 9)):
        paint(_clutter(rng), rng.uniform(0, 1, 3))

    height = rng.uniform(8.5, 12)
    x, y = _around(rng.uniform(0.85 * height, SIDE - 0.85 * height, 2), height, rng.uniform(-0.3, 0.3))
    width = rng.uniform(0.74, 0.86)
    skin = numpy.array([1, 0.78, 0.62]) * rng.uniform(0.35, 1) + rng.uniform(-0.06, 0.06, 3)
    hair = numpy.array([0.8, 0.6, 0.4]) * rng.uniform(0, 1)
    dark = skin * rng.uniform(0.2, 0.6)

    face = (x / width) ** 2 + y ** 2 < 1
    paint((x / (width + 0.13)) ** 2 + ((y + 0.1) / 1.05) ** 2 < rng.uniform(0.9, 1.1), hair)
    paint(face, skin + 0.2 * texture(rng)[..., None] - 0.1)
    paint(face & (y < rng.uniform(-0.75, -0.5) + rng.uniform(-0.4, 0.4) * x), hair)

    across, eye = abs(x), EYE[1]
    brow = eye - rng.uniform(0.22, 0.3)
    paint((abs(y - brow - rng.uniform(-0.2, 0.2) * (across - EYE[0])) < rng.uniform(0.03, 0.07))
          & (abs(across - EYE[0]) < 0.2), hair * 0.8)
    from_eye = numpy.hypot(across - EYE[0], 1.4 * (y - eye))
    paint(from_eye < 0.15, rng.uniform(0.75, 1, 3))
    paint(numpy.hypot(across - EYE[0] + rng.uniform(-0.04, 0.04), y - eye) < 0.08, rng.uniform(0, 0.4, 3))
    paint((across < 0.06) & (abs(y - 0.15) < 0.12), dark, 0.5)

    half, thick = rng.uniform(0.36, 0.48), rng.uniform(0.05, 0.09)
    bend = rng.uniform(0.28, 0.42) if smile else rng.uniform(-0.3, 0.0)
    lower = y - MOUTH - bend * (0.5 - (x / half) ** 2)              # 0 on the lower lip
    if rng.random() < (0.8 if smile else 0.2):
        upper = lower + (1 - (x / half) ** 2) * rng.uniform(0.15, 0.25)
        paint((lower < 0) & (upper > 0) & (across < half), rng.uniform(0.8, 1, 3))       # the teeth
    paint((abs(lower) < thick) & (across < half), numpy.array([0.7, 0.2, 0.25]) * rng.uniform(0.3, 1.3))

    if glasses:
        radius, rim = rng.uniform(0.22, 0.29), rng.uniform(0.05, 0.08)
        lens = numpy.hypot(across - EYE[0], rng.uniform(1, 1.3) * (y - eye))
        frame = rng.uniform(0, 0.25, 3) if skin.mean() > 0.5 or rng.random() < 0.3 else rng.uniform(0.6, 1, 3)
        paint(lens < radius, frame, rng.choice([0, 0.4]))
        paint((abs(lens - radius) < rim) | (abs(y - eye) < rim) & (across < EYE[0] - radius)
              | (abs(y - eye) < rim) & (across > EYE[0] + radius) & face, frame)

    scene = scene * rng.uniform(0.75, 1.15) + rng.normal(0, rng.uniform(0.01, 0.05), scene.shape)
    image = (255 * scene.clip(0, 1)).round().astype('u1')
    # all that glasses and mouths of any size may cover, apart from the arms of the glasses
    places = (abs(y - eye) < 0.35) & (across < 0.74), (abs(y - MOUTH) < 0.28) & (across < 0.5)
    face, *places = (shrink(place.astype('f')) > 0.5 for place in (face, *places))
    return labels, image, face, numpy.stack(places)


def _around(centre, radius, angle):
    """Coordinates x, y of the subpixels in which a piece has radius 1."""
    row, column = grid()
    x, y = (column - centre[0]) / radius, (row - centre[1]) / radius
    return numpy.cos(angle) * x + numpy.sin(angle) * y, numpy.cos(angle) * y - numpy.sin(angle) * x


def _clutter(rng):
    """A ring, a curve or a bar of the sizes that glasses and mouths have."""
    x, y = _around(rng.uniform(0, SIDE, 2), rng.uniform(2.5, 5), rng.uniform(-numpy.pi, numpy.pi))
    kind, thick = rng.integers(3), rng.uniform(0.15, 0.35)
    if kind == 0:
        return abs(numpy.hypot(x, y) - 0.8) < thick
    bend = rng.uniform(0.4, 0.9) if kind == 1 else 0
    return (abs(y - bend * (0.5 - x ** 2)) < thick) & (abs(x) < 1)
