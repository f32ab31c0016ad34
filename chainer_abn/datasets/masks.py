"""Masks of objects, PNG files of one channel."""
from pathlib import Path

import numpy
from PIL import Image

from chainer_abn.datasets.images import open_image, too_many
from chainer_abn.errors import InputError

MODES = '1', 'L', 'P'


class Masks:
    """A folder of PNG files; that of an image has its name, ``<stem>.png``.

    The trimaps of the Oxford-IIIT Pet Dataset have 1 where the pet is, 2 for the background and 3 for the
    border between, where the two cannot be told apart.

    Args:
        folder: of the files.
        objects: values 0 to 255 that are the object; None: all but 0 and ``void``.
        void: values that are neither object nor background.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder, objects=None, void=()):
        self.folder, self.void, self.told = Path(folder), list(void), objects is not None
        self.objects = [v for v in range(1, 256) if v not in self.void] if objects is None else list(objects)
        if not self.folder.is_dir():
            raise InputError(f'--masks {folder}: no such folder')

    def path(self, stem):
        return self.folder / f'{stem}.png'

    def read(self, stem, size):
        """Where the object of an image is.

        Args:
            stem (str): of the image's file.
            size: (H, W) of the image in pixels.

        Returns:
            (H, W) bool, the object, and (H, W) bool, what is neither object nor background.

        Raises:
            InputError: no such file, not of one channel, of another size than the image, or without a pixel
                of the object; without one of the background, unless ``objects`` were told.
        """
        path, (height, width) = self.path(stem), size
        try:
            with open_image(path, ['PNG']) as image:
                if image.mode not in MODES:
                    raise InputError(f'{path}: is of mode {image.mode}; a mask has one channel of 8 bits or '
                                     f'less (modes {", ".join(MODES)})')
                if image.size != (width, height):
                    raise InputError(f'{path}: has {image.size[0]} x {image.size[1]} px, but the image '
                                     f'{stem} has {width} x {height}')
                values = numpy.asarray(image).astype('u1')
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f'{path}: no such file') from None
        except Image.DecompressionBombError as error:
            raise InputError(f'{path}: {too_many(error)}') from None
        except Exception as error:          # Pillow's decoders raise whatever comes on broken data
            raise InputError(f'{path}: unreadable PNG file ({error})') from None
        mask, void = numpy.isin(values, self.objects), numpy.isin(values, self.void)
        lacking = None
        if not mask.any():
            lacking = 'the object'
        elif not self.told and (mask | void).all():     # every map would score 1
            lacking = 'the background'
        if lacking:
            there = ', '.join(map(str, numpy.unique(values)))
            raise InputError(f'{path}: no pixel of {lacking} in it; its values are {there} (--object tells '
                             'which of them are the object)')
        return mask, void
