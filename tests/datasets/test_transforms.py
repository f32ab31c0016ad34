from types import SimpleNamespace

import numpy
import pytest

from chainer_abn.datasets.transforms import (
    MAX_ASPECT,
    Augment,
    CenterCrop,
    Normalize,
    ResizedCrop,
    crop,
    resize_to_cover,
    squeeze,
)

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
    inside, outside = crop([image, image], numpy.array([[2, 3], [-1, 10]]), (4, 5))
    numpy.testing.assert_array_equal(inside, image[2:6, 3:8])
    assert (outside[0] == 0).all() and (outside[:, 2:] == 0).all()
    numpy.testing.assert_array_equal(outside[1:, :2], image[:3, 10:])


def test_crop_that_misses_the_image_is_black():
    assert not crop([coordinates()] * 2, numpy.array([[-9, 0], [0, 20]]), (4, 5)).any()


def test_centre_crop():
    images = [coordinates(), coordinates(12, 8)]
    middle = CenterCrop((4, 4))(images)
    numpy.testing.assert_array_equal(middle[0], coordinates()[3:7, 4:8])
    numpy.testing.assert_array_equal(middle[1], coordinates()[4:8, 2:6])


def grid(n, column):
    """Uniform numbers that take ``n`` evenly spaced values in one column and are 0.75 elsewhere."""
    numbers = numpy.full((n, 4), 0.75)
    numbers[:, column] = numpy.arange(n) / n
    return numbers


@pytest.mark.parametrize('axis', [0, 1])
def test_every_offset_of_the_crop_is_equally_frequent(axis):
    """The CIFAR recipe: 9 offsets either way of a window as large as the image, 0 to 2 * pad."""
    images = Augment((10, 12), pad=4)([coordinates()] * 900, grid(900, axis))
    offsets = images[:, 5, 6, axis].astype(int) - (6, 7)[axis]
    assert offsets.tolist() == numpy.repeat(range(-4, 5), 100).tolist()


def test_the_ends_of_the_numbers_are_the_ends_of_the_crop():
    ends = numpy.array([[0, 0, 0.9, 0], [numpy.nextafter(1, 0)] * 4])
    first, last = Augment((10, 12), pad=4)([coordinates()] * 2, ends)
    numpy.testing.assert_array_equal(first[4:, 4:], coordinates()[:6, :8])
    numpy.testing.assert_array_equal(last[:6, :8], coordinates()[4:, 4:])
    # the padding is black
    assert not first[:4].any() and not first[:, :4].any() and not last[6:].any() and not last[:, 8:].any()


def test_half_of_the_images_are_mirrored_and_none_where_that_is_off():
    plain = Augment((10, 12), pad=4, flip=False)([coordinates()] * 10, grid(10, 2))
    mirrored = Augment((10, 12), pad=4)([coordinates()] * 10, grid(10, 2))
    assert (plain == plain[0]).all()
    numpy.testing.assert_array_equal(mirrored[:5], plain[:5, :, ::-1])
    numpy.testing.assert_array_equal(mirrored[5:], plain[5:])


def test_augmentation_of_a_larger_image_stays_inside():
    images = Augment((4, 4), flip=False)([coordinates()] * 1000,
                                         numpy.random.default_rng(0).random((1000, 4)))
    corners = {tuple(image[0, 0, :2] - 1) for image in images}
    assert corners == {(y, x) for y in range(7) for x in range(9)}


@pytest.mark.parametrize('rotate', [0, 20])
def test_each_image_of_a_batch_is_changed_as_it_is_alone(rotate):
    rng = numpy.random.default_rng(0)
    augment, numbers = Augment((9, 9), 2, rotate=rotate), rng.random((40, 4))
    images = [rng.integers(0, 256, (*rng.integers(8, 14, 2), 3), 'u1') for _ in range(40)]
    before = [image.copy() for image in images]
    batch = augment(images, numbers)
    for i in range(40):
        numpy.testing.assert_array_equal(augment(images[i:i + 1], numbers[i:i + 1])[0], batch[i])
        numpy.testing.assert_array_equal(images[i], before[i])


def test_rotation_is_bounded():
    image = numpy.zeros((41, 41, 3), 'u1')
    image[20, :] = 255
    augment = Augment((41, 41), flip=False, rotate=30)
    rows = augment([image] * 101, grid(101, 3))[:, :, 30, 0].argmax(1) - 20
    angles = numpy.degrees(numpy.arctan2(-rows, 10))
    assert angles.min() < -25 and angles.max() > 25 and abs(angles[50]) < 1
    assert abs(angles).max() < 34


def test_normalize_by_hand():
    normalize = Normalize((0.5, 0.25, 0), (0.5, 0.25, 1))
    images = numpy.zeros((2, 2, 3, 3), 'u1')
    images[:, 1, 2] = 255, 51, 102
    x, t = convert._call_converter(normalize, (images, numpy.array([3, 1], 'i')), None)
    assert x.shape == (2, 3, 2, 3) and x.dtype == 'f' and t.dtype == 'i' and t.tolist() == [3, 1]
    numpy.testing.assert_allclose(x[1, :, 1, 2], [1, -0.2, 0.4], atol=1e-6)
    numpy.testing.assert_allclose(x[0, :, 0, 0], [-1, -1, 0], atol=1e-6)


