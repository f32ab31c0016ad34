import numpy
import pytest

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import digest, folds_of, k_folds, stratified_subset
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
    with pytest.raises(InputError, match="class 'c' has 10 images, fewer than the 11"):
        k_folds(LABELS, 'abc', 11, 0)


def test_subset_keeps_the_shares():
    chosen = stratified_subset(LABELS, 12, seed=0)
    assert numpy.bincount(LABELS[chosen]).tolist() == [6, 4, 2]
    assert (numpy.diff(chosen) > 0).all()
    assert len(stratified_subset(LABELS, 60, 0)) == len(stratified_subset(LABELS, 1000, 0)) == 60
    with pytest.raises(InputError, match='--n-images 2: fewer than the 3 classes'):
        stratified_subset(LABELS, 2, 0)


def test_split_of_a_subset(tmp_path):
    shapes = open_dataset('shapes', n_images=24, with_split=True)
    (train, test), = folds_of(shapes, 0, 0)
    assert len(train) == 24 and not set(train) & set(test)


def test_folds_and_choice_where_there_are_several_tasks():
    labels = numpy.random.default_rng(0).integers(0, 2, (50, 4))
    folds = k_folds(labels, 'abcd', 5, seed=1)
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([v for _, v in folds])), range(50))
    assert all(len(v) == 10 and not set(t) & set(v) for t, v in folds)
    chosen = stratified_subset(labels, 7, 3)
    assert len(set(chosen)) == 7 and (numpy.diff(chosen) > 0).all()
    numpy.testing.assert_array_equal(chosen, stratified_subset(labels, 7, 3))
    assert set(chosen) != set(stratified_subset(labels, 7, 4))
    assert stratified_subset(labels, 99, 3).tolist() == list(range(50))
    with pytest.raises(InputError, match='50 images are fewer than the 51 folds'):
        k_folds(labels, 'abcd', 51, 1)
