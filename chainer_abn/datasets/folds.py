"""Folds of cross-validation."""
import hashlib

import numpy

from chainer_abn.errors import InputError


def folds_of(dataset, k, seed):
    """:func:`k_folds` of a data set, or with ``k`` 0 its own split as the only fold.

    Raises:
        InputError: also when a part of the split has no image, or a class none to train on.
    """
    if k:
        return k_folds(dataset.labels, dataset.classes, k, seed)
    for name, part in zip(('training', 'test'), dataset.split, strict=True):
        if not len(part):
            raise InputError(f'the {name} part of the data set has no image')
    if dataset.labels.ndim == 1:
        counts = numpy.bincount(dataset.labels[dataset.split[0]], minlength=len(dataset.classes))
        if not counts.all():
            raise InputError(f'class {dataset.classes[int(counts.argmin())]!r} has no image in the training '
                             'part of the data set')
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
    # imported here: it takes longer than all the rest, and who looks at images needs no folds
    from sklearn.model_selection import KFold, StratifiedKFold

    if labels.ndim == 2:
        if len(labels) < k:
            raise InputError(f'{len(labels)} images are fewer than the {k} folds of --kfold')
        return list(KFold(k, shuffle=True, random_state=seed).split(labels))
    counts = numpy.bincount(labels, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] < k:
        raise InputError(f'class {classes[rarest]!r} has {counts[rarest]} of the {len(labels)} images, '
                         f'fewer than the {k} folds of --kfold')
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    return list(splitter.split(numpy.zeros(len(labels)), labels))


def some_of(dataset, n, seed):
    """Sorted indices of ``n`` images of a data set, the classes in their shares, for ``--n-images``.

    Of a data set with a split the parts are in their shares too, and each class that has training images
    keeps one at least.

    Raises:
        InputError: fewer than that takes.
    """
    if dataset.split is None:
        return stratified_subset(dataset.labels, dataset.classes, n, seed)
    train, test = dataset.split
    least = 1 if dataset.labels.ndim == 2 else len(numpy.unique(dataset.labels[train]))
    if n <= least:
        raise InputError(f'--n-images {n}: at least {least + 1} are needed, {least} for training and one for '
                         'the test')
    n = min(n, len(train) + len(test))
    n_test = min(max(round(n * len(test) / (len(train) + len(test))), 1), n - least, len(test))
    rng = numpy.random.default_rng(seed)
    return numpy.sort(numpy.concatenate([
        part[drawn(dataset.labels[part], count, at_least, rng)]
        for part, count, at_least in ((train, min(n - n_test, len(train)), 1), (test, n_test, 0))]))


def drawn(labels, n, at_least, rng):
    """Indices of ``n`` labels, each class in its share as nearly as can be, and ``at_least`` so often."""
    if labels.ndim == 2:
        return rng.permutation(len(labels))[:n]
    classes, where, counts = numpy.unique(labels, return_inverse=True, return_counts=True)
    wanted = n * counts / len(labels)
    take = numpy.clip(wanted.astype(int), at_least, counts)
    while (missing := n - take.sum()) != 0:
        # one more for those farthest below their share, or one less for those farthest above
        can = take < counts if missing > 0 else take > at_least
        one = numpy.sign(missing)
        order = numpy.argsort(numpy.where(can, one * (take - wanted), numpy.inf), kind='stable')
        take[order[:min(abs(missing), can.sum())]] += one
    return numpy.concatenate([rng.permutation(numpy.flatnonzero(where == k))[:take[k]]
                              for k in range(len(classes))])


def stratified_subset(labels, classes, n, seed):
    """Sorted indices of ``n`` of the images, the classes in their shares; (n, T) labels: any."""
    if labels.ndim == 2:
        return numpy.sort(numpy.random.default_rng(seed).permutation(len(labels))[:n])
    n_class = len(numpy.unique(labels))
    if n < n_class:
        raise InputError(f'--n-images {n}: fewer than the {n_class} classes')
    if n >= len(labels):
        return numpy.arange(len(labels))
    if n > len(labels) - n_class:           # too few are left out for a share of each class
        return numpy.sort(drawn(labels, n, 1, numpy.random.default_rng(seed)))
    counts = numpy.bincount(labels, minlength=len(classes))
    if 1 in counts:
        name = classes[int((counts == 1).argmax())]
        raise InputError(f'--n-images {n}: class {name!r} has one image only, and can have no share')
    from sklearn.model_selection import train_test_split

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
