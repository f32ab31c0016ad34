"""CIFAR-10 and CIFAR-100 from their official binary archives (no pickle is read).

https://www.cs.toronto.edu/~kriz/cifar.html: a record is the label (CIFAR-100: coarse, then fine),
then 32x32 bytes each of red, green and blue.
"""
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy

from chainer_abn.datasets.download import Remote, cache_dir
from chainer_abn.errors import InputError
from chainer_abn.files import read_file

SIDE = 32


@dataclass(frozen=True)
class Source:
    """Where one of the two sets is, and what is in its archive."""
    archive: Remote
    folder: str
    train: tuple
    test: tuple
    class_names: str
    label_bytes: int            # the last one is the label


SOURCES = {
    'cifar10': Source(
        Remote('https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
               'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd', 170052171),
        'cifar-10-batches-bin', tuple(f'data_batch_{i}.bin' for i in range(1, 6)),
        ('test_batch.bin',), 'batches.meta.txt', 1),
    'cifar100': Source(
        Remote('https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
               '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec', 168513733),
        'cifar-100-binary', ('train.bin',), ('test.bin',), 'fine_label_names.txt', 2),
}


class Cifar:
    """``cifar10`` or ``cifar100`` (fine labels).

    Args:
        name (str): one of the two.
        data_dir: where the archive or its unpacked folder lies; None: a cache in the user's home,
            into which the archive is downloaded.
        with_split (bool): the training images alone, or the test images too, with ``split``.

    Attributes:
        classes (tuple of str), labels (n,) int32, images (n, 32, 32, 3) uint8 RGB,
        split: None, or (train, test) index arrays.

    Raises:
        InputError: nothing there, a wrong digest, a file cut short, a label out of range.
    """

    ignored = ()

    def __init__(self, name, data_dir=None, with_split=False):
        self.set_name, source = name, SOURCES[name]
        read = _reader(source, data_dir)
        path, names = read(source.class_names)
        try:
            self.classes = tuple(names.decode().split())
        except UnicodeDecodeError:
            raise InputError(f'{path}: not the names of classes, in UTF-8') from None
        parts = [source.train, source.test] if with_split else [source.train]
        files = [[self._parse(source, *read(file)) for file in part] for part in parts]
        labels, images = zip(*sum(files, []), strict=True)
        self.labels, self.images = numpy.concatenate(labels), numpy.concatenate(images)
        n_train = sum(len(label) for label, _ in files[0])
        self.split = numpy.split(numpy.arange(len(self)), [n_train]) if with_split else None

    def _parse(self, source, path, data):
        record = source.label_bytes + 3 * SIDE * SIDE
        if not data or len(data) % record:
            raise InputError(f'{path}: {len(data)} bytes are no whole number of {record}-byte '
                             f'records; the file is cut short or not {self.set_name}')
        rows = numpy.frombuffer(data, 'u1').reshape(-1, record)
        labels = rows[:, source.label_bytes - 1].astype('i')
        if labels.max() >= len(self.classes):
            row = int(labels.argmax())
            raise InputError(f'{path}: label {labels[row]} in record {row}, but there are '
                             f'{len(self.classes)} classes')
        pixels = rows[:, source.label_bytes:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        return labels, numpy.ascontiguousarray(pixels)

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f'{self.set_name} image {i}'

    def image(self, i, cover=None):
        return self.images[i]


def _reader(source, data_dir):
    """A function from the name of a file of the set to where it lies, for messages, and its bytes."""
    where = Path(data_dir) if data_dir else cache_dir()
    for folder in where / source.folder, where:
        if (folder / source.class_names).is_file():
            return lambda file: _read_file(folder / file)
    archive = where / source.archive.name
    if archive.is_file():
        source.archive.check(archive)
    elif data_dir:
        raise InputError(f'{where}: neither {archive.name} nor {source.folder}/ in it; '
                         f'the archive is at {source.archive.url}')
    else:
        source.archive.download(archive)
    return lambda file: _read_member(archive, f'{source.folder}/{file}')


def _read_file(path):
    try:
        return path, read_file(path)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None


def _read_member(archive, name):
    try:
        with tarfile.open(archive) as tar:
            return f'{archive}: {name}', tar.extractfile(name).read()
    except Exception as error:          # a damaged archive can raise anything
        raise InputError(f'{archive}: {name} cannot be read from it ({error})') from None
