"""Boxes of objects, in the XML files of Pascal VOC."""
import math
from pathlib import Path
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat

import numpy

from chainer_abn.errors import InputError
from chainer_abn.files import open_file

LARGEST = 1 << 20               # bytes of a file; those of VOC have thousands
SIDES = 'xmin', 'ymin', 'xmax', 'ymax'


class Boxes:
    """A folder of XML files; that of an image has its name, ``<stem>.xml``.

    Args:
        folder: of the files.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f'--boxes {folder}: no such folder')

    def path(self, stem):
        return self.folder / f'{stem}.xml'

    def read(self, stem, size):
        """Where the objects of an image are.

        Args:
            stem (str): of the image's file.
            size: (H, W) of the image in pixels.

        Returns:
            (H, W) bool, the union of the boxes, and (H, W) bool, what is neither object nor background:
            nothing.

        Raises:
            InputError: see :func:`read_boxes`; a box lies outside the image, or the file tells of an image
                of another size.
        """
        path, (height, width) = self.path(stem), size
        boxes, told = read_boxes(path)
        if told is not None and told != (width, height):
            raise InputError(f'{path}: is of an image of {told[0]} x {told[1]} px, but that of {stem} has '
                             f'{width} x {height}')
        mask = numpy.zeros(size, bool)
        for left, top, right, bottom in boxes:
            if left < 1 or top < 1 or right > width or bottom > height:
                raise InputError(f'{path}: the box {left},{top},{right},{bottom} lies outside its image of '
                                 f'{width} x {height} px')
            mask[top - 1:bottom, left - 1:right] = True
        return mask, numpy.zeros(size, bool)


def read_boxes(path):
    """The boxes of a VOC file.

    Args:
        path: of the file.

    Returns:
        list of (xmin, ymin, xmax, ymax) int, 1-based, both ends included, fractions rounded; and the size
        (width, height) of the image as the file tells it, None where it does not.

    Raises:
        InputError: no such file, over 1 MB, with a document type (entities could be of any size, or other
            files), not well-formed, no object in it, an object without a box, a number that is none or
            an empty box.
    """
    root = _parse(path)
    boxes = []
    for element in root.findall('object'):
        box = element.find('bndbox')
        if box is None:
            raise InputError(f'{path}: an <object> without <bndbox>')
        left, top, right, bottom = sides = tuple(_number(path, box, name) for name in SIDES)
        if left > right or top > bottom:
            raise InputError(f'{path}: the box {",".join(map(str, sides))} is empty')
        boxes.append(sides)
    if not boxes:
        raise InputError(f'{path}: no <object> in it')
    size = root.find('size')
    return boxes, None if size is None else tuple(_number(path, size, name) for name in ('width', 'height'))


def _parse(path):
    """The root element of an XML file without a document type."""
    try:
        with open_file(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None
    if len(content) > LARGEST:
        raise InputError(f'{path}: larger than 1 MB, no file of boxes')

    def refuse(*declaration):
        raise InputError(f'{path}: has a document type (<!DOCTYPE ...>), which files of boxes do not need')

    tree, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler = tree.data
    try:
        parser.Parse(content, True)
    except InputError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:         # the latter two: its encoding
        raise InputError(f'{path}: not well-formed XML ({error})') from None
    return tree.close()


def _number(path, element, name):
    text = (element.findtext(name) or '').strip()
    try:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise InputError(f'{path}: <{name}> is {text!r}, no number') from None
    return math.floor(number + 0.5)
