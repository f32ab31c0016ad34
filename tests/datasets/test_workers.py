"""Batches read in worker processes, against those that are made in this process."""
import errno
import gc
import os
import signal
import time

import numpy
import pytest
from helpers import runs

from chainer_abn import interrupt
from chainer_abn.datasets import workers
from chainer_abn.datasets.batches import BatchIterator
from chainer_abn.datasets.examples import EpochOrder, Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.shapes import Shapes
from chainer_abn.datasets.transforms import Augment, CenterCrop
from chainer_abn.datasets.workers import NOTHING, Readers, WorkerIterator
from chainer_abn.errors import InputError

import chainer

STATE = 'epoch', 'is_new_epoch', 'epoch_detail', 'previous_epoch_detail', 'current_position'


@pytest.fixture
def iterators():
    """Makes iterators over 10 images, in batches of 4 if nothing else is said, so that some span two
    epochs; 0 is one without workers."""
    made = []

    def make(n_processes, train=True, batch_size=4, examples=None, **more):
        more = more or ({'order_sampler': EpochOrder(5)} if train else {'repeat': False, 'shuffle': False})
        examples = examples or Examples(
            Store(Shapes(12), (32, 32)), numpy.arange(1, 11), Augment((28, 24), 4, rotate=10), 5)
        made.append(WorkerIterator(examples, batch_size, n_processes, **more) if n_processes
                    else BatchIterator(examples, batch_size, **more))
        return made[-1]

    yield make
    for iterator in made:
        iterator.finalize()


@pytest.fixture
def photos(class_folders):
    """The examples of a folder, which are read whenever they are needed."""
    return Examples(Store(Folder(class_folders), (32, 32), memory=0), numpy.arange(12), CenterCrop((32, 32)))


def assert_same(iterator, other):
    assert [getattr(iterator, name) for name in STATE] == [getattr(other, name) for name in STATE]
    for one, two in zip(iterator.next(), other.next(), strict=True):
        assert one.dtype == two.dtype
        numpy.testing.assert_array_equal(one, two)
    assert [getattr(iterator, name) for name in STATE] == [getattr(other, name) for name in STATE]


def processes(iterator):
    return [worker.process for worker in iterator._readers.workers]


