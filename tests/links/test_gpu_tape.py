"""Whole blocks on cuDNN against the same declaration run with Chainer's functions, there and in float64.

The tests hold on a GPU and on the emulated one.
"""
import gc
import weakref

import numpy
import pytest
from test_accelerated import (
    BLOCKS,
    Averaged,
    Doubled,
    GroupedSum,
    Twice,
    distance,
    images,
    in_float64,
    outputs_of,
    randomise,
    shared,
)

from chainer_abn.links import build
from chainer_abn.links.backbones.densenet import DenseLayer
from chainer_abn.links.backbones.senet import SqueezeExcitation
from chainer_abn.links.backbones.wrn import PreActivation
from chainer_abn.links.blocks import BNReLU, ConvBN, Sequence, Stem, basic, batch_norm, bottleneck, conv
from chainer_abn.runtime import cudnn, dropout, gpu_blocks
from chainer_abn.runtime.blocks import PLAIN, Block
from chainer_abn.runtime.node import TrainingNode
from chainer_abn.training.classifier import ABNClassifier

import chainer
import chainer.functions as F
import chainer.links as L
from chainer.backends import cuda

pytestmark = pytest.mark.gpu


class Head(Block, chainer.Chain):
    """The operations of an attention branch."""

    def __init__(self, channels):
        super().__init__()
        with self.init_scope():
            self.bn, self.evidence = batch_norm(channels), ConvBN(channels, 5, 1)
            self.score, self.map = conv(5, 5, 1, bias=True), ConvBN(5, 1, 3)

    def declare(self, ops, x):
        a = self.evidence.declare(ops, ops.bn(self.bn, x), relu=True)
        return ops.conv(self.score, ops.average(a)), ops.sigmoid(self.map.declare(ops, a))


class Ends(Block, chainer.Chain):
    """All that may end a layer, and maps that go several ways."""

    def __init__(self, channels):
        super().__init__()
        with self.init_scope():
            self.first, self.second = (conv(channels, channels, 3, bias=True) for _ in range(2))
            self.bn = batch_norm(channels)

    def declare(self, ops, x):
        a = ops.conv(self.first, x, relu=True, add=x)
        b = ops.conv(self.second, a, add=x)
        c = ops.bn(self.bn, b, add=a)
        d = ops.bn(self.bn, c, relu=True, add=x)
        return ops.add(ops.add(a, d, relu=True), ops.add(a, a)), ops.max_pool(d, 2, 2, 0), ops.avg_pool(d, 2)


CASES = {
    **BLOCKS, 'Head': Head, 'Ends': Ends,
    'unpadded pool': lambda c: Sequence(Stem(c, 3, 3, pool=True), basic(3, 3)),
    'dilated': lambda c: Sequence(L.Convolution2D(c, 4, 3, pad=2, dilate=2), BNReLU(4)),
}


@pytest.fixture(autouse=True)
def full_precision():
    if cudnn.why_not():
        pytest.skip(f'no cuDNN: {cudnn.why_not()}')
    with chainer.using_config('use_cudnn_tensor_core', 'never'):
        yield


def made(make, *arguments):
    numpy.random.seed(1)
    return randomise(make(*arguments))


def on_gpu(link):
    link.to_device('@cupy:0')
    return link


def passes(link, x, x_needs_grad=True):
    """All that comes of a link in training, as NumPy arrays: outputs, gradients by name, statistics."""
    dropout.seed(5)
    x = chainer.Variable(x, requires_grad=x_needs_grad)
    outputs = outputs_of(link(x))
    assert all(isinstance(y.creator_node, TrainingNode) == chainer.config.use_tape for y in outputs)
    loss = 0
    for y in outputs:
        weights = numpy.cos(numpy.arange(y.size)).reshape(y.shape).astype('f')
        loss += F.sum(F.cast(y, 'f') * x.xp.asarray(weights)) if y.dtype != 'd' else F.sum(y * weights)
    link.cleargrads()
    loss.backward()
    return {
        'outputs': [cuda.to_cpu(y.array) for y in outputs],
        'gradients': [cuda.to_cpu(v.grad) for v in (*[x] * x_needs_grad,
                                                   *(p for _, p in sorted(link.namedparams())))],
        'statistics': [cuda.to_cpu(getattr(part, name)) for _, part in sorted(link.namedlinks())
                       for name in ('avg_mean', 'avg_var') if hasattr(part, name)]}


