"""What holds for any images and any uniform numbers.

The first two channels of an image tell the place of each pixel, the third is a mask: where a pixel goes, what
is told of it has to go.
"""
import numpy
from helpers import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from chainer_abn.datasets.examples import Examples
from chainer_abn.datasets.transforms import (
    MAX_ASPECT,
    Augment,
    CenterCrop,
    Normalize,
    ResizedCrop,
    crop,
    mirror,
    resize_to_cover,
)

SEEDS = st.integers(0, 2 ** 32 - 1)
SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)
PADS, FLAGS = st.integers(0, 6), st.booleans()
CUTS = st.one_of(st.builds(Augment, SIZES, PADS, FLAGS), st.builds(CenterCrop, SIZES))
SQUARES = SIDES.map(lambda side: (side, side))
EXACT = st.one_of(CUTS, st.builds(Augment, SQUARES, PADS, FLAGS, turn=st.just(True)))
ALL = st.one_of(EXACT, st.builds(ResizedCrop, SIZES, FLAGS, st.sampled_from([0, 20]), FLAGS),
                st.builds(Augment, SIZES, PADS, FLAGS, st.floats(1, 180)),
                st.builds(CenterCrop, SIZES, SIZES))


def image_of(size, mask):
    """(H, W, 3) uint8: row and column from 1 on, and whether ``mask`` has the pixel."""
    y, x = numpy.mgrid[:size[0], :size[1]]
    return numpy.stack([y + 1, x + 1, mask], 2).astype('u1')


def drawn(transform, sizes, seed):
    """Images with a random mask each, and uniform numbers for them."""
    rng = numpy.random.default_rng(seed)
    return ([image_of(size, rng.integers(0, 2, size)) for size in sizes],
            rng.random((len(sizes), transform.draws)))


BATCHES = st.lists(SIZES, min_size=1, max_size=5)


@PROPERTY
@given(EXACT, BATCHES, SEEDS)
def test_mask_and_neighbours_move_with_the_pixels(transform, sizes, seed):
    images, numbers = drawn(transform, sizes, seed)
    found = transform(images, numbers)
    assert found.shape == (len(images), *transform.size, 3)
    for image, part in zip(images, found.astype(int), strict=True):
        inside = part[..., 0] > 0
        assert (part[~inside] == 0).all()
        y, x, mask = part[inside].T
        numpy.testing.assert_array_equal(mask, image[y - 1, x - 1, 2])
        for axis in 0, 1:
            steps = abs(numpy.diff(part[..., :2], axis=axis)).sum(-1)
            both = inside[1:] & inside[:-1] if axis == 0 else inside[:, 1:] & inside[:, :-1]
            assert (steps[both] == 1).all()


@PROPERTY
@given(ALL, BATCHES, SEEDS)
def test_the_numbers_alone_decide_for_each_image_by_itself(transform, sizes, seed):
    images, numbers = drawn(transform, sizes, seed)
    before = [image.copy() for image in images]
    state = numpy.random.get_state()[1].copy()
    batch = transform(images, numbers)
    assert batch.dtype == 'u1' and batch.shape == (len(images), *transform.size, 3)
    for i, image in enumerate(images):
        numpy.testing.assert_array_equal(transform([image], numbers[i:i + 1])[0], batch[i])
        numpy.testing.assert_array_equal(image, before[i])
    numpy.testing.assert_array_equal(numpy.random.get_state()[1], state)


@PROPERTY
@given(ALL, BATCHES, SEEDS)
def test_channels_move_together(transform, sizes, seed):
    """Also where pixels are mixed: what is gray stays gray."""
    images, numbers = drawn(transform, sizes, seed)
    found = transform([numpy.repeat(image[..., :1] * 6, 3, 2) for image in images], numbers)
    assert (found == found[..., :1]).all()


@PROPERTY
@given(CUTS, BATCHES, SEEDS)
def test_cuts_tell_all_that_is_done(transform, sizes, seed):
    """As the GPU's kernel obeys them."""
    assert transform.only_cuts
    images, numbers = drawn(transform, sizes, seed)
    corners, mirrored = transform.cuts(numpy.array(sizes), numbers)
    found = mirror(crop(images, corners, transform.size), numpy.broadcast_to(mirrored, len(images)))
    numpy.testing.assert_array_equal(found, transform(images, numbers))
    # images of one size are told it once
    of_one_size = transform.cuts(numpy.array(sizes[0]), numbers)
    of_each = transform.cuts(numpy.array(sizes[:1] * len(sizes)), numbers)
    for one, each in zip(of_one_size, of_each, strict=True):
        assert (numpy.broadcast_to(one, numpy.shape(each)) == each).all()


