from types import SimpleNamespace

import numpy
import pytest

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import digest, drawn, folds_of, k_folds, some_of, stratified_subset
from chainer_abn.errors import InputError

LABELS = numpy.repeat([0, 1, 2], [30, 20, 10])


@pytest.mark.parametrize('k', [2, 3, 10])
def test_folds_are_disjoint_cover_everything_and_keep_the_shares(k):
    folds = k_folds(LABELS, 'abc', k, seed=1)
    assert len(folds) == k
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([v for _, v in folds])), range(60))
    for train, validation in folds:
        assert not set(train) & set(validation) and len(train) + len(validation) == 60
        share = numpy.bincount(LABELS[validation], minlength=3) - numpy.array([30, 20, 10]) / k
        assert abs(share).max() < 1


def test_folds_depend_on_the_seed_alone():
    same = k_folds(LABELS, 'abc', 3, 1), k_folds(LABELS, 'abc', 3, 1), k_folds(LABELS, 'abc', 3, 2)
    digests = [digest(folds, LABELS) for folds in same]
    assert digests[0] == digests[1] != digests[2]
    assert digest(same[0], LABELS) != digest(same[0], LABELS[::-1])


def test_a_class_smaller_than_the_folds_is_named():
    with pytest.raises(InputError, match="class 'c' has 10 of the 60 images, fewer than the 11"):
        k_folds(LABELS, 'abc', 11, 0)


def test_subset_keeps_the_shares():
    chosen = stratified_subset(LABELS, 'abc', 12, seed=0)
    assert numpy.bincount(LABELS[chosen]).tolist() == [6, 4, 2]
    assert (numpy.diff(chosen) > 0).all()
    for n in 60, 1000:
        assert len(stratified_subset(LABELS, 'abc', n, 0)) == 60
    with pytest.raises(InputError, match='--n-images 2: fewer than the 3 classes'):
        stratified_subset(LABELS, 'abc', 2, 0)


def test_split_of_a_subset(tmp_path):
    shapes = open_dataset('shapes', n_images=24, with_split=True)
    (train, test), = folds_of(shapes, 0, 0)
    assert len(train) == 24 and not set(train) & set(test)


def test_folds_and_choice_where_there_are_several_tasks():
    labels = numpy.random.default_rng(0).integers(0, 2, (50, 4))
    folds = k_folds(labels, 'abcd', 5, seed=1)
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([v for _, v in folds])), range(50))
    assert all(len(v) == 10 and not set(t) & set(v) for t, v in folds)
    chosen = stratified_subset(labels, 'abcd', 7, 3)
    assert len(set(chosen)) == 7 and (numpy.diff(chosen) > 0).all()
    numpy.testing.assert_array_equal(chosen, stratified_subset(labels, 'abcd', 7, 3))
    assert set(chosen) != set(stratified_subset(labels, 'abcd', 7, 4))
    assert stratified_subset(labels, 'abcd', 99, 3).tolist() == list(range(50))
    with pytest.raises(InputError, match='50 images are fewer than the 51 folds'):
        k_folds(labels, 'abcd', 51, 1)


def test_a_class_of_one_image_can_have_no_share():
    with pytest.raises(InputError, match="--n-images 3: class 'b' has one image only"):
        stratified_subset(numpy.array([0, 0, 0, 0, 0, 1]), 'ab', 3, 0)


@pytest.mark.parametrize('n', [5, 6, 17, 60, 99, 100])
def test_each_class_is_drawn_in_its_share_and_so_often_at_least(n):
    labels = numpy.random.default_rng(1).permutation(numpy.repeat(range(5), [1, 2, 7, 30, 60]))
    chosen = drawn(labels, n, 1, numpy.random.default_rng(0))
    assert len(set(chosen)) == len(chosen) == n
    counts, share = numpy.bincount(labels[chosen], minlength=5), n * numpy.array([1, 2, 7, 30, 60]) / 100
    assert (counts >= 1).all()
    # where one of each leaves room for shares
    assert n < 17 or (abs(counts - share)[share >= 2] < 2).all()


@pytest.mark.parametrize('n', [12, 40, 400])
def test_the_parts_of_a_split_are_in_their_shares_and_no_class_is_without_training(n):
    """CompCars has 431 classes in two parts of about one size."""
    rng = numpy.random.default_rng(0)
    labels = numpy.concatenate([numpy.repeat(range(10), 20), rng.integers(0, 10, 180)])
    dataset = SimpleNamespace(labels=labels, classes='abcdefghij',
                              split=[numpy.arange(200), numpy.arange(200, 380)])
    chosen = some_of(dataset, n, 3)
    assert len(set(chosen)) == min(n, 380) and (numpy.diff(chosen) > 0).all()
    numpy.testing.assert_array_equal(chosen, some_of(dataset, n, 3))
    train, test = chosen[chosen < 200], chosen[chosen >= 200]
    assert set(labels[train]) == set(range(10)) and len(test) >= 1
    if n >= 40:
        assert abs(len(test) - min(n, 380) * 180 / 380) < 1


def test_too_few_for_both_parts_is_told():
    dataset = SimpleNamespace(labels=numpy.arange(8) % 4, classes='abcd',
                              split=[numpy.arange(4), numpy.arange(4, 8)])
    with pytest.raises(InputError, match='--n-images 4: at least 5 are needed, 4 for training'):
        some_of(dataset, 4, 0)
