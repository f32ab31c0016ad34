"""The parts that the page is made of."""
import io
import math

import numpy
import pytest
from PIL import Image

from chainer_abn.report import charts
from chainer_abn.report.cards import thumbnail, where
from chainer_abn.report.choose import Choice, at_random, most_confident_errors
from chainer_abn.report.markup import Html, tag
from chainer_abn.training.predictions import Predictions


def of_classes(truth, predicted, p):
    n = len(truth)
    return Predictions(numpy.arange(n), [str(i) for i in range(n)], numpy.array(truth),
                       numpy.array(predicted), numpy.array([p, p], 'f').T)


def test_errors_by_confidence():
    predictions = of_classes([0, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0.6, 0.99, 0.9, 0.6, math.nan])
    assert most_confident_errors(predictions) == [Choice(2), Choice(0), Choice(3), Choice(4)]
    assert most_confident_errors(predictions, 1) == [Choice(2)]


def test_errors_of_tasks_by_the_confidence_of_the_answer_that_was_given():
    yes = numpy.array([[0.9, 0.4], [0.2, 0.7], [0.45, 0.99]], 'f')
    predictions = Predictions(numpy.arange(3), list('abc'), numpy.array([[0, 1], [1, 1], [0, 0]]),
                              (yes > 0.5).astype(int), yes)
    assert most_confident_errors(predictions) == [Choice(2, 1), Choice(0, 0), Choice(1, 0), Choice(0, 1)]


def test_what_is_chosen_at_random_depends_on_the_seed_alone():
    predictions = of_classes([0] * 50, [0] * 50, [0.5] * 50)
    chosen = at_random(predictions, (402, 1))
    numpy.random.seed(0)
    assert at_random(predictions, (402, 1)) == chosen != at_random(predictions, (402, 2))
    assert len(set(chosen)) == 9 and chosen == sorted(chosen)
    assert len(at_random(of_classes([0], [0], [1]), 1)) == 1


def test_markup_escapes_whatever_is_no_markup():
    assert tag('p', 'a<b', tag('em', '&'), title='"<', class_=None, hidden=True) == \
        '<p title="&quot;&lt;" hidden>a&lt;b<em>&amp;</em></p>'
    assert tag('meta', charset='utf-8') == '<meta charset="utf-8">'
    assert tag('p', 'x\udcff') == '<p>x?</p>' and tag('p', Html('<b>')) == '<p><b></p>'


@pytest.mark.parametrize('size, shown, kind', [
    ((32, 24), (120, 160), 'png'), ((64, 64), (128, 128), 'jpeg'), ((97, 150), (150, 97), 'jpeg'),
    ((224, 448), (160, 80), 'jpeg')])
def test_thumbnails(size, shown, kind):
    pixels = numpy.random.default_rng(0).integers(0, 256, (*size, 3)).astype('u1')
    picture = thumbnail(pixels)
    assert (picture.width, picture.height, picture.kind) == (*shown, f'image/{kind}')
    opened = Image.open(io.BytesIO(picture.data))
    assert opened.format.lower() == kind
    if kind == 'png':
        numpy.testing.assert_array_equal(numpy.asarray(opened), pixels)
    # whole steps
    assert picture.enlarged == (shown > opened.size) and shown[0] % opened.width == 0


def test_where_a_map_is_highest():
    values = numpy.zeros((4, 5))
    values[3, 0] = 1
    assert where(values) == 'highest 10% from the left and 88% from the top'
    assert 'empty' in where(numpy.ones((2, 2))) and 'empty' in where(numpy.full((2, 2), numpy.nan))


def test_charts_are_the_same_bytes_again_and_the_lines_differ_in_more_than_colour():
    log = [{'epoch': e, 'main/accuracy': e / 4, 'validation/main/accuracy': e / 5, 'main/loss': math.nan,
            'validation/main/loss': 1 / e} for e in (1, 2, 3)]
    scale = charts.limits([log, log[:1]])
    assert scale == (0.2, pytest.approx(1.05), 3)
    picture = charts.curves(log, *scale)
    assert picture == charts.curves(log, *scale) and picture.kind == 'image/svg+xml'
    assert b'stroke-dasharray' in picture.data and b'>validation</text>' in picture.data
    assert charts.curves(log[:1], *charts.limits([log[:1]])).data


def test_a_matrix_of_many_classes_has_a_square_for_each_pair():
    counts = numpy.zeros((100, 100), int)
    counts[3, 7], counts[3, 3] = 1, 99
    picture = charts.matrix(counts, [str(i) for i in range(100)])
    assert (picture.width, picture.height, picture.enlarged) == (600, 600, True)
    light = numpy.asarray(Image.open(io.BytesIO(picture.data))).astype(int).sum(axis=2)
    assert light.shape == (100, 100)
    assert light[3, 3] < light[3, 7] < light[7, 3] == light[0, 0]


def test_names_of_classes_are_no_formulas():
    """A dollar sign begins none, and what is markup is text in the drawing."""
    drawing = charts.matrix(numpy.eye(2, dtype=int), ['a$x^$', '<script>']).data
    assert b'a$x^$' in drawing and b'<script' not in drawing
