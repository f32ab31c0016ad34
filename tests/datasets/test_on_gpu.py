"""Batches that a GPU's kernel makes, against those made on the CPU, bit by bit."""
import numpy
import pytest
from PIL import Image

from chainer_abn.datasets import on_gpu as module
from chainer_abn.datasets.examples import Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.on_gpu import Cuts, Cutter, on_gpu
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.transforms import Augment, CenterCrop, Normalize, ResizedCrop, crop

import chainer

MEAN_STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CPU = chainer.get_device('@numpy')
TRANSFORMS = {
    'pad': Augment((32, 32), 4), 'no flip': Augment((32, 32), 4, flip=False), 'inside': Augment((20, 25)),
    'beyond': Augment((50, 40), 3), 'middle': CenterCrop((32, 32)), 'small middle': CenterCrop((15, 20)),
    'large middle': CenterCrop((37, 50))}


@pytest.fixture
def device():
    device = chainer.get_device('@cupy:0')
    with chainer.using_device(device):
        yield device


@pytest.fixture
def examples():
    """Makes ten images' examples."""
    store = Store(Shapes(12), (32, 32))
    return lambda transform: Examples(store, numpy.arange(1, 11)[::-1], transform, 5)


def all_images(store):
    return numpy.stack([store.image(i) for i in range(len(store.dataset))])


NUMBERS = numpy.arange(100, 117)        # of ten examples' epochs 10 and 11


@pytest.mark.parametrize('transform', TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_cuts_say_how_the_images_of_the_batch_are_made(examples, transform):
    examples = examples(transform)
    images = all_images(examples.store)
    wanted, labels = examples.batch(NUMBERS)
    cuts = Cuts(examples, images).batch(NUMBERS)
    assert cuts.dtype == 'i'
    parts = crop(images[cuts[:, 0]], cuts[:, 1:3], transform.size)
    parts[cuts[:, 3] == 1] = parts[cuts[:, 3] == 1][:, :, ::-1]
    numpy.testing.assert_array_equal(parts, wanted)
    numpy.testing.assert_array_equal(cuts[:, 4], labels)


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_the_table_holds_what_each_value_becomes(order):
    normalize = Normalize(*MEAN_STD, order)
    images = numpy.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), 'u1')
    source = images[..., ::-1] if order == 'BGR' else images
    table = normalize.table()
    for channel in range(3):
        numpy.testing.assert_array_equal(table[channel][source[..., channel]],
                                         normalize.images(images)[:, channel])
    rounded = Normalize(*MEAN_STD, order, 'e')
    numpy.testing.assert_array_equal(rounded.table(), table.astype('e'))
    numpy.testing.assert_array_equal(rounded.images(images), normalize.images(images).astype('e'))


def test_images_stay_where_they_are_on_the_cpu(examples):
    parts = [examples(CenterCrop((32, 32))), examples(Augment((32, 32)))]
    assert on_gpu(parts, CPU) == parts


def test_shape_of_a_store(class_folders):
    assert Store(Shapes(12), (40, 40)).shape == (12, 40, 40, 3)
    assert Store(Folder(class_folders), (32, 32), memory=0).shape is None
    one = next(class_folders.rglob('*.png'))
    one.write_bytes((class_folders / 'ant/0.png').read_bytes())
    assert Store(Folder(class_folders), (32, 32)).shape == (12, 40, 32, 3)


def test_images_of_two_sizes_have_no_shape(class_folders):
    Image.new('RGB', (50, 33), 'red').save(class_folders / 'ant/wide.png')
    assert Store(Folder(class_folders), (32, 32)).shape is None


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', ['f', 'e'])
@pytest.mark.parametrize('order', ['RGB', 'BGR'])
@pytest.mark.parametrize('transform', TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_a_batch_cut_on_the_gpu_is_that_of_the_cpu(device, examples, transform, order, dtype):
    examples = examples(transform)
    normalize = Normalize(*MEAN_STD, order, dtype)
    wanted_x, wanted_t = Normalize(*MEAN_STD, order)(examples.batch(NUMBERS))
    cuts, = on_gpu([examples], device)
    x, t = Cutter(normalize, device)(cuts.images, device.send(cuts.batch(NUMBERS)), cuts.size)
    assert x.flags.c_contiguous and x.dtype == dtype and t.dtype == 'i'
    numpy.testing.assert_array_equal(x.get(), wanted_x.astype(dtype))
    numpy.testing.assert_array_equal(t.get()[:, 0], wanted_t)


def of_three_tasks(examples):
    labels = numpy.random.default_rng(0).integers(0, 2, (12, 3), 'i')
    examples.store.dataset.labels = labels
    return examples, labels[examples.indices]


def test_cuts_hold_the_labels_of_all_tasks(examples):
    examples, labels = of_three_tasks(examples(CenterCrop((32, 32))))
    cuts = Cuts(examples, all_images(examples.store)).batch(NUMBERS)
    numpy.testing.assert_array_equal(cuts[:, 4:], labels[NUMBERS % 10])


@pytest.mark.gpu
@pytest.mark.parametrize('size', [(32, 32), (1, 2)])
def test_a_batch_of_several_tasks_on_the_gpu(device, examples, size):
    """Also where an image has fewer pixels than there are labels."""
    examples, labels = of_three_tasks(examples(CenterCrop(size)))
    normalize = Normalize(*MEAN_STD)
    cuts, = on_gpu([examples], device)
    x, t = Cutter(normalize, device)(cuts.images, device.send(cuts.batch(NUMBERS)), cuts.size)
    numpy.testing.assert_array_equal(t.get(), labels[NUMBERS % 10])
    numpy.testing.assert_array_equal(x.get(), normalize(examples.batch(NUMBERS))[0])


@pytest.mark.gpu
def test_the_images_lie_on_the_gpu_once(device, examples, monkeypatch):
    monkeypatch.setattr(module, '_CHUNK', 5)
    train, validation = on_gpu([examples(Augment((32, 32), 4)), examples(CenterCrop((32, 32)))], device)
    assert train.images is validation.images and len(train) == 10
    numpy.testing.assert_array_equal(train.images.get(), all_images(train.examples.store))


@pytest.mark.gpu
def test_what_is_turned_or_too_much_stays_on_the_host(device, examples, monkeypatch):
    middle = examples(CenterCrop((32, 32)))
    for transform in (Augment((32, 32), rotate=5), Augment((32, 32), turn=True), ResizedCrop((32, 32)),
                      CenterCrop((32, 32), cover=(40, 40))):
        changed = examples(transform)
        assert on_gpu([changed, middle], device) == [changed, middle]
    monkeypatch.setattr(module, 'MEMORY', 12 * 32 * 32 * 3 - 1)
    assert on_gpu([middle], device) == [middle]
    monkeypatch.setattr(module, 'MEMORY', 12 * 32 * 32 * 3)
    assert isinstance(on_gpu([middle], device)[0], Cuts)
