"""From images of any size to batches (NumPy and Pillow only).

Images are (H, W, 3) uint8 RGB until the batch is made; sizes are (height, width) in pixels.
"""
import numpy
from PIL import Image

import chainer

MAX_ASPECT = 8          # an image longer than this is squeezed, or one could fill the memory
MIN_SIDE = 16           # the smallest input of every network
SMALLEST_PART = 0.08    # share of an image that a resized crop shows at least
LONGEST_SHAPE = 4 / 3   # of such a part: width over height, or the other way round


def resize_to_cover(image, size):
    """Scale an image, keeping its shape, so that it just covers ``size``.

    For a square ``size`` this resizes the short side.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    return squeeze(image, [min(max(round(side * scale), want), MAX_ASPECT * max(size))
                           for side, want in ((height, size[0]), (width, size[1]))])


def squeeze(image, size):
    """Scale an image to ``size``, whatever its shape."""
    if list(image.shape[:2]) == list(size):
        return image
    return numpy.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def keep(image, size):
    """The image as it is."""
    return image


CROPS = 'random', 'resized'

# how images are made ready for the crop
FITS = {'cover': resize_to_cover, 'squeeze': squeeze, 'keep': keep}


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
    """Training: random turn, rotation, crop and horizontal flip.

    The CIFAR recipe is ``pad=4`` on images that already have ``size``, the folder recipe ``pad=0``
    on images that are larger.

    Args:
        size: of the result.
        pad (int): black pixels around the image before it is cropped.
        flip (bool): mirror every second image.
        rotate (float): the largest angle, in degrees either way.
        turn (bool): by 0, 90, 180 or 270 degrees first.
    """

    draws = 4           # uniform numbers per image: for top, left, flip and angle

    def __init__(self, size, pad=0, flip=True, rotate=0, turn=False):
        self.size, self.pad, self.flip, self.rotate, self.turn = size, pad, flip, rotate, turn

    @property
    def only_cuts(self):
        """Whether :meth:`cuts` tells all that is done to an image."""
        return not (self.rotate or self.turn)

    def __call__(self, images, numbers):
        """Change each image by its own row of numbers.

        Args:
            images (sequence): (H, W, 3) uint8 arrays, of any sizes.
            numbers: (B, 4) float64, uniform in [0, 1).

        Returns:
            (B, height, width, 3) uint8.
        """
        images = self.turned(images, numbers[:, 3])
        corners, mirrored = self.cuts(_sizes(images), numbers)
        return mirror(crop(images, corners, self.size), mirrored)

    def turned(self, images, numbers):
        """The images, each turned and rotated by its number; one number is enough for both."""
        if self.turn:
            quarters = (4 * numbers).astype(int)
            numbers = 4 * numbers - quarters
            images = [numpy.rot90(image, k) for image, k in zip(images, quarters.tolist(), strict=True)]
        if self.rotate:
            angles = self.rotate * (2 * numbers - 1)
            images = [numpy.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
                      for image, angle in zip(images, angles.tolist(), strict=True)]
        return images

    def cuts(self, sizes, numbers):
        """What is cut out of each image: all that is done to it where ``only_cuts``.

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


class ResizedCrop(Augment):
    """Training on ImageNet: a part of any size and shape fills ``size`` (Szegedy et al. 2015, section 6).

    Its width over its height is from 3/4 to 4/3, uniform on a logarithmic scale; its area is uniform from
    8 % of the image to the largest that has this shape and fits. (The official code draws both anew where a
    part does not fit, so that long parts of long images are a little more frequent there.)

    Args:
        size, flip, rotate, turn: as of :class:`Augment`.
    """

    draws = 6           # top, left, flip, angle, shape and area
    only_cuts = False

    def __init__(self, size, flip=True, rotate=0, turn=False):
        super().__init__(size, flip=flip, rotate=rotate, turn=turn)

    def __call__(self, images, numbers):
        """As of :class:`Augment`, with six numbers for each image."""
        images = self.turned(images, numbers[:, 3])
        height, width = self.size
        parts = self.parts(_sizes(images), numbers).tolist()
        out = numpy.empty((len(images), height, width, 3), 'u1')
        for i, (image, (top, left, h, w)) in enumerate(zip(images, parts, strict=True)):
            part = image[top:top + h, left:left + w]
            out[i] = squeeze(part, (height, width))
        return mirror(out, (numbers[:, 2] < 0.5) & self.flip)

    @staticmethod
    def parts(sizes, numbers):
        """(B, 4) int: top, left, height and width of the part of each image, in pixels."""
        height, width = sizes.T.astype(float)
        shape = LONGEST_SHAPE ** (2 * numbers[:, 4] - 1)
        most = numpy.minimum(width, height * shape) ** 2 / shape
        least = numpy.minimum(SMALLEST_PART * height * width, most)
        area = least + (most - least) * numbers[:, 5]
        sides = numpy.stack([numpy.sqrt(area / shape), numpy.sqrt(area * shape)], 1)
        sides = numpy.clip(sides.round().astype(int), 1, sizes)
        return numpy.concatenate([(numbers[:, :2] * (sizes - sides + 1)).astype(int), sides], 1)


def mirror(images, which):
    """Mirror some of the images, in place.

    Args:
        images: (B, H, W, 3) uint8, C-contiguous.
        which: (B,) bool.
    """
    which = numpy.flatnonzero(which)
    pixels = images.view('V3')[..., 0]              # moved whole, twice as fast as by channel
    pixels[which] = pixels[which][:, :, ::-1]
    return images


class CenterCrop:
    """Validation: the middle of each image, (B, height, width, 3) uint8.

    Args:
        size: (height, width) of the result, in pixels.
        cover: (height, width) that images are made to cover first; None: they are taken as they are.
    """

    draws = 0

    def __init__(self, size, cover=None):
        self.size, self.cover = size, cover

    @property
    def only_cuts(self):
        return self.cover is None

    def __call__(self, images, numbers=None):
        if self.cover:
            images = [resize_to_cover(image, self.cover) for image in images]
        corners, _ = self.cuts(_sizes(images))
        return crop(images, corners, self.size)

    def cuts(self, sizes, numbers=None):
        """As :meth:`Augment.cuts`; for one size of all images one corner, (2,), and one False."""
        return (sizes - self.size) // 2, False


class Normalize(chainer.dataset.Converter):
    """Chainer converter: a batch of images and labels -> x (B, 3, H, W), t (B,) or (B, T) int32.

    x = (image / 255 - mean) / std, per channel, in float32, then rounded to ``dtype``; images, mean and std
    are in the order of red, green, blue, and ``channel_order`` BGR turns the result around. A batch is a pair
    of arrays: images (B, H, W, 3) uint8, which x is a copy of, and labels.

    On the CPU the channels of x lie together in memory, as they do in the images; what goes to a GPU is
    C-contiguous.
    """

    def __init__(self, mean, std, channel_order='RGB', dtype='f'):
        self.mean, self.std, self.channel_order, self.dtype = mean, std, channel_order, dtype
        self.scale = numpy.array(1 / (255 * numpy.asarray(std)), 'f')
        self.shift = numpy.array(-numpy.asarray(mean) / std, 'f')

    def __call__(self, batch, device=None):
        images, t = batch
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
