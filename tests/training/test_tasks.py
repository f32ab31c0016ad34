"""Training, files and figures of multi-task networks."""
import json

import numpy
import pytest
from PIL import Image
from test_classifier import Fixed

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.links import build
from chainer_abn.training import checkpoint, confusion
from chainer_abn.training.checkpoint import arrays_of
from chainer_abn.training.classifier import ABNClassifier, MultiTaskClassifier, make_classifier
from chainer_abn.training.finetune import PARTS, check_parts, freeze, start_from
from chainer_abn.training.weights import read_network, to_torch

import chainer

TASKS = ['Smiling', 'Male', 'Young']


def network(n_task=3, **options):
    numpy.random.seed(0)
    return build('resnet8', n_task, multitask=True, **options)


def config_of(net, **options):
    return checkpoint.make_config(**{
        'arch': net.arch, 'variant': 'abn', 'attention': 'residual', 'dropout': None, 'in_channels': 3,
        'classes': TASKS, 'image_size': [16, 16], 'resize': [16, 16], 'mean': [0.5] * 3, 'std': [0.2] * 3,
        'multitask': True, **options})


def images(n=4):
    return numpy.random.default_rng(0).standard_normal((n, 3, 16, 16)).astype('f')


def trained(net):
    """Every array away from where it starts."""
    for array in arrays_of(net).values():
        array += numpy.random.default_rng(array.size).uniform(0.1, 0.2, array.shape).astype('f')
    return net


# the loss

def report_of(classifier, t):
    reporter = chainer.Reporter()
    reporter.add_observer('main', classifier)
    observation = {}
    with reporter.scope(observation):
        loss = classifier(numpy.zeros((len(t), 1), 'f'), numpy.array(t, 'i'))
    observation = {name.removeprefix('main/'): float(getattr(value, 'array', value))
                   for name, value in observation.items()}
    assert observation['loss'] == pytest.approx(float(loss.array))
    return observation


def test_terms_by_hand_are_means_over_images_and_tasks():
    log3, log2 = numpy.log(3), numpy.log(2)
    # sigmoid: 3/4, 1/2; 1/4, 2/3. softmax of yes: 3/4, 1/3; 1/2, 1/4
    network = Fixed([[log3, 0], [-log3, log2]], [[[0, log3], [log2, 0]], [[1, 1], [log3, 0]]])
    classifier = MultiTaskClassifier(network)
    seen = report_of(classifier, [[1, 0], [1, 0]])
    attention = -numpy.log([3 / 4, 1 / 2, 1 / 4, 1 / 3]).mean()
    perception = -numpy.log([3 / 4, 2 / 3, 1 / 2, 3 / 4]).mean()
    # a score of 0 is a no; of equal logits the first is the answer, no
    assert seen == pytest.approx({
        'loss': attention + perception, 'attention_loss': attention, 'perception_loss': perception,
        'accuracy': 3 / 4, 'attention_accuracy': 2 / 4}, rel=1e-6)
    assert classifier.logits.argmax(axis=-1).tolist() == [[1, 0], [0, 0]]


def test_without_attention_the_loss_is_the_perception_loss():
    seen = report_of(MultiTaskClassifier(Fixed(None, [[[0., 1], [2, 0]]])), [[1, 1]])
    assert set(seen) == {'loss', 'perception_loss', 'accuracy'} and seen['accuracy'] == 0.5


def test_the_network_tells_its_classifier():
    assert type(make_classifier(network())) is MultiTaskClassifier
    assert type(make_classifier(build('resnet8', 3))) is ABNClassifier


@pytest.mark.parametrize('options', [{'attention': 'multiply'}, {'attention': 'residual'},
                                     {'variant': 'baseline'}])
def test_a_few_images_are_learnt_by_heart(options):
    classifier = make_classifier(network(**options))
    x, t = images(8), numpy.random.default_rng(1).integers(0, 2, (8, 3)).astype('i')
    optimizer = chainer.optimizers.MomentumSGD(0.02).setup(classifier)
    for _ in range(60):
        optimizer.update(classifier, x, t)
    assert (classifier.logits.argmax(axis=-1) == t).all()


# files

@pytest.mark.parametrize('options', [{'attention': 'multiply'}, {'attention': 'residual'},
                                     {'attention': 'none'}, {'variant': 'baseline'}])
def test_a_file_gives_the_same_outputs(options, tmp_path):
    net = trained(network(**options))
    checkpoint.save(tmp_path / 'net.npz', net, config_of(net, **options))
    loaded, config = chainer_abn.load(tmp_path / 'net.npz')
    assert type(loaded) is type(net) and loaded.multitask and config['multitask']
    with chainer.using_config('train', False):
        for a, b in zip(net(images()), loaded(images()), strict=True):
            assert a is b is None or (a.array == b.array).all()