@PROPERTY
@given(SIZES, PADS, SIZES, SEEDS)
def test_a_crop_stays_inside_where_it_fits(size, pad, image_size, seed):
    transform = Augment(size, pad)
    corners, _ = transform.cuts(numpy.array(image_size), numpy.random.default_rng(seed).random((50, 4)))
    room = numpy.array(image_size) + 2 * pad - size
    assert (corners >= -pad).all() and (corners + pad <= numpy.maximum(room, 0)).all()


@PROPERTY
@given(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), SEEDS)
def test_a_resized_crop_is_a_part_of_its_image(size, seed):
    numbers = numpy.random.default_rng(seed).random((50, 6))
    numbers[0], numbers[1] = 0, numpy.nextafter(1, 0)
    top, left, height, width = ResizedCrop.parts(numpy.array([size] * 50), numbers).T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()


@PROPERTY
@given(SIZES, SIZES, SEEDS)
def test_a_resized_crop_shows_that_part_alone(size, image_size, seed):
    transform = ResizedCrop(size)
    images, numbers = drawn(transform, [image_size], seed)
    top, left, height, width = ResizedCrop.parts(numpy.array([image_size]), numbers)[0]
    y, x, _ = transform(images, numbers)[0].reshape(-1, 3).T
    assert top + 1 <= y.min() and y.max() <= top + height
    assert left + 1 <= x.min() and x.max() <= left + width


@PROPERTY
@given(SIZES, SIZES)
def test_the_middle_is_as_far_from_both_sides(size, image_size):
    part = CenterCrop(size)([image_of(image_size, numpy.ones(image_size))])[0]
    for axis, channel in (0, part[:, size[1] // 2, 0]), (1, part[size[0] // 2, :, 1]):
        seen = channel[channel > 0]
        assert len(seen) == min(size[axis], image_size[axis])
        assert 0 <= (image_size[axis] - seen[-1]) - (seen[0] - 1) <= 1
        black = numpy.flatnonzero(channel)
        assert abs(black[0] - (size[axis] - 1 - black[-1])) <= 1


@PROPERTY
@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), SIZES)
def test_covering_keeps_the_shape_and_the_memory(image_size, size):
    found = numpy.array(resize_to_cover(numpy.zeros((*image_size, 3), 'u1'), size).shape[:2])
    assert (found >= size).all() and (found <= MAX_ASPECT * max(size)).all()
    assert (found == size).any()
    scale = max(numpy.array(size) / image_size)
    free = found < MAX_ASPECT * max(size)
    assert (abs(found - scale * numpy.array(image_size)) <= 0.5)[free].all()


COLOURS = st.tuples(*[st.floats(0, 1)] * 3)


@PROPERTY
@given(COLOURS, st.tuples(*[st.floats(0.01, 1)] * 3), st.sampled_from(['RGB', 'BGR']), SEEDS)
def test_normalised_values_are_those_of_the_table_and_go_back(mean, std, order, seed):
    images = numpy.random.default_rng(seed).integers(0, 256, (2, 5, 4, 3), 'u1')
    normalize = Normalize(mean, std, order)
    x = normalize.images(images)
    channels = images.transpose(0, 3, 1, 2)[:, ::1 if order == 'RGB' else -1]
    for values, pixels, row in zip(x.swapaxes(0, 1), channels.swapaxes(0, 1), normalize.table(), strict=True):
        numpy.testing.assert_array_equal(values, row[pixels])
    mean, std = (numpy.array(c)[::1 if order == 'RGB' else -1, None, None] for c in (mean, std))
    numpy.testing.assert_allclose(255 * (x * std + mean), channels, atol=1e-3)


class Labelled:
    """A store of images that are as their labels."""

    def __init__(self, n):
        self.dataset, self.labels = self, numpy.random.default_rng(n).integers(0, 256, n, 'i')

    def image(self, i):
        return numpy.full((9, 8, 3), self.labels[i], 'u1')


@PROPERTY
@given(st.integers(1, 40), SEEDS, st.lists(st.integers(0, 10 ** 6), min_size=1, max_size=30),
       st.builds(Augment, SIZES))
def test_labels_move_with_their_images(n, seed, numbers, transform):
    store = Labelled(n)
    indices = numpy.random.default_rng(seed).permutation(n)[:n // 2 + 1]
    images, labels = Examples(store, indices, transform, seed).batch(numpy.array(numbers))
    numpy.testing.assert_array_equal(images.max(axis=(1, 2, 3)), labels)
