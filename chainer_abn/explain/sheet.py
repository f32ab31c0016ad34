"""Many pictures on one sheet."""
import functools
import math
from pathlib import Path

import matplotlib
import numpy
from PIL import Image, ImageDraw, ImageFont

from chainer_abn.errors import one_line

CELL, GAP, LINE = 144, 6, 16        # pixels
PAIR = 220                          # least width of each of a pair
LIMIT = 120                         # entries; more would be too small to see


class Sheet:
    """A grid of entries; an entry is a row of pictures of one image, with a caption below.

    Args:
        titles (sequence of str): what the pictures of an entry are, such as image, attention.

    Attributes:
        left_out (int): entries that came after the sheet was full.
    """

    def __init__(self, titles):
        self.titles, self.entries, self.left_out = titles, [], 0

    @property
    def full(self):
        return len(self.entries) == LIMIT

    def add(self, pictures, caption):
        """pictures: (H, W, 3) uint8 arrays of any size, one per title."""
        if self.full:
            self.left_out += 1
            return
        self.entries.append(([_fit(picture) for picture in pictures], caption))

    def draw(self):
        """The sheet as a PIL image, about as wide as high."""
        width = len(self.titles) * (CELL + GAP) + GAP
        height = CELL + LINE + GAP
        n = len(self.entries)
        columns = min(max(round(math.sqrt(n * height / width)), 1), n)
        sheet = Image.new('RGB', (columns * width, LINE + GAP + math.ceil(n / columns) * height),
                          'white')
        pen, font = ImageDraw.Draw(sheet), caption_font()
        for column in range(columns):
            for i, title in enumerate(self.titles):
                pen.text((column * width + GAP + i * (CELL + GAP), 3), title, 'dimgray', font)
        for entry, (pictures, caption) in enumerate(self.entries):
            top = LINE + GAP + entry // columns * height
            left = entry % columns * width + GAP
            for i, picture in enumerate(pictures):
                x, y = ((CELL - side) // 2 for side in picture.size)
                sheet.paste(picture, (left + i * (CELL + GAP) + x, top + y))
            pen.text((left, top + CELL), _shorten(caption, pen, font, width - 2 * GAP), 'black', font)
        return sheet


def _fit(picture):
    """Scaled to the cell, small pictures in whole steps so that their pixels stay square."""
    image = Image.fromarray(picture)
    scale = CELL / max(image.size)
    if scale >= 2:
        return image.resize([side * int(scale) for side in image.size], Image.Resampling.NEAREST)
    return image.resize([max(round(side * scale), 1) for side in image.size])


@functools.cache
def caption_font():
    """Matplotlib's own: Pillow's has no letters beyond ASCII."""
    path = Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf')
    return ImageFont.truetype(path, 11, layout_engine=ImageFont.Layout.BASIC)


def _shorten(text, pen, font, width):
    text = one_line(text)
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + '...', font) > width:
        text = text[:-1]
    return text + '...'


def pair(pictures, captions):
    """Two pictures of one size side by side, at their own size (small ones in whole steps), captions below.

    Args:
        pictures: two (H, W, 3) uint8 arrays.
        captions: two str.

    Returns:
        (height, width, 3) uint8.
    """
    scale = max(1, round(PAIR / max(pictures[0].shape[:2])))
    pictures = [Image.fromarray(picture.repeat(scale, 0).repeat(scale, 1)) for picture in pictures]
    width, height = pictures[0].size
    cell = max(width, PAIR)
    both = Image.new('RGB', (2 * cell + GAP, height + LINE + GAP), 'white')
    pen, font = ImageDraw.Draw(both), caption_font()
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = i * (cell + GAP)
        both.paste(picture, (left, 0))
        pen.text((left + 1, height + 2), _shorten(caption, pen, font, cell), 'black', font)
    return numpy.asarray(both)
