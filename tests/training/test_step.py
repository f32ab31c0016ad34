"""Steps of training: Chainer's own, queued on a GPU, captured; the update on the GPU against Chainer's."""
import numpy
import pytest

import chainer_abn
from chainer_abn.training.classifier import ABNClassifier
from chainer_abn.training.step import CapturedStep, ChainerStep, GpuStep, make_step

import chainer
from chainer import optimizers

KINDS = {'sgd': optimizers.SGD, 'momentum': optimizers.MomentumSGD, 'nesterov': optimizers.NesterovAG}


class Tiny(chainer.Chain):
    """A loss whose gradients are what the test says; parameters of odd sizes, one over several chunks."""

    def __init__(self):
        super().__init__()
        rng = numpy.random.default_rng(0)
        with self.init_scope():
            for name, shape in ('a', (3, 5)), ('b', (10007,)), ('c', ()), ('frozen', (4,)):
                setattr(self, name, chainer.Parameter(rng.standard_normal(shape).astype('f')))

    def set_gradients(self, seed, factor=1):
        rng = numpy.random.default_rng(seed)
        for _, param in sorted(self.namedparams()):
            grad = rng.standard_normal(param.shape).astype('f') * numpy.float32(factor)
            param.grad = param.device.send(numpy.asarray(grad))


def tiny_optimizer(kind, decay=0.01, device='@numpy'):
    link = Tiny()
    link.to_device(device)
    optimizer = KINDS[kind](lr=0.1).setup(link)
    if decay:
        optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(decay))
    link.frozen.update_rule.enabled = False
    return optimizer


def values(link):
    return {name: chainer.cuda.to_cpu(param.array).copy() for name, param in link.namedparams()}


@pytest.mark.gpu
@pytest.mark.parametrize('decay', [0.01, 0])
@pytest.mark.parametrize('kind', KINDS)
def test_the_update_on_the_gpu_is_chainers(kind, decay):
    from chainer_abn.runtime.gpu_update import GpuUpdate
    ours, theirs = tiny_optimizer(kind, decay, '@cupy:0'), tiny_optimizer(kind, decay)
    update = GpuUpdate(ours)
    for step in range(4):
        ours.lr = theirs.lr = 0.1 / (step + 1)
        ours.target.set_gradients(step)
        theirs.target.set_gradients(step)
        update()
        theirs.update()
        for name, expected in values(theirs.target).items():
            numpy.testing.assert_allclose(values(ours.target)[name], expected, rtol=1e-5, atol=1e-6)
    assert ours.t == theirs.t == 4 and ours.target.a.update_rule.t == 4
    numpy.testing.assert_array_equal(values(ours.target)['/frozen'], Tiny().frozen.array)


@pytest.mark.gpu
def test_a_missing_gradient_is_zero_and_a_strided_one_is_read_right():
    import cupy

    from chainer_abn.runtime.gpu_update import GpuUpdate
    optimizer = tiny_optimizer('sgd', 0, '@cupy:0')
    before = values(optimizer.target)
    optimizer.target.cleargrads()
    gradient = numpy.arange(15, dtype='f').reshape(5, 3)
    optimizer.target.a.grad = cupy.asarray(gradient).T
    GpuUpdate(optimizer)()
    after = values(optimizer.target)
    numpy.testing.assert_allclose(after['/a'], before['/a'] - numpy.float32(0.1) * gradient.T, rtol=1e-6)
    numpy.testing.assert_array_equal(after['/b'], before['/b'])


def scales(optimizer, step, overflows):
    """The loss scale after each update, and whether the parameters moved."""
    found = []
    for i, overflow in enumerate(overflows):
        before = values(optimizer.target)['/a']
        optimizer.target.set_gradients(i)
        if overflow:
            optimizer.target.b.grad[5] = overflow
        for param in optimizer.target.params():
            param._loss_scale = step.loss_scaling[0]    # as Variable.backward does
        (step.update if isinstance(step, GpuStep) else optimizer.update)()
        moved = (values(optimizer.target)['/a'] != before).any()
        found.append((round(step.loss_scaling[0], 2), step.loss_scaling[1], bool(moved)))
    return found


OVERFLOWS = [0, 0, 0, numpy.inf, 0, numpy.nan, 0, -numpy.inf]
SCALES = [(2, False, True), (4, False, True), (8, False, True), (4, True, False), (4, True, True),
          (2, True, False), (2, True, True), (1, True, False)]


def test_overflowing_steps_are_skipped_and_the_scale_follows():
    optimizer = tiny_optimizer('momentum')
    assert scales(optimizer, ChainerStep(optimizer, mixed=True), OVERFLOWS) == SCALES


@pytest.mark.gpu
def test_loss_scaling_on_the_gpu_is_chainers():
    optimizer = tiny_optimizer('momentum', device='@cupy:0')
    assert scales(optimizer, GpuStep(optimizer, mixed=True), OVERFLOWS) == SCALES


