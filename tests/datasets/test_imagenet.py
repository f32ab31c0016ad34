"""Small files in the official layout of ILSVRC2012."""
import io
import shutil
import tarfile
from pathlib import Path

import numpy
import pytest
import scipy.io
from PIL import Image

from chainer_abn.datasets.imagenet import ImageNet
from chainer_abn.errors import InputError

KIT = 'ILSVRC2012_devkit_t12'
# ILSVRC2012_ID, WNID, words, number of children: the IDs are not in the order of the WordNet ids
SYNSETS = [(1, 'n02119789', 'kit fox, Vulpes macrotis', 0), (2, 'n02100735', 'English setter', 0),
           (3, 'n01440764', 'tench, Tinca tinca', 0), (4, 'n02084071', 'dog, domestic dog', 2)]
IDS = ['n01440764', 'n02100735', 'n02119789']
NAMES = ('n01440764 tench', 'n02100735 English setter', 'n02119789 kit fox')
TRUTH = '2\n3\n3\n1\n'
TRAIN_FILES = [f'train/{wnid}/{wnid}_{i}.JPEG' for wnid in IDS for i in (3, 7)]
VAL_FILES = [f'val/ILSVRC2012_val_0000000{i}.JPEG' for i in (1, 2, 3, 4)]


def jpeg(grey):
    data = io.BytesIO()
    Image.new('RGB', (9, 7), (grey,) * 3).save(data, 'JPEG')
    return data.getvalue()


