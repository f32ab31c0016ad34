"""The images to judge, the networks that judge them, and where their objects are."""
import sys
from pathlib import Path
from typing import NamedTuple

import numpy

from chainer_abn.datasets.boxes import Boxes
from chainer_abn.datasets.folder import say_ignored
from chainer_abn.datasets.images import read_image
from chainer_abn.datasets.masks import Masks
from chainer_abn.errors import InputError, one_line
from chainer_abn.explain.inputs import Inputs
from chainer_abn.progress import Progress
from chainer_abn.training.held_out import held_out
from chainer_abn.training.run_folder import RunFolder


class Source(NamedTuple):
    """What stands in one table.

    Attributes:
        name (str): of the run or network.
        images: a data set, or :class:`Files`.
        parts: pairs of a network's file and the indices of the images that it judges.
        truth: :class:`ByStem` or :class:`OwnMasks`.
        has_classes (bool): whether it is known what the images show.
    """
    name: str
    images: object
    parts: list
    truth: object
    has_classes: bool

    @property
    def indices(self):
        """(n,) int, of all images in the order in which they are judged."""
        return numpy.concatenate([indices for _, indices in self.parts])

    def class_of(self, i):
        """Name of the class of an image, empty where it is not known."""
        return self.images.classes[self.images.labels[i]] if self.has_classes else ''


class Files:
    """Image files, as a data set gives them."""

    def __init__(self, paths):
        self.paths = paths

    def name(self, i):
        return str(self.paths[i])

    def image(self, i, cover=None):
        return read_image(self.paths[i], cover)


class ByStem:
    """The objects of images, found by the name of an image's file without folder and suffix."""

    def __init__(self, reader, images):
        self.reader, self.images = reader, images

    def path(self, i):
        """The file in which the object of an image is."""
        return self.reader.path(Path(self.images.name(i)).stem)

    def missing(self, i):
        return not self.path(i).exists()

    def read(self, i, size):
        """(H, W) bool each: the object, and what is neither object nor background."""
        return self.reader.read(Path(self.images.name(i)).stem, size)


class OwnMasks:
    """The objects of a data set that draws them itself."""

    def __init__(self, dataset):
        self.masks = dataset.masks

    def missing(self, i):
        return False

    def read(self, i, size):
        return self.masks[i], numpy.zeros(size, bool)


def of_run(root, options):
    """The images of a run that were held out of its finished folds, with the networks of these.

    Raises:
        InputError
    """
    run, config = RunFolder.open(root)
    if config.get('multitask'):
        raise InputError(f'{root}: a multi-task network has a map for each task; for a run on faces, '
                         'python -m chainer_abn.demo tells how well they point')
    dataset, parts = held_out(run, config)
    reader = reader_of(options)
    if reader is None and not hasattr(dataset, 'masks'):
        raise InputError(f'{root}: it is not known where the objects of {config["arguments"]["dataset"]} '
                         'are; name --boxes DIR or --masks DIR')
    folds = config['arguments']['kfold'] or 1
    if len(parts) < folds:
        print(one_line(f'{root}: {len(parts)} of {folds} folds are finished; the images of the others are '
                       'left out'), file=sys.stderr)
    return Source(Path(root).resolve().name, dataset,
                  [(run.best_network(fold), indices) for fold, indices in parts.items()],
                  OwnMasks(dataset) if reader is None else ByStem(reader, dataset), True)


def of_model(options):
    """The images of ``--images``, for the network of ``--model``.

    Raises:
        InputError
    """
    reader = reader_of(options)
    if reader is None:
        raise InputError('it is not known where the objects are; name --boxes DIR or --masks DIR')
    inputs = Inputs(options.images)
    images = Files([path for path, _ in inputs])
    say_ignored(*inputs.ignored)
    return Source(Path(options.model).stem, images, [(options.model, numpy.arange(len(images.paths)))],
                  ByStem(reader, images), False)


def reader_of(options):
    if options.boxes:
        return Boxes(options.boxes)
    return Masks(options.masks, options.object, options.void or ()) if options.masks else None


def with_object(source, missing):
    """The source without the images that have no box or mask, where ``missing`` is ``skip``.

    Raises:
        InputError: such an image, or no other; two images would share a box or mask.
    """
    lacking = [i for i in source.indices if source.truth.missing(i)]
    if lacking:
        n, first = len(source.indices), lacking[0]
        what = f'{source.images.name(first)}: has no box or mask ({source.truth.path(first)} is missing)'
        if len(lacking) == n:
            raise InputError(f'{what}, and no other image has one')
        if missing == 'error':
            raise InputError(f'{what}; --missing skip leaves such images out')
        print(one_line(f'{source.name}: left out {len(lacking)} of {n} images without a box or mask, such as '
                       f'{source.images.name(first)}'), file=sys.stderr)
        source = only(source, numpy.setdiff1d(source.indices, lacking))
    if isinstance(source.truth, ByStem):
        taken = {}
        for i in source.indices:
            other = taken.setdefault(source.truth.path(i).name, i)
            if other != i:
                raise InputError(f'{source.images.name(other)} and {source.images.name(i)}: would share '
                                 f'{source.truth.path(i)}; files of one name have to be scored apart')
    return source


def some(source, n, seed):
    """The source with ``n`` of its images, drawn by ``seed``; None: with all."""
    return only(source, numpy.random.default_rng(seed).permutation(numpy.sort(source.indices))[:n])


def only(source, chosen):
    parts = [(path, indices[numpy.isin(indices, chosen)]) for path, indices in source.parts]
    return source._replace(parts=[(path, indices) for path, indices in parts if len(indices)])


def check_images(source):
    """Read every image and its object once, so that what is wrong is told before all the work.

    Returns:
        (n, 2) int, height and width of the images in the order of ``source.indices``.

    Raises:
        InputError
    """
    sizes = numpy.empty((len(source.indices), 2), int)
    with Progress('reading images', len(sizes), 'images') as progress:
        for k, i in enumerate(source.indices):
            sizes[k] = source.images.image(i).shape[:2]
            source.truth.read(i, tuple(sizes[k].tolist()))
            progress.update(k + 1)
    return sizes
