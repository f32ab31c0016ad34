"""Data sets.

A data set has ``classes`` (tuple of str, sorted or in the official order), ``labels`` (n,) int32,
``image(i, cover=None)`` -> (H, W, 3) uint8 RGB (where a (height, width) to ``cover`` is told, a file may be
decoded at a smaller scale that covers it), ``name(i)`` -> str, ``ignored`` (paths of files that are no
images) and ``split``: None, or its own (train, test) index arrays.

One of several tasks has ``multitask`` True, ``labels`` (n, T) of 0 and 1, and in ``classes`` the names of the
T tasks.
"""
import os

from chainer_abn.datasets.celeba import CelebA
from chainer_abn.datasets.cifar import SOURCES, Cifar
from chainer_abn.datasets.compcars import TASKS, CompCars
from chainer_abn.datasets.faces import Faces
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.folds import some_of
from chainer_abn.datasets.imagenet import ImageNet
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.svhn import Svhn
from chainer_abn.errors import InputError

GENERATED = {'shapes': Shapes, 'faces': Faces}
READ = {'svhn': Svhn, 'imagenet': ImageNet, 'compcars': CompCars, 'celeba': CelebA}
NAMES = (*GENERATED, *SOURCES, *READ)


def is_multitask(name):
    """Whether a name on the command line is that of a data set of several tasks."""
    return getattr({**GENERATED, **READ}.get(name), 'multitask', False)


def open_dataset(name, data_dir=None, with_split=False, n_images=None, seed=0, **options):
    """The data set that ``--dataset`` names.

    Args:
        name (str): one of ``NAMES``, or a folder of class folders.
        data_dir: where the files of a named data set lie.
        with_split (bool): with its own split into train and test, for ``--kfold 0``; otherwise the
            training images alone.
        n_images (int): how many to generate (a fifth more for the test) or to take, the classes and the parts
            of a split in their shares.
        seed (int): for the generated images and for the choice.
        options: ``task`` and ``boxes`` of :class:`~chainer_abn.datasets.compcars.CompCars`.

    Raises:
        InputError
    """
    if n_images is not None and n_images < 1:
        raise InputError(f'--n-images must be at least 1, not {n_images}')
    if name in GENERATED:
        return GENERATED[name](n_images or GENERATED[name].N, seed, with_split)
    if name in SOURCES:
        dataset = Cifar(name, data_dir, with_split)
    elif name in READ:
        dataset = READ[name](data_dir, with_split, **options)
    elif os.path.isdir(name):
        dataset = Folder.with_split(name) if with_split else Folder(name)
    else:
        what = 'is no folder' if os.path.exists(name) else 'no such folder'
        raise InputError(f'--dataset {name}: {what}, and not one of {", ".join(NAMES)}')
    if n_images is None:
        return dataset
    return Subset(dataset, some_of(dataset, n_images, seed))
