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


def crop(images, corners, size):
    """A part of each image; what lies outside of it is black.

    Args:
        images (sequence): (H, W, 3) uint8 arrays, of any sizes.
        corners: (B, 2) int, top and left end of the parts in pixels.
        size: (height, width) of the parts in pixels.

    Returns:
        (B, height, width, 3) uint8.
    """
    height, width = size
    out = numpy.zeros((len(images), height, width, 3), 'u1')
    for part, image, (top, left) in zip(out, images, corners.tolist(), strict=True):
        inside = image[max(top, 0):max(top + height, 0), max(left, 0):max(left + width, 0)]
        y, x = max(-top, 0), max(-left, 0)
        part[y:y + inside.shape[0], x:x + inside.shape[1]] = inside
    return out


def _sizes(images):
    """(B, 2) int: height and width of each image."""
    return numpy.array([image.shape[:2] for image in images])


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

    draws = 4           # uniform numbers per image: for top, left, flip and angle

    def __init__(self, size, pad=0, flip=True, rotate=0):
        self.size, self.pad, self.flip, self.rotate = size, pad, flip, rotate

    def __call__(self, images, numbers):
        """Change each image by its own row of numbers.

        Args:
            images (sequence): (H, W, 3) uint8 arrays, of any sizes.
            numbers: (B, 4) float64, uniform in [0, 1).

        Returns:
            (B, height, width, 3) uint8.
        """
        if self.rotate:
            angles = self.rotate * (2 * numbers[:, 3] - 1)
            images = [numpy.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
                      for image, angle in zip(images, angles.tolist(), strict=True)]
        corners, mirrored = self.cuts(_sizes(images), numbers)
        out = crop(images, corners, self.size)
        mirrored = numpy.flatnonzero(mirrored)
        pixels = out.view('V3')[..., 0]             # moved whole, twice as fast as by channel
        pixels[mirrored] = pixels[mirrored][:, :, ::-1]
        return out

    def cuts(self, sizes, numbers):
        """What is cut out of each image: all that is done to it where there is no rotation.

        Args:
            sizes: (B, 2) int, height and width of each image, or (2,), of all.
            numbers: (B, 4) float64, uniform in [0, 1).

        Returns:
            (B, 2) int, top and left end of the parts in pixels, and (B,) bool, which parts are mirrored.
        """
        places = numpy.maximum(sizes + 2 * self.pad - self.size, 0) + 1
        # a double below 1 times a whole number is below that number, rounding included
        corners = (numbers[:, :2] * places).astype(int) - self.pad
        return corners, (numbers[:, 2] < 0.5) & self.flip


class CenterCrop:
    """Validation: the middle of each image, (B, height, width, 3) uint8."""

    draws = 0
    rotate = 0

    def __init__(self, size):
        self.size = size

    def __call__(self, images, numbers=None):
        corners, _ = self.cuts(_sizes(images))
        return crop(images, corners, self.size)

    def cuts(self, sizes, numbers=None):
        """As :meth:`Augment.cuts`; for one size of all images one corner, (2,), and one False."""
        return (sizes - self.size) // 2, False


def images_and_labels(batch):
    """What an iterator hands out, taken apart.

    Args:
        batch: a pair (images, labels) of arrays, or a list of pairs (image, label). An example of a list
            that is an exception (a worker could not read it) is raised here, in the main process.

    Returns:
        images, an array (B, H, W, 3) or sequence of (H, W, 3), uint8, and labels (B,) int32.
    """
    if isinstance(batch, list):
        for example in batch:
            if isinstance(example, Exception):
                raise example
        batch = zip(*batch, strict=True)
    images, labels = batch
    return images, numpy.asarray(labels, 'i')


class Normalize(chainer.dataset.Converter):
    """Chainer converter: a batch of images and labels -> x (B, 3, H, W), t (B,) int32.

    x = (image / 255 - mean) / std, per channel, in float32, then rounded to ``dtype``; images, mean and std
    are in the order of red, green, blue, and ``channel_order`` BGR turns the result around. A batch is what
    :func:`images_and_labels` takes.

    On the CPU the channels of x lie together in memory, as they do in the images; what goes to a GPU is
    C-contiguous.
    """

    def __init__(self, mean, std, channel_order='RGB', dtype='f'):
        self.mean, self.std, self.channel_order, self.dtype = mean, std, channel_order, dtype
        self.scale = numpy.array(1 / (255 * numpy.asarray(std)), 'f')
        self.shift = numpy.array(-numpy.asarray(mean) / std, 'f')

    def __call__(self, batch, device=None):
        images, t = images_and_labels(batch)
        x = self.images(images)
        if device is None:
            return x, t
        if device.xp is not numpy:
            x = numpy.ascontiguousarray(x)
        return device.send(x), device.send(t)

    def images(self, images):
        """The same for images of one size alone: x, a transposed view of a (B, H, W, 3) array."""
        images = numpy.asarray(images)
        x = images.reshape(*images.shape[:2], -1).astype('f')
        # whole rows of pixels: loops over three channels would be several times slower
        x *= numpy.tile(self.scale, images.shape[2])
        x += numpy.tile(self.shift, images.shape[2])
        x = x.reshape(images.shape)
        if self.channel_order == 'BGR':
            x = x[..., ::-1].copy()
        return x.astype(self.dtype, copy=False).transpose(0, 3, 1, 2)

    def table(self):
        """(3, 256): what each pixel value becomes in each channel of x; for kernels, to the same bits."""
        values = numpy.arange(256, dtype='u1').reshape(1, 256, 1, 1).repeat(3, axis=3)
        return numpy.ascontiguousarray(self.images(values)[0, ..., 0])


def normalize_of(config, dtype='f'):
    """The :class:`Normalize` that a network's config asks for."""
    return Normalize(config['mean'], config['std'], config.get('channel_order', 'RGB'), dtype)