def write(path, data=b''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_kit(root, synsets=SYNSETS, truth=TRUTH):
    """The kit's two files; meta.mat is a struct array with every field of the official one."""
    rows = numpy.zeros((len(synsets), 1), [(name, 'O') for name in (
        'ILSVRC2012_ID', 'WNID', 'words', 'gloss', 'num_children', 'children', 'wordnet_height',
        'num_train_images')])
    for row, (number, wnid, words, n_children) in zip(rows, synsets, strict=True):
        row[0] = (float(number), wnid, words, 'what it is', float(n_children),
                  numpy.arange(1., n_children + 1), 0., 2.)
    meta = io.BytesIO()
    scipy.io.savemat(meta, {'synsets': rows})
    write(root / KIT / 'data/meta.mat', meta.getvalue())
    write(root / KIT / 'data/ILSVRC2012_validation_ground_truth.txt', truth.encode())


@pytest.fixture
def root(tmp_path):
    """Two training images of each of three classes and four validation images, greys 15, 25, ..."""
    root = tmp_path / 'ILSVRC2012'
    for grey, file in enumerate(TRAIN_FILES + VAL_FILES, 1):
        write(root / file, jpeg(10 * grey + 5))
    write_kit(root)
    return root


def greys(dataset):
    return [int(dataset.image(i).mean().round()) // 10 for i in range(len(dataset))]


def files(dataset, root):
    return [str(Path(dataset.name(i)).relative_to(root)) for i in range(len(dataset))]


def message(root, with_split=True):
    with pytest.raises(InputError) as caught:
        ImageNet(root, with_split)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_training_images_are_in_the_order_of_wordnet_ids(root):
    dataset = ImageNet(root)
    assert dataset.classes == NAMES and dataset.split is None
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2] and dataset.labels.dtype == 'i'
    assert files(dataset, root) == TRAIN_FILES
    assert abs(dataset.image(3).astype(int) - 45).max() <= 1 and len(dataset) == 6


def test_validation_labels_go_from_the_kits_numbers_to_wordnet_ids(root):
    dataset = ImageNet(str(root), with_split=True)
    train, test = dataset.split
    assert train.tolist() == [0, 1, 2, 3, 4, 5] and test.tolist() == [6, 7, 8, 9]
    # ID 2 is n02100735, the second class, 3 is n01440764, the first, and 1 is n02119789, the third
    assert dataset.labels[test].tolist() == [1, 0, 0, 2]
    assert files(dataset, root) == TRAIN_FILES + VAL_FILES
    assert greys(dataset) == list(range(1, 11))


def test_sorted_validation_folders_give_the_same_labels(root):
    flat = ImageNet(root, with_split=True)
    for i in flat.split[1]:
        path = Path(flat.name(i))
        folder = root / 'val' / IDS[flat.labels[i]]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    dataset = ImageNet(root, with_split=True)
    assert dataset.classes == NAMES
    label_of_grey = dict(zip(greys(dataset), dataset.labels.tolist(), strict=True))
    assert label_of_grey == dict(zip(range(1, 11), flat.labels.tolist(), strict=True))
    assert all('/val/' in dataset.name(i) for i in dataset.split[1])


def test_archives_are_unpacked_once(root, tmp_path):
    wanted = ImageNet(root, with_split=True)
    archives = tmp_path / 'archives'
    archives.mkdir()
    with tarfile.open(archives / 'ILSVRC2012_img_train.tar', 'w') as outer:
        for wnid in reversed(IDS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode='w') as tar:
                for path in (root / 'train' / wnid).iterdir():
                    tar.add(path, path.name)
            member = tarfile.TarInfo(f'{wnid}.tar')
            member.size = inner.tell()
            inner.seek(0)
            outer.addfile(member, inner)
    with tarfile.open(archives / 'ILSVRC2012_img_val.tar', 'w') as tar:
        for path in (root / 'val').iterdir():
            tar.add(path, path.name)
    with tarfile.open(archives / f'{KIT}.tar.gz', 'w:gz') as tar:
        tar.add(root / KIT, KIT)
    for _ in range(2):
        dataset = ImageNet(archives, with_split=True)
        assert dataset.classes == NAMES and dataset.labels.tolist() == wanted.labels.tolist()
        assert files(dataset, archives) == TRAIN_FILES + VAL_FILES and greys(dataset) == greys(wanted)
        for archive in archives.glob('*.tar*'):
            archive.unlink()


def test_without_the_kit_classes_are_the_ids(root):
    shutil.rmtree(root / KIT)
    assert ImageNet(root).classes == tuple(IDS)
    assert f'{KIT}/data/meta.mat: no such file' in message(root)


def test_without_the_split_only_training_images_are_looked_at(root):
    shutil.rmtree(root / 'val')
    (root / KIT / 'data/ILSVRC2012_validation_ground_truth.txt').unlink()
    assert len(ImageNet(root)) == 6
    assert 'val: no such folder, and no ILSVRC2012_img_val.tar beside it; it is had from' in message(root)


def test_what_is_no_image_is_left_out_and_told(root):
    write(root / 'train/n01440764/list.txt')
    write(root / 'train/n01440764/.hidden.JPEG')
    write(root / 'train/.cache/x.JPEG')
    write(root / 'train/synset_words.txt')
    write(root / 'val/labels.csv')
    dataset = ImageNet(root, with_split=True)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2, 1, 0, 0, 2]
    assert list(dataset.ignored) == [root / 'train/n01440764/list.txt', root / 'val/labels.csv']


def test_windows_line_ends_spaces_and_its_mark_of_utf_8_are_taken(root):
    write_kit(root, truth='\ufeff2 \r\n3\r\n3\r\n1\r\n\r\n')
    assert ImageNet(root, with_split=True).labels[6:].tolist() == [1, 0, 0, 2]


def test_no_folder_and_empty_folders_say_what_is_needed_and_where_it_is_had(tmp_path):
    for with_split in False, True:
        text = message(None, with_split)
        assert text.startswith('--dataset imagenet: needs --data-dir, a folder with train/nXXXXXXXX/*.JPEG')
        assert text.endswith('it is had from https://image-net.org/download-images')
    assert f'--data-dir {tmp_path / "nowhere"}: no such folder' in message(tmp_path / 'nowhere')
    text = message(tmp_path)
    assert text.startswith(f'{tmp_path / "train"}: no such folder, and no ILSVRC2012_img_train.tar beside it')
    assert 'https://image-net.org' in text


@pytest.mark.parametrize('made, text', [
    ('train/dogs/x.JPEG', '/train/dogs: no class folder: the name of one is an id such as n01440764'),
    ('train/n01440764/more/x.JPEG', '/train/n01440764/more: a folder; the images of a class lie directly'),
    ('train/n09999999/x.txt', "/train/n09999999: the class 'n09999999' has no image"),
    ('val/n01440764/x.JPEG', '/val: both class folders (n01440764) and images beside them (ILSVRC2012_val_'),
    ('val/ILSVRC2012_val_00000005.JPEG', 'ground_truth.txt: 4 rows, but there are 5 images in ')])
