"""Maps of the methods against their formulas, cases worked by hand, and each other."""
import numpy
import pytest

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.explain import METHODS, grad_cam, grad_cam_pp, usual_method
from chainer_abn.explain.edit import edited
from chainer_abn.explain.layers import layers_of
from chainer_abn.explain.look import look

import chainer
import chainer.functions as F
import chainer.links as L

# one of each family with a CAM variant
FAMILIES = ['resnet8', 'resnet44', 'wrn-10-1', 'densenet-bc-10-12', 'resnext-11-2x8d', 'resnet18',
            'se-resnet18', 'resnet50_fine', 'vgg16', 'vgg16-bn']


class ReLU(chainer.Link):
    def forward(self, x):
        return F.relu(x)


class Worked(chainer.Chain):
    """Convolution 1 -> 2, ReLU, linear 8 -> 4, for an image of 4 x 4."""

    multitask, arch = False, 'worked'

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(1, 2, 3, initialW=1, initial_bias=numpy.array([-50, -75], 'f'))
            self.perception_branch = chainer.Chain(stage=ReLU(), fc=L.Linear(8, 4))
        self.perception_branch.tail = F.identity
        self.perception_branch.fc.W.array[...] = numpy.repeat([1, -1], [5, 3])

    def forward(self, x):
        h = self.perception_branch.stage(self.conv(x))
        return chainer_abn.links.Output(None, self.perception_branch.fc(h), None)


def images(n=2, size=(32, 48), seed=0):
    return numpy.random.default_rng(seed).standard_normal((n, 3, *size)).astype('f')


def build(*arguments, **more):
    """With running statistics and scales that are not those of a fresh network."""
    numpy.random.seed(0)
    net = chainer_abn.build(*arguments, **more)
    rng = numpy.random.default_rng(1)
    for link in net.links():
        if isinstance(link, L.BatchNormalization):
            link.avg_var[...] = rng.uniform(0.5, 2, link.avg_var.shape)
            link.gamma.array[...] = rng.uniform(0.5, 1.5, link.gamma.shape)
            link.beta.array[...] = rng.uniform(-0.2, 0.4, link.beta.shape)
    return net


@pytest.mark.parametrize('layer, expected', [
    ('conv', [[11.25, 13.5], [20.25, 22.5]]),
    ('perception_branch/stage', [[0, 4], [28, 32.5]]),
])
def test_the_case_worked_by_hand(layer, expected):
    x = numpy.arange(16, dtype='f').reshape(1, 1, 4, 4)
    seen = look(Worked(), x, ['grad-cam'], layer, targets=0)
    numpy.testing.assert_allclose(seen.maps['grad-cam'], [expected], atol=1e-4)


@pytest.mark.parametrize('arch', FAMILIES)
def test_grad_cam_without_its_relu_is_cam_over_the_pixels(arch, monkeypatch):
    monkeypatch.setattr(grad_cam, 'formula', grad_cam.weighed)
    net = build(arch, 5, 'cam')
    maps = look(net, images(), ['cam', 'grad-cam'], targets=numpy.array([3, 1])).maps
    n = maps['cam'][0].size
    scale = abs(maps['cam']).max()
    assert n > 1 and scale > 0
    numpy.testing.assert_allclose(maps['grad-cam'] * n, maps['cam'], atol=1e-5 * scale)


@pytest.mark.parametrize('variant', ['abn', 'baseline', 'cam'])
def test_the_average_of_cam_and_the_bias_are_the_class_score(variant):
    net = build('resnet8', 5, variant)
    net.perception_branch.fc.b.array[...] = numpy.arange(5)
    seen = look(net, images(3), ['cam'], targets=4)
    numpy.testing.assert_allclose(seen.maps['cam'].mean(axis=(1, 2)) + 4, seen.logits[:, 4], rtol=1e-5)


