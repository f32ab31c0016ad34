"""Whole blocks on oneDNN against the same declaration run with Chainer's functions.

Every body runs with the accelerator on and off, against float64.
"""
import gc
import weakref

import numpy
import pytest

from chainer_abn.links import build
from chainer_abn.links.backbones.densenet import DenseLayer, Transition
from chainer_abn.links.backbones.senet import SqueezeExcitation
from chainer_abn.links.backbones.vgg import ConvReLU
from chainer_abn.links.backbones.wrn import PreActivation
from chainer_abn.links.blocks import (
    BNReLU,
    BNReLUConv,
    ConvBN,
    Sequence,
    Stem,
    basic,
    batch_norm,
    bottleneck,
    conv,
)
from chainer_abn.links.branches import Output
from chainer_abn.runtime import onednn
from chainer_abn.runtime.blocks import Block
from chainer_abn.runtime.onednn import inference, primitives, training
from chainer_abn.training.classifier import ABNClassifier

import chainer
import chainer.functions as F
import chainer.links as L

NEEDS_LIBRARY = pytest.mark.skipif(not primitives.available(), reason=f'no oneDNN: {primitives.why_not()}')

BLOCKS = {
    'ConvBN': lambda c: ConvBN(c, 2 * c + 1, 3, 2),
    'BNReLU': BNReLU,
    'BNReLUConv': lambda c: BNReLUConv(c, 7, 3),
    'Stem': lambda c: Stem(c, 16, 7, 2, pool=True),
    'basic': lambda c: basic(c, c),
    'basic, stride 2': lambda c: basic(c, 2 * c, 2),
    'bottleneck': lambda c: bottleneck(c, 4 * c, 2),
    'grouped bottleneck': lambda c: bottleneck(c, 4 * c, 2, 4 * c, 2),
    'squeeze and excitation': lambda c: basic(c, 32, 2, SqueezeExcitation),
    'identity and excitation': lambda c: Sequence(ConvBN(c, 32, 1), basic(32, 32, 1, SqueezeExcitation)),
    'PreActivation': lambda c: PreActivation(c, c, 1, 0.3),
    'PreActivation, stride 2': lambda c: PreActivation(c, 2 * c, 2, 0.3),
    'DenseLayer': lambda c: DenseLayer(c, 12, 0),
    'dense block': lambda c: Sequence(*(DenseLayer(c + 12 * i, 12, 0.2) for i in range(4))),
    'Transition': lambda c: Transition(c, c // 2 + 1, 1),
    'ConvReLU': lambda c: ConvReLU(c, 9, False),
    'ConvReLU with BN': lambda c: ConvReLU(c, 9, True),
    'stages': lambda c: Sequence(L.Convolution2D(c, 8, 3), Sequence(basic(8, 8), basic(8, 16, 2)),
                                 BNReLU(16)),
}


@pytest.fixture(params=[pytest.param('auto', marks=NEEDS_LIBRARY), 'never'])
def accelerator(request, monkeypatch):
    """The accelerator on and off; yields how often a whole block was run, as a list."""
    monkeypatch.setattr(chainer.global_config, 'use_ideep', request.param)
    runs = []
    for module in training, inference:
        def counted(block, x, run=module.run):
            runs.append(block)
            return run(block, x)
        monkeypatch.setattr(module, 'run', counted)
    yield runs
    assert bool(runs) == (request.param == 'auto')


def in_float64(link):
    for part in link.links():
        for name, value in list(vars(part).items()):
            if isinstance(value, numpy.ndarray):
                setattr(part, name, value.astype('d'))
    for parameter in link.params():
        parameter.array = parameter.array.astype('d')
    return link


def randomise(link, seed=0):
    """Statistics, factors and biases that differ from each other and from the initial 0 and 1."""
    rng = numpy.random.default_rng(seed)
    for part in link.links():
        for name in 'avg_mean', 'avg_var':
            if hasattr(part, name):
                getattr(part, name)[...] = rng.uniform(0.5, 1.5, getattr(part, name).shape)
    for _, parameter in sorted(link.namedparams()):
        if parameter.ndim == 1:
            sign = rng.choice([-1, 1], parameter.shape)
            parameter.array[...] = sign * rng.uniform(0.5, 1.5, parameter.shape)
    return link


def outputs_of(y):
    return [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None]


def passes(link, x):
    """All that comes of a link by name: evaluation, training, gradients, running statistics."""
    found = {}
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        found['evaluation'] = [y.array for y in outputs_of(link(x))]
    numpy.random.seed(0)                    # dropout
    x = chainer.Variable(x)
    outputs = outputs_of(link(x))
    found['training'] = [y.array for y in outputs]
    loss = sum(F.sum(y * numpy.cos(numpy.arange(y.size)).reshape(y.shape).astype(y.dtype)) for y in outputs)
    link.cleargrads()
    loss.backward()
    found['gradients'] = [x.grad] + [p.grad for _, p in sorted(link.namedparams())]
    found['statistics'] = [getattr(part, name) for _, part in sorted(link.namedlinks())
                           for name in ('avg_mean', 'avg_var') if hasattr(part, name)]
    return found


def distance(arrays, exact):
    """Of lists of arrays, relative to the largest value of the list."""
    assert [a.shape for a in arrays] == [e.shape for e in exact]
    scale = max(abs(e).max() for e in exact)
    return max(abs(a - e).max() for a, e in zip(arrays, exact, strict=True)) / scale


def check(make, x):
    """float32 is about as close to float64 as Chainer's own float32.

    A value that rounding puts on the other side of a ReLU's 0 changes gradients by far more; that is bad
    luck, with which other images are free of it.
    """
    wrong = {}
    for share in 0, 0.3, 0.6:
        wrong = far_off(make, x + numpy.float32(share) * numpy.roll(x, 1, axis=-1))
        if not wrong:
            return
    assert not wrong


def far_off(make, x):
    """Names and distances of what is not as close to float64 as it should be."""
    def link():
        numpy.random.seed(1)
        return randomise(make())
    found = passes(link(), x)
    with chainer.using_config('use_ideep', 'never'):
        exact, plain = passes(in_float64(link()), x.astype('d')), passes(link(), x)
    names = [name for name in found if exact[name]]
    assert {a.dtype for name in names for a in found[name]} == {numpy.dtype('f')}
    distances = {name: (distance(found[name], exact[name]), distance(plain[name], exact[name]))
                 for name in names}
    return {name: both for name, both in distances.items() if not both[0] < max(2e-5, 4 * both[1])}


def images(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape).astype('f')


@pytest.mark.parametrize('channels, size, n', [
    (16, (8, 8), 3), (10, (7, 9), 2), (6, (11, 8), 1), (130, (6, 6), 2)], ids=str)
@pytest.mark.parametrize('name', BLOCKS)
def test_block(accelerator, name, channels, size, n):
    check(lambda: BLOCKS[name](channels), images(n, channels, *size))


@pytest.mark.parametrize('arch, n_class, variant', [
    ('resnet8', 1, 'abn'), ('resnet8', 10, 'cam'), ('resnet8', 100, 'abn'), ('resnet44', 5, 'abn'),
    ('wrn-10-1', 3, 'abn'), ('densenet-bc-10-12', 10, 'abn'), ('resnext-11-2x64d', 4, 'abn'),
    ('se-resnet18', 3, 'abn'), ('vgg16-bn', 3, 'cam'), ('vgg16', 3, 'cam')])
def test_network(accelerator, arch, n_class, variant):
    check(lambda: build(arch, n_class, variant), images(2, 3, 20, 17))


@pytest.mark.parametrize('attention', ['multiply', 'none', 'log-sum'])
def test_mechanisms(accelerator, attention):
    check(lambda: build('resnet8', 5, attention=attention), images(3, 3, 20, 24))


def test_any_memory_layout(accelerator):
    block, x = basic(6, 12, 2), images(3, 6, 9, 8)
    mirrored = numpy.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1]
    numpy.testing.assert_allclose(block(mirrored).array, block(x).array, rtol=1e-4, atol=1e-5)
    block.body[0].conv.W.array = numpy.asfortranarray(block.body[0].conv.W.array)
    numpy.testing.assert_allclose(block(x).array, block(mirrored).array, rtol=1e-4, atol=1e-5)
    block.body[0].conv.W.array = numpy.ascontiguousarray(block.body[0].conv.W.array)
    numpy.testing.assert_allclose(block(x).array, block(mirrored).array, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_gradient(accelerator):
    """With dropout: the masks are those of the forward pass."""
    def second(block, x):
        numpy.random.seed(3)
        x = chainer.Variable(x)
        y = block(x)
        with chainer.using_config('train', False):      # what counts is what it was on the way there
            gx, = chainer.grad([F.sum(y ** 2)], [x], enable_double_backprop=True)
        block.cleargrads()
        F.sum(gx ** 2).backward()
        return [gx.array, x.grad, *(p.grad for _, p in sorted(block.namedparams()))]

    def make():
        numpy.random.seed(1)
        return randomise(PreActivation(4, 8, 2, 0.5))
    block, x = make(), images(3, 4, 6, 6)
    statistics = block.bn1.avg_mean.copy()
    found = second(block, x)
    with chainer.using_config('use_ideep', 'never'):
        other = make()
        exact = second(in_float64(other), x.astype('d'))
    assert distance(found, exact) < 1e-4
    numpy.testing.assert_allclose(block.bn1.avg_mean, other.bn1.avg_mean, rtol=1e-5)    # updated once
    assert (block.bn1.avg_mean != statistics).any()


def test_backward_twice(accelerator):
    """The second time the maps are made anew; neither statistics nor dropout are."""
    block, x = PreActivation(16, 16, 1, 0.5), chainer.Variable(images(2, 16, 5, 5))
    loss = F.sum(block(x) ** 2)
    mean = block.bn1.avg_mean.copy()
    gradients = []
    for _ in range(2):
        block.cleargrads()
        x.cleargrad()
        loss.backward()
        gradients.append([x.grad, *(p.grad for _, p in sorted(block.namedparams()))])
    for a, b in zip(*gradients, strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_array_equal(block.bn1.avg_mean, mean)


def test_one_output_alone_is_used(accelerator):
    """The other one's gradient is None."""
    net, x = build('resnet8', 4), images(2, 3, 16, 16)
    for used in 'attention_logits', 'attention', 'logits':
        net.cleargrads()
        F.sum(getattr(net(x), used) ** 2).backward()
        assert numpy.isfinite(net.feature_extractor[0].conv.W.grad).all()
    net.cleargrads()
    F.sum(net(x).attention_logits ** 2).backward()
    assert net.perception_branch.fc.W.grad is None


def test_a_network_that_diverged_says_nan(accelerator):
    """oneDNN's ReLU turns NaN into 0; the loss must not look sound."""
    net, x = build('resnet8', 4), images(4, 3, 16, 16)
    classifier, t = ABNClassifier(net), numpy.zeros(4, 'i')
    net.feature_extractor[1][0].body[0].conv.W.array[0, 0] = numpy.nan
    assert numpy.isnan(classifier(x, t).array)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        assert numpy.isnan(classifier(x, t).array)
        x[0, 0, 0, 0] = numpy.nan
        assert numpy.isnan(build('resnet8', 4)(x).logits.array).any()
    for block in basic(16, 16, 1, SqueezeExcitation), BNReLU(16):
        for place in 'W', 'gamma':
            for part in block.links():
                if hasattr(part, place):
                    getattr(part, place).array[0] = numpy.nan
                    break
            else:
                continue
            for config in True, False:
                with chainer.using_config('train', config), chainer.using_config('enable_backprop', config):
                    assert numpy.isnan(block(images(2, 16, 6, 6)).array).any()
    vgg = build('vgg16', 4, 'cam')
    vgg.feature_extractor[1][0].conv.W.array[0, 0] = numpy.nan
    assert numpy.isnan(vgg(images(1, 3, 32, 32)).logits.array).all()


def test_a_shortcut_of_nan_says_nan(accelerator):
    """It is added before the ReLU of the convolution beside it."""
    net = build('resnet8', 4)
    net.feature_extractor[2][0].shortcut.conv.W.array[:] = numpy.nan
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        assert numpy.isnan(net(images(2, 3, 32, 32)).logits.array).all()


@pytest.mark.parametrize('arch, scale', [('resnet8', 1e15), ('wrn-10-1', 1e25), ('densenet-bc-10-1', 1e25)])
def test_a_network_that_overflows_says_nan(arch, scale):
    """Where plain Chainer's says so: the NaN comes of infinite maps, in the middle of the network."""
    net, x = build(arch, 4), images(2, 3, 32, 32)
    for parameter in net.params():
        if parameter.array.ndim == 4:
            parameter.array *= scale
    found = []
    for use in 'never', 'auto':
        with chainer.using_config('use_ideep', use), chainer.using_config('train', False), \
                chainer.no_backprop_mode(), numpy.errstate(all='ignore'):
            found.append(numpy.isnan(net(x).logits.array))
    assert found[0].any()
    numpy.testing.assert_array_equal(*found)


def test_frozen_parts(accelerator):
    """As training/finetune.py freezes them: a forward method of the instance, in evaluation."""
    net, x = build('resnet8', 4), images(4, 3, 16, 16)
    stage = net.feature_extractor
    mean = stage[0].bn.avg_mean.copy()

    def evaluate(x):
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            return type(stage).forward(stage, x)
    stage.forward = evaluate
    net.cleargrads()
    F.sum(net(x).logits ** 2).backward()
    numpy.testing.assert_array_equal(stage[0].bn.avg_mean, mean)
    assert stage[0].conv.W.grad is None and net.perception_branch.fc.W.grad is not None


class Doubled(L.BatchNormalization):
    def forward(self, x):
        return 2 * super().forward(x)


@NEEDS_LIBRARY
def test_what_is_not_as_chainer_made_it_is_left_to_chainer(monkeypatch):
    monkeypatch.setattr(chainer.global_config, 'use_ideep', 'auto')

    class Hook(chainer.LinkHook):
        def __init__(self):
            self.seen = []

        def forward_postprocess(self, args):
            self.seen.append(args.link)

    def accelerated(block):
        return onednn.runner(block, chainer.Variable(images(2, 16, 6, 6))) is not None

    block = basic(16, 16)
    assert accelerated(block)
    with Hook() as hook:
        assert not accelerated(block)
        block(images(2, 16, 6, 6))
    assert block.body[0].conv in hook.seen
    block.body[0].conv.add_hook(Hook())
    assert not accelerated(block)

    block = basic(16, 16)
    block.body[1].bn = Doubled(16)
    assert not accelerated(block)

    block = basic(16, 16)
    block.body[0].conv.forward = lambda x: x
    assert not accelerated(block)

    assert not accelerated(in_float64(basic(16, 16)))
    with chainer.using_config('train', False):          # gradients in evaluation: Grad-CAM
        assert not accelerated(basic(16, 16))
    with chainer.using_config('use_ideep', 'never'):
        assert not accelerated(basic(16, 16))
    assert onednn.runner(basic(16, 16), chainer.Variable(images(2, 16, 6, 6).astype('d'))) is None


class Twice(Block, chainer.Chain):
    """One convolution used twice, and two sums of channels of the same maps."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.conv = conv(20, 20, 3)

    def declare(self, ops, x):
        y = ops.conv(self.conv, ops.conv(self.conv, x))
        both = ops.concat((x, y))
        twice = ops.concat((y, y))
        return ops.add(ops.concat((both, x)), ops.concat((both, y))), ops.concat((twice, twice))


class Averaged(Block, chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.bn, self.conv = batch_norm(10), conv(10, 5, 1)

    def declare(self, ops, x):
        return ops.conv(self.conv, ops.average(ops.bn(self.bn, x)), relu=True)


class GroupedSum(Block, chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first, self.second = ConvBN(20, 20, 1), conv(20, 20, 3, groups=4)

    def declare(self, ops, x):
        return ops.conv(self.second, x, add=self.first.declare(ops, x))


def shared():
    layer = conv(16, 16, 3)
    return Sequence(layer, layer)


@pytest.mark.parametrize('make, channels', [
    (Twice, 20), (Averaged, 10), (GroupedSum, 20), (shared, 16),
    (lambda: Sequence(DenseLayer(16, 12, 0), basic(28, 28)), 16),
    (lambda: Sequence(L.Convolution2D(32, 1, 3, 2, 1, nobias=True)), 32),
    (lambda: Sequence(L.Convolution2D(32, 1, 3, 1, 0)), 32),
    (lambda: Sequence(conv(32, 1, 3), conv(1, 40, 3)), 32)])
def test_unusual_blocks(accelerator, make, channels):
    """Layers and maps used twice, sums of padded maps, 3x3 to one map of any stride."""
    check(make, images(2, channels, 8, 7))


def test_a_graph_that_is_dropped_frees_its_maps(accelerator):
    """Without a turn of the garbage collector."""
    block = basic(16, 16)
    gc.collect()
    gc.disable()
    try:
        freed = weakref.ref(block(images(2, 16, 6, 6)).creator_node)
        assert freed() is None
    finally:
        gc.enable()


def test_wrong_channels_are_told_by_chainer(accelerator):
    build('resnet8', 4)(images(2, 3, 16, 16))
    for channels in 2, 4:
        with pytest.raises(chainer.utils.type_check.InvalidType):
            build('resnet8', 4)(images(2, channels, 16, 16))
        with pytest.raises(chainer.utils.type_check.InvalidType), chainer.using_config('train', False), \
                chainer.no_backprop_mode():
            build('resnet8', 4)(images(2, channels, 16, 16))


def test_gradients_from_features_made_without_a_graph(accelerator):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        features = basic(16, 16)(images(2, 16, 6, 6))
    F.sum(features ** 2).backward()
    assert features.grad is not None


def test_float64_and_the_triple(accelerator):
    net, x = build('resnet8', 3), images(2, 3, 16, 16)
    assert isinstance(net(x), Output)
    assert in_float64(net)(x.astype('d')).logits.dtype == 'd'
