"""Folds of cross-validation."""
import hashlib

import numpy
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from chainer_abn.errors import InputError


def folds_of(dataset, k, seed):
    """:func:`k_folds` of a data set, or with ``k`` 0 its own split as the only fold.

    Raises:
        InputError: also when a part of the split has no image.
    """
    if k:
        return k_folds(dataset.labels, dataset.classes, k, seed)
    for name, part in zip(('training', 'test'), dataset.split, strict=True):
        if not len(part):
            raise InputError(f'the {name} part of the data set has no image')
    return [tuple(dataset.split)]


def k_folds(labels, classes, k, seed):
    """Folds, shuffled by ``seed``; stratified, but for labels of several tasks.

    Args:
        labels: (n,) int, or of several tasks (n, T).
        classes (sequence of str): their names, for messages.
        k (int): number of folds, at least 2.
        seed (int)

    Returns:
        list: k pairs (train, validation) of sorted index arrays; the validation parts are disjoint
        and cover everything.

    Raises:
        InputError: a class has fewer images than there are folds.
    """
    if labels.ndim == 2:
        if len(labels) < k:
            raise InputError(f'{len(labels)} images are fewer than the {k} folds of --kfold')
        return list(KFold(k, shuffle=True, random_state=seed).split(labels))
    counts = numpy.bincount(labels, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] < k:
        raise InputError(f'class {classes[rarest]!r} has {counts[rarest]} images, fewer than the '
                         f'{k} folds of --kfold')
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    return list(splitter.split(numpy.zeros(len(labels)), labels))


def stratified_subset(labels, n, seed):
    """Sorted indices of ``n`` of the images, the classes in their shares; (n, T) labels: any."""
    if labels.ndim == 2:
        return numpy.sort(numpy.random.default_rng(seed).permutation(len(labels))[:n])
    n_class = len(numpy.unique(labels))
    if n < n_class:
        raise InputError(f'--n-images {n}: fewer than the {n_class} classes')
    if n > len(labels) - n_class:
        return numpy.arange(len(labels))
    chosen, _ = train_test_split(
        numpy.arange(len(labels)), train_size=n, stratify=labels, random_state=seed)
    return numpy.sort(chosen)


def digest(folds, labels):
    """SHA-256 over the folds: equal for two runs that train on and test with the same images."""
    sha = hashlib.sha256(numpy.asarray(labels, '<i4').tobytes())
    for train, validation in folds:
        for part in train, validation:
            sha.update(len(part).to_bytes(8, 'little') + numpy.asarray(part, '<i8').tobytes())
    return sha.hexdigest()
