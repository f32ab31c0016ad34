"""Multi-task networks against their parts called one by one, task after task."""
import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.functions import MECHANISMS
from chainer_abn.links import build, summary
from chainer_abn.runtime import onednn
from chainer_abn.runtime.onednn import primitives
from chainer_abn.training.classifier import make_classifier

import chainer
import chainer.functions as F
from chainer import gradient_check

T = 5


def images(n=3, size=(20, 24), dtype='f'):
    return numpy.random.default_rng(0).standard_normal((n, 3, *size)).astype(dtype)


def labels(n=3, n_task=T):
    return numpy.random.default_rng(1).integers(0, 2, (n, n_task)).astype('i')


def network(arch='resnet8', n_task=T, **options):
    """With running statistics and biases away from where they start."""
    numpy.random.seed(0)
    net = build(arch, n_task, multitask=True, **options)
    rng = numpy.random.default_rng(2)
    for _, link in sorted(net.namedlinks()):
        if hasattr(link, 'avg_var'):
            link.avg_mean[...] = rng.uniform(-0.1, 0.1, link.avg_mean.shape)
            link.avg_var[...] = rng.uniform(0.5, 1.5, link.avg_var.shape)
    net.perception_branch.fc.b.array[...] = rng.uniform(-1, 1, 2 * n_task)
    return net


def evaluated(net, x):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        return net(x)


def by_tasks(net, x):
    """Logits of each task by a call of the perception branch for itself."""
    branch = net.perception_branch
    g = net.feature_extractor(x)
    _, attention = net.attention_branch(g)
    logits = []
    for t in range(attention.shape[1]):
        m = F.broadcast_to(attention[:, t:t + 1], g.shape)
        weighed = {'multiply': m * g, 'residual': (1 + m) * g, 'none': g}[net.mechanism]
        h = F.average(branch.tail(branch.stage(weighed)), axis=(2, 3))
        own = slice(2 * t, 2 * t + 2)
        logits.append(F.linear(h, branch.fc.W[own, :, 0, 0], branch.fc.b[own]))
    return F.stack(logits, axis=1)


