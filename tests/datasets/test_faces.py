import numpy
from sklearn.linear_model import LogisticRegression

from chainer_abn.datasets.faces import Faces


def test_deterministic_by_seed_and_index():
    a, b, other = Faces(13, 5), Faces(20, 5), Faces(13, 6)
    for name in 'images', 'labels', 'places', 'masks':
        numpy.testing.assert_array_equal(getattr(a, name), getattr(b, name)[:13])
    assert (a.images != other.images).any((1, 2, 3)).all()


def test_what_there_is():
    faces = Faces(50, 1)
    assert len(faces) == 50 and faces.multitask and len(faces.classes) == 2
    assert faces.images.shape == (50, 32, 32, 3) and faces.images.dtype == 'u1'
    assert faces.labels.shape == (50, 2) and faces.labels.dtype == 'i'
    assert faces.places.shape == (50, 2, 32, 32) and faces.places.dtype == bool
    assert faces.image(3) is not None and faces.name(3) != faces.name(4)
    train, test = Faces(20, 1, with_split=True).split
    assert (train == numpy.arange(20)).all() and test.tolist() == [20, 21, 22, 23]


def test_the_attributes_are_fair_and_independent():
    joint = numpy.bincount(Faces(1200, 2).labels @ [2, 1], minlength=4)
    # four even cells: 300 each, with a deviation of 15
    assert abs(joint - 300).max() < 60


def test_places_lie_in_the_face_and_apart():
    faces = Faces(60, 3)
    eyes, mouth = faces.places.transpose(1, 0, 2, 3)
    assert not (eyes & mouth).any()
    assert (mouth & faces.masks).sum() > 0.95 * mouth.sum() and (eyes & faces.masks).sum() > 0.9 * eyes.sum()
    share = faces.places.mean((2, 3))
    assert share.min() > 0.03 and share.max() < 0.25
    eye_row, mouth_row = ((place * numpy.arange(32)[:, None]).sum((1, 2)) / place.sum((1, 2))
                          for place in (eyes, mouth))
    assert (eye_row < mouth_row).all()
    # always pointing at the same pixel finds it in some images only
    assert faces.places.mean(0).max() < 0.75


def test_an_attribute_shows_in_its_place():
    """Over many images, with and without differ in the place and not elsewhere in the face."""
    faces = Faces(900, 4)
    gray = faces.images.mean(-1)
    darkness = numpy.array([image[face].mean() for image, face in zip(gray, faces.masks, strict=True)])
    spread = {}
    for where, mask in ('eyes', faces.places[:, 0]), ('mouth', faces.places[:, 1]), (
            'rest', faces.masks & ~faces.places.any(1)):
        spread[where] = numpy.array([image[m].std() for image, m in zip(gray, mask, strict=True)])
    glasses = faces.labels[:, 0] == 1

    def effect(values, present):
        """Difference of the means in standard deviations."""
        return abs(values[present].mean() - values[~present].mean()) / values.std()

    assert effect(spread['eyes'], glasses) > 0.5
    assert max(effect(spread[w], glasses) for w in ('mouth', 'rest')) < 0.2
    assert effect(darkness, faces.labels[:, 1] == 1) < 0.2


def test_a_linear_classifier_does_not_do():
    faces = Faces(900, 5)
    x = faces.images.reshape(900, -1) / 255
    for labels in faces.labels.T:
        linear = LogisticRegression(C=1e-3, max_iter=60).fit(x[:600], labels[:600])
        assert linear.score(x[600:], labels[600:]) < 0.7
