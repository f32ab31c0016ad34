"""What holds for any image and any map over it."""
import matplotlib
import numpy
from helpers import PROPERTY
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chainer_abn.explain.overlay import INTERPOLATIONS, is_empty, overlay, resize_map

SIDES = st.integers(1, 24)
SIZES = st.tuples(SIDES, SIDES)
IMAGES = SIZES.flatmap(lambda size: arrays('u1', (*size, 3)))
NUMBERS = st.floats(-2.0 ** 100, 2.0 ** 100, width=32)
MAP_SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
ANY_MAP = MAP_SIZES.flatmap(lambda size: arrays('f', size, elements=NUMBERS))
MAPS = ANY_MAP.filter(lambda values: not is_empty(values))
COLORMAPS = st.sampled_from(['jet', 'gray', 'viridis', 'Set1'])
INTERPOLATED = st.sampled_from(sorted(INTERPOLATIONS))
ALPHAS = st.floats(0, 1)


def colours_of(name):
    """(N, 3) uint8: what a colormap can show."""
    colormap = matplotlib.colormaps[name]
    return (colormap(numpy.arange(colormap.N))[:, :3] * 255).round().astype('u1')


@PROPERTY
@given(IMAGES, ANY_MAP, ALPHAS, COLORMAPS, INTERPOLATED)
def test_the_picture_lies_between_the_image_and_the_colours(image, values, alpha, colormap, interpolation):
    before, given_map = image.copy(), values.copy()
    drawn = overlay(image, values, alpha, colormap, interpolation)
    assert drawn.shape == image.shape and drawn.dtype == 'u1'
    pure = overlay(image, values, 1, colormap, interpolation)
    low, high = numpy.minimum(image, pure), numpy.maximum(image, pure)
    assert ((low <= drawn) & (drawn <= high)).all()
    # the map is rounded to whole colours only once it is mixed
    exact = alpha * pure.astype(float) + (1 - alpha) * image
    assert abs(drawn - exact).max() <= 1
    numpy.testing.assert_array_equal(image, before)
    numpy.testing.assert_array_equal(values, given_map)


@PROPERTY
@given(IMAGES, ANY_MAP, COLORMAPS, INTERPOLATED)
def test_of_no_weight_the_map_is_not_seen_and_of_full_weight_it_alone(image, values, colormap, interpolation):
    numpy.testing.assert_array_equal(overlay(image, values, 0, colormap, interpolation), image)
    assume(not is_empty(values))
    drawn = overlay(image, values, 1, colormap, interpolation)
    there = set(map(tuple, colours_of(colormap).tolist()))
    assert set(map(tuple, drawn.reshape(-1, 3).tolist())) <= there
    other = overlay(255 - image, values, 1, colormap, interpolation)
    numpy.testing.assert_array_equal(drawn, other)


@PROPERTY
@given(MAPS, COLORMAPS)
def test_the_ends_of_the_map_have_the_ends_of_the_colours(values, colormap):
    drawn = overlay(numpy.zeros((*values.shape, 3), 'u1'), values, 1, colormap)
    first, *_, last = colours_of(colormap).tolist()
    assert (drawn[values == values.min()] == first).all() and (drawn[values == values.max()] == last).all()


@PROPERTY
@given(MAPS)
def test_what_is_higher_is_not_drawn_lower(values):
    drawn = overlay(numpy.zeros((*values.shape, 3), 'u1'), values, 1, 'gray')[..., 0].astype(int)
    assert (numpy.diff(drawn.ravel()[values.ravel().argsort(kind='stable')]) >= 0).all()


@PROPERTY
@given(MAPS, st.integers(-20, 20), ALPHAS, INTERPOLATED)
def test_the_scale_of_the_map_does_not_matter(values, power, alpha, interpolation):
    image = numpy.full((13, 11, 3), 90, 'u1')
    assume(numpy.log2(abs(values[values != 0])).min() > -100)       # else the smallest would be rounded
    scaled = overlay(image, values * numpy.float32(2) ** power, alpha, 'jet', interpolation)
    numpy.testing.assert_array_equal(scaled, overlay(image, values, alpha, 'jet', interpolation))


@PROPERTY
@given(IMAGES, ANY_MAP, st.sampled_from([numpy.nan, numpy.inf, -numpy.inf, None]), ALPHAS, INTERPOLATED)
def test_an_empty_map_is_not_drawn(image, values, spoilt, alpha, interpolation):
    if spoilt is None:
        values[...] = values[0, 0]
    else:
        values[-1, -1] = spoilt
    assert is_empty(values)
    numpy.testing.assert_array_equal(overlay(image, values, alpha, interpolation=interpolation), image)


@PROPERTY
@given(ANY_MAP, SIZES, st.sampled_from(['bilinear', 'nearest']))
def test_a_resized_map_stays_within_its_bounds(values, size, interpolation):
    resized = resize_map(values, size, interpolation)
    assert resized.shape == size and resized.dtype == 'f'
    slack = 1e-6 * abs(values).max()
    assert values.min() - slack <= resized.min() and resized.max() <= values.max() + slack
    if interpolation == 'nearest':
        assert set(resized.ravel().tolist()) <= set(values.ravel().tolist())


@PROPERTY
@given(ANY_MAP, INTERPOLATED)
def test_a_map_of_the_right_size_is_left_as_it_is(values, interpolation):
    numpy.testing.assert_array_equal(resize_map(values, values.shape, interpolation), values)


@PROPERTY
@given(NUMBERS, SIZES, SIZES, INTERPOLATED)
def test_an_even_map_stays_even(value, size, new_size, interpolation):
    resized = resize_map(numpy.full(size, value, 'f'), new_size, interpolation)
    numpy.testing.assert_allclose(resized, numpy.float32(value), rtol=1e-6)