def wait_for_the_end_of(numbers):
    deadline = time.monotonic() + 20
    while any(map(runs, numbers)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not any(map(runs, numbers))


def saved(iterator):
    serializer = chainer.serializers.DictionarySerializer()
    iterator.serialize(serializer)
    return {name: numpy.array(value) for name, value in serializer.target.items()}


def load(iterator, state):
    iterator.serialize(chainer.serializers.NpzDeserializer(state))


@pytest.mark.parametrize('batch_size', [1, 4, 10])
@pytest.mark.parametrize('n_processes', [1, 2, 3])
def test_batches_and_state_are_those_without_workers(iterators, n_processes, batch_size):
    plain, read = (iterators(n, batch_size=batch_size) for n in (0, n_processes))
    while plain.epoch < 3:
        assert_same(read, plain)


def test_a_batch_larger_than_the_data_set(iterators):
    plain, read = iterators(0, batch_size=23), iterators(2, batch_size=23)
    for _ in range(3):
        assert_same(read, plain)


def test_a_batch_stays_until_the_next_one_is_asked_for(iterators):
    plain, read = iterators(0), iterators(2)
    for _ in range(5):
        images, labels = read.next()
        wait_until_idle(read)
        wanted_images, wanted_labels = plain.next()
        numpy.testing.assert_array_equal(images, wanted_images)
        numpy.testing.assert_array_equal(labels, wanted_labels)


def wait_until_idle(iterator):
    readers = iterator._readers
    while any(batch.missing for batch in readers.batches):
        readers._hear()


def test_labels_of_several_tasks(iterators):
    shapes = Shapes(12)
    shapes.labels = numpy.arange(36, dtype='i').reshape(12, 3) % 2
    examples = Examples(Store(shapes, (32, 32)), numpy.arange(1, 11), CenterCrop((32, 32)))
    assert_same(iterators(2, examples=examples), iterators(0, examples=examples))


def test_validation_ends_and_starts_over_with_the_same_workers(iterators):
    plain, read = iterators(0, train=False), iterators(2, train=False)
    for i in range(3):
        for _ in range(3):
            assert_same(read, plain)
        for _ in range(2):
            for iterator in read, plain:
                with pytest.raises(StopIteration):
                    iterator.next()
            assert read.previous_epoch_detail == plain.previous_epoch_detail == read.epoch_detail == 1
        read.reset()
        plain.reset()
        if i == 0:
            before = processes(read)
    assert processes(read) == before and all(map(runs, before))


def test_a_validation_that_was_broken_off_starts_at_the_first_image(iterators):
    plain, read = iterators(0, train=False), iterators(2, train=False)
    read.next()
    read.reset()
    for _ in range(3):
        assert_same(read, plain)


@pytest.mark.parametrize('n', [0, 1, 3, 5])
def test_saved_and_resumed_in_the_middle_of_an_epoch(iterators, n):
    """With workers and without; the one that was saved goes on as well."""
    plain, read = iterators(0), iterators(2)
    for _ in range(n):
        assert_same(read, plain)
    kept, wanted = saved(read), saved(plain)
    assert set(kept) == set(wanted)
    for name, value in kept.items():
        numpy.testing.assert_array_equal(value, wanted[name])
    here, there = iterators(0), iterators(2)
    there.next()                # and reads ahead what is not wanted
    for iterator in here, there:
        load(iterator, kept)
    for _ in range(4):
        states = [iterator._state[:3] for iterator in (read, plain, here, there)]
        assert all(state == states[0] for state in states)
        batches = [iterator.next() for iterator in (read, plain, here, there)]
        for images, labels in batches:
            numpy.testing.assert_array_equal(images, batches[1][0])
            numpy.testing.assert_array_equal(labels, batches[1][1])


def test_a_random_order_is_the_one_that_is_saved(iterators):
    """Chainer's own order, which is not the same when it is asked for again."""
    read = iterators(2, shuffle=True)
    for _ in range(4):
        read.next()
    here = iterators(0, shuffle=True)
    load(here, saved(read))
    assert_same(read, here)     # the last of this epoch, before a new order


@pytest.mark.parametrize('names', [('2.png', '3.png'), ('3.png', '4.png')])
def test_the_first_image_of_the_batch_that_cannot_be_read_is_raised(iterators, photos, names):
    for name in names:
        os.remove(photos.name(0).replace('0.png', name))
    with pytest.raises(InputError, match=f'ant/{names[0]}: no such file'):
        iterators(2, train=False, batch_size=6, examples=photos).next()


def test_an_unreadable_image_is_raised_at_its_batch_and_the_next_one_can_be_asked_for(iterators, photos):
    plain, read = (iterators(n, train=False, examples=photos) for n in (0, 2))
    os.remove(photos.name(6))
    assert_same(read, plain)
    for iterator in read, plain:
        with pytest.raises(InputError, match='bee/0.png: no such file'):
            iterator.next()
    assert_same(read, plain)


def broken(self, images, numbers):
    raise KeyError('a bug')


def test_another_exception_comes_with_the_traceback_of_the_worker(iterators, photos, monkeypatch):
    monkeypatch.setattr(CenterCrop, '__call__', broken)
    with pytest.raises(RuntimeError, match=r'in a process that reads images:\nTraceback(.*\n)*.*a bug'):
        iterators(2, examples=photos).next()


def test_workers_are_ended_once(iterators):
    read = iterators(2)
    read.finalize()
    read.next()
    numbers = processes(read)
    assert all(map(runs, numbers))
    read.finalize()
    assert not any(map(runs, numbers))
    for number in numbers:
        with pytest.raises(ChildProcessError):          # nothing is left of them
            os.waitpid(number, 0)
    read.finalize()


def test_the_signals_of_a_terminal_are_left_to_the_parent(iterators):
    plain, read = iterators(0), iterators(2)
    assert_same(read, plain)
    for signum in signal.SIGINT, signal.SIGTERM:
        for number in processes(read):
            os.kill(number, signum)
    for _ in range(4):
        assert_same(read, plain)


def hang(self, images, numbers):
    time.sleep(600)


@pytest.mark.parametrize('hangs', [False, True])
def test_workers_end_with_a_parent_that_is_killed(iterators, photos, monkeypatch, hangs):
    """Those of two iterators, of which the later ones have inherited what the earlier ones' parent held."""
    if hangs:
        monkeypatch.setattr(CenterCrop, '__call__', hang)
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            both = [Readers(photos, 4, 2) for _ in range(2)]
            for readers in both:
                readers.ask(numpy.arange(4))
                if not hangs:
                    readers.take()
            numbers = [worker.process for readers in both for worker in readers.workers]
            os.write(writing, ' '.join(map(str, numbers)).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    numbers = [int(number) for number in os.read(reading, 1000).split()]
    os.close(reading)
    ran = list(map(runs, numbers))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert ran == [True] * 4
    wait_for_the_end_of(numbers)


def test_workers_of_a_parent_are_not_those_of_a_fork(iterators):
    plain, read = iterators(0), iterators(2)
    assert_same(read, plain)
    child = os.fork()
    if child == 0:
        try:
            read.finalize()
            del read
            gc.collect()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    for _ in range(4):
        assert_same(read, plain)


def test_a_worker_that_died_while_it_waited_is_told(iterators):
    read = iterators(2)
    read.next()
    wait_until_idle(read)
    numbers = processes(read)
    os.kill(numbers[1], signal.SIGKILL)
    with pytest.raises(InputError) as told:
        for _ in range(3):
            read.next()
    assert str(told.value) == ('a process that reads images was killed by SIGKILL; was the memory full? '
                               '--workers 1 takes less')
    assert not any(map(runs, numbers))


@pytest.fixture
def readers():
    examples = Examples(Store(Shapes(12), (32, 32)), numpy.arange(12), CenterCrop((32, 32)))
    readers = Readers(examples, 4, 1)
    yield readers
    readers.end()


def test_silence_is_told_and_given_up(readers, capsys):
    """After seconds with one image, however many there have been before it."""
    worker, = readers.workers
    for number, seconds in (3, 130), (NOTHING, 70), (4, 599):
        readers.reading[0] = number
        for _ in range(seconds):
            readers._watch({worker})
    told = 'a process that reads images has not answered for'
    assert capsys.readouterr().err.splitlines() == [
        f'{told} 60 s while reading square_00003', f'{told} 120 s while reading square_00003',
        f'{told} 60 s', *(f'{told} {s} s while reading star_00004' for s in (60, 120, 240, 480))]
    with pytest.raises(InputError, match=f'^{told} 600 s while reading star_00004; are the disk'):
        readers._watch({worker})


def test_an_answer_starts_the_count_anew(readers, capsys):
    worker, = readers.workers
    for _ in range(2):
        for _ in range(59):
            readers._watch({worker})
        readers.ask(numpy.arange(4))
        readers.take()
    assert capsys.readouterr().err == ''


def test_more_processes_than_there_can_be(photos, monkeypatch):
    fork, started = os.fork, []

    def limited():
        if len(started) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(fork())
        return started[-1]

    monkeypatch.setattr(os, 'fork', limited)
    with pytest.raises(InputError, match='^--workers 5: only 2 processes could be started [(]Resource'):
        Readers(photos, 4, 5)
    assert not any(map(runs, started))


def test_memory_that_there_is_not():
    with pytest.raises(MemoryError):
        workers.shared((1 << 20, 1 << 30), 'i8')


@pytest.mark.parametrize('status, words', [
    (0, 'ended with status 0'), (3, 'ended with status 3'), (-signal.SIGSEGV, 'was killed by SIGSEGV'),
    (-signal.SIGRTMIN - 1, f'was killed by signal {signal.SIGRTMIN + 1}'), (None, 'has ended')])
def test_how_a_process_ended(status, words):
    assert interrupt.how_it_ended(status) == words
