"""From images of any size to batches (NumPy and Pillow only).

Images are (H, W, 3) uint8 RGB until the batch is made; sizes are (height, width) in pixels.
"""
import numpy
from PIL import Image

import chainer

MAX_ASPECT = 8          # an image longer than this is squeezed, or one could fill the memory
MIN_SIDE = 16           # the smallest input of every network


def resize_to_cover(image, size):
    """Scale an image, keeping its shape, so that it just covers ``size``.

    For a square ``size`` this resizes the short side.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    new = [min(max(round(side * scale), want), MAX_ASPECT * max(size))
           for side, want in ((height, size[0]), (width, size[1]))]
    if new == [height, width]:
        return image
    return numpy.asarray(Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR))


def crop(image, top, left, size):
    """A part of an image; what lies outside of it is black."""
    height, width = size
    inside = image[max(top, 0):max(top + height, 0), max(left, 0):max(left + width, 0)]
    if inside.shape[:2] == tuple(size):
        return inside
    out = numpy.zeros((height, width, 3), 'u1')
    y, x = max(-top, 0), max(-left, 0)
    out[y:y + inside.shape[0], x:x + inside.shape[1]] = inside
    return out


class Augment:
    """Training: random rotation, crop and horizontal flip.

    The CIFAR recipe is ``pad=4`` on images that already have ``size``, the folder recipe ``pad=0``
    on images that are larger.

    Args:
        size: of the result.
        pad (int): black pixels around the image before it is cropped.
        flip (bool): mirror every second image.
        rotate (float): the largest angle, in degrees either way.
    """

    def __init__(self, size, pad=0, flip=True, rotate=0):
        self.size, self.pad, self.flip, self.rotate = size, pad, flip, rotate

    def __call__(self, image, rng):
        if self.rotate:
            angle = rng.uniform(-self.rotate, self.rotate)
            image = numpy.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
        top, left = (
            rng.integers(-self.pad, max(have + self.pad - want, -self.pad), endpoint=True)
            for have, want in zip(image.shape, self.size, strict=False))
        image = crop(image, top, left, self.size)
        return image[:, ::-1] if self.flip and rng.random() < 0.5 else image


class CenterCrop:
    """Validation: the middle of the image."""

    def __init__(self, size):
        self.size = size

    def __call__(self, image, rng=None):
        top, left = ((have - want) // 2 for have, want in zip(image.shape, self.size, strict=False))
        return crop(image, top, left, self.size)


class Normalize(chainer.dataset.Converter):
    """Chainer converter: a list of (image, label) -> x (B, 3, H, W) float32, t (B,) int32.

    x = (image / 255 - mean) / std, per channel; images, mean and std are in the order of red, green,
    blue, and ``channel_order`` BGR turns the result around. An example that is an exception (a worker
    could not read it) is raised here, in the main process.
    """

    def __init__(self, mean, std, channel_order='RGB'):
        self.mean, self.std, self.channel_order = mean, std, channel_order
        self.scale = numpy.array(1 / (255 * numpy.asarray(std)), 'f')
        self.shift = numpy.array(-numpy.asarray(mean) / std, 'f')

    def __call__(self, batch, device=None):
        for example in batch:
            if isinstance(example, Exception):
                raise example
        images, labels = zip(*batch, strict=True)
        x, t = self.images(images), numpy.array(labels, 'i')
        return (x, t) if device is None else (device.send(x), device.send(t))

    def images(self, images):
        """The same for images of one size alone."""
        x = numpy.stack(images) * self.scale + self.shift
        if self.channel_order == 'BGR':
            x = x[..., ::-1]
        return numpy.ascontiguousarray(x.transpose(0, 3, 1, 2))


def normalize_of(config):
    """The :class:`Normalize` that a network's config asks for."""
    return Normalize(config['mean'], config['std'], config.get('channel_order', 'RGB'))
