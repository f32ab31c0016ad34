"""Small files in the official layout of CelebA."""
import zipfile

import numpy
import pytest
from PIL import Image

from chainer_abn.datasets import celeba
from chainer_abn.datasets.celeba import CelebA
from chainer_abn.errors import InputError

ATTRIBUTES = ['5_o_Clock_Shadow', 'Smiling', 'Young']
FILES = [f'00000{i}.jpg' for i in range(1, 6)]
SIGNS = [(-1, 1, -1), (1, 1, 1), (-1, -1, -1), (1, -1, 1), (-1, -1, 1)]
PARTS = [0, 2, 1, 0, 2]


def attribute_rows():
    """As in the official file: signs in columns of two characters."""
    return [f'{file} {" ".join(f"{sign:2}" for sign in signs)}'
            for file, signs in zip(FILES, SIGNS, strict=True)]


def partition_rows():
    return [f'{file} {part}' for file, part in zip(FILES, PARTS, strict=True)]


def write_attributes(root, rows, count=None, names=None, end='\n'):
    count = len(rows) if count is None else count
    lines = [str(count), ' '.join(ATTRIBUTES) + ' ' if names is None else names, *rows]
    (root / 'list_attr_celeba.txt').write_bytes(''.join(line + end for line in lines).encode())


def write_partition(root, rows, end='\n'):
    (root / 'list_eval_partition.txt').write_bytes(''.join(row + end for row in rows).encode())


@pytest.fixture
def root(tmp_path):
    root = tmp_path / 'CelebA'
    (root / 'img_align_celeba').mkdir(parents=True)
    for i, file in enumerate(FILES, 1):
        Image.new('RGB', (178, 218), (40 * i + 10, 0, 0)).save(root / 'img_align_celeba' / file)
    write_attributes(root, attribute_rows())
    write_partition(root, partition_rows())
    return root


def message(root, with_split=True):
    with pytest.raises(InputError) as caught:
        CelebA(root, with_split)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def reds(dataset):
    return [int(dataset.image(i)[..., 0].mean().round()) // 40 for i in range(len(dataset))]


def test_training_images_are_those_of_the_first_two_parts(root):
    dataset = CelebA(root)
    assert dataset.classes == tuple(ATTRIBUTES) and dataset.multitask and dataset.split is None
    assert dataset.labels.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]] and dataset.labels.dtype == 'i'
    assert [dataset.name(i) for i in range(3)] == [
        str(root / 'img_align_celeba' / FILES[i]) for i in (0, 2, 3)]
    assert reds(dataset) == [1, 3, 4] and dataset.image(0).shape == (218, 178, 3)


def test_test_images_are_those_of_the_last_part(root):
    dataset = CelebA(str(root), with_split=True)
    train, test = dataset.split
    assert train.tolist() == [0, 1, 2] and test.tolist() == [3, 4]
    assert dataset.labels[test].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert reds(dataset) == [1, 3, 4, 2, 5]


def test_forty_attributes_come_back_as_they_were_written(root):
    signs = numpy.where(numpy.random.default_rng(0).random((5, 40)) < 0.5, -1, 1)
    names = [f'A_{i}' for i in range(40)]
    rows = [' '.join([file, *map(str, row)]) for file, row in zip(FILES, signs, strict=True)]
    write_attributes(root, rows, names=' '.join(names))
    dataset = CelebA(root, with_split=True)
    assert dataset.classes == tuple(names)
    numpy.testing.assert_array_equal(2 * dataset.labels - 1, signs[[0, 2, 3, 1, 4]])


def test_lists_go_by_name_not_by_row(root):
    wanted = CelebA(root, with_split=True)
    write_partition(root, partition_rows()[::-1])
    dataset = CelebA(root, with_split=True)
    assert dataset.labels.tolist() == wanted.labels.tolist() and reds(dataset) == reds(wanted)


def test_official_folders_windows_line_ends_and_spaces_are_taken(root):
    wanted = CelebA(root, with_split=True)
    wanted_reds = reds(wanted)
    write_attributes(root, attribute_rows(), end=' \r\n')
    write_partition(root, partition_rows(), end='\r\n')
    for folder, name in (('Anno', 'list_attr_celeba.txt'), ('Eval', 'list_eval_partition.txt'),
                         ('Img', 'img_align_celeba')):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    dataset = CelebA(root, with_split=True)
    assert dataset.classes == wanted.classes and dataset.labels.tolist() == wanted.labels.tolist()
    assert dataset.name(0) == str(root / 'Img/img_align_celeba/000001.jpg') and reds(dataset) == wanted_reds


def zipped(root):
    """The images as the archive alone."""
    archive = root / 'img_align_celeba.zip'
    folder = root / 'img_align_celeba'
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('img_align_celeba/', '')
        for path in sorted(folder.iterdir()):
            file.write(path, f'img_align_celeba/{path.name}')
            path.unlink()
    folder.rmdir()
    return archive


def test_the_archive_is_unpacked_once(root):
    archive = zipped(root)
    assert reds(CelebA(root)) == [1, 3, 4]
    archive.unlink()
    assert reds(CelebA(root)) == [1, 3, 4]
    assert sorted(path.name for path in (root / 'img_align_celeba').iterdir()) == FILES