def with_and_without(make, x, **options):
    """With the tape and without."""
    found = []
    for use in True, False:
        link = on_gpu(made(make))
        with chainer.using_config('use_tape', use):
            assert (gpu_blocks.runner(link, chainer.Variable(cuda.to_gpu(x))) is not None) == use
            found.append(passes(link, cuda.to_gpu(x), **options))
    return found


def has_dropout(name):
    return 'PreActivation' in name or 'dense block' in name


@pytest.mark.parametrize('channels, size, n', [(16, (8, 8), 2), (10, (7, 9), 3), (6, (11, 8), 1)], ids=str)
@pytest.mark.parametrize('name', CASES)
def test_float32(name, channels, size, n):
    """As close to float64 as Chainer's own functions on cuDNN; with dropout, as these."""
    x = images(n, channels, *size)
    found, plain = with_and_without(lambda: CASES[name](channels), x)
    if has_dropout(name):
        exact = plain
    else:
        with chainer.using_config('use_ideep', 'never'):
            link = in_float64(made(CASES[name], channels))
            exact = passes_on_cpu(link, x.astype('d'))
    for kind in found:
        if exact[kind]:
            assert all(a.dtype == 'f' for a in found[kind])
            limit = max(3e-5, 4 * distance(plain[kind], exact[kind]))
            assert distance(found[kind], exact[kind]) < limit, kind


def passes_on_cpu(link, x):
    """The same in float64."""
    x = chainer.Variable(x)
    outputs = outputs_of(link(x))
    link.cleargrads()
    sum(F.sum(y * numpy.cos(numpy.arange(y.size)).reshape(y.shape)) for y in outputs).backward()
    return {'outputs': [y.array for y in outputs],
            'gradients': [x.grad] + [p.grad for _, p in sorted(link.namedparams())],
            'statistics': [getattr(part, name) for _, part in sorted(link.namedlinks())
                           for name in ('avg_mean', 'avg_var') if hasattr(part, name)]}


@pytest.mark.parametrize('make, channels', [
    (Twice, 20), (Averaged, 10), (GroupedSum, 20), (shared, 16), (lambda: basic(1, 1), 1),
    (lambda: Sequence(conv(3, 1, 3), conv(1, 40, 3)), 3),
    (lambda: Sequence(DenseLayer(16, 12, 0), basic(28, 28)), 16)])
@pytest.mark.parametrize('dtype', 'fe')
def test_unusual_blocks(make, channels, dtype):
    """Layers and maps used twice, one channel, averages inside."""
    x = images(2, channels, 8, 7).astype(dtype)
    found, plain = with_and_without(make, x)
    for kind in found:
        if plain[kind]:
            assert distance(as_single(found[kind]), as_single(plain[kind])) < (1e-4 if dtype == 'f' else 5e-2)


def as_single(arrays):
    return [a.astype('f') for a in arrays]


@pytest.mark.parametrize('name', [n for n in CASES if not has_dropout(n)])
def test_float16(name):
    """The numbers of float32 but for rounding; parameters' gradients are float32."""
    x = images(3, 10, 7, 9)
    found, _ = with_and_without(lambda: CASES[name](10), x.astype('e'))
    exact, _ = with_and_without(lambda: CASES[name](10), x.astype('e').astype('f'))
    assert {a.dtype for a in found['outputs']} == {numpy.dtype('e')}
    assert [a.dtype.char for a in found['gradients']] == ['e'] + ['f'] * (len(found['gradients']) - 1)
    for a, b in zip(found['outputs'], exact['outputs'], strict=True):
        assert numpy.linalg.norm(a - b) < 0.01 * numpy.linalg.norm(b)
    a, b = (numpy.concatenate([g.ravel() for g in some['gradients']]) for some in (found, exact))
    # a value that rounding puts on the other side of a ReLU's 0 changes gradients by much more
    assert numpy.linalg.norm(a - b) < 0.1 * numpy.linalg.norm(b)
    if found['statistics']:
        assert distance(found['statistics'], exact['statistics']) < 2e-3


