import numpy
import pytest

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.explain import attention
from chainer_abn.explain.inputs import batches, network_input, softmax, to_batch
from chainer_abn.explain.overlay import overlay, resize_map
from chainer_abn.explain.scores import centre_hit, pointing_hit
from chainer_abn.explain.sheet import LIMIT, Sheet

import chainer


def test_attention_is_the_networks_own_map_in_test_mode():
    net = chainer_abn.build('resnet8', 3)
    x = numpy.random.default_rng(0).standard_normal((2, 3, 16, 24)).astype('f')
    maps, logits = attention.maps(net, x)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        output = net(x)
    numpy.testing.assert_array_equal(maps, output.attention.array[:, 0])
    numpy.testing.assert_array_equal(logits, output.logits.array)


def test_a_network_without_attention_is_refused():
    with pytest.raises(InputError, match='no attention branch'):
        attention.check(chainer_abn.build('resnet8', 3, 'cam'))


def test_overlay_by_hand():
    image = numpy.full((2, 2, 3), 100, 'u1')
    values = numpy.array([[0, 1], [2, 4]], 'f')
    gray = overlay(image, values, alpha=1, colormap='gray')
    assert gray[..., 0].tolist() == [[0, 64], [128, 255]]
    mixed = overlay(image, values, alpha=0.25, colormap='gray')
    assert mixed[..., 2].tolist() == [[75, 91], [107, 139]]
    jet = overlay(image, values, alpha=1)
    assert jet[0, 0].tolist() == [0, 0, 128] and jet[1, 1].tolist() == [128, 0, 0]


def test_a_constant_map_takes_the_first_colour():
    jet = overlay(numpy.zeros((4, 6, 3), 'u1'), numpy.full((2, 2), 0.7), alpha=1)
    assert jet.shape == (4, 6, 3) and (jet == [0, 0, 128]).all()


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
    assert not centre_hit(mask)
    mask[4, 4] = True
    assert centre_hit(mask)


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


def test_sheet_shows_what_fits_and_counts_the_rest():
    sheet = Sheet(['image', 'attention'])
    picture = numpy.full((10, 40, 3), 7, 'u1')
    for _ in range(LIMIT + 3):
        sheet.add([picture, picture], 'a caption that is far too long to stand below two pictures ' * 3)
    assert len(sheet.entries) == LIMIT and sheet.left_out == 3
    drawn = sheet.draw()
    assert 0.6 < drawn.width / drawn.height < 1.7
    assert (7, 7, 7) in {colour for _, colour in drawn.getcolors(10 ** 6)}
