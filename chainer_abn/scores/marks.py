"""Marks on small pictures: the object's outline, the place of a maximum. White beside black shows on all."""
import numpy
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, binary_erosion

ARM = 7                         # of the cross, in pixels


def thumbnail(image, side):
    """An image (H, W, 3) uint8 or mask (H, W) bool, scaled so that its longer side is ``side`` pixels."""
    scale = side / max(image.shape[:2])
    size = [max(round(length * scale), 1) for length in image.shape[1::-1]]
    # enlarged pixels stay square
    how = Image.Resampling.NEAREST if image.dtype == bool or scale >= 2 else Image.Resampling.BICUBIC
    return numpy.asarray(Image.fromarray(image).resize(size, how))


def outlined(picture, mask):
    """The picture with the outline of the mask: white within, black around."""
    picture = picture.copy()
    picture[binary_dilation(mask) & ~mask] = 0
    picture[mask & ~binary_erosion(mask)] = 255
    return picture


def crossed(picture, place):
    """The picture with a cross.

    Args:
        picture: (H, W, 3) uint8.
        place: (row, column) in [0, 1], as shares of the sides.
    """
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    y, x = (int(share * side) for share, side in zip(place, picture.shape, strict=False))
    for colour, width, arm in (('black', 3, ARM + 1), ('white', 1, ARM)):
        pen.line((x - arm, y, x + arm, y), colour, width)
        pen.line((x, y - arm, x, y + arm), colour, width)
    return numpy.asarray(image)