@pytest.mark.parametrize('dtype', 'fe')
def test_any_memory_layout(dtype):
    x = cuda.to_gpu(images(3, 6, 9, 8).astype(dtype))
    last = cuda.cupy.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    mirrored = cuda.cupy.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1]
    expected, *others = (passes(on_gpu(made(basic, 6, 12, 2)), a) for a in (x, last, mirrored))
    for found in others:
        for kind in found:
            for a, b in zip(found[kind], expected[kind], strict=True):
                numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('dtype', 'fe')
def test_outputs_have_the_memory_order_of_their_dtype(dtype):
    y = on_gpu(basic(6, 12, 2))(cuda.to_gpu(images(3, 6, 9, 8).astype(dtype))).array
    assert (y if dtype == 'f' else y.transpose(0, 2, 3, 1)).flags.c_contiguous


@pytest.mark.parametrize('dtype', 'fe')
def test_images_without_a_gradient(dtype):
    x = images(2, 3, 9, 8).astype(dtype)

    def make():
        return Sequence(ConvBN(3, 8, 3), basic(8, 8))
    all_of_it, _ = with_and_without(make, x)
    found, _ = with_and_without(make, x, x_needs_grad=False)
    for a, b in zip(found['gradients'], all_of_it['gradients'][1:], strict=True):
        numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('dtype', 'fe')
def test_the_same_bits_every_time(dtype):
    x = cuda.to_gpu(images(4, 16, 8, 8).astype(dtype))
    with chainer.using_config('cudnn_deterministic', True):
        first, second = (passes(on_gpu(made(PreActivation, 16, 32, 2, 0.3)), x) for _ in range(2))
    for kind in first:
        for a, b in zip(first[kind], second[kind], strict=True):
            numpy.testing.assert_array_equal(a, b)


def test_a_block_used_twice():
    """Once before the other, and each after the other's way back."""
    def twice(link, x):
        x = chainer.Variable(x)
        link.cleargrads()
        F.sum(link(link(x)) ** 2).backward()
        return [cuda.to_cpu(v.grad) for v in (x, *(p for _, p in sorted(link.namedparams())))]
    found = twice(on_gpu(made(basic, 8, 8)), cuda.to_gpu(images(2, 8, 6, 6)))
    with chainer.using_config('use_ideep', 'never'):
        exact = twice(in_float64(made(basic, 8, 8)), images(2, 8, 6, 6).astype('d'))
    assert distance(found, exact) < 1e-4


def test_the_gradient_of_a_gradient():
    """With dropout: the masks are those of the forward pass. (Chainer itself cannot in float16.)"""
    def second(block, x, use):
        with chainer.using_config('use_tape', use):
            dropout.seed(5)
            x = chainer.Variable(x)
            y = block(x)
            with chainer.using_config('train', False):      # what counts is what it was on the way there
                gx, = chainer.grad([F.sum(y ** 2)], [x], enable_double_backprop=True)
            block.cleargrads()
            F.sum(gx ** 2).backward()
        return [cuda.to_cpu(a) for a in
                (gx.array, x.grad, *(p.grad for _, p in sorted(block.namedparams())))]

    def make():
        return on_gpu(made(PreActivation, 4, 8, 2, 0.5))
    x, block, other = cuda.to_gpu(images(3, 4, 6, 6)), make(), make()
    before = cuda.to_cpu(block.bn1.avg_mean)
    assert distance(second(block, x, True), second(other, x, False)) < 1e-4
    numpy.testing.assert_allclose(cuda.to_cpu(block.bn1.avg_mean), cuda.to_cpu(other.bn1.avg_mean), rtol=1e-5)
    assert (cuda.to_cpu(block.bn1.avg_mean) != before).any()                        # updated once


