"""Masks of PNG files, and what is wrong with them."""
import numpy
import pytest
from PIL import Image

from chainer_abn.datasets.masks import Masks
from chainer_abn.errors import InputError

TRIMAP = numpy.array([[2, 2, 3], [1, 1, 3]], 'u1')


@pytest.mark.parametrize('mode', ['L', 'P'])
def test_values_of_object_and_void(tmp_path, mode):
    image = Image.fromarray(TRIMAP)
    if mode == 'P':
        image.putpalette([255, 0, 0] * 256)             # the values count, not their colours
    image.save(tmp_path / 'a.png')
    mask, void = Masks(tmp_path, [1], [3]).read('a', (2, 3))
    numpy.testing.assert_array_equal(mask, TRIMAP == 1)
    numpy.testing.assert_array_equal(void, TRIMAP == 3)


def test_without_values_all_but_0_and_void_is_the_object(tmp_path):
    values = numpy.array([[0, 255, 7]], 'u1')
    Image.fromarray(values).save(tmp_path / 'a.png')
    mask, void = Masks(tmp_path).read('a', (1, 3))
    assert mask.tolist() == [[False, True, True]] and not void.any()
    mask, void = Masks(tmp_path, void=[7]).read('a', (1, 3))
    assert mask.tolist() == [[False, True, False]] and void.tolist() == [[False, False, True]]


def test_masks_of_one_bit(tmp_path):
    Image.fromarray(numpy.array([[True, False]])).save(tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        assert image.mode == '1'
    assert Masks(tmp_path).read('a', (1, 2))[0].tolist() == [[True, False]]


def refusal(folder, size=(2, 3), **values):
    with pytest.raises(InputError) as told:
        Masks(folder, **values).read('a', size)
    assert str(folder / 'a.png') in str(told.value)
    return str(told.value)


def test_what_is_wrong_with_a_file_is_told(tmp_path):
    assert 'no such file' in refusal(tmp_path)
    path = tmp_path / 'a.png'
    path.write_bytes(b'no picture')
    assert 'unreadable PNG file' in refusal(tmp_path)
    Image.fromarray(TRIMAP).save(path, 'jpeg')
    assert 'unreadable PNG file' in refusal(tmp_path)
    Image.fromarray(TRIMAP).save(path)
    assert 'has 3 x 2 px, but the image a has 2 x 3' in refusal(tmp_path, (3, 2))
    assert 'no pixel of the object in it; its values are 1, 2, 3' in refusal(tmp_path, objects=[4])
    path.write_bytes(path.read_bytes()[:50])
    assert 'unreadable PNG file' in refusal(tmp_path)
    Image.fromarray(numpy.zeros((2, 3, 3), 'u1')).save(path)
    assert 'is of mode RGB' in refusal(tmp_path)
    Image.fromarray(numpy.zeros((2, 3), 'u2')).save(path)
    assert 'is of mode I;16' in refusal(tmp_path)


def test_a_mask_that_is_all_object_has_to_be_meant(tmp_path):
    Image.fromarray(TRIMAP).save(tmp_path / 'a.png')
    for void in [], [3]:
        told = refusal(tmp_path, void=void)
        assert 'no pixel of the background in it; its values are 1, 2, 3 (--object tells which' in told
    assert 'no pixel of the object' in refusal(tmp_path, void=[1, 2, 3])
    assert Masks(tmp_path, [1, 2, 3]).read('a', (2, 3))[0].all()


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match='--masks .*none: no such folder'):
        Masks(tmp_path / 'none')
