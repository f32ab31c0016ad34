import io
import os
from types import SimpleNamespace

import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.links import Output, build
from chainer_abn.training import checkpoint, confusion
from chainer_abn.training.classifier import ABNClassifier
from chainer_abn.training.extensions import KeepBest, Validation, WithoutEscapes
from chainer_abn.training.run_folder import RunFolder

import chainer


class Identity(chainer.Chain):
    """x is the logits."""

    def forward(self, x):
        return Output(None, chainer.as_variable(x), None)


def test_validation_is_a_mean_over_images_even_if_the_last_batch_is_smaller():
    rng = numpy.random.default_rng(0)
    x, t = rng.standard_normal((7, 3)).astype('f'), rng.integers(0, 3, 7).astype('i')
    classifier = ABNClassifier(Identity())
    iterator = chainer.iterators.SerialIterator(
        list(zip(x, t, strict=True)), 4, repeat=False, shuffle=False)
    validation = Validation(iterator, classifier, chainer.dataset.concat_examples)
    validation.name = 'validation'
    result = validation()
    expected = chainer.functions.softmax_cross_entropy(x, t).array
    assert result['validation/main/loss'] == pytest.approx(float(expected), rel=1e-6)
    assert result['validation/main/accuracy'] == pytest.approx((x.argmax(1) == t).mean())
    numpy.testing.assert_array_equal(validation.truth, t)
    numpy.testing.assert_array_equal(validation.predicted, x.argmax(1))
    assert validation() == result


def test_confusion_matrix_has_every_class_and_rows_are_the_truth(tmp_path):
    confusion.save(tmp_path / 'm', numpy.array([0, 0, 2]), numpy.array([0, 2, 2]), 'abcd')
    assert numpy.load(tmp_path / 'm.npy').tolist() == [
        [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    axes = confusion.draw(numpy.load(tmp_path / 'm.npy'), 'abcd').axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list('abcd')
    assert (tmp_path / 'm.png').stat().st_size > 1000


def test_a_class_may_have_any_bytes():
    axes = confusion.draw(numpy.eye(2, dtype=int), ['a\tb', os.fsdecode(b'caf\xe9')]).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['a b', 'caf?']


def test_a_class_with_dollars_is_no_formula(tmp_path):
    confusion.save(tmp_path / 'm', numpy.array([0, 1]), numpy.array([0, 1]), ['c$x^$', '$$'])
    assert (tmp_path / 'm.png').exists()


def test_escape_codes_are_kept_from_the_output():
    stream = io.StringIO()
    WithoutEscapes(stream).write('\033[Jepoch\n')
    assert stream.getvalue() == 'epoch\n'


@pytest.mark.parametrize('snapshot, expected', [(3, 0.5), (2, -1)])
def test_the_best_so_far_is_that_of_the_network_in_the_file(tmp_path, snapshot, expected):
    """The file may be of an epoch after the snapshot: going on otherwise, that epoch never comes."""
    run = RunFolder(tmp_path, 2)
    (tmp_path / 'snap').mkdir()
    config = checkpoint.make_config(
        arch='resnet8', variant='abn', attention='residual', dropout=None, in_channels=3, classes=['a', 'b'],
        image_size=[32, 32], resize=[32, 32], mean=[0] * 3, std=[1] * 3)
    checkpoint.save(run.best_network(1), build('resnet8', 2), {**config, 'epoch': 3})
    best = KeepBest(None, run, 1, config, None)
    best.epoch, best.accuracy = snapshot, 0.5
    best.initialize(trainer_at(2, of=3))
    assert best.accuracy == expected
    run.best_network(1).unlink()
    best.initialize(trainer_at(2, of=3))
    assert best.accuracy == -1
    with pytest.raises(InputError, match=rf'fold 1: .* best epoch {snapshot} .* remove .*/2-1_fold_trainer-'):
        best.initialize(trainer_at(3, of=3))


def trainer_at(epoch, of):
    return SimpleNamespace(updater=SimpleNamespace(epoch_detail=epoch),
                           stop_trigger=SimpleNamespace(period=of))
