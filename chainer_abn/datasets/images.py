"""Image files as arrays."""
import contextlib
import os

import numpy
from PIL import Image, ImageOps

from chainer_abn.errors import InputError

# A file with one of these suffixes must be an image; any other is one if Pillow can open it.
SUFFIXES = frozenset(
    '.jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .avif'
    .split())


def read_image(path, cover=None):
    """Read an image file of any kind that Pillow knows, by its content, whatever its suffix.

    Grayscale, palette, CMYK and 16-bit images become RGB; transparency is laid over white; the
    first frame of an animation is taken; a camera's orientation tag is obeyed.

    Args:
        path: of the file.
        cover: (height, width) in pixels; a JPEG file is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of
            its size that still covers it, which takes less time. None: at its own size.

    Returns:
        numpy.ndarray: (H, W, 3) uint8 RGB.

    Raises:
        InputError: the file is missing, no image, or cut short; it is named.
    """
    with opening(path), Image.open(path) as image:
        if cover is not None:
            # a square, since the orientation tag may turn the image
            image.draft(None, (max(cover), max(cover)))
        return to_rgb(image)


@contextlib.contextmanager
def opening(path):
    """Let what goes wrong when an image file is read be an InputError that names ``path``."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except Image.UnidentifiedImageError:
        raise InputError(f'{path}: not an image') from None
    except Image.DecompressionBombError as error:
        raise InputError(f'{path}: {error}') from None
    except Exception as error:
        # Pillow's decoders raise whatever comes on broken data: OSError, SyntaxError, struct.error ...
        raise InputError(f'{path}: unreadable image ({error})') from None


def is_image(path):
    """Whether the file is one: told by its suffix, else by its content."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    try:
        with Image.open(path):
            return True
    except Image.DecompressionBombError:
        return True             # reading it will say so
    except (OSError, SyntaxError, ValueError):
        return False


def to_rgb(image):
    """A Pillow image of any mode as :func:`read_image` gives it: (H, W, 3) uint8 RGB."""
    return numpy.asarray(_opaque(ImageOps.exif_transpose(image)))


def _opaque(image):
    if image.mode.startswith(('I', 'F')):               # 16 or 32 bits, one channel
        pixels = numpy.asarray(image).astype('f8')
        top = 65535 if image.mode.startswith('I') else max(pixels.max(), 1e-9)
        return Image.fromarray((pixels * (255 / top)).clip(0, 255).round().astype('u1')).convert('RGB')
    if image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')
