"""What holds for the folds of any labels."""
from types import SimpleNamespace

import numpy
import pytest
from helpers import PROPERTY
from hypothesis import assume, given
from hypothesis import strategies as st

from chainer_abn.datasets.folds import digest, drawn, k_folds, some_of, stratified_subset
from chainer_abn.errors import InputError

SEEDS = st.integers(0, 2 ** 32 - 1)
NAMES = 'abcdefgh'


@st.composite
def labels_of(draw, least=1, most=40):
    """Labels in any order, of classes with ``least`` to ``most`` images each."""
    counts = draw(st.lists(st.integers(least, most), min_size=2, max_size=len(NAMES)))
    return numpy.random.default_rng(draw(SEEDS)).permutation(numpy.repeat(range(len(counts)), counts))


def check_parts(folds, n):
    """Training and validation images of each fold are all images, and each validates once."""
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([part for _, part in folds])), range(n))
    for train, validation in folds:
        assert (numpy.diff(train) > 0).all() and (numpy.diff(validation) > 0).all()
        numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([train, validation])), range(n))
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1


@PROPERTY
@given(st.integers(2, 9).flatmap(lambda k: st.tuples(st.just(k), labels_of(k))), SEEDS)
def test_each_image_validates_once_and_each_class_is_shared_out_evenly(k_and_labels, seed):
    k, labels = k_and_labels
    folds = k_folds(labels, NAMES[:labels.max() + 1], k, seed)
    assert len(folds) == k
    check_parts(folds, len(labels))
    counts = numpy.array([numpy.bincount(labels[part], minlength=len(NAMES)) for _, part in folds])
    assert (numpy.ptp(counts, axis=0) <= 1).all()


@PROPERTY
@given(st.integers(2, 9), st.integers(9, 60), st.integers(1, 4), SEEDS)
def test_folds_of_several_tasks(k, n, n_task, seed):
    labels = numpy.random.default_rng(seed).integers(0, 2, (n, n_task))
    check_parts(k_folds(labels, NAMES[:n_task], k, seed), n)


@PROPERTY
@given(labels_of(10), st.integers(2, 9), SEEDS, SEEDS)
def test_the_seed_alone_decides(labels, k, seed, other):
    def digest_of(seed):
        return digest(k_folds(labels, NAMES[:labels.max() + 1], k, seed), labels)

    assume(seed != other)
    numpy.random.seed(other)
    found = digest_of(seed)
    numpy.random.seed(seed)
    assert digest_of(seed) == found != digest_of(other)


@PROPERTY
@given(labels_of(most=8), st.integers(2, 12), SEEDS)
def test_a_class_of_fewer_images_than_folds_is_refused_by_name(labels, k, seed):
    counts = numpy.bincount(labels)
    assume(counts.min() < k)
    said = f"class '{NAMES[counts.argmin()]}' has {counts.min()} of the {len(labels)} images"
    with pytest.raises(InputError, match=said):
        k_folds(labels, NAMES[:len(counts)], k, seed)


@PROPERTY
@given(labels_of(2), st.integers(1, 400), SEEDS)
def test_a_subset_has_the_size_asked_for_and_the_classes_in_their_shares(labels, n, seed):
    n_class = labels.max() + 1
    assume(n_class <= n <= len(labels) - n_class or n >= len(labels))
    chosen = stratified_subset(labels, NAMES[:n_class], n, seed)
    assert len(chosen) == min(n, len(labels)) and (numpy.diff(chosen) > 0).all()
    share = len(chosen) * numpy.bincount(labels) / len(labels)
    assert (abs(numpy.bincount(labels[chosen], minlength=n_class) - share) < 1).all()
    numpy.testing.assert_array_equal(chosen, stratified_subset(labels, NAMES[:n_class], n, seed))


@PROPERTY
@given(labels_of(), st.integers(0, 1), st.integers(0, 400), SEEDS)
def test_what_is_drawn_is_as_near_to_the_shares_as_can_be(labels, at_least, n, seed):
    counts = numpy.bincount(labels)
    assume(at_least * len(counts) <= n <= len(labels))
    chosen = drawn(labels, n, at_least, numpy.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen) == n
    taken, wanted = numpy.bincount(labels[chosen], minlength=len(counts)), n * counts / len(labels)
    assert (taken >= at_least).all()
    if at_least <= wanted.min():
        assert (abs(taken - wanted) < 1).all()


@PROPERTY
@given(labels_of(), labels_of(), st.integers(1, 400), SEEDS)
def test_of_a_split_both_parts_are_kept_and_every_class_that_is_trained(train, test, n, seed):
    labels = numpy.concatenate([train, test])
    dataset = SimpleNamespace(labels=labels, classes=NAMES, split=[
        numpy.arange(len(train)), numpy.arange(len(train), len(labels))])
    assume(n > train.max() + 1)
    chosen = some_of(dataset, n, seed)
    assert len(chosen) == min(n, len(labels)) and (numpy.diff(chosen) > 0).all()
    trained = chosen[chosen < len(train)]
    assert set(labels[trained]) == set(train) and len(trained) < len(chosen)
    numpy.testing.assert_array_equal(chosen, some_of(dataset, n, seed))
