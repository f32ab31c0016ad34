import numpy
import pytest
from PIL import Image

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.explain.edit import MODES, check, edited, read_edit

import chainer


def images(n=2):
    return numpy.random.default_rng(0).standard_normal((n, 3, 32, 48)).astype('f')


def forward(net, x):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        return net(x)


@pytest.mark.parametrize('attention', ['residual', 'multiply', 'log-sum'])
def test_the_own_map_in_its_own_place_changes_nothing(attention):
    net, x = chainer_abn.build('resnet8', 5, attention=attention), images()
    output = forward(net, x)
    own = output.attention.array[:, 0]
    scale = own.max(axis=(1, 2), keepdims=True) if attention == 'log-sum' else 1
    logits, maps = edited(net, x, lambda size: own / scale)
    numpy.testing.assert_allclose(logits, output.logits.array, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(maps, own, rtol=1e-5)


@pytest.mark.parametrize('multitask', [False, True])
@pytest.mark.parametrize('mode', MODES)
def test_modes(mode, multitask):
    net, x = chainer_abn.build('resnet8', 3, multitask=multitask), images()
    given = numpy.random.default_rng(1).uniform(0, 1, (2, 16, 24)).astype('f')
    own = forward(net, x).attention.array
    expected = {'replace': own * 0 + given[:, None], 'multiply': own * given[:, None],
                'add': (own + given[:, None]).clip(0, 1)}[mode]
    logits, maps = edited(net, x, lambda size: given, mode)
    numpy.testing.assert_allclose(maps if multitask else maps[:, None], expected, rtol=1e-6)
    if not multitask:
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            g = net.feature_extractor(x)
            by_hand = net.perception_branch(g * (1 + expected)).array
        numpy.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)


def test_unbounded_maps_are_given_the_same_height():
    net, x = chainer_abn.build('resnet8', 3, attention='multiply', multitask=True), images()
    weights = net.attention_branch.conv_map.W.array
    weights[...] = -abs(weights)                # behind a ReLU: negative everywhere
    own = forward(net, x).attention.array
    assert own.max() <= 0
    _, maps = edited(net, x, lambda size: numpy.ones((2, *size), 'f'))
    numpy.testing.assert_allclose(maps, numpy.broadcast_to(-own.min(axis=(2, 3), keepdims=True), maps.shape))


def test_a_box_is_the_share_of_each_cell():
    made = read_edit('box:2,0,10,6')((12, 16), (3, 4))
    expected = [[0.5, 1, 0.5, 0], [0.25, 0.5, 0.25, 0], [0, 0, 0, 0]]
    numpy.testing.assert_allclose(made, expected, atol=1e-6)
    small = read_edit('box:700,900,705,905')((2000, 2000), (16, 16))
    assert small.sum() * 125 ** 2 == pytest.approx(25)
    assert read_edit('box:0,0,16,12')((12, 16), (3, 4)).min() == 1


def test_a_box_outside_the_image_is_refused():
    make = read_edit('box:0,0,17,4')
    with pytest.raises(InputError, match='--edit box:0,0,17,4: .* 16 x 12 pixels'):
        make((12, 16), (3, 4))


@pytest.mark.parametrize('text', ['box:-1,0,4,4', 'box:4,0,4,4', 'box:0,5,4,2'])
def test_a_box_that_can_be_in_no_image_is_refused_at_once(text):
    with pytest.raises(InputError, match=f'--edit {text}: empty, or not inside any image'):
        read_edit(text)


@pytest.mark.parametrize('text', ['box:', 'box:1,2,3', 'box:1,2,3,4,5', 'box:a,0,4,4', 'box:0.5,0,4,4'])
def test_a_box_that_is_none_is_refused(text):
    with pytest.raises(InputError, match='not box:x0,y0,x1,y1'):
        read_edit(text)


def test_the_centre_is_a_gaussian():
    made = read_edit('centre')((100, 200), (5, 9))
    assert made[2, 4] == 1 and made.argmax() == 2 * 9 + 4
    numpy.testing.assert_allclose(made, made[::-1, ::-1])
    # a quarter of a side from the middle it is exp(-1 / 2)
    assert read_edit('centre')((1, 1), (1, 401))[0, 300] == pytest.approx(numpy.exp(-0.5), abs=0.01)


def test_a_picture_is_black_to_white(tmp_path):
    Image.fromarray(numpy.array([[0, 255], [51, 102]], 'u1')).save(tmp_path / 'map.png')
    make = read_edit(str(tmp_path / 'map.png'))
    numpy.testing.assert_allclose(make((30, 40), (2, 2)), [[0, 1], [0.2, 0.4]], atol=1e-6)
    assert make((30, 40), (6, 8)).shape == (6, 8)


@pytest.mark.parametrize('variant, attention, message', [
    ('baseline', 'residual', 'no attention branch'), ('abn', 'none', 'does not use its map')])
def test_networks_without_a_map_in_use_are_refused(variant, attention, message):
    with pytest.raises(InputError, match=message):
        check(chainer_abn.build('resnet8', 3, variant, attention))
