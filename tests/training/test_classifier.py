import numpy
import pytest

from chainer_abn.links import Output, build
from chainer_abn.training.classifier import ABNClassifier, top_k_accuracy

import chainer
import chainer.functions as F


class Fixed(chainer.Chain):
    """Gives the same logits for every image."""

    def __init__(self, attention_logits, logits):
        super().__init__()
        self.output = Output(
            None if attention_logits is None else chainer.Variable(numpy.array(attention_logits, 'f')),
            chainer.Variable(numpy.array(logits, 'f')), None)

    def forward(self, x):
        return self.output


def report_of(network, t, train):
    classifier = ABNClassifier(network)
    reporter = chainer.Reporter()
    reporter.add_observer('main', classifier)
    observation = {}
    with reporter.scope(observation), chainer.using_config('train', train):
        loss = classifier(numpy.zeros((len(t), 1), 'f'), numpy.array(t, 'i'))
    observation = {name.removeprefix('main/'): float(getattr(value, 'array', value))
                   for name, value in observation.items()}
    assert observation['loss'] == pytest.approx(float(loss.array))
    return observation


@pytest.mark.parametrize('train', [True, False])
def test_terms_by_hand_mean_the_same_in_training_and_validation(train):
    log3, log2 = numpy.log(3), numpy.log(2)
    # softmax: attention (3/4, 1/4), (1/2, 1/2); perception (1/4, 3/4), (2/3, 1/3)
    seen = report_of(Fixed([[log3, 0], [0, 0]], [[0, log3], [log2, 0]]), [0, 0], train)
    attention = -(numpy.log(3 / 4) + numpy.log(1 / 2)) / 2
    perception = -(numpy.log(1 / 4) + numpy.log(2 / 3)) / 2
    assert seen == pytest.approx({
        'loss': attention + perception, 'attention_loss': attention, 'perception_loss': perception,
        'accuracy': 0.5, 'attention_accuracy': 1}, rel=1e-6)


def test_without_attention_the_loss_is_the_perception_loss():
    seen = report_of(Fixed(None, [[0., 1], [1, 0]]), [0, 0], True)
    assert set(seen) == {'loss', 'perception_loss', 'accuracy'}
    assert seen['loss'] == seen['perception_loss']


def test_top5_is_reported_above_five_classes_only():
    logits = [[9., 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]]
    assert report_of(Fixed(None, logits), [4, 5], True)['top5_accuracy'] == 0.5
    assert 'top5_accuracy' not in report_of(Fixed(None, [row[:5] for row in logits]), [4, 0], True)


def test_top_k_by_hand():
    logits = numpy.array([[1., 3, 2], [1, 3, 2], [5, 5, 5]])
    assert top_k_accuracy(logits, numpy.array([2, 0, 1]), 2) == pytest.approx(2 / 3)
    assert top_k_accuracy(logits, numpy.array([2, 0, 2]), 1) == 0


def test_gradient_is_that_of_the_sum_of_both_losses():
    numpy.random.seed(0)
    network = build('resnet8', 3)
    x = numpy.random.standard_normal((4, 3, 16, 16)).astype('f')
    t = numpy.array([0, 1, 2, 0], 'i')
    classifier = ABNClassifier(network)
    classifier.cleargrads()
    classifier(x, t).backward()
    seen = {name: p.grad.copy() for name, p in network.namedparams()}
    network.cleargrads()
    output = network(x)
    (F.softmax_cross_entropy(output.attention_logits, t)
     + F.softmax_cross_entropy(output.logits, t)).backward()
    for name, p in network.namedparams():
        numpy.testing.assert_array_equal(seen[name], p.grad)
