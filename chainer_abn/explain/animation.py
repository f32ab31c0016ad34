"""Pictures as an animated GIF, written one by one."""
import contextlib
import struct

from PIL import GifImagePlugin, Image

from chainer_abn.errors import InputError
from chainer_abn.files import replacing

UNIT = 10                           # milliseconds
SHORTEST, LONGEST = 2, 65535        # units that a frame lasts; programs do not show one for less


class GifWriter:
    """Writes an animated GIF without end that takes no more memory than one of its frames.

    Each frame has 256 colours of its own, dithered so that gradients stay smooth. GIF counts time in units of
    10 ms: what is rounded off is carried over to the next frame, so that the total stays within 5 ms; frames
    shorter than 20 ms are shown for 20 ms, which later ones make up for as far as they can.

    A context manager: the file is there, whole, when it was left without an exception, and else as it was.

    Args:
        path: of the file.
        size: (H, W) in pixels.

    Raises:
        InputError: GIF cannot hold pictures that large.
    """

    def __init__(self, path, size):
        if max(size) > 65535:
            raise InputError(f'{path}: a GIF is at most 65535 pixels wide or high, not {max(size)}')
        self.path, self.size, self.owed = path, size, 0

    def __enter__(self):
        self.whole = self._whole()
        self.whole.__enter__()
        return self

    def __exit__(self, *exception):
        return self.whole.__exit__(*exception)

    def add(self, picture, milliseconds):
        """Write a frame.

        Args:
            picture: (H, W, 3) uint8 RGB.
            milliseconds (float): it is shown.
        """
        if picture.shape != (*self.size, 3):
            raise ValueError(f'a picture of shape {picture.shape} in a GIF of size {self.size}')
        self.owed += milliseconds / UNIT
        units = min(max(round(self.owed), SHORTEST), LONGEST)
        self.owed -= units
        image = Image.fromarray(picture)
        # Pillow dithers only to a palette that it is given
        palette = image.quantize(method=Image.Quantize.FASTOCTREE)
        image = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        for part in GifImagePlugin.getdata(image, duration=units * UNIT, include_color_table=True):
            self.file.write(part)

    @contextlib.contextmanager
    def _whole(self):
        height, width = self.size
        with replacing(self.path) as self.file:
            # no palette for all frames; the extension says to start again for ever
            self.file.write(struct.pack('<6sHH3x', b'GIF89a', width, height))
            self.file.write(b'!\xff\x0bNETSCAPE2.0' + struct.pack('<BBHx', 3, 1, 0))
            yield
            self.file.write(b';')
