import numpy
import pytest
from PIL import Image

from chainer_abn.datasets import examples
from chainer_abn.datasets.examples import EpochOrder, Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.transforms import Augment, CenterCrop, Normalize
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


def test_counted_in_bands_the_mean_is_the_same(class_folders, monkeypatch):
    whole = Store(Folder(class_folders), (32, 32)).mean_std(range(12))
    monkeypatch.setattr(examples, 'BAND', 100)
    assert Store(Folder(class_folders), (32, 32)).mean_std(range(12)) == whole


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


def examples_of(shapes, seed=5, **changes):
    return Examples(Store(shapes, (32, 32)), numpy.arange(1, 11), Augment((32, 32), 4, **changes), seed)


def batches(iterator, n=7):
    """x and t of the first batches; those of Chainer's iterator are lists of examples."""
    normalize, out = Normalize((0, 0, 0), (1, 1, 1)), []
    for _ in range(n):
        batch = iterator.next()
        out.append(normalize(chainer.dataset.concat_examples(batch) if isinstance(batch, list) else batch))
    iterator.finalize()
    return out


def assert_equal(ours, wanted):
    for one, two in zip(ours, wanted, strict=True):
        for array, array2 in zip(one, two, strict=True):
            numpy.testing.assert_array_equal(array, array2)


@pytest.mark.parametrize('rotate', [0, 10])
@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_those_of_chainers_serial_iterator(workers, rotate):
    """Example by example in this process: batches of 4 of 10 images, so that some span two epochs."""
    examples = examples_of(Shapes(12), rotate=rotate)
    serial = chainer.iterators.SerialIterator(examples, 4, order_sampler=EpochOrder(5))
    assert_equal(batches(make_iterator(examples, 4, workers, True, 5)), batches(serial))


def test_validation_takes_the_images_in_turn_once():
    shapes = Shapes(12)
    examples = Examples(Store(shapes, (32, 32)), numpy.arange(1, 11), CenterCrop((32, 32)))
    iterator = make_iterator(examples, 4, 0, train=False)
    for _ in range(2):
        images, labels = (numpy.concatenate(arrays) for arrays in zip(*iterator, strict=True))
        numpy.testing.assert_array_equal(images, shapes.images[1:11])
        numpy.testing.assert_array_equal(labels, shapes.labels[1:11])
        iterator.reset()


def test_random_changes_do_not_depend_on_the_batch_size():
    examples = examples_of(Shapes(12))
    one, two = (batches(make_iterator(examples, size, 0, True, 5), 30 // size) for size in (3, 10))
    assert_equal(*[[[numpy.concatenate(arrays) for arrays in zip(*b, strict=True)]] for b in (one, two)])


def test_a_resumed_iterator_goes_on_in_the_middle_of_an_epoch():
    shapes = Shapes(12)
    iterator = make_iterator(examples_of(shapes), 4, 0, True, 5)
    for _ in range(4):
        iterator.next()
    state = chainer.serializers.DictionarySerializer()
    iterator.serialize(state)
    resumed = make_iterator(examples_of(shapes), 4, 0, True, 5)
    resumed.serialize(chainer.serializers.NpzDeserializer(state.target))
    assert resumed.epoch_detail == iterator.epoch_detail == 1.6
    assert_equal(batches(resumed), batches(iterator))


def test_an_image_looks_different_in_each_epoch_and_with_another_seed():
    shapes = Shapes(12)
    examples = examples_of(shapes)
    views = [examples[3 + 10 * epoch][0] for epoch in range(1, 6)]
    views += [examples_of(shapes, seed)[13][0] for seed in range(5)]
    assert len({view.tobytes() for view in views}) == 10
    assert all(examples[3 + 10 * epoch][1] == shapes.labels[4] for epoch in range(6))
    # whichever epoch was asked for before
    numpy.testing.assert_array_equal(examples[13][0], views[0])


def test_images_of_different_sizes_read_again_make_the_same_batch(class_folders):
    Image.new('RGB', (50, 33), 'red').save(class_folders / 'ant/wide.png')
    folder = Folder(class_folders)
    kept, read = (Examples(Store(folder, (30, 30), memory=memory), numpy.arange(13), Augment((24, 24)))
                  for memory in (10 ** 9, 0))
    assert len({kept.store.image(i).shape for i in range(13)}) == 2
    assert_equal([kept.batch(numpy.arange(13))], [read.batch(numpy.arange(13))])


def test_an_image_that_vanishes_is_an_error(class_folders):
    store = Store(Folder(class_folders), (32, 32), memory=0)
    (class_folders / 'ant/0.png').unlink()
    examples = Examples(store, numpy.arange(12), CenterCrop((32, 32)))
    with pytest.raises(InputError, match='0.png: no such file'):
        examples.batch(numpy.arange(12))


class NotYetRead(Shapes):
    """Counts the images that are read."""
    count = 0

    def image(self, i, cover=None):
        self.count += 1
        return super().image(i)


@pytest.mark.parametrize('more, read', [
    ({'measure': False, 'memory': 12 * 32 * 32 * 3 - 1}, 0), ({'measure': False}, 12), ({'memory': 0}, 12),
    ({'measure': False, 'skip_bad': True, 'memory': 0}, 12)])
def test_images_are_read_ahead_where_that_is_of_use(more, read):
    shapes = NotYetRead(12)
    store = Store(shapes, (32, 32), **more)
    assert shapes.count == read and store.in_memory == ('memory' not in more)
    numpy.testing.assert_array_equal(store.image(5), shapes.images[5])
    assert store.bad == [] and (store.shape is None) == ('memory' in more)


@pytest.mark.parametrize('fit, shape', [
    ('cover', (25, 20, 3)), ('squeeze', (20, 20, 3)), ('keep', (40, 32, 3))])
def test_how_images_are_made_ready(class_folders, fit, shape):
    assert Store(Folder(class_folders), (20, 20), fit=fit).image(3).shape == shape


def test_labels_of_several_tasks(class_folders):
    folder = Folder(class_folders)
    folder.labels = numpy.arange(36, dtype='i').reshape(12, 3) % 2
    examples = Examples(Store(folder, (32, 32)), numpy.arange(12), CenterCrop((32, 32)))
    numbers = numpy.array([3, 5, 0])
    images, labels = examples.batch(numbers)
    numpy.testing.assert_array_equal(labels, folder.labels[numbers])
    for i, *example in zip(numbers, images, labels, strict=True):
        for found, wanted in zip(examples[i], example, strict=True):
            numpy.testing.assert_array_equal(found, wanted)


def test_names_and_labels_of_examples_in_any_epoch():
    shapes = Shapes(12)
    examples = examples_of(shapes)
    assert [examples.name(i) for i in (0, 9, 10, 39)] == [shapes.name(i) for i in (1, 10, 1, 10)]
    numpy.testing.assert_array_equal(examples.labels(numpy.array([4, 23, 10])), shapes.labels[[5, 4, 1]])
