import inspect
import sys
from pathlib import Path

import numpy
import pytest
from helpers import write_class_folders
from PIL import Image

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.images import read_image
from chainer_abn.errors import InputError


def save(path, mode='RGB', colour=None, size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def test_classes_are_the_sorted_folder_names_whatever_the_order_of_creation(tmp_path):
    for name in 'zebra', 'Ant', 'bee':
        save(tmp_path / name / 'x.png')
    folder = Folder(tmp_path)
    assert folder.classes == ('Ant', 'bee', 'zebra')
    assert [Path(folder.name(i)).parent.name for i in range(3)] == ['Ant', 'bee', 'zebra']
    assert folder.labels.tolist() == [0, 1, 2] and folder.labels.dtype == 'i'


def test_nested_folders_count_and_hidden_and_stray_files_do_not(class_folders):
    save(class_folders / 'ant/deep/er/y.png')
    save(class_folders / 'ant/.hidden.png')
    save(class_folders / 'bee/.cache/z.png')
    save(class_folders / '.git/z.png')
    numpy.save(class_folders / 'mean.npy', numpy.zeros(3))
    (class_folders / 'bee/notes.txt').write_text('not an image')
    folder = Folder(class_folders)
    assert folder.classes == ('ant', 'bee')
    assert numpy.bincount(folder.labels).tolist() == [7, 6]
    assert [p.name for p in folder.ignored] == ['notes.txt']


def test_linked_images_and_folders_are_read_once(class_folders, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    save(tmp_path / 'elsewhere/a.png')
    (class_folders / 'ant/link').symlink_to(tmp_path / 'elsewhere')
    (class_folders / 'ant/loop').symlink_to(class_folders / 'ant')
    (class_folders / 'bee/link.png').symlink_to(tmp_path / 'elsewhere/a.png')
    assert numpy.bincount(Folder(class_folders).labels).tolist() == [7, 7]


@pytest.mark.parametrize('suffix', ['.png', '.dat', ''])
def test_an_image_is_known_by_its_content(class_folders, suffix):
    save(class_folders / f'ant/lies{suffix}', colour=(250, 10, 10), format='JPEG')
    folder = Folder(class_folders)
    i = [p.name for p in folder.paths].index(f'lies{suffix}')
    assert abs(folder.image(i)[0, 0].astype(int) - [250, 10, 10]).max() < 6


def test_a_text_file_named_png_is_an_image_that_cannot_be_read(class_folders):
    (class_folders / 'ant/fake.png').write_text('hello')
    folder = Folder(class_folders)
    assert len(folder) == 13
    with pytest.raises(InputError, match='fake.png: not an image'):
        folder.image([p.name for p in folder.paths].index('fake.png'))


@pytest.mark.parametrize('suffix, mode, colour, expected', [
    ('png', 'RGB', (10, 200, 30), (10, 200, 30)),
    ('bmp', 'RGB', (10, 200, 30), (10, 200, 30)),
    ('png', 'L', 77, (77, 77, 77)),
    ('png', '1', 1, (255, 255, 255)),
    ('gif', 'P', 3, None),
    ('png', 'RGBA', (10, 200, 30, 255), (10, 200, 30)),
    ('png', 'RGBA', (10, 200, 30, 0), (255, 255, 255)),             # transparent: white
    ('png', 'LA', (0, 128), (127, 127, 127)),
    ('png', 'I;16', 65535, (255, 255, 255)),
    ('png', 'I;16', 0x4040, (64, 64, 64)),
    ('tif', 'F', 5.0, (255, 255, 255)),
    ('jpg', 'CMYK', (255, 0, 255, 0), (0, 255, 0)),
    ('webp', 'RGB', (200, 200, 200), (200, 200, 200)),
    ('tif', 'I;16', 32896, (128, 128, 128)),
])
def test_every_kind_becomes_rgb(tmp_path, suffix, mode, colour, expected):
    path = tmp_path / f'x.{suffix}'
    image = Image.new(mode, (6, 4), colour)
    if mode == 'P':
        image.putpalette([0, 0, 0] * 3 + [9, 8, 7] * 253)
        expected = 9, 8, 7
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (4, 6, 3) and pixels.dtype == 'u1'
    assert abs(pixels.astype(int) - expected).max() <= (3 if suffix in ('jpg', 'webp') else 0)


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    image = Image.new('P', (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / 'x.png', transparency=0)
    assert read_image(tmp_path / 'x.png').tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_the_orientation_of_the_camera_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6                                                 # turn 90 degrees clockwise
    save(tmp_path / 'x.jpg', size=(20, 10), exif=exif)
    assert read_image(tmp_path / 'x.jpg').shape == (20, 10, 3)


@pytest.mark.parametrize('size, cover, expected', [
    ((400, 300), (100, 100), (150, 200)),                   # 1/3 would do; JPEG has 1/2 and 1/4
    ((400, 300), (75, 75), (75, 100)), ((400, 300), (76, 76), (150, 200)),
    ((400, 300), (40, 150), (150, 200)), ((400, 300), (151, 151), (300, 400)),
    ((401, 299), (50, 50), (75, 101)), ((900, 800), (9, 9), (100, 113)),
    ((400, 300), (500, 500), (300, 400))])
def test_a_jpeg_is_decoded_no_larger_than_needed(tmp_path, size, cover, expected):
    path = save(tmp_path / 'x.jpg', colour=(250, 10, 10), size=size)
    pixels = read_image(path, cover)
    assert pixels.shape == (*expected, 3)
    assert abs(pixels.astype(int) - [250, 10, 10]).max() < 6


def test_a_jpeg_decoded_small_is_the_picture_scaled(tmp_path):
    y, x = numpy.mgrid[:240, :320]
    picture = numpy.stack([y, x * 0.75, 120 + 100 * numpy.sin(x / 20 + y / 30)], 2).astype('u1')
    Image.fromarray(picture).save(tmp_path / 'x.jpg', quality=95)
    small = read_image(tmp_path / 'x.jpg', (60, 60))
    assert small.shape == (60, 80, 3)
    wanted = picture.reshape(60, 4, 80, 4, 3).mean((1, 3))
    assert abs(small - wanted).mean() < 1.5


@pytest.mark.parametrize('orientation, shape', [(1, (50, 100, 3)), (6, (100, 50, 3)), (8, (100, 50, 3))])
def test_the_orientation_is_obeyed_at_a_smaller_scale(tmp_path, orientation, shape):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / 'x.jpg', size=(200, 100), exif=exif)
    assert read_image(path, (50, 50)).shape == shape
    assert read_image(path, (80, 30)).shape == (2 * shape[0], 2 * shape[1], 3)


def test_other_kinds_are_decoded_at_their_size(tmp_path):
    assert read_image(save(tmp_path / 'x.png', size=(200, 100)), (20, 20)).shape == (100, 200, 3)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new('RGB', (3, 3), c) for c in ('red', 'blue')]
    frames[0].save(tmp_path / 'x.gif', save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / 'x.gif')[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize('cover', [None, (16, 16)])
def test_a_truncated_jpeg_is_named(tmp_path, cover):
    rng = numpy.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype('u1')).save(tmp_path / 'x.jpg')
    data = (tmp_path / 'x.jpg').read_bytes()
    (tmp_path / 'x.jpg').write_bytes(data[:len(data) // 2])
    with pytest.raises(InputError, match='x.jpg: unreadable image .*truncated'):
        read_image(tmp_path / 'x.jpg', cover)


@pytest.mark.parametrize('suffix', ['.png', '.dat'])
def test_a_decompression_bomb_is_named(class_folders, monkeypatch, suffix):
    save(class_folders / f'ant/bomb{suffix}', size=(300, 300), format='PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40_000)
    folder = Folder(class_folders)
    with pytest.raises(InputError, match=f'bomb{suffix}: .*decompression bomb'):
        folder.image([p.name for p in folder.paths].index(f'bomb{suffix}'))


def test_missing_folder_missing_classes_and_empty_classes_are_named(tmp_path):
    def message(path):
        with pytest.raises(InputError) as caught:
            open_dataset(str(path))
        return str(caught.value)
    assert 'nowhere: no such folder' in message(tmp_path / 'nowhere')
    assert 'no class folder' in message(tmp_path)
    save(tmp_path / 'ant/x.png')
    assert 'only one class folder (ant)' in message(tmp_path)
    (tmp_path / 'bee').mkdir()
    assert "class 'bee' has no image" in message(tmp_path)
    assert 'is no folder' in message(tmp_path / 'ant/x.png')


def test_own_split_of_a_folder(tmp_path):
    write_class_folders(tmp_path / 'train', 4)
    write_class_folders(tmp_path / 'val', 2)
    folder = open_dataset(str(tmp_path), with_split=True)
    train, test = folder.split
    assert numpy.bincount(folder.labels[train]).tolist() == [4, 4]
    assert all('/val/' in folder.name(i) for i in test) and len(test) == 4
    (tmp_path / 'val/bee').rename(tmp_path / 'val/wasp')
    with pytest.raises(InputError, match='one of the two parts only: bee, wasp'):
        open_dataset(str(tmp_path), with_split=True)


def test_folder_without_a_split_says_how_one_looks(class_folders):
    with pytest.raises(InputError, match='no folder train'):
        open_dataset(str(class_folders), with_split=True)


def test_folders_may_be_nested_deeper_than_python_calls(class_folders):
    folder = class_folders / 'ant'
    for _ in range(100):
        folder /= 'd'
    save(folder / 'x.png')
    save(class_folders / 'ant/d/e.png')
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 50)
    try:
        found = Folder(class_folders)
    finally:
        sys.setrecursionlimit(limit)
    assert [path.name for path in found.paths[6:8]] == ['x.png', 'e.png']
    assert numpy.bincount(found.labels).tolist() == [8, 6]