@pytest.mark.parametrize('dtype', 'fe')
def test_backward_twice(dtype):
    """The second time the maps are made anew; neither statistics nor dropout are."""
    block = on_gpu(made(PreActivation, 16, 16, 1, 0.5))
    x = chainer.Variable(cuda.to_gpu(images(2, 16, 5, 5).astype(dtype)))
    loss = F.sum(F.cast(block(x), 'f') ** 2)
    mean = cuda.to_cpu(block.bn1.avg_mean)
    gradients = []
    for _ in range(2):
        block.cleargrads()
        x.cleargrad()
        loss.backward()
        gradients.append([cuda.to_cpu(v.grad) for v in (x, *(p for _, p in sorted(block.namedparams())))])
    for a, b in zip(*gradients, strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max())
    numpy.testing.assert_array_equal(cuda.to_cpu(block.bn1.avg_mean), mean)


def test_dropout_takes_the_masks_of_the_gpu_in_turn():
    block, x = on_gpu(made(PreActivation, 8, 8, 1, 0.5)), cuda.to_gpu(images(2, 8, 6, 6))
    outputs = []
    for use in True, False:
        dropout.seed(5)
        with chainer.using_config('use_tape', use):
            outputs.append([cuda.to_cpu(block(x).array) for _ in range(2)])
    for a, b in zip(*outputs, strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert (abs(outputs[0][0] - outputs[0][1]) > 0.1).any()


@pytest.mark.parametrize('dtype', 'fe')
@pytest.mark.parametrize('make', [
    lambda: basic(8, 8), lambda: basic(8, 16, 2, SqueezeExcitation), lambda: BNReLU(8),
    lambda: Stem(8, 8, 3, 1, True)])
def test_nan_goes_through(make, dtype):
    x = cuda.to_gpu(images(2, 8, 6, 6).astype(dtype))
    x[0, 0, 0, 0] = numpy.nan
    found = passes(on_gpu(made(make)), x)
    assert numpy.isnan(found['outputs'][0]).any()
    assert numpy.isnan(found['gradients'][0]).any()
    first = on_gpu(made(make))
    next(p for p in first.params() if p.ndim == 1).array[0] = numpy.nan
    assert numpy.isnan(passes(first, cuda.to_gpu(images(2, 8, 6, 6).astype(dtype)))['outputs'][0]).any()


def test_a_gradient_of_nan_stays():
    block, x = on_gpu(made(basic, 8, 8)), chainer.Variable(cuda.to_gpu(images(2, 8, 6, 6)))
    y = block(x)
    y.grad = cuda.cupy.full(y.shape, numpy.nan, 'f')
    y.backward()
    assert numpy.isnan(cuda.to_cpu(x.grad)).all()


@pytest.mark.parametrize('arch, variant', [('resnet8', {}), ('densenet-bc-10-12', {}), ('se-resnet18', {}),
                                           ('vgg16-bn', {'variant': 'cam'})])
@pytest.mark.parametrize('dtype', 'fe')
def test_network(arch, variant, dtype):
    """The loss and the gradients are those without the tape; in float16 but for rounding."""
    x, t = cuda.to_gpu(images(2, 3, 32, 32).astype(dtype)), cuda.to_gpu(numpy.array([1, 2], 'i'))
    found = []
    for use in True, False:
        numpy.random.seed(0)
        classifier = on_gpu(ABNClassifier(build(arch, 4, **variant)))
        with chainer.using_config('use_tape', use):
            loss = classifier(x, t)
            classifier.cleargrads()
            loss.grad = cuda.cupy.array(4, 'f')
            loss.backward()
        found.append((float(loss.array), numpy.concatenate(
            [cuda.to_cpu(p.grad).ravel() for _, p in sorted(classifier.namedparams())])))
    (loss, gradient), (expected_loss, expected) = found
    assert loss == pytest.approx(expected_loss, rel=1e-4 if dtype == 'f' else 0.02)
    limit = (1e-2 if dtype == 'f' else 0.15) * numpy.linalg.norm(expected)
    assert numpy.linalg.norm(gradient - expected) < limit


def test_a_graph_that_is_dropped_frees_its_maps():
    """Without a turn of the garbage collector."""
    block, x = on_gpu(basic(16, 16)), cuda.to_gpu(images(2, 16, 6, 6))
    gc.collect()
    gc.disable()
    try:
        freed = weakref.ref(block(x).creator_node)
        assert freed() is None
    finally:
        gc.enable()


def test_weights_that_have_moved_are_found():
    """float16 copies are made by a table of addresses."""
    block, x = on_gpu(made(bottleneck, 8, 16)), cuda.to_gpu(images(2, 8, 6, 6).astype('e'))
    first = passes(block, x)['outputs'][0]
    for param in block.params():
        param.array = 1 * param.array
    block.body[0].conv.W.array *= -1
    changed = passes(block, x)['outputs'][0]
    block.body[0].conv.W.array *= -1
    numpy.testing.assert_array_equal(passes(block, x)['outputs'][0], first)
    assert (changed != first).any()


def test_wrong_channels_are_told_by_chainer():
    for channels in 2, 4:
        with pytest.raises(chainer.utils.type_check.InvalidType):
            on_gpu(basic(3, 3))(cuda.to_gpu(images(2, channels, 16, 16)))


class Hook(chainer.LinkHook):
    """Does nothing, but sees every link that is called."""


def test_what_is_not_as_chainer_made_it_is_left_to_chainer():
    x = chainer.Variable(cuda.to_gpu(images(2, 16, 6, 6)))

    def by_tape(block):
        return gpu_blocks.runner(on_gpu(block), x) is not None

    assert by_tape(basic(16, 16))
    for key, value in (('use_tape', False), ('use_cudnn', 'never'), ('train', False), ('debug', True),
                       ('enable_backprop', False), ('schedule_func', print)):
        with chainer.using_config(key, value):
            assert not by_tape(basic(16, 16)), key

    block = basic(16, 16)
    block.body[1].bn = Doubled(16)
    assert not by_tape(block)
    block = basic(16, 16)
    block.body[0].conv.forward = PLAIN.conv
    assert not by_tape(block)
    assert not by_tape(in_float64(basic(16, 16)))
    dilated = Sequence(L.Convolution2D(16, 4, 3, dilate=2))
    assert by_tape(dilated)
    with chainer.using_config('cudnn_deterministic', True):
        assert not by_tape(dilated) and by_tape(basic(16, 16))
    with Hook():
        assert not by_tape(basic(16, 16))
    for other in x.array.astype('d'), x.array[:0], x.array[0]:
        assert gpu_blocks.runner(on_gpu(basic(16, 16)), chainer.Variable(other)) is None
    assert gpu_blocks.runner(basic(16, 16), chainer.Variable(images(2, 16, 6, 6))) is None


def test_where_cudnn_has_no_algorithm_chainers_functions_run(monkeypatch):
    """And running statistics are updated once."""
    from chainer_abn.runtime.cudnn import api, convolution

    def refuse(self, handle):
        if self._kind == 'BackwardFilter':
            raise api.Error('GetConvolutionBackwardFilterAlgorithm_v7', 0, 'no algorithm', '')

    x = images(2, 4, 7, 6)
    blocks = []
    for tape in True, False:
        numpy.random.seed(1)
        block = randomise(Sequence(basic(4, 4), basic(4, 8, 2)))
        block.to_device('@cupy:0')
        with monkeypatch.context() as patch, chainer.using_config('use_tape', tape):
            patch.setattr(convolution.Call, 'estimate', refuse)
            patch.setattr('chainer_abn.runtime.gpu_blocks.calls._kept', {})
            for _ in range(2):
                y = block(chainer.Variable(cuda.to_gpu(x)))
        assert y.creator.label != 'Sequence'
        blocks.append((y, block))
    (y, block), (expected, other) = blocks
    numpy.testing.assert_array_equal(y.array.get(), expected.array.get())
    for one, two in zip(block.links(), other.links(), strict=True):
        if isinstance(one, L.BatchNormalization):
            numpy.testing.assert_array_equal(one.avg_mean.get(), two.avg_mean.get())
            numpy.testing.assert_array_equal(one.avg_var.get(), two.avg_var.get())
