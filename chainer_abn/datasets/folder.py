"""A folder of class folders."""
import os
import sys
from pathlib import Path

import numpy

from chainer_abn.datasets.images import is_image, read_image
from chainer_abn.errors import InputError

TRAIN, TEST = ('train',), ('val', 'valid', 'validation', 'test')


class Folder:
    """The images of the sub-folders of a folder; each sub-folder is a class.

    Images in nested folders of a class belong to it. Hidden files and folders, files that lie
    beside the class folders, and files that are no images are left out.

    Attributes:
        classes (tuple of str): the sorted folder names.
        labels: (n,) int32.
        paths (list of Path)
        ignored (list of Path): files inside the class folders that are no images.
        split: None, or (train, test) index arrays.

    Raises:
        InputError: no such folder, fewer than two classes, a class without an image, or a link to nothing in
            a class's place.
    """

    split = None

    def __init__(self, root):
        root = Path(root)
        self.classes = class_names(root)
        if 'train' in self.classes and {*self.classes} <= {*TRAIN, *TEST}:
            raise InputError(f'{root}: {", ".join(self.classes)} are parts, not classes: --kfold 0 takes '
                             f'them as they are, --dataset {root / "train"} makes folds of one')
        self.paths, self.ignored, labels = [], [], []
        for label, name in enumerate(self.classes):
            if not (root / name).exists():
                raise InputError(f'{root / name}: a link to nothing; remove it, or bring the folder that it '
                                 'leads to')
            images, others = find_images(root / name)
            if not images:
                raise InputError(f'{root / name}: the class {name!r} has no image')
            self.paths += images
            self.ignored += others
            labels += [label] * len(images)
        self.labels = numpy.array(labels, 'i')

    @classmethod
    def with_split(cls, root):
        """Read ``root/train`` and ``root/val`` (or test), as one data set with a split."""
        parts = []
        for names in TRAIN, TEST:
            found = [Path(root, name) for name in names if Path(root, name).is_dir()]
            if not found:
                raise InputError(f'{root}: no folder {" or ".join(names)} in it; a folder has a split '
                                 'of its own only as train/CLASS/... and val/CLASS/...')
            parts.append(cls(found[0]))
        train, test = parts
        if train.classes != test.classes:
            differ = ', '.join(sorted(set(train.classes) ^ set(test.classes)))
            raise InputError(f'{root}: classes in one of the two parts only: {differ}')
        train.split = numpy.split(numpy.arange(len(train) + len(test)), [len(train)])
        train.paths += test.paths
        train.ignored += test.ignored
        train.labels = numpy.concatenate([train.labels, test.labels])
        return train

    def __len__(self):
        return len(self.paths)

    def name(self, i):
        return str(self.paths[i])

    def image(self, i, cover=None):
        return read_image(self.paths[i], cover)


def class_names(root):
    """The sorted names of the folders in ``root`` that are not hidden."""
    try:
        # a link whose folder is gone is a class too, which is told when it is read
        names = sorted(e.name for e in os.scandir(root)
                       if e.name[0] != '.' and (e.is_dir() or not os.path.exists(e.path)))
    except OSError as error:
        raise InputError(f'{root}: {error.strerror}') from None
    if len(names) < 2:
        what = f'only one class folder ({names[0]})' if names else 'no class folder'
        raise InputError(f'{root}: {what} in it; at least two are needed')
    return tuple(names)


def say_ignored(paths, n=None):
    """One line on stderr about files that are no images, if there are any; ``n`` where not all are given."""
    if paths:
        print(f'left out {n or len(paths)} files that are no images, such as {paths[0]}', file=sys.stderr)


def find_images(folder):
    """All files below ``folder``, sorted by path: images, and others, as lists of Path."""
    images, others = [], []
    for path, good in walk(folder):
        (images if good else others).append(Path(path))
    return images, others


def walk(folder, leave_out=None):
    """Yield (path, whether it is an image) of all files below ``folder``, in the order of sorted paths.

    Hidden ones and the folder ``leave_out`` are left out; a folder that links lead to twice is entered once.
    No more than the names of one folder are in memory.

    Raises:
        InputError: a folder cannot be read.
    """
    seen = set() if leave_out is None else {os.path.realpath(leave_out)}
    entered = [_entries(os.fspath(folder), seen)]
    while entered:
        for path, is_folder, is_special in entered[-1]:
            if is_folder:
                entered.append(_entries(path, seen))
                break
            yield path, not is_special and is_image(path)
        else:
            entered.pop()


def _entries(folder, seen):
    """(Path, is a folder, is no file either) of what is in a folder that is not in ``seen`` yet, sorted."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    names, folders, special = [], set(), set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != '.':
                    names.append(entry.name)
                    if entry.is_dir():
                        folders.add(entry.name)
                    elif not entry.is_file() and os.path.exists(entry.path):
                        special.add(entry.name)         # such as a pipe, which nobody may ever write to
    except OSError as error:
        raise InputError(f'{folder}: {error.strerror}') from None
    for name in sorted(names):
        yield os.path.join(folder, name), name in folders, name in special