def test_a_file_that_tells_no_tasks_is_of_classes(tmp_path):
    net = build('resnet8', 3)
    config = config_of(net, multitask=False)
    assert config.pop('multitask') is False
    checkpoint.save(tmp_path / 'net.npz', net, config)
    assert not chainer_abn.load(tmp_path / 'net.npz')[0].multitask


def test_no_pytorch_network_and_another_architecture_are_told(tmp_path):
    net = network()
    with pytest.raises(InputError, match='a multi-task resnet8 has no PyTorch network'):
        to_torch(tmp_path / 'net.pth', net)
    checkpoint.save(tmp_path / 'net.npz', net, config_of(net))
    with pytest.raises(InputError, match='a resnet8, not a resnet14: missing'):
        read_network(tmp_path / 'net.npz', 'resnet14')
    assert [path.name for path in tmp_path.iterdir()] == ['net.npz']


# starting from weights, training a part

def copied(net, source):
    """The names of the arrays that equal those of the source."""
    wanted = arrays_of(source)
    return {name for name, array in arrays_of(net).items()
            if name in wanted and numpy.array_equal(array, wanted[name])}


@pytest.mark.parametrize('n_class', [3, 6])
def test_a_network_of_classes_gives_all_but_head_and_classifier(n_class):
    source, net = trained(build('resnet8', n_class)), network()
    assert start_from(net, source) == ['attention head', 'classifier']
    fresh = set(arrays_of(net)) - copied(net, source)
    assert fresh == {'attention_branch/conv_map/W', 'perception_branch/fc/W', 'perception_branch/fc/b'}


def test_a_baseline_of_classes_gives_its_last_stage_to_both_branches():
    source, net = trained(build('resnet8', 3, 'baseline')), network()
    assert start_from(net, source) == ['attention head', 'classifier']
    found, wanted = arrays_of(net), arrays_of(source)
    for name in found:
        if name.startswith('attention_branch/stage/'):
            assert (found[name] == wanted[name.replace('attention', 'perception')]).all()


def test_a_multi_task_network_gives_its_tasks_where_they_are_as_many():
    source = trained(network())
    net = network()
    assert start_from(net, source) == [] and copied(net, source) == set(arrays_of(net))
    assert start_from(network(4), source) == ['attention head', 'classifier']
    baseline = network(variant='baseline')
    assert start_from(baseline, source) == []
    assert start_from(network(), baseline) == ['attention head']
    assert start_from(build('resnet8', 3), source) == ['attention head', 'classifier']


@pytest.mark.parametrize('part', PARTS)
def test_a_frozen_part_stays_and_the_rest_moves(part):
    check_parts([part], 'abn')
    net = trained(network())
    optimizer = chainer.optimizers.MomentumSGD(0.01).setup(classifier := make_classifier(net))
    freeze(net, part)
    before = {name: array.copy() for name, array in arrays_of(net).items()}
    for _ in range(2):
        optimizer.update(classifier, images(), numpy.eye(4, 3, dtype='i'))
    for name, array in arrays_of(net).items():
        assert numpy.array_equal(array, before[name]) == name.startswith(part + '/'), name


# accuracies

TRUTH = numpy.array([[1, 0], [1, 1], [0, 0], [0, 0]])
PREDICTED = numpy.array([[1, 0], [0, 1], [1, 0], [0, 1]])


def test_counts_of_each_task(tmp_path):
    confusion.save(tmp_path / '1-fold', TRUTH, PREDICTED, ('Smiling', 'Male'))
    counts = numpy.load(tmp_path / '1-fold.npy')
    assert counts.tolist() == [[[1, 1], [1, 1]], [[2, 1], [0, 1]]]
    with Image.open(tmp_path / '1-fold.png') as picture:
        picture.verify()


def test_accuracies_by_name():
    found = confusion.attribute_accuracies(TRUTH, PREDICTED, ('Smiling', 'Male'))
    assert found == {'Smiling': 0.5, 'Male': 0.75} and json.dumps(found)


def test_the_figure_shows_accuracy_and_the_more_frequent_answer():
    axes, = confusion.draw_accuracies(
        confusion.counts_by_task(TRUTH, PREDICTED), ('Smiling', 'Male')).axes
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.75]
    marks, = axes.collections
    assert [segment[0][0] for segment in marks.get_segments()] == [0.5, 0.75]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['Smiling', 'Male']
    assert axes.get_title() == 'mean accuracy 62.50% of 4 images'
    bottom, top = axes.get_ylim()
    assert bottom > top                     # the first name stands first
