import numpy
import pytest

from chainer_abn.datasets.transforms import (
    MAX_ASPECT,
    Augment,
    CenterCrop,
    Normalize,
    crop,
    resize_to_cover,
)
from chainer_abn.errors import InputError

from chainer.dataset import convert


def coordinates(height=10, width=12):
    """An image whose pixels tell their place."""
    y, x = numpy.mgrid[:height, :width]
    return numpy.stack([y + 1, x + 1, 0 * x], 2).astype('u1')


@pytest.mark.parametrize('shape, size, expected', [
    ((100, 200), (50, 50), (50, 100)), ((200, 100), (50, 50), (100, 50)),
    ((30, 40), (60, 60), (60, 80)), ((100, 100), (40, 60), (60, 60)),
    ((32, 32), (32, 32), (32, 32)), ((1, 1000), (20, 20), (20, 20 * MAX_ASPECT))])
def test_resize_covers_and_keeps_the_shape(shape, size, expected):
    assert resize_to_cover(numpy.zeros((*shape, 3), 'u1'), size).shape == (*expected, 3)


def test_resize_leaves_an_image_of_the_right_size_alone():
    image = coordinates()
    assert resize_to_cover(image, (10, 12)) is image


def test_crop_inside_and_outside():
    image = coordinates()
    numpy.testing.assert_array_equal(crop(image, 2, 3, (4, 5)), image[2:6, 3:8])
    outside = crop(image, -1, 10, (4, 4))
    assert (outside[0] == 0).all() and (outside[:, 2:] == 0).all()
    numpy.testing.assert_array_equal(outside[1:, :2], image[:3, 10:])


def test_centre_crop():
    numpy.testing.assert_array_equal(CenterCrop((4, 4))(coordinates()), coordinates()[3:7, 4:8])


def test_augmentation_reaches_every_place_and_both_sides():
    """The CIFAR recipe: 9 x 9 places of a 10 x 12 window around the image, mirrored or not."""
    augment = Augment((10, 12), pad=4)
    rng = numpy.random.default_rng(0)
    seen = set()
    for _ in range(4000):
        image = augment(coordinates(), rng)
        assert image.shape == (10, 12, 3)
        flipped = bool((numpy.diff(image[5, 4:8, 1].astype(int)) < 0).all())
        if flipped:
            image = image[:, ::-1]
        y, x, _ = image[4, 6].astype(int)
        seen.add((y - 5, x - 7, flipped))
    assert seen == {(y, x, f) for y in range(-4, 5) for x in range(-4, 5) for f in (False, True)}


def test_augmentation_of_a_larger_image_stays_inside_and_flips_only_if_asked():
    augment = Augment((4, 4), flip=False)
    rng = numpy.random.default_rng(0)
    corners = {tuple(augment(coordinates(), rng)[0, 0, :2] - 1) for _ in range(1000)}
    assert corners == {(y, x) for y in range(7) for x in range(9)}


def test_rotation_is_bounded():
    image = numpy.zeros((41, 41, 3), 'u1')
    image[20, :] = 255
    augment = Augment((41, 41), flip=False, rotate=30)
    rng = numpy.random.default_rng(0)
    angles = []
    for _ in range(100):
        rows = augment(image, rng)[:, 30, 0].argmax() - 20
        angles.append(numpy.degrees(numpy.arctan2(-rows, 10)))
    assert min(angles) < -15 and max(angles) > 15
    assert max(map(abs, angles)) < 34


def test_normalize_by_hand():
    normalize = Normalize((0.5, 0.25, 0), (0.5, 0.25, 1))
    image = numpy.zeros((2, 3, 3), 'u1')
    image[1, 2] = 255, 51, 102
    x, t = convert._call_converter(normalize, [(image, 3), (image, 1)], None)
    assert x.shape == (2, 3, 2, 3) and x.dtype == 'f' and t.dtype == 'i' and t.tolist() == [3, 1]
    assert x.flags.c_contiguous
    numpy.testing.assert_allclose(x[1, :, 1, 2], [1, -0.2, 0.4], atol=1e-6)
    numpy.testing.assert_allclose(x[0, :, 0, 0], [-1, -1, 0], atol=1e-6)


def test_an_image_that_a_worker_could_not_read_is_raised():
    with pytest.raises(InputError, match='gone'):
        Normalize((0, 0, 0), (1, 1, 1))([InputError('gone')])
