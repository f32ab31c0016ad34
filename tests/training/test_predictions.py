"""The table of what a fold's best network says."""
import json

import numpy
import pytest
from helpers import write_class_folders

import chainer_abn
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import k_folds
from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import to_batch
from chainer_abn.training.predictions import Predictions, probabilities_of, read, write

import chainer

CLASSES = 'a,"b', '<i>', 'c\nd', 'e\rf'


def some(rng, n=5):
    """Of four classes."""
    truth, predicted = rng.integers(0, 4, (2, n))
    probabilities = rng.random((n, 2), 'f')
    names = ['x\udcff,"\r\n', 'a\rb', 'a\nb', '\r', ' '][:n]
    return Predictions(numpy.arange(n) * 7, names, truth, predicted, probabilities)


def equal(one, other):
    assert one.names == other.names
    for name in 'indices', 'truth', 'predicted', 'probabilities':
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype.kind == b.dtype.kind
        numpy.testing.assert_array_equal(a, b)
    return True


def test_what_is_read_is_what_was_written_to_the_bit(tmp_path):
    rng = numpy.random.default_rng(0)
    classes = some(rng)
    classes.probabilities[0] = numpy.nan
    yes = rng.random((4, 2), 'f')
    tasks = Predictions(numpy.arange(4), ['e', 'f', '\rg', 'h'], rng.integers(0, 2, (4, 2)),
                        (yes > 0.5).astype(int), yes)
    for predictions, names in (classes, CLASSES), (tasks, ('Eyeglasses', 'Smiling')):
        write(tmp_path / 'p.csv', predictions, names)
        assert equal(read(tmp_path / 'p.csv', names, predictions is tasks), predictions)
    assert [path.name for path in tmp_path.iterdir()] == ['p.csv']


def test_columns(tmp_path):
    write(tmp_path / 'p.csv', Predictions(numpy.array([3]), ['x.png'], numpy.array([0]), numpy.array([1]),
                                          numpy.array([[0.75, 0.25]], 'f')), ['ant', 'bee'])
    assert (tmp_path / 'p.csv').read_text() == (
        'index,file,true_class,predicted_class,probability,true_probability\n3,x.png,ant,bee,0.75,0.25\n')
    write(tmp_path / 'p.csv', Predictions(
        numpy.array([3]), ['x.png'], numpy.array([[1, 0]]), numpy.array([[0, 0]]),
        numpy.array([[0.5, 0.125]], 'f')), ['hat', 'tie'])
    assert (tmp_path / 'p.csv').read_text() == (
        'index,file,hat,hat_probability,tie,tie_probability\n3,x.png,1,0.5,0,0.125\n')


@pytest.mark.parametrize('damage, complaint', [
    (lambda text: '', 'damaged'),
    (lambda text: text[:-12], 'damaged'),
    (lambda text: text.replace('<i>', 'wasp'), "there is no class 'wasp'"),
    (lambda text: text.replace('predicted_class', 'guess'), 'not the columns of this run'),
    (lambda text: text.replace('0.5', '1.5'), 'a probability that is none'),
    (lambda text: text.replace('0.5', 'half'), 'damaged'),
    (lambda text: text.replace('0,x', '?,x'), 'damaged'),
    (lambda text: text.replace('0,x', f'{10 ** 20},x'), 'damaged')])
def test_a_damaged_table_is_told_by_its_name(tmp_path, damage, complaint):
    path = tmp_path / 'p.csv'
    write(path, Predictions(numpy.array([0]), ['x'], numpy.array([0]), numpy.array([1]),
                            numpy.array([[0.5, 0.25]], 'f')), CLASSES)
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError) as told:
        read(path, CLASSES, False)
    assert str(told.value).startswith(f'{path}: ') and complaint in str(told.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match='p.csv: No such file'):
        read(tmp_path / 'p.csv', CLASSES, False)


def test_probabilities_are_softmax():
    rng = numpy.random.default_rng(1)
    logits, truth = rng.standard_normal((6, 4)).astype('e'), rng.integers(0, 4, 6)
    found = probabilities_of(logits, truth, logits.argmax(1))
    expected = chainer.functions.softmax(logits.astype('f')).array
    numpy.testing.assert_allclose(found[:, 0], expected.max(1), rtol=1e-6)
    numpy.testing.assert_allclose(found[:, 1], expected[range(6), truth], rtol=1e-6)
    of_tasks = rng.standard_normal((5, 3, 2)).astype('f')
    expected = 1 / (1 + numpy.exp(of_tasks[..., 0] - of_tasks[..., 1]))
    numpy.testing.assert_allclose(probabilities_of(of_tasks, None, None), expected, rtol=1e-5)


@pytest.mark.parametrize('dataset', ['shapes', 'faces'])
def test_a_run_leaves_what_its_best_network_says(script, tmp_path, dataset):
    run = tmp_path / 'run'
    assert script('n_fold_train', '--dataset', dataset, '--n-images', 24, '-a', 'resnet8', '-k', 2,
                  '--folds', 2, '-e', 2, '-b', 6, '-g', -1, '--threads', 1, '--workers', 1,
                  '--out', run).status == 0
    images = open_dataset(dataset, n_images=24, seed=402)
    net, config = chainer_abn.load(run / 'snap/2-2_fold_model.npz')
    found = read(run / 'matrix/2-fold_predictions.csv', config['classes'], net.multitask)
    held_out = k_folds(images.labels, images.classes, 2, 402)[1][1]
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        logits = net(to_batch(images.images[held_out], config)).logits.array
    expected = Predictions(held_out, [images.name(i) for i in held_out], images.labels[held_out],
                           logits.argmax(-1), found.probabilities)
    assert equal(found, expected)
    numpy.testing.assert_allclose(
        found.probabilities, probabilities_of(logits, found.truth, found.predicted), rtol=1e-4)
    row, = json.loads((run / 'summary.json').read_text())['folds']
    assert (found.truth == found.predicted).mean() == pytest.approx(row['best_accuracy'])


def test_indices_are_those_of_the_images_that_are_left(script, tmp_path):
    images = write_class_folders(tmp_path / 'images')
    (images / 'ant/2.png').write_bytes(b'nothing')
    assert script('n_fold_train', '--dataset', images, '-a', 'resnet8', '--image-size', 16, '-k', 2, '-e', 1,
                  '-b', 3, '-g', -1, '--threads', 1, '--skip-bad', '--out', tmp_path / 'run').status == 0
    left = [path for path in open_dataset(str(images)).paths if path != images / 'ant/2.png']
    found = [read(tmp_path / f'run/matrix/{fold}-fold_predictions.csv', ['ant', 'bee'], False)
             for fold in (1, 2)]
    told = {index: name for p in found for index, name in zip(p.indices.tolist(), p.names, strict=True)}
    assert told == dict(enumerate(map(str, left)))