@pytest.mark.parametrize('mechanism', MECHANISMS)
@pytest.mark.parametrize('arch', ['resnet8', 'wrn-10-1', 'densenet-bc-10-12'])
def test_all_tasks_at_once_are_the_tasks_one_by_one(arch, mechanism):
    net, x = network(arch, attention=mechanism), images()
    with chainer.using_config('train', False):
        expected = by_tasks(net, x)
    numpy.testing.assert_allclose(evaluated(net, x).logits.array, expected.array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_gradients_are_those_of_the_tasks_one_by_one(mechanism):
    net, x, t = network(attention=mechanism), images(), labels()
    found = []
    for logits_of in lambda: net(x).logits, lambda: by_tasks(net, x):
        with chainer.using_config('train', False):
            loss = F.softmax_cross_entropy(F.reshape(logits_of(), (-1, 2)), t.reshape(-1))
        net.cleargrads()
        loss.backward()
        found.append({name: p.grad for name, p in net.namedparams() if 'attention' not in name})
    for name, gradient in found[0].items():
        numpy.testing.assert_allclose(gradient, found[1][name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_forty_maps_and_forty_scores():
    for mechanism in MECHANISMS:
        output = evaluated(network(n_task=40, attention=mechanism), images(2))
        assert output.attention.shape == (2, 40, 10, 12)
        assert output.attention_logits.shape == (2, 40) and output.logits.shape == (2, 40, 2)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_a_task_is_told_by_its_own_weights_alone(mechanism):
    net, x = network(attention=mechanism), images()
    before = evaluated(net, x)
    net.attention_branch.conv_map.W.array[3] *= -2
    net.perception_branch.fc.W.array[6:8] *= -2
    after = evaluated(net, x)
    others = [0, 1, 2, 4]
    for a, b in zip(before, after, strict=True):
        numpy.testing.assert_allclose(a.array[:, others], b.array[:, others], rtol=1e-5, atol=1e-6)
        assert not numpy.isclose(a.array[:, 3], b.array[:, 3]).all()


def test_scores_are_the_maximum_of_unbounded_maps_and_the_average_before_the_sigmoid():
    for train in True, False:
        with chainer.using_config('train', train):
            scores, _, maps = network(attention='multiply')(images())
            assert maps.array.min() < 0
            numpy.testing.assert_array_equal(scores.array, maps.array.max((2, 3)))
            for mechanism in 'residual', 'none':
                scores, _, maps = network(attention=mechanism)(images())
                m = maps.array.astype('d')
                numpy.testing.assert_allclose(
                    scores.array, numpy.log(m / (1 - m)).mean((2, 3)), rtol=1e-3, atol=1e-4)


def test_one_of_equal_maxima_takes_the_gradient():
    branch = network(n_task=1, attention='multiply').attention_branch
    branch.stage = F.identity
    g = chainer.Variable(numpy.ones((1, 64, 2, 2), 'f'))
    F.sum(branch(g)[0]).backward()
    assert numpy.count_nonzero(g.grad.any(axis=1)) == 1


def test_the_baseline_has_a_linear_layer_per_task_behind_one_stage():
    net, x = network(variant='baseline'), images()
    output = evaluated(net, x)
    assert output.attention is None and output.attention_logits is None
    with chainer.using_config('train', False):
        branch = net.perception_branch
        h = branch.tail(branch.stage(net.feature_extractor(x))).array.mean((2, 3))
    W, b = branch.fc.W.array[:, :, 0, 0], branch.fc.b.array
    for t in range(T):
        numpy.testing.assert_allclose(
            output.logits.array[:, t], h @ W[2 * t:2 * t + 2].T + b[2 * t:2 * t + 2], rtol=1e-4, atol=1e-5)


def test_vgg_pools_and_classifies_as_the_others():
    with chainer.using_config('fresh_weights', False):
        net = build('vgg16', 3, multitask=True)
    assert {name for name, _ in net.perception_branch.fc.namedparams()} == {'/W', '/b'}
    assert net.perception_branch.fc.W.shape == (6, 512, 1, 1)
    assert evaluated(net, images(1, (32, 32))).logits.shape == (1, 3, 2)


@pytest.mark.parametrize('options', [{'attention': m} for m in MECHANISMS] + [{'variant': 'baseline'}])
def test_gradients_of_the_loss_by_finite_differences(options):
    with chainer.using_config('dtype', numpy.float64), chainer.using_config('use_ideep', 'never'):
        classifier = make_classifier(network(n_task=3, **options))
        x, t = images(2, (16, 16), 'd'), labels(2, 3)
        for parameter in classifier.params():
            gradient_check.check_backward(
                lambda x: classifier(x, t), x, numpy.ones((), 'd'), parameter, eps=1e-6, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('options', [{'attention': 'multiply'}, {'attention': 'residual'},
                                     {'variant': 'baseline'}])
def test_every_parameter_moves_the_loss(options):
    classifier = make_classifier(network('wrn-10-1', **options))
    classifier.cleargrads()
    classifier(images(), labels()).backward()
    parameters = list(classifier.namedparams())
    assert len({id(p) for _, p in parameters}) == len(parameters)
    assert [name for name, p in parameters if p.grad is None or not p.grad.any()] == []


@pytest.mark.skipif(not primitives.available(), reason=f'no oneDNN: {primitives.why_not()}')
@pytest.mark.parametrize('options', [{'attention': 'multiply'}, {'attention': 'residual'},
                                     {'variant': 'baseline'}])
def test_onednn_computes_what_chainer_does(options):
    x, t, found = images(4, (32, 32)), labels(4), []
    for choice in 'auto', 'never':
        with chainer.using_config('use_ideep', choice):
            classifier = make_classifier(network(**options))
            assert onednn.active() == (choice == 'auto')
            outputs = [y.array for y in evaluated(classifier.network, x) if y is not None]
            classifier.cleargrads()
            loss = classifier(x, t)
            loss.backward()
            found.append(([*outputs, loss.array], [p.grad for _, p in sorted(classifier.namedparams())]))
    # on a ReLU within rounding of 0, as there may be one here, hangs a percent of some gradients
    for arrays, tolerance in zip(zip(*found, strict=True), (1e-4, 5e-2), strict=True):
        for ours, plain in zip(*arrays, strict=True):
            assert numpy.linalg.norm(ours - plain) <= tolerance * numpy.linalg.norm(plain) + 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize('mechanism', ['multiply', 'residual'])
def test_a_gpu_computes_what_the_cpu_does(mechanism):
    x, t, found = images(4, (16, 16)), labels(4), []
    for device in '@numpy', '@cupy:0':
        classifier = make_classifier(network(attention=mechanism))
        classifier.to_device(device)
        send = classifier.device.send
        classifier.cleargrads()
        with chainer.using_config('use_cudnn_tensor_core', 'never'):
            loss = classifier(send(x), send(t))
            loss.backward()
        found.append([chainer.cuda.to_cpu(a) for a in (
            classifier.logits, loss.array, *(p.grad for _, p in sorted(classifier.namedparams())))])
    for cpu, gpu in zip(*found, strict=True):
        assert numpy.linalg.norm(cpu - gpu) <= 2e-3 * numpy.linalg.norm(cpu) + 1e-5


@pytest.mark.parametrize('mechanism', ['multiply', 'residual'])
def test_float16_images_change_the_rounding_only(mechanism):
    net, x = network(attention=mechanism), images(1, (32, 32))
    exact, rounded = evaluated(net, x), evaluated(net, x.astype('e'))
    assert [y.dtype.char for y in rounded] == ['f', 'f', 'e']
    for a, b in zip(exact, rounded, strict=True):
        assert abs(a.array - b.array).max() <= 0.02 * abs(a.array).max()
    classifier = make_classifier(net)
    classifier.cleargrads()
    classifier(x.astype('e'), labels(1)).backward()
    assert all(p.grad.dtype == 'f' for p in classifier.params())


@pytest.mark.parametrize('options, message', [
    ({'variant': 'cam'}, 'variant cam: a multi-task network is abn or baseline'),
    ({'attention': 'log-sum'}, "attention 'log-sum': a multi-task network takes residual, multiply, none"),
    ({'n_class': 0}, 'n_class must be at least 1')])
def test_what_there_is_not_for_several_tasks(options, message):
    with pytest.raises(InputError, match=message):
        build(**{'arch': 'resnet8', 'n_class': 2, 'multitask': True, **options})


def test_a_network_tells_whether_it_has_tasks():
    assert build('resnet8', 2, multitask=True).multitask and not build('resnet8', 2).multitask


def test_summary_by_hand():
    table = summary(network(n_task=7, attention='multiply'), [16, 24])
    rows = {(row.branch, row.layer): row[2:] for row in table.rows}
    assert table.title == 'resnet8, Attention Branch Network, 7 tasks, 3 x 16 x 24'
    assert rows['attention branch', 'maps: 1x1'] == ((7, 8, 12), 64 * 7, 64 * 7 * 96)
    assert rows['attention branch', 'scores: maximum'] == ((7,), 0, 0)
    # the last stage at stride 2 runs once per task: 3x3 32->64, 3x3 64->64, 1x1 32->64 on 4 x 6
    block = 9 * 32 * 64 + 9 * 64 * 64 + 32 * 64
    assert rows['perception branch', 'stage: 1 x Residual'][2] == 7 * block * 24
    assert rows['perception branch', 'classifiers'] == ((7, 2), 2 * 7 * 65, 2 * 7 * 64)
    baseline = summary(network(n_task=7, variant='baseline'), [16, 24])
    assert baseline.title == 'resnet8, baseline, 7 tasks, 3 x 16 x 24'
    assert baseline.rows[-2][4] == block * 24
