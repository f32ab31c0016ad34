import numpy
import pytest

from chainer_abn.datasets.examples import EpochOrder, Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.transforms import Augment, CenterCrop
from chainer_abn.errors import InputError
from chainer_abn.training.trainer import make_iterator

import chainer


def test_mean_and_deviation_are_those_of_the_chosen_pixels():
    shapes = Shapes(12)
    store = Store(shapes, (32, 32))
    mean, std = store.mean_std([1, 5, 7])
    pixels = shapes.images[[1, 5, 7]].reshape(-1, 3) / 255
    numpy.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    numpy.testing.assert_allclose(std, pixels.std(0), rtol=1e-9)


def test_images_of_different_sizes_count_by_their_pixels(class_folders):
    store = Store(Folder(class_folders), (20, 20))
    images = [store.image(i) for i in range(len(store.dataset))]
    assert {i.shape for i in images} == {(25, 20, 3)}
    numpy.testing.assert_allclose(
        store.mean_std(range(12))[0], numpy.concatenate(images).reshape(-1, 3).mean(0) / 255, rtol=1e-12)


def test_a_channel_of_one_value_is_not_divided_by_zero():
    shapes = Shapes(6)
    shapes.images[..., 1] = 7
    assert Store(shapes, (32, 32)).mean_std(range(6))[1][1] == 1


def test_what_does_not_fit_in_memory_is_read_again_and_equal(class_folders):
    folder = Folder(class_folders)
    kept, small = Store(folder, (32, 32)), Store(folder, (32, 32), memory=20_000)
    assert kept.in_memory and not small.in_memory
    for i in range(12):
        numpy.testing.assert_array_equal(kept.image(i), small.image(i))
    assert kept.mean_std(range(12)) == small.mean_std(range(12))


def test_bad_images_are_an_error_or_left_out(class_folders):
    whole = Store(Folder(class_folders), (32, 32))
    (class_folders / 'ant/3.png').write_bytes((class_folders / 'ant/3.png').read_bytes()[:99])
    folder = Folder(class_folders)
    with pytest.raises(InputError, match='ant/3.png.*--skip-bad'):
        Store(folder, (32, 32))
    store = Store(folder, (32, 32), skip_bad=True)
    assert len(store.bad) == 1 and '3.png' in store.bad[0]
    assert numpy.bincount(store.dataset.labels).tolist() == [5, 6]
    others = [i for i in range(12) if i != 3]
    for i, j in enumerate(others):
        numpy.testing.assert_array_equal(store.image(i), whole.image(j))
        assert store.dataset.name(i) == whole.dataset.name(j)
    assert store.mean_std(range(11)) == whole.mean_std(others)


@pytest.mark.parametrize('batchsize', [3, 4, 10])
def test_every_epoch_shows_every_image_once_in_another_order(batchsize):
    n, order = 10, EpochOrder(seed=3)
    iterator = chainer.iterators.SerialIterator(
        numpy.arange(10 ** 6), batchsize, shuffle=None, order_sampler=lambda o, p: order(o[:n], p))
    seen = numpy.concatenate([iterator.next() for _ in range(3 * n)])[:4 * n].reshape(4, n)
    for epoch in seen:
        assert sorted(epoch % n) == list(range(n))
        assert len(set(epoch // n)) == 1
    assert (seen // n)[:, 0].tolist() == [1, 2, 3, 4]
    assert len({tuple(epoch % n) for epoch in seen}) == 4


def batches(workers, n=7):
    shapes = Shapes(12)
    examples = Examples(Store(shapes, (32, 32)), numpy.arange(1, 11), Augment((32, 32), 4), seed=5)
    iterator = make_iterator(examples, 4, workers, train=True, seed=5)
    out = [iterator.next() for _ in range(n)]
    iterator.finalize()
    return out


def test_random_changes_do_not_depend_on_workers():
    for one, two in zip(batches(0), batches(2), strict=True):
        for (image, label), (image2, label2) in zip(one, two, strict=True):
            numpy.testing.assert_array_equal(image, image2)
            assert label == label2


def test_an_image_looks_different_in_each_epoch():
    shapes = Shapes(12)
    examples = Examples(Store(shapes, (32, 32)), numpy.arange(12), Augment((32, 32), 4), seed=5)
    views = [examples[3 + 12 * epoch][0] for epoch in range(1, 6)]
    assert len({v.tobytes() for v in views}) == 5
    assert all(examples[3 + 12 * epoch][1] == shapes.labels[3] for epoch in range(6))


def test_an_image_that_vanishes_is_handed_on_as_the_error(class_folders):
    store = Store(Folder(class_folders), (32, 32), memory=0)
    (class_folders / 'ant/0.png').unlink()
    example = Examples(store, numpy.arange(12), CenterCrop((32, 32)))[0]
    assert isinstance(example, InputError) and '0.png: no such file' in str(example)