def test_bgr_turns_the_channels_around():
    images = numpy.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), 'u1')
    rgb, bgr = (Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), order).images(images) for order in ('RGB', 'BGR'))
    numpy.testing.assert_array_equal(bgr, rgb[:, ::-1])


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_channels_lie_together_on_the_cpu_and_apart_on_a_gpu(order):
    batch = numpy.zeros((2, 4, 5, 3), 'u1'), numpy.zeros(2, 'i')
    normalize = Normalize((0, 0, 0), (1, 1, 1), order)
    for device in None, SimpleNamespace(xp=numpy, send=lambda x: x):
        assert normalize(batch, device)[0].transpose(0, 2, 3, 1).flags.c_contiguous
    assert normalize(batch, SimpleNamespace(xp='cupy', send=lambda x: x))[0].flags.c_contiguous


@pytest.mark.parametrize('shape', [(10, 12), (24, 32)])
def test_squeeze_takes_the_whole_image(shape):
    image = coordinates(12, 16)
    small = squeeze(image, shape)
    assert small.shape == (*shape, 3)
    # rows are numbered 1 to 12 over the height, whatever it is; the ends are weighed less
    expected = (numpy.arange(shape[0]) + 0.5) * 12 / shape[0] + 0.5
    numpy.testing.assert_allclose(small[2:-2, 4, 0], expected[2:-2], atol=0.51)
    assert squeeze(image, (12, 16)) is image


def test_every_orientation_is_equally_frequent():
    """The original port's: four quarter turns, each mirrored or not."""
    image = coordinates(5, 5)
    wanted = [numpy.rot90(i, k) for i in (image, image[:, ::-1]) for k in range(4)]
    numbers = numpy.array([[0, 0, flip, turn / 8] for flip in (0.2, 0.7) for turn in range(8)])
    found = Augment((5, 5), turn=True)([image] * 16, numbers)
    counts = [sum(numpy.array_equal(f, w) for f in found) for w in wanted]
    assert counts == [2] * 8


def test_turn_and_rotation_from_one_number_are_independent():
    augment = Augment((41, 41), turn=True, rotate=30, flip=False)
    image = numpy.zeros((41, 41, 3), 'u1')
    image[20, 20:] = 255
    numbers = grid(400, 3)
    turned = augment([image] * 400, numbers)
    for quarter in range(4):
        here = numpy.rot90(turned[100 * quarter:100 * quarter + 100], -quarter, axes=(1, 2))
        rows = here[:, :, 30, 0].argmax(1) - 20
        angles = numpy.degrees(numpy.arctan2(-rows, 10))
        assert angles[0] < -25 and angles[-1] > 25 and abs(angles[50]) < 1


def test_parts_by_hand():
    """In the middle of both ranges: a square, its area halfway from 8 % to that of the largest."""
    sizes = numpy.array([[300, 400], [400, 300]])
    numbers = numpy.full((2, 6), 0.5)
    side = round(((0.08 * 120000 + 300 * 300) / 2) ** 0.5)
    top = (300 - side + 1) // 2, (400 - side + 1) // 2
    assert ResizedCrop.parts(sizes, numbers).tolist() == [
        [top[0], top[1], side, side], [top[1], top[0], side, side]]
    # the widest shape: 4/3 fills the image of that shape, and 3/4 its height
    whole, tall = numbers.copy(), numbers.copy()
    whole[:, 4:], tall[:, 4:] = numpy.nextafter(1, 0), [[0, numpy.nextafter(1, 0)]] * 2
    assert ResizedCrop.parts(sizes, whole)[0].tolist() == [0, 0, 300, 400]
    assert ResizedCrop.parts(sizes, tall)[0, 2:].tolist() == [300, 225]


def test_parts_are_inside_and_of_the_sizes_told():
    rng = numpy.random.default_rng(0)
    sizes = rng.integers(20, 600, (5000, 2))
    top, left, height, width = ResizedCrop.parts(sizes, rng.random((5000, 6))).T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= sizes[:, 0]).all() and (left + width <= sizes[:, 1]).all()
    # images that are not too long for any part of 8 %
    usual = abs(numpy.log(sizes[:, 0] / sizes[:, 1])) < 1.5
    area, shape = height * width / sizes.prod(1), width / height
    assert area[usual].min() > 0.07 and area.max() <= 1
    assert 0.65 < shape[usual].min() and shape[usual].max() < 1.5 and abs(numpy.log(shape).mean()) < 0.02
    # all sides are reached
    assert (top == 0).any() and (left == 0).any()
    assert (top + height == sizes[:, 0]).any() and (left + width == sizes[:, 1]).any()


def test_the_smallest_image_has_a_part():
    assert ResizedCrop((8, 8))([numpy.full((1, 1, 3), 7, 'u1')], numpy.full((1, 6), 0.3)).tolist() == [
        [[[7, 7, 7]] * 8] * 8]


def test_a_resized_crop_shows_the_part_and_mirrors_half():
    numbers = numpy.array([[0.3, 0.6, flip, 0.5, 0.4, 0.1] for flip in (0.2, 0.7)])
    image = coordinates(200, 250)
    mirrored, plain = ResizedCrop((16, 20))([image] * 2, numbers)
    numpy.testing.assert_array_equal(mirrored, plain[:, ::-1])
    top, left, height, width = ResizedCrop.parts(numpy.array([[200, 250]]), numbers[:1])[0]
    numpy.testing.assert_array_equal(plain, squeeze(image[top:top + height, left:left + width], (16, 20)))
    unflipped = ResizedCrop((16, 20), flip=False)([image] * 2, numbers)
    numpy.testing.assert_array_equal(unflipped, [plain, plain])


def test_the_middle_of_an_image_that_is_made_to_cover_first():
    """ImageNet's evaluation, 256 -> 224, here 32 -> 28."""
    image = coordinates(100, 200)
    (found,) = CenterCrop((28, 28), cover=(32, 32))([image])
    numpy.testing.assert_array_equal(found, resize_to_cover(image, (32, 32))[2:30, 18:46])
