import numpy
from sklearn.linear_model import LogisticRegression

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.shapes import CLASSES, Shapes


def test_deterministic_by_seed_and_index():
    a, b, other = Shapes(13, 5), Shapes(20, 5), Shapes(13, 6)
    numpy.testing.assert_array_equal(a.images, b.images[:13])
    numpy.testing.assert_array_equal(a.masks, b.masks[:13])
    assert (a.images != other.images).any((1, 2, 3)).all()


def test_scenes():
    shapes = Shapes(60, 1)
    assert shapes.images.shape == (60, 32, 32, 3) and shapes.images.dtype == 'u1'
    assert shapes.masks.shape == (60, 32, 32) and shapes.masks.dtype == bool
    assert len(CLASSES) >= 6 and numpy.bincount(shapes.labels).tolist() == [10] * len(CLASSES)
    area = shapes.masks.sum((1, 2))
    assert area.min() > 15 and area.max() < 32 * 32 / 3
    # the object differs from what surrounds it, and is not always in the middle
    inside = numpy.array([i[m].mean() for i, m in zip(shapes.images, shapes.masks, strict=True)])
    outside = numpy.array([i[~m].mean() for i, m in zip(shapes.images, shapes.masks, strict=True)])
    assert (inside > outside).mean() > 0.9
    assert shapes.masks[:, 16, 16].mean() < 0.5


def test_mask_lies_on_the_object():
    """Pixels of the mask look alike: their spread is smaller than the scene's."""
    shapes = Shapes(40, 2)
    tighter = [image[mask].std(0).mean() < image.reshape(-1, 3).std(0).mean()
               for image, mask in zip(shapes.images, shapes.masks, strict=True)]
    assert numpy.mean(tighter) > 0.8


def test_a_linear_classifier_stays_below_60_percent():
    shapes = Shapes(900, 3)
    x = shapes.images.reshape(900, -1) / 255
    linear = LogisticRegression(C=1e-3, max_iter=60).fit(x[:600], shapes.labels[:600])
    assert linear.score(x[600:], shapes.labels[600:]) < 0.6


def test_own_split_adds_a_test_set():
    train, test = (shapes := open_dataset('shapes', n_images=30, with_split=True)).split
    assert len(train) == 30 and len(test) == 6 and len(shapes) == 36
