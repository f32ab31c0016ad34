"""Image files as arrays."""
import contextlib
import importlib.util
import os
import re
import stat
import warnings

import numpy
from PIL import ExifTags, Image

from chainer_abn.errors import InputError

# A file with one of these suffixes must be an image; any other is one if it is of one of these kinds.
SUFFIXES = frozenset(
    '.jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .avif'
    .split())
# Pillow reads many more: some are decoded by other programs (EPS by Ghostscript), others hardly anyone looks
# after. The last has no mark of its own and would claim files of the others.
FORMATS = ['JPEG', 'PNG', 'GIF', 'BMP', 'PPM', 'WEBP', 'TIFF', 'JPEG2000', 'AVIF', 'TGA']
if not importlib.util.find_spec('PIL.AvifImagePlugin'):         # before Pillow 11.3
    FORMATS.remove('AVIF')
LIMIT = Image.MAX_IMAGE_PIXELS  # Pillow's own
BAND = 1 << 22                  # pixels that are converted at a time
# the view of an upright image in which its pixels lie as in the file, by the camera's orientation tag
LYING = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: numpy.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: numpy.rot90(upright, -1),
}


def add_limit(parser):
    """The flag ``--max-pixels``, for :func:`set_limit`."""
    parser.add_argument('--max-pixels', type=int, metavar='N',
                        help='refuse images, which can claim any size, of more pixels than this (default '
                             f'{LIMIT})')


def set_limit(pixels=None):
    """Say how many pixels an image may have, in this process and those forked from it.

    An image of more is an error then, and not, up to twice as many, two lines of warning by Pillow, whose
    other warnings go too.

    Args:
        pixels (int): None: Pillow's own limit, 89,478,485.

    Raises:
        InputError: less than one.
    """
    if pixels is not None and pixels < 1:
        raise InputError(f'--max-pixels {pixels}: must be at least 1')
    Image.MAX_IMAGE_PIXELS = pixels or LIMIT
    # what is wrong with an image is told as an error, or of no matter
    warnings.filterwarnings('ignore', module='PIL')


def read_image(path, cover=None):
    """Read an image file of one of :data:`FORMATS`, by its content, whatever its suffix.

    Grayscale, palette, CMYK and 16-bit images become RGB; transparency is laid over white; the
    first frame of an animation is taken; a camera's orientation tag is obeyed.

    Args:
        path: of the file.
        cover: (height, width) in pixels; a JPEG file is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of
            its size that still covers it, which takes less time. None: at its own size.

    Returns:
        numpy.ndarray: (H, W, 3) uint8 RGB.

    Raises:
        InputError: the file is missing, no image, cut short, or of more pixels than :func:`set_limit` allows,
            whatever it is decoded at; it is named.
    """
    with opening(path), open_image(path) as image:
        if cover is not None:
            # a square, since the orientation tag may turn the image
            image.draft(None, (max(cover), max(cover)))
        return to_rgb(image)


def open_image(file, formats=FORMATS):
    """A Pillow image whose pixels are still in the file; every image is opened here.

    Raises:
        PIL.Image.DecompressionBombError: it claims more pixels than allowed.
        Exception: what Pillow raises.
    """
    if isinstance(file, str | os.PathLike) and not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError('is no file')     # opening a pipe could wait without end
    image = Image.open(file, formats=formats)
    try:
        check_pixels(*image.size)
    except Image.DecompressionBombError:
        image.close()
        raise
    return image


def check_pixels(width, height):
    """Raise PIL.Image.DecompressionBombError if an image of that size has more pixels than allowed."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f'{width} x {height} = {width * height} pixels')


@contextlib.contextmanager
def opening(path):
    """Let what goes wrong when an image file is read be an InputError that names ``path``."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except Image.UnidentifiedImageError:
        raise InputError(f'{path}: not an image (of the kinds {", ".join(FORMATS)})') from None
    except Image.DecompressionBombError as error:
        raise InputError(f'{path}: {too_many(error)}') from None
    except Exception as error:
        # Pillow's decoders raise whatever comes on broken data: OSError, SyntaxError, struct.error ...
        raise InputError(f'{path}: unreadable image ({error or type(error).__name__})') from None


def too_many(error):
    """What to say of a PIL.Image.DecompressionBombError, ours or Pillow's own."""
    size = re.search(r'[\d x=]*\d pixels', str(error))
    return (f'claims to have {size[0] if size else "too many pixels"}, a decompression bomb perhaps; the '
            f'limit is {Image.MAX_IMAGE_PIXELS}, --max-pixels N sets another')


def is_image(path):
    """Whether the file is one: told by its suffix, else by its content."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    try:
        with open_image(path):
            return True
    except Image.DecompressionBombError:
        return True             # reading it will say so
    except Exception:           # of broken data, whatever comes
        return False


def to_rgb(image):
    """A Pillow image of any mode as :func:`read_image` gives it: (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a pixel is no finite number.
        Exception: what Pillow raises.
    """
    image.load()
    width, height = image.size
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:           # damaged, while the pixels are whole
        orientation = 1
    upright = numpy.empty((width, height, 3) if orientation in (5, 6, 7, 8) else (height, width, 3), 'u1')
    pixels = LYING[orientation](upright) if orientation in LYING else upright
    # in bands, since each conversion takes a copy
    rows, top = max(BAND // width, 1), _top(image)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        pixels[start:end] = _opaque(image if rows >= height else image.crop((0, start, width, end)), top)
    return upright


def _top(image):
    """The value that becomes 255, of an image of 16 or 32 bits in one channel."""
    if image.mode.startswith('F'):
        return max(image.getextrema()[1], 1e-9)
    return max(image.getextrema()[1], 65535) if image.mode == 'I' else 65535


def _opaque(image, top):
    if image.mode.startswith(('I', 'F')):
        pixels = numpy.asarray(image).astype('f8')
        if not numpy.isfinite(pixels).all():
            raise ValueError('a pixel is no finite number')
        image = Image.fromarray((pixels * (255 / top)).clip(0, 255).round().astype('u1'))
    if image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return numpy.asarray(image if image.mode == 'RGB' else image.convert('RGB'))
