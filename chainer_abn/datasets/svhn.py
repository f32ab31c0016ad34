"""SVHN, cropped digits (format 2), from its official MATLAB files.

http://ufldl.stanford.edu/housenumbers/: X is (32, 32, 3, n) uint8, rows, columns and red, green, blue of each
image; y is (n, 1), 1 to 9, and 10 for the digit 0.
"""
from pathlib import Path

import numpy

from chainer_abn.datasets.download import Remote, cache_dir
from chainer_abn.datasets.mat import read_mat, shapes
from chainer_abn.errors import InputError

SIDE = 32
URL = 'http://ufldl.stanford.edu/housenumbers/'
TRAIN = (
    Remote(f'{URL}train_32x32.mat', '435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8',
           182040794),
    Remote(f'{URL}extra_32x32.mat', 'a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3',
           1329278602))
TEST = (
    Remote(f'{URL}test_32x32.mat', 'cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b',
           64275384),)


class Svhn:
    """The digits '0' to '9' of house numbers.

    Training images are those of ``train`` and ``extra`` together (604,388), as in Table 2 of the paper.

    Args:
        data_dir: where the .mat files lie, or a folder ``svhn`` with them; None: a cache in the user's home,
            into which missing ones are downloaded.
        with_split (bool): the training images alone, or the test images (26,032) too, with ``split``.

    Attributes:
        classes (tuple of str), labels (n,) int32, images (n, 32, 32, 3) uint8 RGB,
        split: None, or (train, test) index arrays.

    Raises:
        InputError: a file is missing, of the official size with a wrong digest, cut short, or its X and y are
            not what they should be.
    """

    classes = tuple('0123456789')
    ignored = ()

    def __init__(self, data_dir=None, with_split=False):
        files = TRAIN + TEST if with_split else TRAIN
        paths = [_find(file, data_dir) for file in files]
        # the headers first, so that every file is copied straight to its place
        ends = numpy.cumsum([_read(_count, path, file) for path, file in zip(paths, files, strict=True)])
        self.images = numpy.empty((ends[-1], SIDE, SIDE, 3), 'u1')
        self.labels = numpy.empty(ends[-1], 'i')
        images, labels = (numpy.split(array, ends[:-1]) for array in (self.images, self.labels))
        for place in zip(paths, files, images, labels, strict=True):
            _read(_fill, *place)
        n_train = ends[len(TRAIN) - 1]
        self.split = numpy.split(numpy.arange(len(self)), [n_train]) if with_split else None

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f'svhn image {i}'

    def image(self, i, cover=None):
        return self.images[i]


def _find(file, data_dir):
    """The path of a file, which is downloaded if no folder was named."""
    where = Path(data_dir) if data_dir else cache_dir() / 'svhn'
    for path in where / file.name, where / 'svhn' / file.name:
        if path.is_file():
            if path.stat().st_size == file.size:
                file.check(path)
            return path
    path = where / file.name
    if data_dir:
        raise InputError(f'{path}: no such file; it is at {file.url}')
    file.download(path)
    return path


def _read(function, path, file, *arrays):
    """``function(path, *arrays)``; what it refuses is told with the size that the file should have."""
    try:
        return function(path, *arrays)
    except InputError as error:
        size = path.stat().st_size
        if size == file.size:
            raise
        raise InputError(f'{error}; the file is of {size} bytes, and the official one, at {file.url}, of '
                         f'{file.size}') from None


def _count(path):
    """The number of images that the file says it has."""
    shape = shapes(path, ['X', 'y'])
    x, y = shape['X'], shape['y']
    if len(x) == 3:
        x += (1,)               # MATLAB leaves out a last axis of length 1
    if x[:3] != (SIDE, SIDE, 3) or y != (*x[3:], 1):
        raise InputError(f'{path}: X is of {x} and y of {y}, not (32, 32, 3, n) and (n, 1)')
    if not y[0]:
        raise InputError(f'{path}: no image in it')
    return y[0]


def _fill(path, images, labels):
    data = read_mat(path, ['X', 'y'])
    x, y = data['X'], data['y'].ravel()
    if x.dtype != 'u1' or y.dtype.kind not in 'uif':
        raise InputError(f'{path}: X is {x.dtype} and y {y.dtype}; uint8 and numbers are wanted')
    wrong = ~numpy.isin(y, numpy.arange(1, 11))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f'{path}: y is {y[row]} in row {row + 1}; labels are 1 to 10')
    labels[:] = y % 10
    images[:] = x.reshape(SIDE, SIDE, 3, -1, order='F').transpose(3, 0, 1, 2)