def test_what_does_not_belong_there_is_named(root, made, text):
    write(root / made, jpeg(0))
    assert text in message(root)


@pytest.mark.parametrize('truth, text', [
    ('2\n3\n3\n', 'ground_truth.txt: 3 rows, but there are 4 images in '),
    ('2\n3\n3\n1\n1\n', 'ground_truth.txt, row 5: no image {val}/ILSVRC2012_val_00000005.JPEG; it is'),
    ('2\n3\n5\n1\n', 'ground_truth.txt, row 3: label 5, but no class with images has this ILSVRC2012_ID in '),
    ('2\n4\n3\n1\n', 'ground_truth.txt, row 2: label 4, but no class with images has'),
    ('2\n3\n-1\n1\n', "ground_truth.txt, row 3: '-1' is no ILSVRC2012_ID"),
    ('2\n\n3\n1\n', "ground_truth.txt, row 2: '' is no ILSVRC2012_ID"),
    ('2\n3\n3\n' + '9' * 5000, "ground_truth.txt, row 4: '999"),
    ('\n \n', 'ground_truth.txt: the list is empty')])
def test_broken_ground_truth_is_named(root, truth, text):
    write_kit(root, truth=truth)
    assert text.format(val=root / 'val') in message(root)


def test_ground_truth_that_is_no_text_is_named(root):
    write(root / KIT / 'data/ILSVRC2012_validation_ground_truth.txt', b'2\n3\n\xff\n1\n')
    assert 'ground_truth.txt, row 3: not UTF-8 text' in message(root)
    (root / KIT / 'data/ILSVRC2012_validation_ground_truth.txt').unlink()
    assert 'ground_truth.txt: no such file; it is had from https' in message(root)


def test_a_missing_validation_image_is_named_by_its_row(root):
    (root / VAL_FILES[1]).unlink()
    text = message(root)
    assert f'ground_truth.txt, row 2: no image {root / VAL_FILES[1]}; it is had from https' in text


def test_a_class_without_a_training_folder_is_named(root):
    shutil.rmtree(root / 'train/n01440764')
    assert ImageNet(root).classes == NAMES[1:]
    text = message(root)
    assert f'ground_truth.txt, row 2: {root / VAL_FILES[1]} is of class {NAMES[0]!r}, which has no' in text
    shutil.rmtree(root / 'val')
    for wnid in IDS:
        write(root / f'val/{wnid}/x.JPEG', jpeg(0))
    assert f'{root}: 1 classes in only one of train/ and val/, such as n01440764' in message(root)


def test_one_class_and_no_validation_image_are_refused(root):
    shutil.rmtree(root / 'val')
    (root / 'val').mkdir()
    assert 'val: neither class folders nXXXXXXXX nor ILSVRC2012_val_00000001.JPEG' in message(root)
    for wnid in IDS[1:]:
        shutil.rmtree(root / 'train' / wnid)
    assert 'train: only one class folder (n01440764) in it; at least two are needed' in message(root)


@pytest.mark.parametrize('value', [
    numpy.arange(3.), numpy.zeros((2, 1), [('WNID', 'O')]), numpy.array([['a'], ['b']], 'O')])
def test_a_table_of_classes_that_is_none_is_named(root, value):
    scipy.io.savemat(root / KIT / 'data/meta.mat', {'synsets': value})
    assert "meta.mat: 'synsets' is not the table with ILSVRC2012_ID, WNID, words" in message(root, False)


def test_a_cut_table_of_classes_is_named(root):
    meta = root / KIT / 'data/meta.mat'
    meta.write_bytes(meta.read_bytes()[:300])
    assert str(meta) in message(root, False)


def test_an_image_that_is_none_is_named_when_it_is_read(root):
    write(root / TRAIN_FILES[2], b'no image')
    dataset = ImageNet(root)
    with pytest.raises(InputError, match=f'{TRAIN_FILES[2]}: not an image'):
        dataset.image(2)