def test_the_loss_scale_can_be_taken_up_again():
    optimizer = tiny_optimizer('momentum')
    step = ChainerStep(optimizer, mixed=True)
    scales(optimizer, step, OVERFLOWS[:4])
    saved = step.loss_scaling
    again = tiny_optimizer('momentum')
    other = ChainerStep(again, mixed=True)
    other.loss_scaling = saved
    assert scales(again, other, OVERFLOWS[4:]) == SCALES[4:]
    plain = ChainerStep(tiny_optimizer('momentum'))
    plain.loss_scaling = 8.0, True          # of a run in float16; it does not scale
    assert plain.loss_scaling == (1, False)


def network_step(kind, mixed, device='@cupy:0', arch='resnet8', nesterov=False):
    numpy.random.seed(0)
    classifier = ABNClassifier(chainer_abn.build(arch, 6))
    classifier.to_device(device)
    optimizer = (optimizers.NesterovAG if nesterov else optimizers.MomentumSGD)(lr=0.05).setup(classifier)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
    return kind(optimizer, mixed)


def run(step, batches, mixed):
    """What is reported in each step; the learning rate changes on the way."""
    classifier = step.optimizer.target
    reporter = chainer.Reporter()
    reporter.add_observer('main', classifier)
    send, seen = chainer.get_device(classifier.device).send, []
    for i, (x, t) in enumerate(batches):
        step.optimizer.lr = 0.05 / (1 + i // 2)
        observation = {}
        with reporter.scope(observation):
            step(send(x.astype('e' if mixed else 'f')), send(t))
        # a validation in between: it shares the device and its memory
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            classifier.network(send(x[:2].astype('e' if mixed else 'f')))
        seen.append({name: float(chainer.cuda.to_cpu(getattr(value, 'array', value)))
                     for name, value in observation.items()})
    return seen


def batches(n, size=4, last=None):
    rng = numpy.random.default_rng(1)
    sizes = [size] * n + ([last, size] if last else [])
    return [(rng.standard_normal((b, 3, 16, 16)).astype('f'), rng.integers(6, size=b).astype('i'))
            for b in sizes]


@pytest.mark.gpu
@pytest.mark.parametrize('mixed', [False, True])
def test_a_captured_step_gives_the_same_bits(mixed):
    data = batches(6, last=3)
    plain, captured = network_step(GpuStep, mixed), network_step(CapturedStep, mixed)
    with chainer.using_config('cudnn_deterministic', True):
        expected, seen = run(plain, data, mixed), run(captured, data, mixed)
    assert captured.graph is not None and plain.loss_scaling == captured.loss_scaling
    assert seen == expected and len({row['main/loss'] for row in seen}) == len(data)
    arrays = [chainer.serializers.DictionarySerializer() for _ in range(2)]
    for step, serializer in zip((plain, captured), arrays, strict=True):
        serializer.save(step.optimizer)
        serializer.save(step.optimizer.target)
    for name, array in arrays[0].target.items():
        numpy.testing.assert_array_equal(array, arrays[1].target[name], err_msg=name)


@pytest.mark.gpu
def test_a_step_that_cannot_be_captured_goes_on_without(monkeypatch, capsys):
    import cupy
    data = batches(6)
    plain, captured = network_step(GpuStep, False), network_step(CapturedStep, False)
    with chainer.using_config('cudnn_deterministic', True):
        expected = run(plain, data, False)
        network = captured.optimizer.target.network
        forward = type(network).forward

        def looking(self, x):
            if chainer.config.train:
                cupy.cuda.get_current_stream().synchronize()
            return forward(self, x)

        monkeypatch.setattr(type(network), 'forward', looking)
        assert run(captured, data, False) == expected
    assert captured.graph is None
    told = capsys.readouterr().err
    assert told.startswith('--capture: the step cannot be recorded (') and told.count('\n') == 1


@pytest.mark.gpu
def test_a_step_on_the_gpu_is_that_of_the_cpu():
    data = batches(3)
    cpu, gpu = network_step(ChainerStep, False, '@numpy'), network_step(GpuStep, False)
    with chainer.using_config('use_cudnn_tensor_core', 'never'):
        expected, seen = run(cpu, data, False), run(gpu, data, False)
    for a, b in zip(expected, seen, strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-3)


def test_the_step_of_the_cpu_is_the_optimizers_own():
    data = batches(2)
    step, other = network_step(ChainerStep, False, '@numpy'), network_step(ChainerStep, False, '@numpy')
    run(step, data, False)
    for i, (x, t) in enumerate(data):
        other.optimizer.lr = 0.05 / (1 + i // 2)
        other.optimizer.update(other.optimizer.target, x, t)
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            other.optimizer.target.network(x[:2])
    for name, array in values(step.optimizer.target).items():
        numpy.testing.assert_array_equal(array, values(other.optimizer.target)[name])
    assert isinstance(make_step(step.optimizer, chainer.get_device('@numpy')), ChainerStep)


def test_training_in_mixed_precision_goes_down():
    step = network_step(ChainerStep, True, '@numpy')
    losses = [row['main/loss'] for row in run(step, batches(1) * 8, True)]
    assert losses[-1] < 0.5 * losses[0] and step.loss_scaling[0] > 1
    assert all(param.dtype == 'f' for param in step.optimizer.target.params())
