import matplotlib
import numpy
import pytest

from chainer_abn.explain.inputs import batches, network_input, softmax, to_batch
from chainer_abn.explain.overlay import is_empty, overlay, resize_map
from chainer_abn.explain.scores import pointing_hit
from chainer_abn.explain.sheet import LIMIT, Sheet, caption_font


def test_overlay_by_hand():
    image = numpy.full((2, 2, 3), 100, 'u1')
    values = numpy.array([[0, 1], [2, 4]], 'f')
    gray = overlay(image, values, alpha=1, colormap='gray')
    assert gray[..., 0].tolist() == [[0, 64], [128, 255]]
    mixed = overlay(image, values, alpha=0.25, colormap='gray')
    assert mixed[..., 2].tolist() == [[75, 91], [107, 139]]
    jet = overlay(image, values, alpha=1)
    assert jet[0, 0].tolist() == [0, 0, 128] and jet[1, 1].tolist() == [128, 0, 0]


@pytest.mark.parametrize('values', [
    numpy.zeros((2, 2)), numpy.full((2, 2), 0.7), [[0, numpy.nan], [1, 2]], [[0, numpy.inf], [1, 2]], [[3]]])
def test_an_empty_map_is_drawn_as_nothing(values):
    image = numpy.arange(72, dtype='u1').reshape(4, 6, 3)
    assert is_empty(values)
    numpy.testing.assert_array_equal(overlay(image, numpy.array(values), alpha=1), image)
    assert not is_empty([[0, 1e-12], [0, 0]])


def test_the_colours_are_those_of_matplotlib():
    values = numpy.random.default_rng(0).standard_normal((9, 11)).astype('f')
    values = (values - values.min()) / numpy.ptp(values)
    image = numpy.zeros((9, 11, 3), 'u1')
    for name in 'jet', 'viridis', 'Set1':
        expected = matplotlib.colormaps[name](values)[..., :3] * 255
        assert abs(overlay(image, values, 1, name, 'nearest') - expected).max() <= 0.5 + 1e-6


def test_resizing_a_map():
    values = numpy.array([[0, 1]], 'f')
    assert resize_map(values, (1, 4)).tolist() == [[0, 0.25, 0.75, 1]]
    assert resize_map(values, (2, 4), 'nearest').tolist() == [[0, 0, 1, 1]] * 2


def test_pointing():
    mask = numpy.zeros((8, 8), bool)
    mask[:2, 6:] = True
    values = numpy.zeros((4, 4))
    values[0, 3] = 1
    assert pointing_hit(values, mask) and not pointing_hit(values[::-1], mask)


def test_network_input_is_squeezed_where_the_network_was_trained_so():
    config = {'resize': [24, 20], 'fit': 'squeeze'}
    assert network_input(numpy.zeros((30, 60, 3), 'u1'), config).shape == (24, 20, 3)


def test_network_input_shows_the_whole_image_at_the_scale_of_validation():
    config = {'resize': [20, 20], 'mean': [0, 0, 0], 'std': [1, 1, 1]}
    small = network_input(numpy.full((30, 60, 3), 51, 'u1'), config)
    assert small.shape == (20, 40, 3)
    x = to_batch([small, small], config)
    assert x.shape == (2, 3, 20, 40) and x.dtype == 'f'
    numpy.testing.assert_allclose(x, 0.2, rtol=1e-6)


def test_batches_hold_one_size_and_keep_the_order():
    assert list(batches('aabbbab', lambda c: c, 2)) == [['a', 'a'], ['b', 'b'], ['b'], ['a'], ['b']]


def test_softmax():
    numpy.testing.assert_allclose(
        softmax(numpy.array([[0, numpy.log(3)], [1000, 1000]])), [[0.25, 0.75], [0.5, 0.5]])


def test_captions_have_letters_beyond_ascii():
    """A letter that a font does not have is the same box as any other that it does not have."""
    font = caption_font()
    drawn = {bytes(font.getmask(letter)) for letter in 'üéñßłЖα\ue000'}
    assert len(drawn) == 8


def test_sheet_shows_what_fits_and_counts_the_rest():
    sheet = Sheet(['image', 'attention'])
    picture = numpy.full((10, 40, 3), 7, 'u1')
    for _ in range(LIMIT + 3):
        sheet.add([picture, picture], 'a caption that is far too long to stand below two pictures ' * 3)
    assert len(sheet.entries) == LIMIT and sheet.left_out == 3
    drawn = sheet.draw()
    assert 0.6 < drawn.width / drawn.height < 1.7
    assert (7, 7, 7) in {colour for _, colour in drawn.getcolors(10 ** 6)}