def test_an_archive_of_the_official_size_needs_the_official_digest(root, monkeypatch):
    archive = zipped(root)
    monkeypatch.setattr(celeba, 'ZIP_BYTES', archive.stat().st_size)
    text = message(root)
    assert text.startswith(f'{archive}: the SHA-256 digest is wrong') and 'https://mmlab' in text
    assert not (root / 'img_align_celeba').exists()
    monkeypatch.setattr(celeba, 'ZIP_SHA256', celeba.sha256(archive))
    assert reds(CelebA(root)) == [1, 3, 4]


def replaced(rows, number, row):
    rows[number] = row
    return rows


@pytest.mark.parametrize('row, text', [
    ('000003.jpg -1 -1', ', row 5: 2 values for 3 attributes'),
    ('000003.jpg -1 -1 -1 1', ', row 5: 4 values for 3 attributes'),
    ('', ', row 5: 0 values for 3 attributes'),
    ('000003.jpg -1 0 -1', ", row 5: label '0', but an attribute is 1 or -1"),
    ('000003.jpg -1 1-1 1', ", row 5: label '1-1', but an attribute is 1 or -1"),
    ('000002.jpg -1 1 -1', ', row 5: 000002.jpg is in row 4 already'),
    ('../3.jpg 1 1 1', ", row 5: '../3.jpg' is no path inside {images}"),
    ('/3.jpg 1 1 1', ", row 5: '/3.jpg' is no path inside {images}"),
    ('000009.jpg 1 1 1', ', row 5: no image {images}/000009.jpg; it is had from https')])
def test_a_broken_row_of_attributes_is_named(root, row, text):
    write_attributes(root, replaced(attribute_rows(), 2, row))
    # the other list agrees
    rows = dict.fromkeys(f'{line.split()[0]} 0' for line in replaced(attribute_rows(), 2, row) if line)
    write_partition(root, rows)
    said = message(root)
    assert said.startswith(f'{root}/list_attr_celeba.txt')
    assert text.format(images=root / 'img_align_celeba') in said


@pytest.mark.parametrize('changes, text', [
    ({'count': 6}, ': 6 images by row 1, but 5 rows of images; cut short?'),
    ({'count': 4}, ': 4 images by row 1, but 5 rows'),
    ({'count': 'five'}, ", row 1: 'five' is not the number of images"),
    ({'count': '9' * 5000}, ", row 1: '9999"),
    ({'names': 'A B A'}, ', row 2: not the names of the attributes, each once'),
    ({'names': ''}, ', row 2: not the names of the attributes'),
    ({'rows': []}, ': no row of an image')])
def test_a_broken_head_of_the_attributes_is_named(root, changes, text):
    write_attributes(root, **{'rows': attribute_rows(), **changes})
    assert f'{root}/list_attr_celeba.txt{text}' in message(root)


@pytest.mark.parametrize('row, text', [
    ('000003.jpg', "row 3: '000003.jpg' is not an image and its part"),
    ('000003.jpg 1 1', "row 3: '000003.jpg 1 1' is not an image and its part"),
    ('', "row 3: '' is not an image and its part"),
    ('000003.jpg 3', "row 3: part '3', but there are 0, 1 and 2"),
    ('000002.jpg 1', 'row 3: 000002.jpg is in a row above already'),
    ('000009.jpg 1', 'row 3: 000009.jpg is not in {root}/list_attr_celeba.txt')])
def test_a_broken_row_of_the_partition_is_named(root, row, text):
    write_partition(root, replaced(partition_rows(), 2, row))
    assert f'{root}/list_eval_partition.txt, {text.format(root=root)}' in message(root)


def test_an_image_without_a_part_is_named(root):
    write_partition(root, partition_rows()[:4])
    assert message(root) == (f'{root}/list_attr_celeba.txt, row 7: 000005.jpg is not in '
                             f'{root}/list_eval_partition.txt')


def test_no_training_image_and_no_text_are_refused(root):
    write_partition(root, [f'{file} 2' for file in FILES])
    assert 'list_eval_partition.txt has no training image' in message(root, with_split=False)
    (root / 'list_eval_partition.txt').write_bytes(b'\r\n')
    assert 'list_eval_partition.txt: the list is empty' in message(root)
    (root / 'list_attr_celeba.txt').write_bytes(b'5\nA B C\n\xff')
    assert 'list_attr_celeba.txt, row 3: not UTF-8 text' in message(root)


@pytest.mark.parametrize('name, text', [
    ('list_attr_celeba.txt', 'no list_attr_celeba.txt in it or in Anno/'),
    ('list_eval_partition.txt', 'no list_eval_partition.txt in it or in Eval/'),
    ('img_align_celeba', 'neither img_align_celeba/ nor img_align_celeba.zip in it or in Img/')])
def test_what_is_missing_is_told_with_where_it_is_had(root, name, text):
    (root / name).rename(root / 'away')
    assert message(root) == (f'{root}: {text}; it is had from '
                             'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html')


def test_no_folder_says_what_is_needed(tmp_path):
    text = message(None)
    assert text.startswith('--dataset celeba: needs --data-dir, a folder with img_align_celeba/, list_attr')
    assert text.endswith('it is had from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html')
    assert f'--data-dir {tmp_path / "nowhere"}: no such folder' in message(tmp_path / 'nowhere')
