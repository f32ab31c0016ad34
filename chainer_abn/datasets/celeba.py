"""CelebA: faces, aligned and cropped, with 40 attributes each.

https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: 202,599 images of 178x218 pixels. The training images
are those of partitions 0 and 1, the test images those of 2, as in the authors' program for CelebA.
"""
import re

import numpy

from chainer_abn.datasets.archives import unpack
from chainer_abn.datasets.listed import Listed, check_images, data_folder, read_rows
from chainer_abn.errors import InputError
from chainer_abn.files import sha256

URL = 'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html'
IMAGES, ATTRIBUTES, PARTITION = 'img_align_celeba', 'list_attr_celeba.txt', 'list_eval_partition.txt'
ZIP_BYTES = 1443490838
ZIP_SHA256 = '46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74'
TEST = 2


class CelebA(Listed):
    """``celeba``: which of the attributes a face has.

    Args:
        data_dir: the folder with ``img_align_celeba/`` (or its .zip, which is unpacked beside it first),
            ``list_attr_celeba.txt`` and ``list_eval_partition.txt``, each there or in the official folders
            ``Img/``, ``Anno/`` and ``Eval/``.
        with_split (bool): the training images alone, or the test images too, with ``split``.

    Attributes:
        classes: the names of the attributes, in the order of the file.
        labels: (n, number of attributes) int32, 1 where a face has the attribute, else 0.

    Raises:
        InputError: something is missing or broken; it is named.
    """

    multitask = True

    def __init__(self, data_dir, with_split=False):
        top = data_folder(data_dir, 'celeba', f'{IMAGES}/, {ATTRIBUTES} and {PARTITION}', URL)
        path = _file(top, 'Anno', ATTRIBUTES)
        classes, files, labels = read_attributes(path)
        part = read_partition(_file(top, 'Eval', PARTITION), path, files)
        folder = image_folder(top)
        check_images(folder, files, path, URL, first_row=3)
        train, test = numpy.flatnonzero(part != TEST), numpy.flatnonzero(part == TEST)
        chosen = numpy.concatenate([train, test]) if with_split else train
        if not len(train):
            raise InputError(f'{top}: {PARTITION} has no training image (0 or 1)')
        super().__init__(folder, [files[i] for i in chosen], labels[chosen], classes,
                         len(train) if with_split else None)


def read_attributes(path):
    """list_attr_celeba.txt: the number of images, the names of the attributes, then a row per image.

    Returns:
        classes and files (lists of str), labels (n, number of attributes) uint8 of 0 and 1.
    """
    rows = read_rows(path, URL)
    if not re.fullmatch('[0-9]{1,9}', rows[0]):
        raise InputError(f'{path}, row 1: {rows[0]!r} is not the number of images')
    classes = rows[1].split() if len(rows) > 1 else []
    if not classes or len(set(classes)) < len(classes):
        raise InputError(f'{path}, row 2: not the names of the attributes, each once')
    if len(rows) == 2:
        raise InputError(f'{path}: no row of an image')
    files, bits = [], []
    for number, row in enumerate(rows[2:], 3):
        file, *values = row.split() or ['']
        if len(values) != len(classes):
            raise InputError(f'{path}, row {number}: {len(values)} values for {len(classes)} attributes')
        if not {'1', '-1'}.issuperset(values):
            wrong = next(value for value in values if value not in ('1', '-1'))
            raise InputError(f'{path}, row {number}: label {wrong!r}, but an attribute is 1 or -1')
        files.append(file)
        bits.append(''.join(values).replace('-1', '0'))
    if int(rows[0]) != len(files):
        raise InputError(f'{path}: {rows[0]} images by row 1, but {len(files)} rows of images; cut short?')
    labels = numpy.frombuffer(''.join(bits).encode(), 'u1').reshape(len(files), -1) - ord('0')
    return classes, files, labels


def read_partition(path, attributes, files):
    """list_eval_partition.txt: a row per image with 0 (training), 1 (validation) or 2 (test).

    Args:
        path (Path)
        attributes (Path): the list of attributes, for messages.
        files (list of str): its images.

    Returns:
        (n,) int array, of these images.
    """
    part, wanted = {}, set(files)
    for number, row in enumerate(read_rows(path, URL), 1):
        file, *values = row.split() or ['']
        if len(values) != 1:
            raise InputError(f'{path}, row {number}: {row!r} is not an image and its part')
        if values[0] not in ('0', '1', '2'):
            raise InputError(f'{path}, row {number}: part {values[0]!r}, but there are 0, 1 and 2')
        if file in part:
            raise InputError(f'{path}, row {number}: {file} is in a row above already')
        if file not in wanted:
            raise InputError(f'{path}, row {number}: {file} is not in {attributes}')
        part[file] = int(values[0])
    for number, file in enumerate(files, 3):
        if file not in part:
            raise InputError(f'{attributes}, row {number}: {file} is not in {path}')
    return numpy.array([part[file] for file in files])


def image_folder(top):
    """The folder of the images, if need be unpacked from the official archive.

    Raises:
        InputError: neither is there, or the archive has the official size and another SHA-256 digest.
    """
    places = top, top / 'Img'
    for place in places:
        if (place / IMAGES).is_dir():
            return place / IMAGES
    for place in places:
        archive = place / f'{IMAGES}.zip'
        if archive.is_file():
            if archive.stat().st_size == ZIP_BYTES and sha256(archive) != ZIP_SHA256:
                raise InputError(f'{archive}: the SHA-256 digest is wrong; get it again from {URL}')
            unpack(archive, place / IMAGES, strip=IMAGES)
            return place / IMAGES
    raise InputError(f'{top}: neither {IMAGES}/ nor {IMAGES}.zip in it or in Img/; it is had from {URL}')


def _file(top, folder, name):
    for place in top, top / folder:
        if (place / name).is_file():
            return place / name
    raise InputError(f'{top}: no {name} in it or in {folder}/; it is had from {URL}')
