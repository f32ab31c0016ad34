import warnings

import numpy
import pytest
from PIL import Image, ImageOps

from chainer_abn.datasets import images
from chainer_abn.datasets.images import is_image, read_image, set_limit
from chainer_abn.errors import InputError


@pytest.fixture
def limit(monkeypatch):
    """Sets the limit, which is Pillow's again behind the test."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        yield set_limit
    assert not told


@pytest.mark.parametrize('pixels, size', [(599, '30 x 20 = 600'), (300, '30 x 20 = 600'), (299, '600')])
def test_one_pixel_too_many_is_an_error(tmp_path, limit, pixels, size):
    path = tmp_path / 'a.png'
    Image.new('L', (30, 20)).save(path)
    limit(600)
    assert read_image(path).shape == (20, 30, 3)
    limit(pixels)
    with pytest.raises(InputError, match=f'a.png: claims to have {size} pixels, .* the limit is {pixels}, '
                                         '--max-pixels N sets another'):
        read_image(path)
    path.rename(tmp_path / 'a')
    assert is_image(tmp_path / 'a')         # so that it is told when it is read, not passed over
    limit(None)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    with pytest.raises(InputError, match='--max-pixels 0: must be at least 1'):
        limit(0)


def test_the_limit_is_of_a_jpeg_file_as_it_is_and_not_as_it_is_decoded(tmp_path, limit):
    Image.new('L', (400, 200)).save(tmp_path / 'a.jpg')
    limit(50_000)
    with pytest.raises(InputError, match='400 x 200 = 80000 pixels'):
        read_image(tmp_path / 'a.jpg', (10, 10))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16', 'I', 'F'])
def test_in_bands_it_is_the_same(tmp_path, monkeypatch, mode):
    rng = numpy.random.default_rng(3)
    size = 23, 31
    if mode in ('I;16', 'I', 'F'):
        values = {'I;16': rng.integers(0, 65536, size, 'u2'), 'I': rng.integers(-9, 70000, size, 'i4'),
                  'F': rng.standard_normal(size).astype('f')}
        image = Image.fromarray(values[mode])
    else:
        image = Image.frombytes('RGBA', (31, 23), rng.bytes(31 * 23 * 4)).convert(mode)
    image.save(tmp_path / 'a.tif')
    whole = read_image(tmp_path / 'a.tif')
    assert whole.std() > 20
    monkeypatch.setattr(images, 'BAND', 5 * 31)
    numpy.testing.assert_array_equal(read_image(tmp_path / 'a.tif'), whole)


@pytest.mark.parametrize('band', [4, 100])
@pytest.mark.parametrize('orientation', range(10))
def test_orientations_are_those_of_pillow(tmp_path, monkeypatch, orientation, band):
    monkeypatch.setattr(images, 'BAND', band)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.frombytes('RGB', (4, 3), bytes(range(36))).save(tmp_path / 'a.png', exif=exif)
    with Image.open(tmp_path / 'a.png') as image:
        expected = numpy.asarray(ImageOps.exif_transpose(image))
    numpy.testing.assert_array_equal(read_image(tmp_path / 'a.png'), expected)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp'])
def test_where_the_orientation_is_damaged_the_pixels_are_read(tmp_path, suffix):
    Image.new('RGB', (4, 3), 'blue').save(tmp_path / f'a.{suffix}', exif=b'Exif\0\0damaged, no TIFF header')
    assert read_image(tmp_path / f'a.{suffix}').shape == (3, 4, 3)


@pytest.mark.parametrize('largest, top', [(700_000_000, 255), (65535, 255), (257 * 100, 100)])
def test_integers_beyond_16_bits_are_scaled_by_the_largest(tmp_path, largest, top):
    Image.fromarray(numpy.linspace(0, largest, 11).round().astype('i4')[None]).save(tmp_path / 'a.tif')
    numpy.testing.assert_array_equal(
        read_image(tmp_path / 'a.tif')[0, :, 0], numpy.linspace(0, top, 11).round())


@pytest.mark.parametrize('value', [numpy.nan, numpy.inf, -numpy.inf])
def test_pixels_that_are_no_numbers_are_unreadable(tmp_path, limit, value):
    pixels = numpy.ones((4, 5), 'f')
    pixels[2, 1] = value
    Image.fromarray(pixels).save(tmp_path / 'a.tif')
    with pytest.raises(InputError, match='a.tif: unreadable image .a pixel is no finite number'):
        read_image(tmp_path / 'a.tif')


def test_other_programs_are_not_called(tmp_path, monkeypatch):
    """Pillow would have Ghostscript draw the PostScript file, which is a program."""
    for name in 'a.eps', 'a.png', 'a':
        (tmp_path / name).write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n')
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *_, **__: pytest.fail('was called'))
    for name in 'a.eps', 'a.png':
        with pytest.raises(InputError, match=f'{name}: not an image .of the kinds JPEG, PNG'):
            read_image(tmp_path / name)
    assert not is_image(tmp_path / 'a.eps') and not is_image(tmp_path / 'a')


def test_a_picture_of_several_in_a_jpeg_file_is_read(tmp_path):
    first, second = (Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue'))
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second])
    assert abs(read_image(tmp_path / 'a.jpg').astype(int) - (255, 0, 0)).max() < 3
