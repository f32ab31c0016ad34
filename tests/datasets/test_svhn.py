"""Small files in SVHN's format 2, written as MATLAB writes them."""
import dataclasses
import hashlib

import numpy
import pytest
import scipy.io

from chainer_abn.datasets import svhn
from chainer_abn.datasets.svhn import Svhn
from chainer_abn.errors import InputError

LABELS = {'train': [1, 10, 9], 'extra': [2, 2, 10, 5, 3], 'test': [8, 10]}


def arrays(part):
    labels = LABELS[part]
    rng = numpy.random.default_rng(len(labels))
    return {'X': rng.integers(0, 256, (32, 32, 3, len(labels))).astype('u1'),
            'y': numpy.array(labels, 'u1')[:, None]}


def write(folder, part, compress=True, **changes):
    variables = {name: value for name, value in {**arrays(part), **changes}.items() if value is not None}
    scipy.io.savemat(folder / f'{part}_32x32.mat', variables, do_compression=compress)


@pytest.fixture(params=[True, False], ids=['compressed', 'plain'])
def folder(request, tmp_path):
    for part in LABELS:
        write(tmp_path, part, request.param)
    return tmp_path


def test_images_and_labels_of_train_and_extra(folder):
    dataset = Svhn(folder)
    assert dataset.classes == tuple('0123456789') and dataset.split is None and len(dataset) == 8
    # the digits themselves: 10 is 0
    assert dataset.labels.tolist() == [1, 0, 9, 2, 2, 0, 5, 3] and dataset.labels.dtype == 'i'
    assert dataset.images.dtype == 'u1' and dataset.images.flags.c_contiguous
    assert dataset.name(3) == 'svhn image 3'
    for part, start in ('train', 0), ('extra', 3):
        x = arrays(part)['X']
        for n in range(x.shape[3]):
            for row, column, channel in (0, 0, 0), (31, 2, 1), (7, 30, 2):
                assert dataset.image(start + n)[row, column, channel] == x[row, column, channel, n]
            numpy.testing.assert_array_equal(dataset.images[start + n], x[..., n])


def test_split(folder):
    dataset = Svhn(folder, with_split=True)
    train, test = dataset.split
    assert train.tolist() == list(range(8)) and dataset.labels[test].tolist() == [8, 0]
    numpy.testing.assert_array_equal(dataset.images[test[1]], arrays('test')['X'][..., 1])


def test_test_images_are_not_needed_without_the_split(folder):
    (folder / 'test_32x32.mat').unlink()
    assert len(Svhn(folder)) == 8
    with pytest.raises(InputError, match='test_32x32.mat: no such file'):
        Svhn(folder, with_split=True)


def test_files_in_a_folder_svhn(folder):
    (folder / 'svhn').mkdir()
    for part in LABELS:
        (folder / f'{part}_32x32.mat').rename(folder / f'svhn/{part}_32x32.mat')
    assert len(Svhn(folder)) == 8
    assert len(Svhn(folder / 'svhn')) == 8


def test_labels_as_double_and_one_image(tmp_path):
    # MATLAB leaves out the last axis of a single image
    write(tmp_path, 'train', X=arrays('train')['X'][..., 0], y=numpy.array([[10.0]]))
    write(tmp_path, 'extra', y=arrays('extra')['y'].astype('f8'))
    dataset = Svhn(tmp_path)
    assert dataset.labels.tolist() == [0, 2, 2, 0, 5, 3]
    numpy.testing.assert_array_equal(dataset.image(0), arrays('train')['X'][..., 0])


def test_missing_file_says_where_it_is_had(tmp_path):
    with pytest.raises(InputError, match=r'/extra_32x32.mat: no such file; it is at '
                                         r'http://ufldl.stanford.edu/housenumbers/extra_32x32.mat'):
        write(tmp_path, 'train')
        Svhn(tmp_path)


X, Y = arrays('extra').values()


@pytest.mark.parametrize('changes, message', [
    ({'X': None}, "no variable 'X'"),
    ({'y': None}, "no variable 'y'"),
    ({'y': Y[:-1]}, r'X is of \(32, 32, 3, 5\) and y of \(4, 1\), not'),
    ({'y': Y.T}, r'X is .* y of \(1, 5\), not'),
    ({'X': X[:31]}, r'X is of \(31, 32, 3, 5\)'),
    ({'X': X.transpose(3, 0, 1, 2)}, r'X is of \(5, 32, 32, 3\)'),
    ({'X': X[..., None]}, r'X is of \(32, 32, 3, 5, 1\)'),
    ({'X': X[:, :, :, :0], 'y': Y[:0]}, 'no image in it'),
    ({'X': X.astype('u2')}, 'X is uint16 and y uint8'),
    ({'X': X / 255}, 'X is float64'),
    ({'y': numpy.array([['1'] * 5], object).T}, 'X is uint8 and y object'),
    ({'y': numpy.array([[1], [2], [0], [11], [3]])}, 'y is 0 in row 3; labels are 1 to 10'),
    ({'y': numpy.array([[1], [2], [3], [11], [3]])}, 'y is 11 in row 4;'),
    ({'y': numpy.array([[1], [2], [-1], [4], [3]])}, 'y is -1 in row 3;'),
    ({'y': numpy.array([[1], [2.5], [3], [4], [3]])}, 'y is 2.5 in row 2;'),
    ({'y': numpy.array([[1], [2], [3], [4], [numpy.nan]])}, 'y is nan in row 5;')])
def test_what_is_refused(folder, changes, message):
    write(folder, 'extra', **changes)
    with pytest.raises(InputError, match=rf'extra_32x32.mat: {message}.*; the file is of \d+ bytes, '
                                         'and the official one, at http.*, of 1329278602'):
        Svhn(folder)


def test_cut_file(folder):
    path = folder / 'train_32x32.mat'
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r'train_32x32.mat: .*cut short.* of 182040794'):
        Svhn(folder)


def as_official(monkeypatch, folder):
    """Let the files that lie there be the official ones."""
    for name in 'TRAIN', 'TEST':
        monkeypatch.setattr(svhn, name, tuple(
            dataclasses.replace(file, url=(folder / file.name).as_uri(), size=len(data),
                                sha256=hashlib.sha256(data).hexdigest())
            for file in getattr(svhn, name) for data in [(folder / file.name).read_bytes()]))


def test_official_size_with_another_digest(folder, monkeypatch):
    as_official(monkeypatch, folder)
    assert len(Svhn(folder)) == 8
    path = folder / 'extra_32x32.mat'
    data = bytearray(path.read_bytes())
    data[0] ^= 1                    # a byte of the header's text
    path.write_bytes(data)
    with pytest.raises(InputError, match='extra_32x32.mat: the SHA-256 digest is wrong; remove the file'):
        Svhn(folder)
    path.write_bytes(data + bytes(8))
    with pytest.raises(InputError, match='the official one'):
        Svhn(folder)


def test_missing_files_are_downloaded_to_the_cache(folder, tmp_path, monkeypatch):
    as_official(monkeypatch, folder)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    cache = tmp_path / 'cache/chainer_abn/svhn'
    assert Svhn().labels.tolist() == Svhn(folder).labels.tolist()
    assert sorted(path.name for path in cache.iterdir()) == ['extra_32x32.mat', 'train_32x32.mat']
    for part in 'train', 'extra':
        (folder / f'{part}_32x32.mat').unlink()
    assert len(Svhn(with_split=True)) == 10       # only the test images are fetched now