def gradients(net, x, layer, targets):
    """Features and gradients of the class scores by Chainer's whole graph, in float64."""
    links = dict(net.namedlinks(skipself=True))
    kept = []

    class Keep(chainer.LinkHook):
        def forward_postprocess(self, args):
            if args.link is links[f'/{layer}']:
                kept.append(args.out)

    for p in net.params():
        p.array = p.array.astype('f8')
    for link in net.links():
        if isinstance(link, L.BatchNormalization):
            link.avg_mean, link.avg_var = link.avg_mean.astype('f8'), link.avg_var.astype('f8')
    with chainer.using_config('train', False), chainer.using_config('dtype', numpy.float64), Keep():
        logits = net(x.astype('f8')).logits
    score = F.sum(logits[numpy.arange(len(x)), targets])
    return kept[0].array, chainer.grad([score], kept)[0].array


def by_loops(features, gradient):
    """Grad-CAM and Grad-CAM++ as their equations read."""
    cam, cam_pp = numpy.zeros((2, *features[:, 0].shape))
    for b in range(len(features)):
        for a, g in zip(features[b], gradient[b], strict=True):
            cam[b] += g.mean() * a
            weight = 0
            for value in g.ravel():
                below = 2 * value ** 2 + a.sum() * value ** 3
                weight += (value ** 2 / below if below else 0) * max(value, 0)
            cam_pp[b] += weight * a
    return {'grad-cam': numpy.maximum(cam, 0), 'grad-cam++': numpy.maximum(cam_pp, 0)}


@pytest.mark.parametrize('arch, variant, layer', [
    ('resnet8', 'abn', 'perception_branch/stage'),
    ('resnet8', 'abn', 'feature_extractor/2'),
    ('resnet8', 'abn', 'feature_extractor'),
    ('resnet8', 'abn', 'attention_branch/conv_class'),
    ('resnet8', 'baseline', 'feature_extractor/1/0/body/1/conv'),
    ('wrn-10-1', 'abn', 'perception_branch/tail'),
    ('densenet-bc-10-12', 'cam', 'perception_branch/stage/0'),
])
def test_any_layer_by_the_equations(arch, variant, layer):
    net, x, targets = build(arch, 4, variant), images(2, (32, 32)), numpy.array([2, 0])
    maps = look(net, x, ['grad-cam', 'grad-cam++'], layer, targets).maps
    expected = by_loops(*gradients(net, x, layer, targets))
    for name, values in maps.items():
        assert values.dtype == 'f' and expected[name].max() > 0
        numpy.testing.assert_allclose(values, expected[name], atol=2e-4 * expected[name].max())


def test_grad_cam_pp_by_hand():
    features = numpy.array([[[[1, 2], [0, 1]], [[1, -1], [0, 0]]]], 'f')
    gradient = numpy.array([[[[0.5, 0], [-1, 0.25]], [[0, 2], [1, 1]]]], 'f')
    # sums 4 and 0: alpha g = 0.5 / (2 + 2), 0.25 / (2 + 1); 2 / 2, 1 / 2, 1 / 2
    weights = 0.125 + 0.25 / 3, 2
    expected = weights[0] * features[0, 0] + weights[1] * features[0, 1]
    numpy.testing.assert_allclose(grad_cam_pp.formula(features, gradient)[0], expected.clip(0), rtol=1e-6)
    pole = grad_cam_pp.formula(numpy.array([[[[-4.0]]]], 'f'), numpy.array([[[[0.5]]]], 'f'))
    assert pole.tolist() == [[[0]]]


def test_attention_is_the_networks_own_map_in_test_mode():
    net, x = build('resnet8', 3), images(2, (16, 24))
    seen = look(net, x, ['attention'])
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        output = net(x)
    numpy.testing.assert_array_equal(seen.maps['attention'], output.attention.array[:, 0])
    numpy.testing.assert_array_equal(seen.logits, output.logits.array)


