"""Scores of one map and one mask, by hand and in two ways; intervals of means."""
import numpy
import pytest

from chainer_abn.explain.faithfulness import area, deletion, insertion
from chainer_abn.explain.scores import (
    THRESHOLDS,
    bootstrap,
    centre_map,
    energy_inside,
    ious,
    maximum,
    on_image,
    pointing_hit,
    score,
    uniform,
    usual_tolerance,
    within,
)
from chainer_abn.scores.chart import draw_curves


def box(size, rows, columns):
    mask = numpy.zeros(size, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def test_pointing_counts_the_pixels_within_the_tolerance():
    values = numpy.zeros((9, 9))
    values[4, 4] = 1
    mask = box((9, 9), (0, 2), (7, 9))          # its nearest pixel is 3 up and 3 to the right
    assert not pointing_hit(values, mask) and not pointing_hit(values, mask, 4.2)
    assert pointing_hit(values, mask, 4.3)      # 18 ** 0.5 = 4.24
    assert pointing_hit(values, box((9, 9), (4, 5), (4, 5)))


@pytest.mark.parametrize('tolerance', [0, 1, 2.5, 40])
def test_within_is_the_distance_to_the_nearest_pixel_of_the_object(tolerance):
    mask = numpy.random.default_rng(3).random((14, 11)) < 0.03
    places = numpy.argwhere(mask)
    distance = [[numpy.hypot(*(places - (y, x)).T).min() for x in range(11)] for y in range(14)]
    numpy.testing.assert_array_equal(within(mask, tolerance), numpy.array(distance) <= tolerance)


def test_the_usual_tolerance_is_that_of_the_literature_at_the_size_of_its_photos():
    assert usual_tolerance((375, 500)) == 15
    assert usual_tolerance((32, 32)) == 1 and usual_tolerance((16, 12)) == 0


def test_of_equal_maxima_the_one_nearest_to_their_middle_counts():
    values = numpy.zeros((8, 10))
    values[0:3, 0:5] = 1
    assert maximum(values) == (1, 2)
    values[:] = 0
    values[0, 0] = values[0, 1] = values[7, 9] = 1              # their middle is no maximum itself
    assert maximum(values) == (0, 1)
    assert maximum(numpy.ones((4, 6))) == (2, 3)


def test_a_plateau_at_the_edge_points_at_its_middle_and_not_at_the_corner():
    values = numpy.zeros((4, 4))
    values[0, 0] = 1
    assert maximum(on_image(values, (32, 32))) == (2, 2)        # all of rows and columns 0 to 3
    assert pointing_hit(values, box((32, 32), (1, 4), (1, 4)))
    assert not pointing_hit(values, box((32, 32), (0, 1), (0, 1)))


def test_energy_is_the_share_of_the_map_as_it_is_drawn():
    values = numpy.array([[2, 2, 4], [2, 3, 6]])                # as drawn 0 0 0.5 / 0 0.25 1
    mask, void = box((2, 3), (1, 2), (1, 3)), numpy.zeros((2, 3), bool)
    found = score(values, mask, void, mask)
    assert found.energy == pytest.approx(1.25 / 1.75)
    assert found.pointing == 1 and found.place == (1, 2)
    void[0, 2] = True
    assert score(values, mask, void, mask).energy == pytest.approx(1)
    assert score(100 * values - 7, mask, void, mask).energy == pytest.approx(1)
    assert energy_inside(numpy.zeros((2, 3)), mask, void) == 0


def test_ious_of_a_histogram_are_those_of_each_threshold_by_itself():
    rng = numpy.random.default_rng(0)
    values = rng.random((13, 17)).astype('f')
    values[0, :5] = 0, 1, 0.29, 0.57, 0.58                      # where rounding could matter
    mask = rng.random(values.shape) < 0.3
    void = ~mask & (rng.random(values.shape) < 0.2)
    expected = []
    for k in range(100):
        region = (100 * values >= k) & ~void
        expected.append((region & mask).sum() / (region | mask).sum())
    numpy.testing.assert_array_equal(ious(values, mask, void), expected)
    assert expected[0] == mask.sum() / (~void).sum()            # the whole image


def test_iou_by_hand():
    values = numpy.array([[0, 0.25], [0.5, 1]])
    found = dict(zip(THRESHOLDS, ious(values, box((2, 2), (1, 2), (0, 2)), numpy.zeros((2, 2), bool)),
                     strict=True))
    assert (found[0], found[0.25], found[0.26], found[0.5], found[0.51]) == (1 / 2, 2 / 3, 1, 1, 1 / 2)


@pytest.mark.parametrize('values', [numpy.zeros((3, 3)), numpy.full((3, 3), 0.7),
                                    numpy.array([[0, numpy.nan], [1, 2]]), numpy.array([[0, numpy.inf]])])
def test_an_empty_map_points_nowhere(values):
    mask = numpy.ones((6, 6), bool)
    found = score(values, mask, ~mask, mask)
    assert found[:3] == (None, 0, 0) and not found.ious.any()
    assert not pointing_hit(values, mask, 5)


def test_a_map_that_shrinks_to_one_value_is_empty():
    assert on_image(numpy.indices((64, 64)).sum(axis=0) % 2, (1, 1)) is None


def test_the_uniform_map_in_closed_form():
    mask, void = box((10, 10), (2, 5), (2, 6)), box((10, 10), (8, 10), (0, 10))
    found = uniform(mask, void, within(mask, 1))
    assert found.energy == 12 / 80 and (found.ious == 12 / 80).all()
    assert found.pointing == (12 + 2 * 3 + 2 * 4) / 100
    rng = numpy.random.default_rng(0)
    hits = within(mask, 1)[rng.integers(10, size=4000), rng.integers(10, size=4000)]
    assert hits.mean() == pytest.approx(found.pointing, abs=0.03)


def test_the_centre_is_a_gaussian_over_the_middle():
    values = centre_map((21, 41))
    assert maximum(values) == (10, 20) and values.max() == 1
    assert values[10, 20 + 41 // 4] == pytest.approx(numpy.exp(-(10 / 10.25) ** 2 / 2))
    assert values[5, 20] == pytest.approx(numpy.exp(-(5 / 5.25) ** 2 / 2))
    assert maximum(centre_map((32, 48))) == (16, 24)
    # the share of a normal distribution within one sigma of 0, of that within two
    middle = (abs(numpy.arange(400) - 199.5) < 100)[:, None] & numpy.ones(400, bool)
    inside = values_inside(centre_map((400, 400)), middle)
    assert inside == pytest.approx(0.6827 / 0.9545, abs=1e-3)


def values_inside(values, mask):
    return energy_inside(values, mask, numpy.zeros_like(mask))


def test_insertion_and_deletion_by_hand():
    """A network that answers with the brightness of the left column, of an image of two columns."""
    x = numpy.zeros((3, 2, 2), 'f')
    x[:, :, 0] = 1
    values = numpy.array([[4, 2], [3, 1]])                      # the left column first

    def left(batch):
        return batch[:, 0, :, 0].mean(axis=1)

    gone = deletion(left, x, values, 4, 3)
    assert gone.tolist() == [1, 0.5, 0, 0, 0] and area(gone) == 0.25
    assert deletion(left, x, -values, 4, 3).tolist() == [1, 1, 1, 0.5, 0]
    assert deletion(left, x, values, 2, 3).tolist() == [1, 0, 0]
    here = insertion(left, x, values, 4, 3)
    start = here[0]                             # the blur of 0.2 px leaves it nearly as it was
    assert 0.99 < start < 1
    numpy.testing.assert_allclose(here, [start, (1 + start) / 2, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize('batchsize', [1, 4, 100])
def test_curves_do_not_depend_on_the_batches(batchsize):
    rng = numpy.random.default_rng(0)
    x, values = rng.standard_normal((3, 12, 10)).astype('f'), rng.random((6, 5))
    sizes = []

    def mean(batch):
        sizes.append(len(batch))
        return batch.mean(axis=(1, 2, 3))

    curve = insertion(mean, x, values, 7, batchsize)
    assert max(sizes) == min(batchsize, 8) and sum(sizes) == 8
    numpy.testing.assert_allclose(curve, insertion(mean, x, values, 7, 3), atol=1e-7)
    assert curve[-1] == pytest.approx(x.mean(), abs=1e-6)


def test_blurring_takes_away_what_varies_and_keeps_the_rest():
    x = numpy.broadcast_to(numpy.indices((40, 40)).sum(axis=0) % 2, (3, 40, 40)).astype('f')

    def deviation(batch):
        return batch.std(axis=(1, 2, 3))

    def mean(batch):
        return batch.mean(axis=(1, 2, 3))

    values = numpy.arange(1600).reshape(40, 40)
    curve = insertion(deviation, x, values, 10, 4)
    assert curve[0] < 0.02 and curve[-1] == pytest.approx(0.5)
    assert insertion(mean, x, values, 10, 4)[0] == pytest.approx(0.5, abs=0.01)


def test_an_empty_map_adds_and_removes_nothing():
    x = numpy.ones((3, 4, 4), 'f')
    curve = deletion(lambda batch: batch.mean(axis=(1, 2, 3)), x, numpy.full((2, 2), numpy.nan), 5, 2)
    assert curve.tolist() == [1] * 6


def test_the_bootstrap_agrees_with_the_normal_approximation():
    values = numpy.random.default_rng(1).standard_normal((400, 3)) * [1, 2, 0.5] + [0, 5, -1]
    low, high = bootstrap(values, resamples=4000)
    error = 1.96 * values.std(axis=0) / 20
    numpy.testing.assert_allclose(low, values.mean(axis=0) - error, atol=0.1 * error.max())
    numpy.testing.assert_allclose(high, values.mean(axis=0) + error, atol=0.1 * error.max())


def test_the_bootstrap_repeats_itself_and_pairs_the_columns():
    values = numpy.random.default_rng(2).random((50, 2))
    first, again, other = bootstrap(values, 3), bootstrap(values, 3), bootstrap(values, 4)
    assert numpy.array_equal(first, again) and not numpy.array_equal(first, other)
    numpy.testing.assert_allclose(bootstrap(values[:, [0]], 3)[:, 0], numpy.array(first)[:, 0])
    # the difference to a column that is always 0.25 less has no spread, however wide the columns'
    shifted = numpy.column_stack([values[:, 0], values[:, 0] - 0.25])
    low, high = bootstrap(numpy.column_stack([shifted, shifted[:, 0] - shifted[:, 1]]))
    assert high[0] - low[0] > 0.1 and low[2] == pytest.approx(0.25) and high[2] == pytest.approx(0.25)


def test_the_bootstrap_of_many_images_goes_in_blocks(monkeypatch):
    monkeypatch.setattr('chainer_abn.explain.scores.BLOCK', 7)
    low, high = bootstrap(numpy.array([[0.0], [1.0]]), resamples=1000)
    assert (low[0], high[0]) == (0, 1)
    assert bootstrap(numpy.full((30, 1), 2.5), resamples=100) == pytest.approx(2.5)


def test_curves_are_drawn_whole():
    low, high = numpy.array([0, 0.5]), numpy.array([0.1, 0.9])
    figure = draw_curves({'run': {'insertion': {'attention': low}, 'deletion': {'attention': high}}})
    for axes in figure.axes:
        bottom, top = axes.get_ylim()
        assert bottom == 0 and top > 0.9
