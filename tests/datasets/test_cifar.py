"""Small archives in the official formats, byte for byte."""
import dataclasses
import hashlib
import io
import tarfile

import numpy
import pytest

from chainer_abn.datasets import cifar, open_dataset
from chainer_abn.datasets.download import Remote
from chainer_abn.errors import InputError


def records(label_rows, seed=0):
    rng = numpy.random.default_rng(seed)
    return b''.join(bytes(labels) + rng.integers(0, 256, 3072).astype('u1').tobytes()
                    for labels in label_rows)


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / 'cifar-10-batches-bin'
    folder.mkdir()
    (folder / 'batches.meta.txt').write_text('\n'.join('abcdefghij') + '\n\n')
    for i in range(1, 6):
        (folder / f'data_batch_{i}.bin').write_bytes(records([[i], [0]], i))
    (folder / 'test_batch.bin').write_bytes(records([[9], [8]], 9))
    return folder


def published(monkeypatch, archive):
    """Let this be the official archive."""
    data = archive.read_bytes()
    remote = Remote(archive.as_uri(), hashlib.sha256(data).hexdigest(), len(data))
    source = dataclasses.replace(cifar.SOURCES['cifar10'], archive=remote)
    monkeypatch.setitem(cifar.SOURCES, 'cifar10', source)


def test_cifar10_records(cifar10):
    dataset = open_dataset('cifar10', cifar10.parent)
    assert dataset.classes == tuple('abcdefghij')
    assert dataset.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    raw = numpy.frombuffer((cifar10 / 'data_batch_3.bin').read_bytes(), 'u1')
    image = dataset.image(4)
    assert image.shape == (32, 32, 3)
    # red, green, blue planes, row by row, behind one byte of label
    assert image[2, 5].tolist() == [raw[1 + c * 1024 + 2 * 32 + 5] for c in range(3)]


def test_cifar10_split_and_subset(cifar10):
    dataset = open_dataset('cifar10', cifar10, with_split=True)
    train, test = dataset.split
    assert len(train) == 10 and dataset.labels[test].tolist() == [9, 8]


def test_cifar100_takes_the_fine_label(tmp_path):
    (tmp_path / 'fine_label_names.txt').write_text('\n'.join(f'c{i:02}' for i in range(100)))
    (tmp_path / 'train.bin').write_bytes(records([[19, 99], [3, 0]]))
    dataset = open_dataset('cifar100', tmp_path)
    assert dataset.labels.tolist() == [99, 0] and len(dataset.classes) == 100


def test_archive_is_read_and_its_digest_checked(cifar10, tmp_path, monkeypatch):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w:gz') as tar:
        tar.add(cifar10, cifar10.name)
    where = tmp_path / 'archives'
    where.mkdir()
    (where / 'cifar-10-binary.tar.gz').write_bytes(data.getvalue())
    with pytest.raises(InputError, match='cifar-10-binary.tar.gz: the SHA-256 digest is wrong'):
        open_dataset('cifar10', where)
    published(monkeypatch, where / 'cifar-10-binary.tar.gz')
    assert open_dataset('cifar10', where).labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]


def test_archive_is_downloaded_to_the_cache(cifar10, tmp_path, monkeypatch):
    archive = tmp_path / 'published/cifar-10-binary.tar.gz'
    archive.parent.mkdir()
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(cifar10, cifar10.name)
    published(monkeypatch, archive)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert open_dataset('cifar10').labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    archive.unlink()
    assert len(open_dataset('cifar10', with_split=True)) == 12
    assert [path.name for path in (tmp_path / 'cache/chainer_abn').iterdir()] == [archive.name]


@pytest.mark.parametrize('data, message', [
    (records([[1]])[:-7], 'data_batch_2.bin: 3066 bytes are no whole number of 3073-byte'),
    (b'', 'data_batch_2.bin: 0 bytes'),
    (records([[0], [10]]), 'data_batch_2.bin: label 10 in record 1'),
    (None, 'data_batch_2.bin: No such file')])
def test_broken_batches_are_named(cifar10, data, message):
    path = cifar10 / 'data_batch_2.bin'
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_dataset('cifar10', cifar10)


def test_empty_data_dir_says_where_the_archive_is(tmp_path):
    with pytest.raises(InputError, match='neither cifar-10-binary.tar.gz nor .*https://'):
        open_dataset('cifar10', tmp_path)


def test_names_of_classes_that_are_no_text_are_told(cifar10):
    path = cifar10 / 'batches.meta.txt'
    path.write_bytes(b'a\nb\xff\n')
    with pytest.raises(InputError) as told:
        open_dataset('cifar10', cifar10)
    assert str(told.value) == f'{path}: not the names of classes, in UTF-8'


@pytest.mark.parametrize('archive', [b'', b'no archive'])
def test_an_archive_that_cannot_be_read_is_told(tmp_path, monkeypatch, archive):
    path = tmp_path / 'cifar-10-binary.tar.gz'
    path.write_bytes(archive)
    published(monkeypatch, path)
    with pytest.raises(InputError) as told:
        open_dataset('cifar10', tmp_path)
    assert str(told.value).startswith(f'{path}: cifar-10-batches-bin/batches.meta.txt cannot be read from it')


def test_a_file_that_an_archive_lacks_is_told(cifar10, tmp_path, monkeypatch):
    (cifar10 / 'data_batch_4.bin').unlink()
    archive = tmp_path / 'cifar-10-binary.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(cifar10, cifar10.name)
    cifar10.rename(tmp_path / 'elsewhere')
    published(monkeypatch, archive)
    with pytest.raises(InputError, match='binary.tar.gz: .*/data_batch_4.bin cannot be read from it'):
        open_dataset('cifar10', tmp_path)