def test_the_predicted_class_is_the_default_and_images_do_not_mix():
    net, x = build('resnet8', 5), images(4)
    methods = list(METHODS)
    seen = look(net, x, methods)
    told = look(net, x, methods, targets=seen.logits.argmax(axis=1))
    for i in range(4):
        alone = look(net, x[i:i + 1], methods)
        for name in methods:
            numpy.testing.assert_array_equal(told.maps[name], seen.maps[name])
            numpy.testing.assert_allclose(alone.maps[name][0], seen.maps[name][i], rtol=1e-4, atol=1e-5)
    other = look(net, x, ['grad-cam'], targets=(seen.logits.argmax(axis=1) + 1) % 5)
    assert (other.maps['grad-cam'] != seen.maps['grad-cam']).any()


@pytest.mark.parametrize('variant, attention', [
    ('abn', 'multiply'), ('abn', 'residual'), ('baseline', 'residual')])
@pytest.mark.parametrize('layer', [None, 'feature_extractor/1'])
def test_tasks_have_a_map_each(variant, attention, layer):
    net, x = build('resnet8', 3, variant, attention, multitask=True), images(2, (32, 32))
    seen = look(net, x, ['grad-cam', 'grad-cam++'], layer)
    assert seen.maps['grad-cam'].max() > 0
    if layer is None:           # GAP and a linear layer: the gradient is its weights over the pixels
        kept = []

        class Keep(chainer.LinkHook):
            def forward_postprocess(self, args):
                if args.link is net.perception_branch.stage:
                    kept.append(args.out.array)

        with chainer.using_config('train', False), chainer.no_backprop_mode(), Keep():
            net(x)
        n_pixel = kept[0][0, 0].size
        one = kept[0].shape[1:]
        features = numpy.broadcast_to(kept[0].reshape(2, -1, *one), (2, 3, *one))
        weights = net.perception_branch.fc.W.array.reshape(3, 2, -1)[:, 1] / n_pixel
        expected = numpy.einsum('tc,btchw->bthw', weights, features).clip(0)
        numpy.testing.assert_allclose(seen.maps['grad-cam'], expected, atol=1e-5 * expected.max() + 1e-9)
    else:                       # sum of A times its mean gradient, at one task, by a plain graph
        kept = []

        class KeepVariable(chainer.LinkHook):
            def forward_postprocess(self, args):
                if args.link is net.feature_extractor[1]:
                    kept.append(args.out)

        with chainer.using_config('train', False), KeepVariable():
            logits = net(x).logits
        g, = chainer.grad([F.sum(logits[:, 2, 1])], kept)
        expected = (g.array.mean(axis=(2, 3), keepdims=True) * kept[0].array).sum(axis=1).clip(0)
        tolerance = 1e-4 * expected.max() + 1e-9
        numpy.testing.assert_allclose(seen.maps['grad-cam'][:, 2], expected, atol=tolerance)


def state(net):
    arrays = chainer.serializers.DictionarySerializer()
    net.serialize(arrays)
    return ({name: numpy.array(value) for name, value in arrays.target.items()},
            [link._n_local_link_hooks for link in net.links()],
            [None if p.grad is None else p.grad.copy() for p in net.params()])


@pytest.mark.parametrize('fails', [False, True])
def test_nothing_is_left_in_the_network(fails, monkeypatch):
    net, x = build('resnet8', 5), images()
    before = state(net)
    config = chainer.config.train, chainer.config.enable_backprop
    if fails:
        monkeypatch.setitem(METHODS, 'cam', None)           # fails behind the pass
        with pytest.raises(AttributeError):
            look(net, x, ['grad-cam', 'cam'], 'feature_extractor/1/0')
        with pytest.raises(chainer.utils.type_check.InvalidType):
            look(net, x[:, :2], ['grad-cam'])               # fails within
    else:
        look(net, x, list(METHODS), 'feature_extractor/1/0')
    after = state(net)
    assert before[1] == after[1] and config == (chainer.config.train, chainer.config.enable_backprop)
    for name, array in before[0].items():
        numpy.testing.assert_array_equal(array, after[0][name])
    for grad, grad_after in zip(before[2], after[2], strict=True):
        numpy.testing.assert_array_equal(grad, grad_after)


