"""Images as a trained network wants them, and where they come from."""
import os
from pathlib import Path

import numpy

from chainer_abn.datasets.folder import walk
from chainer_abn.datasets.frames import frames, is_animation
from chainer_abn.datasets.images import open_image, opening
from chainer_abn.datasets.transforms import FITS, normalize_of
from chainer_abn.errors import InputError

LONGEST = 120                   # bytes of a stem: with all that comes behind it it is the name of a file


class Inputs:
    """The files named, and the images in the folders named: gone over again each time, never all in memory.

    Args:
        names (sequence of str): files and folders.
        leave_out: a folder that is left out, with all that is in it.
        check (bool): look into the files named at once, and not first when their turn comes.

    Attributes:
        ignored: the path of a file in the folders that is no image, in a list, and how many there are; known
            when all have been gone over.

    Raises:
        InputError: one of them is missing or no image, or is the folder that is to be left out.
    """

    def __init__(self, names, leave_out=None, check=True):
        self.names = list({os.path.normpath(name): name for name in reversed(names)}.values())[::-1]
        self.leave_out, self.ignored = leave_out, ([], 0)
        folders = [os.path.realpath(name) for name in self.names if os.path.isdir(name)]
        if leave_out is not None and os.path.realpath(leave_out) in folders:
            raise InputError(f'--out {leave_out}: is one of the folders to read; name another')
        for name in self.names:
            if not os.path.exists(name):
                raise InputError(f'{name}: no such file or folder')
            if not os.path.isdir(name):
                if not os.path.isfile(name):
                    raise InputError(f'{name}: neither a file nor a folder')
                if check:
                    check_header(name)
        # what a folder that is named too brings
        self.names = [name for name in self.names
                      if not any(str(parent) in folders for parent in Path(os.path.realpath(name)).parents)]

    def __iter__(self):
        """Yields (path, stem of its output files); stems are unique."""
        taken, last = set(), {}
        for path in self._paths():
            stem = unique = beginning(os.path.splitext(os.path.basename(path))[0], LONGEST)
            while unique in taken:
                last[stem] = last.get(stem, 1) + 1
                unique = f'{stem}-{last[stem]}'
            taken.add(unique)
            yield path, unique

    def _paths(self):
        n_ignored, example = 0, None
        for name in self.names:
            if not os.path.isdir(name):
                yield name
                continue
            empty = True
            for path, good in walk(name, self.leave_out):
                if good or is_animation(path):
                    empty = False
                    yield path
                else:
                    n_ignored, example = n_ignored + 1, example or path
            if empty:
                raise InputError(f'{name}: no image in this folder')
        self.ignored = [example] if n_ignored else [], n_ignored


def beginning(name, length):
    """As much of a file's name as takes up to ``length`` bytes on the disk."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name


def check_header(path):
    """Raises InputError unless a file begins as an image, an animation or a video does."""
    if is_animation(path):
        next(frames(path))
        return
    with opening(path), open_image(path):
        pass


def network_input(image, config):
    """The whole image at the scale of validation, uncropped, so that a map covers all of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        config (dict): the network's.

    Returns:
        (h, w, 3) uint8 RGB; see :func:`to_batch`.
    """
    return FITS[config.get('fit', 'cover')](image, config['resize'])


def to_batch(images, config):
    """Images of one size -> x (B, 3, h, w) float32, normalised."""
    return normalize_of(config).images(images)


def batches(items, size_of, batchsize):
    """Lists of up to ``batchsize`` consecutive items of one size."""
    batch = []
    for item in items:
        if batch and (len(batch) == batchsize or size_of(item) != size_of(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def softmax(logits):
    """(..., K) -> probabilities."""
    e = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
