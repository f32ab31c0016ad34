"""Data sets whose images are files that lists or folders name, and what such lists must keep to."""
import os
from pathlib import Path

import numpy

from chainer_abn.datasets.images import read_image
from chainer_abn.errors import InputError
from chainer_abn.files import read_file


class Listed:
    """Image files below a folder, with labels.

    Args:
        root (Path): the folder.
        files (sequence of str): paths from there, the training images first.
        labels: (n,) or (n, n_task) int.
        classes (sequence of str)
        n_train (int): how many of the files are training images; None: there is no split.
        ignored (sequence of Path): files that are no images.

    Attributes:
        classes (tuple of str), labels (int32), ignored,
        split: None, or (train, test) index arrays.
    """

    def __init__(self, root, files, labels, classes, n_train=None, ignored=()):
        self.root, self.classes, self.ignored = root, tuple(classes), ignored
        self.labels = numpy.asarray(labels, 'i')
        # one array: a million strings take more, and each worker process would come to copy them
        self._files = numpy.array([os.fsencode(file) for file in files])
        self.split = None if n_train is None else numpy.split(numpy.arange(len(self)), [n_train])

    def __len__(self):
        return len(self._files)

    def path(self, i):
        return self.root / os.fsdecode(self._files[i])

    def name(self, i):
        return str(self.path(i))

    def image(self, i, cover=None):
        return read_image(self.path(i), cover)


def data_folder(data_dir, name, content, url):
    """The folder that ``--data-dir`` names.

    Args:
        data_dir: str, Path or None.
        name, content, url (str): the data set, what of it must be in the folder, and where it is had.

    Raises:
        InputError: None, or no folder.
    """
    if data_dir is None:
        raise InputError(f'--dataset {name}: needs --data-dir, a folder with {content}; it is had from {url}')
    folder = Path(data_dir)
    if not folder.is_dir():
        raise InputError(f'--data-dir {folder}: no such folder; --dataset {name} needs one with {content}; '
                         f'it is had from {url}')
    return folder


def read_rows(path, url):
    """The rows of a list in UTF-8, without the spaces at their ends and empty rows at the end.

    Args:
        path (Path): of the list.
        url (str): where it is had.

    Returns:
        list of str, at least one.

    Raises:
        InputError: no such file, other bytes than UTF-8, or no row.
    """
    try:
        text = read_file(path).decode('utf-8-sig')
    except FileNotFoundError:
        raise InputError(f'{path}: no such file; it is had from {url}') from None
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None
    except UnicodeDecodeError as error:
        row = error.object.count(b'\n', 0, error.start) + 1
        raise InputError(f'{path}, row {row}: not UTF-8 text') from None
    rows = [row.rstrip() for row in text.rstrip().split('\n')]
    if rows == ['']:
        raise InputError(f'{path}: the list is empty; it is had from {url}')
    return rows


def check_images(root, files, path, url, first_row=1):
    """Refuse a list that names an image twice, or one that is not below ``root``.

    Each folder is read once, so that this costs little for any number of images; whether they can be
    decoded is not seen.

    Args:
        root (Path): of the images.
        files (sequence of str): as listed, one per row.
        path (Path): of the list.
        url (str): where the images are had.
        first_row (int): the row of the first one, from 1.

    Raises:
        InputError: names list, row and image.
    """
    rows, folders = {}, {}
    for row, file in enumerate(files, first_row):
        if '\\' in file or '\0' in file or {'', '.', '..'}.intersection(file.split('/')):
            raise InputError(f'{path}, row {row}: {file!r} is no path inside {root}')
        if file in rows:
            raise InputError(f'{path}, row {row}: {file} is in row {rows[file]} already')
        rows[file] = row
        folder, _, name = file.rpartition('/')
        if folder not in folders:
            folders[folder] = _names_in(root / folder)
        if name not in folders[folder]:
            raise InputError(f'{path}, row {row}: no image {root / file}; it is had from {url}')


def _names_in(folder):
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise InputError(f'{folder}: {error.strerror}') from None