def test_a_layer_that_the_answer_does_not_depend_on_gives_nothing():
    net = build('resnet8', 5, 'abn', 'none')
    seen = look(net, images(), ['grad-cam', 'grad-cam++'], 'attention_branch/conv_class')
    assert all((values == 0).all() for values in seen.maps.values())


@pytest.mark.parametrize('layer', ['perception_branch/stag', 'perception_branch/fc', 'attention_branch',
                                   'feature_extractor/1/0/body/0', ''])
def test_an_unknown_layer_is_told_with_those_there_are(layer):
    net = build('resnet8', 5)
    with pytest.raises(InputError, match=f'--layer {layer}: .* nearest are .*perception_branch/stage'):
        look(net, images(), ['grad-cam'], layer)
    assert look(net, images(), ['grad-cam']).maps['grad-cam'].shape == (2, 8, 12)


def test_layers_are_those_that_give_maps():
    net = build('resnet8', 5)
    x = images(1)
    layers = layers_of(net, x)
    assert layers['feature_extractor/0/conv'] == (16, 32, 48)
    assert layers['perception_branch/stage'] == (64, 8, 12)
    for name, (_, *size) in list(layers.items())[::6]:
        assert look(net, x, ['grad-cam'], name).maps['grad-cam'].shape == (1, *size)


@pytest.mark.parametrize('multitask', [False, True])
def test_what_stands_behind_an_average_is_no_layer(multitask):
    layers = layers_of(build('resnet8', 5, multitask=multitask), images(1))
    assert all(size == [32, 48] or size == [16, 24] or size == [8, 12] for _, *size in layers.values())


@pytest.mark.parametrize('method, arguments, more, message', [
    ('attention', ('resnet8', 3, 'cam'), {}, 'no attention branch'),
    ('cam', ('resnet8', 3), {'multitask': True}, 'use grad-cam'),
])
def test_a_method_that_does_not_apply_is_refused(method, arguments, more, message):
    with chainer.using_config('fresh_weights', False):
        net = chainer_abn.build(*arguments, **more)
    with pytest.raises(InputError, match=message):
        METHODS[method].check(net)
    METHODS[usual_method(net)].check(net)


def test_cam_is_refused_where_the_classifier_is_another():
    net = build('resnet8', 3, 'baseline')
    net.perception_branch.pool = F.identity                 # as in VGG
    with pytest.raises(InputError, match='does not end in global average pooling'):
        METHODS['cam'].check(net)


@pytest.mark.gpu
@pytest.mark.parametrize('multitask', [False, True])
def test_a_gpu_gives_the_same(multitask):
    net, x = build('resnet8', 5, multitask=multitask), images()
    methods = [name for name in METHODS if not (multitask and name == 'cam')]
    targets = None if multitask else numpy.array([3, 1])
    expected = look(net, x, methods, 'feature_extractor/1', targets)
    given = numpy.random.default_rng(2).uniform(0, 1, (2, 16, 24)).astype('f')
    expected_edit = edited(net, x, lambda size: given, 'multiply')
    device = chainer.get_device('@cupy:0')
    net.to_device(device)
    found = look(net, device.send(x), methods, 'feature_extractor/1', targets)
    for a, b in zip(edited(net, device.send(x), lambda size: given, 'multiply'), expected_edit, strict=True):
        numpy.testing.assert_allclose(a, b, atol=1e-4)
    for name, values in expected.maps.items():
        assert isinstance(found.maps[name], numpy.ndarray)
        numpy.testing.assert_allclose(found.maps[name], values, atol=1e-3 * abs(values).max())
