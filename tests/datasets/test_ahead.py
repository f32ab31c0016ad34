"""Batches sent ahead, against those that the same iterators make on the CPU, one at a time."""
import numpy
import pytest

from chainer_abn.datasets.ahead import send_ahead
from chainer_abn.datasets.examples import Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.on_gpu import on_gpu
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.transforms import Augment, CenterCrop, Normalize
from chainer_abn.errors import InputError
from chainer_abn.training.trainer import make_iterator

import chainer

NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
STATE = 'epoch', 'is_new_epoch', 'epoch_detail', 'previous_epoch_detail', 'current_position'
SOURCES = 'host', 'workers', 'gpu'


@pytest.fixture
def device():
    device = chainer.get_device('@cupy:0')
    with chainer.using_device(device):
        yield device


class Plain:
    """Batches of 4 of 10 images on the CPU, so that some span two epochs."""

    def __init__(self, train=True):
        store = Store(Shapes(12), (32, 32))
        transform = Augment((32, 32), 4) if train else CenterCrop((28, 28))
        self.examples, self.train = Examples(store, numpy.arange(1, 11), transform, 5), train
        self.iterator = make_iterator(self.examples, 4, 0, train, 5)

    def next(self):
        return NORMALIZE(self.iterator.next())


class Sent(Plain):
    """The same on a GPU."""

    def __init__(self, source, device, train=True, dtype='f'):
        super().__init__(train)
        examples, = on_gpu([self.examples], device) if source == 'gpu' else [self.examples]
        plain = make_iterator(examples, 4, 2 if source == 'workers' else 0, train, 5)
        (self.iterator,), self.converter = send_ahead(
            [plain], Normalize(NORMALIZE.mean, NORMALIZE.std, dtype=dtype), device)
        self.device = device

    def next(self):
        return self.converter(self.iterator.next(), self.device)


def state(batches):
    return [getattr(batches.iterator, name) for name in STATE]


def saved(batches):
    serializer = chainer.serializers.DictionarySerializer()
    batches.iterator.serialize(serializer)
    return serializer.target


def load(batches, state):
    batches.iterator.serialize(chainer.serializers.NpzDeserializer(state))


def assert_equal(sent, plain):
    for one, other in zip(sent, plain, strict=True):
        assert isinstance(one, chainer.backends.cuda.ndarray)
        numpy.testing.assert_array_equal(one.get(), other)


def assert_same_state(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        numpy.testing.assert_array_equal(value, other[name])


def test_on_the_cpu_all_stays_as_it_is():
    iterators = [Plain().iterator, Plain(train=False).iterator]
    ahead, converter = send_ahead(iterators, NORMALIZE, chainer.get_device('@numpy'))
    assert ahead == iterators and converter is NORMALIZE


@pytest.mark.gpu
@pytest.mark.parametrize('source', SOURCES)
def test_batches_and_state_are_those_of_the_cpu(device, source):
    plain, sent = Plain(), Sent(source, device)
    assert state(sent) == state(plain)
    for _ in range(9):
        assert_equal(sent.next(), plain.next())
        assert state(sent) == state(plain)
    sent.iterator.finalize()


@pytest.mark.gpu
@pytest.mark.parametrize('source', SOURCES)
def test_no_batch_is_overwritten_by_the_next_ones(device, source):
    """All are asked for before the first is looked at; no stream is given a reason to hurry."""
    plain, sent = Plain(), Sent(source, device)
    stream = device.xp.cuda.Stream(non_blocking=True)
    with stream:
        batches = [sent.next() for _ in range(12)]
        doubled = [2 * x for x, _ in batches]
    stream.synchronize()
    for (x, t), twice in zip(batches, doubled, strict=True):
        wanted_x, wanted_t = plain.next()
        assert_equal((x, t, twice), (wanted_x, wanted_t, 2 * wanted_x))
    sent.iterator.finalize()


@pytest.mark.gpu
@pytest.mark.parametrize('source', SOURCES)
def test_validation_ends_with_a_smaller_batch_and_starts_again(device, source):
    plain, sent = Plain(train=False), Sent(source, device, train=False)
    for _ in range(2):
        for size in 4, 4, 2:
            x, t = sent.next()
            assert len(x) == len(t) == size
            assert_equal((x, t), plain.next())
            assert state(sent) == state(plain)
        for _ in range(2):
            for batches in plain, sent:
                with pytest.raises(StopIteration):
                    batches.next()
        assert sent.iterator.epoch == plain.iterator.epoch == 1
        sent.iterator.reset()
        plain.iterator.reset()
        assert state(sent) == state(plain)
    sent.iterator.finalize()


@pytest.mark.gpu
def test_a_validation_that_was_broken_off_starts_at_the_first_image(device):
    plain, sent = Plain(train=False), Sent('host', device, train=False)
    sent.next()
    sent.iterator.reset()
    assert_equal(sent.next(), plain.next())
    sent.iterator.finalize()


@pytest.mark.gpu
@pytest.mark.parametrize('n', [0, 1, 4, 5])
@pytest.mark.parametrize('source', SOURCES)
def test_saved_and_resumed_in_the_middle_of_an_epoch(device, source, n):
    """The state saved is the plain iterator's, whoever loads it goes on with the next batch, and so does
    the one that was saved."""
    plain, sent = Plain(), Sent(source, device)
    for _ in range(n):
        plain.next()
        sent.next()
    kept = saved(sent)
    assert_same_state(kept, saved(plain))
    resumed, on_cpu = Sent(source, device), Plain()
    resumed.next()
    load(resumed, kept)
    load(on_cpu, kept)
    for _ in range(4):
        assert state(resumed) == state(sent) == state(plain)
        wanted = plain.next()
        assert_equal(sent.next(), wanted)
        assert_equal(resumed.next(), wanted)
        for one, other in zip(on_cpu.next(), wanted, strict=True):
            numpy.testing.assert_array_equal(one, other)
    sent.iterator.finalize()
    resumed.iterator.finalize()


@pytest.mark.gpu
def test_float16_is_float32_rounded_once(device):
    plain, sent = Plain(), Sent('host', device, dtype='e')
    for _ in range(3):
        x, t = sent.next()
        wanted_x, wanted_t = plain.next()
        assert_equal((x, t), (wanted_x.astype('e'), wanted_t))
        assert x.dtype == 'e' and x.flags.c_contiguous
    sent.iterator.finalize()


@pytest.mark.gpu
@pytest.mark.parametrize('workers', [0, 2])
def test_an_unreadable_image_is_raised_at_its_batch(device, class_folders, workers):
    store = Store(Folder(class_folders), (32, 32), memory=0)
    (class_folders / 'bee/3.png').unlink()              # image 9 of 12
    plain = make_iterator(Examples(store, numpy.arange(12), CenterCrop((32, 32))), 4, workers, False)
    (sent,), _ = send_ahead([plain], NORMALIZE, device)
    for k in 1, 2:
        assert sent.next()[0].shape == (4, 3, 32, 32)
        assert sent.epoch_detail == pytest.approx(k / 3)
    with pytest.raises(InputError, match='3.png: no such file'):
        sent.next()
    sent.finalize()
