"""The flat update against Chainer's own, bit for bit, and the cases that it leaves to Chainer."""
import copy
import io
import pickle

import numpy
import pytest

from chainer_abn.runtime import flat_update

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import optimizer_hooks as hooks
from chainer import optimizers

flat_update.apply()

KINDS = optimizers.SGD, optimizers.MomentumSGD, optimizers.NesterovAG


@pytest.fixture(autouse=True)
def in_force():
    with chainer.using_config('use_ideep', 'auto'):
        yield


@pytest.fixture
def flat(monkeypatch):
    """Whether each step of ours was a flat one."""
    taken, step = [], flat_update._step
    monkeypatch.setattr(flat_update, '_step', lambda *args: taken.append(step(*args)) or taken[-1])
    return taken


class Network(chainer.Chain):
    """Parameters of all sorts: small, large, of several pieces, without axes, empty, transposed."""

    def __init__(self, seed=0):
        super().__init__()
        rng = numpy.random.default_rng(seed)

        def parameter(*shape):
            return chainer.Parameter(rng.standard_normal(shape).astype('f'))

        with self.init_scope():
            self.linear = L.Linear(3, 5)
            self.list = chainer.ChainList(L.BatchNormalization(7), L.Convolution2D(2, 3, 3))
            self.sequential = chainer.Sequential(L.Linear(5, 4), F.relu, L.Linear(4, 2))
            self.scale = chainer.Parameter(numpy.array(rng.standard_normal(), 'f'))
            self.none = parameter(0, 3)
            self.large = parameter(64, 64, 3)
            self.larger = parameter(3, flat_update.PIECE // 2 + 7)
            self.transposed = chainer.Parameter(rng.standard_normal((4, 6)).astype('f').T)
            self.large_transposed = chainer.Parameter(rng.standard_normal((90, 60)).astype('f').T)
        for param in self.params():
            param.array[...] = rng.standard_normal(param.shape)


class Pair:
    """The same network twice: updated by ours, and by Chainer's own."""

    def __init__(self, kind=optimizers.MomentumSGD, rate=1e-3, prepare=lambda optimizer: None, **numbers):
        numbers = {'lr': 0.1, **numbers}
        self.both = [kind(**numbers).setup(Network()) for _ in range(2)]
        for optimizer in self.both:
            if rate is not None:
                optimizer.add_hook(hooks.WeightDecay(rate))
            prepare(optimizer)
        self.rng = numpy.random.default_rng(1)

    def do(self, function):
        """The same to both."""
        for optimizer in self.both:
            function(optimizer)

    def fill(self, without=()):
        """Random gradients, in arrays as different as a backward pass leaves them."""
        ours, theirs = (sorted(o.target.namedparams()) for o in self.both)
        for i, ((name, one), (_, other)) in enumerate(zip(ours, theirs, strict=True)):
            if not one.is_initialized:
                continue
            grad = self.rng.standard_normal(one.shape).astype(one.dtype)
            for param in one, other:
                g = grad.copy(order='CF'[i % 2])
                if name in without:
                    param.cleargrad()
                elif i % 3:
                    param.grad = g
                else:
                    param.grad_var = chainer.Variable(g)

    def update(self):
        ours, theirs = self.both
        ours.update()
        type(theirs).update.original(theirs)

    def step(self, without=()):
        self.fill(without)
        self.update()
        self.check()

    def check(self):
        ours, theirs = self.both
        assert ours.t == theirs.t
        for (name, one), (_, other) in zip(*(sorted(o.target.namedparams()) for o in self.both), strict=True):
            same(one.array, other.array, name)
            same(one.grad, other.grad, name)
            rule, its = one.update_rule, other.update_rule
            if rule is not None:
                assert rule.t == its.t, name
                assert (rule.state is None) == (its.state is None), name
                for key in its.state or ():
                    same(rule.state[key], its.state[key], name)


def same(one, other, name):
    assert type(one) is type(other), name
    if one is None:
        return
    assert one.dtype == other.dtype and one.shape == other.shape, name
    assert one.tobytes() == other.tobytes(), name


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rate', (None, 0, 1e-4, 0.3))
def test_same_bits(kind, rate, flat):
    pair = Pair(kind, rate)
    for _ in range(4):
        pair.step()
    assert flat == [False, True, True, True]        # the first makes the momenta


@pytest.mark.parametrize('kind', KINDS)
def test_arrays_stay_the_same_objects(kind):
    pair = Pair(kind)
    pair.step()
    for param in pair.both[0].target.params():
        arrays = param.array, param.grad, (param.update_rule.state or {}).get('v')
        pair.both[0].update()
        now = param.array, param.grad, (param.update_rule.state or {}).get('v')
        assert all(a is b for a, b in zip(arrays, now, strict=True))


@pytest.mark.parametrize('kind', KINDS)
def test_hyperparameters_change_between_steps(kind, flat):
    pair = Pair(kind)
    for lr, momentum, rate in (0.1, 0.9, 1e-4), (0.03, 0.5, 1e-2), (1, 0, 1), (0.0, 0.99, 0.5), (1e-30, 1, 0):
        def change(o, lr=lr, momentum=momentum, rate=rate):
            o.lr = lr
            if kind is not optimizers.SGD:
                o.momentum = momentum
            o._hookable._pre_update_hooks['WeightDecay'].rate = rate
        pair.do(change)
        pair.step()
    assert flat == [False, True, True, True, True]


def test_hooks_come_and_go(flat):
    pair = Pair(rate=None)
    pair.step()
    pair.do(lambda o: o.add_hook(hooks.WeightDecay(0.1)))
    pair.step()
    pair.do(lambda o: o.add_hook(hooks.WeightDecay(0.01), 'another'))
    pair.step()
    pair.do(lambda o: o.remove_hook('WeightDecay'))
    pair.step()
    assert flat == [False, True, True, True]


@pytest.mark.parametrize('kind', KINDS)
def test_values_out_of_range(kind, flat):
    pair = Pair(kind)
    pair.step()
    for value in numpy.inf, -numpy.inf, 3e38, 1e-45, -0.0:
        pair.fill()
        for optimizer in pair.both:
            for param in optimizer.target.params():
                param.grad[...] = value
                param.array.ravel()[:1] = value
        with numpy.errstate(all='ignore'):
            pair.update()
        ours, theirs = (optimizer.target for optimizer in pair.both)
        for one, other in zip(ours.params(), theirs.params(), strict=True):
            numpy.testing.assert_array_equal(one.array, other.array)        # NaN equals NaN here
            numpy.testing.assert_array_equal(one.grad, other.grad)
    assert flat[1:] == [True] * 5


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('zerograds', (False, True))
def test_loss_function(zerograds, flat):
    x = numpy.random.default_rng(2).standard_normal((8, 3)).astype('f')

    def loss_of(net):
        return lambda x: F.sum(F.tanh(F.bias(F.matmul(x, net.linear.W.T), net.linear.b)) ** 2)

    pair = Pair()
    if zerograds:
        pair.do(lambda o: o.use_cleargrads(False))
    for _ in range(3):
        ours, theirs = pair.both
        ours.update(loss_of(ours.target), x)
        type(theirs).update.original(theirs, loss_of(theirs.target), x)
        pair.check()
    assert flat == [False, True, True]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rate', (None, 0.1))
def test_parameters_without_gradient(kind, rate, flat):
    pair = Pair(kind, rate)
    without = '/linear/b', '/large', '/scale', '/transposed'
    pair.step(without)
    pair.step(without)
    pair.do(lambda o: o.target.cleargrads())
    pair.update()
    pair.check()
    assert flat == [False, True, True]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rate', (None, 0.1))
def test_freezing(kind, rate, flat):
    pair = Pair(kind, rate)
    pair.do(lambda o: o.target.list.disable_update())
    pair.do(lambda o: setattr(o.target.larger.update_rule, 'enabled', False))
    pair.step()
    pair.step()
    pair.step(('/list/1/W', '/larger'))
    pair.do(lambda o: o.target.linear.disable_update())
    pair.step()
    pair.do(lambda o: o.target.enable_update())
    pair.step()                     # Chainer makes the momenta that are missing
    pair.step()
    pair.do(lambda o: o.target.disable_update())
    pair.step()
    assert flat == [False, True, True, True, False, True, True]


def test_parameter_without_update_rule(flat):
    pair = Pair()
    pair.do(lambda o: setattr(o.target.linear.W, 'update_rule', None))
    pair.step()
    pair.step()
    assert flat == [False, True]


@pytest.mark.parametrize('rate', (None, 0.1))
def test_own_hyperparameters(rate, flat):
    def prepare(optimizer):
        optimizer.target.linear.W.update_rule.hyperparam.lr = 1.0
        optimizer.target.large.update_rule.hyperparam.momentum = 0.5
        optimizer.target.list[0].disable_update()

    pair = Pair(rate=rate, prepare=prepare)
    for _ in range(3):
        pair.step()
    pair.do(lambda o: vars(o.target.linear.W.update_rule.hyperparam).pop('lr'))
    pair.step()
    pair.do(lambda o: [vars(p.update_rule.hyperparam).update(lr=0.2) for p in o.target.params()])
    pair.step()
    assert flat == [False, True, True, True, True]


class Other(hooks.WeightDecay):
    """Not quite weight decay."""

    name = 'Other'

    def __call__(self, rule, param):
        param.grad += self.rate


class Mapped(numpy.ndarray):
    """A class of arrays of its own, such as numpy.memmap."""


class Elsewhere(chainer.backend.CpuDevice):
    """Not the CPU, to whom looks at the class."""


def with_float64(optimizer):
    with chainer.using_config('dtype', numpy.float64):
        optimizer.target.list.append(L.Linear(2, 3, initialW=1))
    optimizer.setup(optimizer.target)


CASES = {
    'clipping': lambda o: o.add_hook(hooks.GradientClipping(0.1)),
    'hard clipping': lambda o: o.add_hook(hooks.GradientHardClipping(-0.1, 0.1)),
    'lasso': lambda o: o.add_hook(hooks.Lasso(0.1)),
    'rate scaling, after the update': lambda o: o.add_hook(hooks.GradientLARS()),
    'weight decay after the update': lambda o: o.add_hook(hooks.WeightDecay(0.1), 'post', timing='post'),
    'a subclass of weight decay': lambda o: o.add_hook(Other(0.1)),
    'a function': lambda o: o.add_hook(lambda o: o.target.linear.W.array.fill(1), 'function'),
    'a hook on a rule': lambda o: o.target.linear.W.update_rule.add_hook(hooks.Lasso(0.1)),
    'a hook on a rule, after': lambda o: o.target.linear.W.update_rule.add_hook(
        lambda rule, param: param.array.fill(1), 'after', 'post'),
    'another rule': lambda o: setattr(
        o.target.linear.W, 'update_rule', optimizers.Adam().create_update_rule()),
    'another rule, frozen': lambda o: (
        setattr(o.target.linear.W, 'update_rule', optimizers.Adam().create_update_rule()),
        o.target.linear.disable_update()),
    'a method of a rule': lambda o: setattr(
        o.target.linear.W.update_rule, 'update_core', lambda param: param.array.fill(1)),
    'a method of a parameter': lambda o: setattr(
        o.target.linear.W, 'update', lambda: o.target.linear.W.array.fill(1)),
    'static loss scale': lambda o: (
        o.loss_scaling(scale=8), setattr(o.target.linear.W, '_loss_scale', 8)),
    'loss scale of a parameter': lambda o: setattr(o.target.linear.W, '_loss_scale', 8),
    'dynamic loss scale': lambda o: o.loss_scaling(),
    'float64': with_float64,
    'another device': lambda o: setattr(o.target.linear.W, '_device', Elsewhere()),
    'float64 hyperparameter': lambda o: setattr(o, 'lr', numpy.float64(0.1)),
    'uninitialised': lambda o: (setattr(o.target.list[0], 'gamma', chainer.Parameter()),
                                o.setup(o.target), o.target.cleargrads()),
    'one parameter twice': lambda o: setattr(o.target.list[1], 'b', o.target.linear.b) or o.setup(o.target),
    'one array twice': lambda o: setattr(o.target.sequential[0].b, 'array', o.target.linear.b.array[:4]),
    'values from a file': lambda o: setattr(
        o.target.linear.b, 'array', numpy.arange(5, dtype='f').view(Mapped)),
    'a link that hides parameters': lambda o: setattr(
        o.target.linear, 'params', lambda include_uninit=True: ()),
}


@pytest.mark.filterwarnings('ignore:Non finite')
@pytest.mark.parametrize('case', CASES)
def test_left_to_chainer(case, flat):
    pair = Pair(prepare=CASES[case])
    for _ in range(3):
        pair.step()
    assert flat == [False] * 3


def test_dynamic_loss_scale_and_infinity(flat):
    pair = Pair(prepare=lambda o: o.loss_scaling(interval=1))
    pair.step()
    pair.fill()
    pair.do(lambda o: o.target.linear.W.grad.fill(numpy.inf))
    with pytest.warns(UserWarning, match='Non finite'):
        pair.update()
    pair.check()
    assert pair.both[0]._loss_scale == pair.both[1]._loss_scale
    assert flat == [False, False]


@pytest.mark.parametrize('name', ('reallocate_cleared_grads', 'call_hook', 'update_loss_scale'))
def test_subclass_with_another_step(name, flat):
    called = []

    def method(self, *args):
        called.append(self)
        return getattr(super(Subclass, self), name)(*args)

    Subclass = type('Subclass', (optimizers.MomentumSGD,), {name: method})
    pair = Pair(Subclass)
    pair.step()
    pair.step()
    assert flat == [False, False]
    assert called.count(pair.both[0]) == called.count(pair.both[1]) > 0


def test_subclass_with_another_rule(flat):
    class Rule(optimizers.momentum_sgd.MomentumSGDRule):
        def update_core_cpu(self, param):
            param.array -= 1

    class Subclass(optimizers.MomentumSGD):
        def create_update_rule(self):
            return Rule(self.hyperparam)

    pair = Pair(Subclass)
    pair.step()
    pair.step()
    assert flat == [False, False]


def test_subclass_that_calls_the_update(flat):
    class Subclass(optimizers.MomentumSGD):
        def update(self, lossfun=None, *args, **kwds):
            self.lr = 0.5
            super().update(lossfun, *args, **kwds)

    Subclass.update.original = optimizers.MomentumSGD.update.original
    pair = Pair(Subclass, lr=0.5)
    pair.step()
    pair.step()
    assert flat == [False, True]


@pytest.mark.parametrize('owner, name', (
    (optimizers.momentum_sgd.MomentumSGDRule, 'update_core_cpu'), (hooks.WeightDecay, '__call__'),
    (chainer.optimizer.GradientMethod, 'call_hook')))
def test_changed_chainer(owner, name, flat, monkeypatch):
    monkeypatch.setattr(owner, name, lambda *args: None)
    pair = Pair()
    pair.step()
    pair.step()
    assert flat == [False, False]


def test_gradients_of_another_type(flat):
    pair = Pair()
    pair.step()
    pair.fill()
    for optimizer in pair.both:
        param = optimizer.target.linear.W
        param._grad_var, param._grad = None, param.grad.astype('d')
    pair.update()
    pair.check()
    assert flat == [False, False]


@pytest.mark.parametrize('n', (2, 3))
def test_gradients_in_one_array(n, flat):
    pair = Pair()
    pair.step()

    def share(optimizer, start):
        shared = numpy.arange(12, dtype='f')
        optimizer.target.list[1].b.grad = shared[start:start + 3]
        for (b, length), end in zip(((optimizer.target.linear.b, 5), (optimizer.target.sequential[2].b, 2)),
                                    (5, 10)[:n - 1], strict=False):
            b.grad = shared[end - length:end]

    for start in 5, 4:              # side by side, and some memory shared
        pair.fill()
        pair.do(lambda o, start=start: share(o, start))
        pair.update()
        pair.check()
    assert flat == [False, True, False]


def test_gradient_beside_a_value(flat):
    pair = Pair()
    pair.step()

    def share(optimizer, start):
        shared = numpy.arange(12, dtype='f')
        optimizer.target.linear.b.array = shared[:5]
        optimizer.target.list[1].b.grad = shared[start:start + 3]

    for start in 5, 4:
        pair.fill()
        pair.do(lambda o, start=start: share(o, start))
        pair.update()
        pair.check()
    assert flat == [False, True, False]


def test_unpickled_arrays_belong_to_bytes(flat):
    pair = Pair()
    pair.step()
    pair.both = pickle.loads(pickle.dumps(pair.both))
    assert type(pair.both[0].target.large.array.base) is bytes
    assert flat_update._owners([param.array for param in pair.both[0].target.params()])
    pair.step()
    pair.step()
    assert flat == [False, True, True]


def test_arrays_in_memory_of_others(flat):
    pair = Pair()
    pair.step()
    buffers = [bytearray(40) for _ in pair.both]
    for start in 5, 4:              # beside each other, then overlapping
        for optimizer, buffer in zip(pair.both, buffers, strict=True):
            optimizer.target.linear.b.array = numpy.frombuffer(buffer, 'f')[:5]
            optimizer.target.list[1].b.array = numpy.frombuffer(buffer, 'f')[start:start + 3]
        pair.step()
    assert flat == [False, True, False]


def test_gradient_that_is_the_value(flat):
    pair = Pair()
    pair.step()
    pair.fill()
    pair.do(lambda o: setattr(o.target.linear.W, 'grad', o.target.linear.W.array))
    pair.update()
    pair.check()
    assert flat == [False, False]


def test_read_only_gradient_raises_as_in_chainer():
    pair = Pair()
    pair.step()
    pair.fill()
    for optimizer in pair.both:
        optimizer.target.linear.W.grad = numpy.broadcast_to(numpy.array(1, 'f'), (5, 3))
        with pytest.raises(ValueError, match='read-only'):
            (optimizer.update if optimizer is pair.both[0] else
             lambda: optimizers.MomentumSGD.update.original(pair.both[1]))()
    pair.check()


def test_read_only_value_raises_as_in_chainer():
    pair = Pair()
    pair.step()
    pair.step()
    pair.fill()
    for optimizer in pair.both:
        optimizer.target.large.array.flags.writeable = False
        with pytest.raises(ValueError, match='read-only'):
            (optimizer.update if optimizer is pair.both[0] else
             lambda: optimizers.MomentumSGD.update.original(pair.both[1]))()
    pair.check()


def test_without_set_up_it_raises_as_in_chainer():
    for update in optimizers.SGD.update, optimizers.SGD.update.original:
        with pytest.raises(AttributeError):
            update(optimizers.SGD())


def test_gradient_that_was_never_set_raises_as_in_chainer():
    for update in optimizers.SGD.update, optimizers.SGD.update.original:
        optimizer = optimizers.SGD().setup(L.Linear(None, 3))
        optimizer.target.W.initialize((3, 2))
        optimizer.target.W._grad_valid = False
        with pytest.raises(RuntimeError, match='Cannot retrieve Variable.grad'):
            update(optimizer)


def save(optimizer):
    files = io.BytesIO(), io.BytesIO()
    for file, what in zip(files, (optimizer, optimizer.target), strict=True):
        chainer.serializers.save_npz(file, what)
    return files


def load(files, optimizer):
    for file, what in zip(files, (optimizer, optimizer.target), strict=True):
        file.seek(0)
        chainer.serializers.load_npz(file, what)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('reader', (0, 1))
def test_snapshots_of_each_other(kind, reader, flat):
    pair = Pair(kind)
    pair.step()
    pair.step()
    fresh = kind(lr=0.1).setup(Network(seed=5))
    fresh.add_hook(hooks.WeightDecay(1e-3))
    load(save(pair.both[1 - reader]), fresh)
    pair.both[reader] = fresh
    pair.step()
    pair.step()
    assert pair.both[0].t == 4
    assert flat[-1]


def test_snapshot_into_an_optimizer_that_has_run(flat):
    pair = Pair()
    pair.step()
    pair.step()
    files = save(pair.both[0])
    pair.step()
    pair.do(lambda o: load(files, o))
    pair.step()
    assert pair.both[0].t == 3
    assert flat == [False, True, True, True]


def rebind(optimizer):
    for i, param in enumerate(optimizer.target.params()):
        if i % 2:
            param.array = param.array * 2


REBINDINGS = {
    'values': rebind,
    'momenta': lambda o: [
        p.update_rule.state.update(v=numpy.array(p.update_rule.state['v'] * 2)) for p in o.target.params()],
    'in place': lambda o: [p.array.fill(0.5) for p in o.target.params()],
    'copyparams': lambda o: o.target.copyparams(Network(seed=9)),
    'to_device': lambda o: o.target.to_device('@numpy'),
    'a link less': lambda o: delattr(o.target, 'linear'),
    'a parameter less': lambda o: delattr(o.target.linear, 'b'),
    'another parameter': lambda o: (
        delattr(o.target, 'linear'), o.target.add_link('linear', L.Linear(3, 2, initialW=1)),
        [setattr(p, 'update_rule', o.create_update_rule()) for p in o.target.linear.params()]),
    'set up again': lambda o: o.setup(o.target),
    'another target': lambda o: o.setup(Network(seed=4)),
}


@pytest.mark.parametrize('case', REBINDINGS)
def test_arrays_that_change_between_steps(case, flat):
    pair = Pair(rate=None)
    pair.step()
    pair.step()
    pair.do(REBINDINGS[case])
    pair.step()
    pair.step()
    assert flat[1] and flat[3]


def test_a_parameter_that_was_dropped_stays_as_it_is(flat):
    pair = Pair()
    pair.step()
    pair.step()
    dropped = pair.both[0].target.linear.W
    value, velocity = dropped.array.copy(), dropped.update_rule.state['v'].copy()
    pair.do(lambda o: delattr(o.target, 'linear'))
    pair.step()
    same(dropped.array, value, 'W')
    same(dropped.update_rule.state['v'], velocity, 'v')
    assert flat == [False, True, True]


COPIES = {'deepcopy': copy.deepcopy, 'pickle': lambda x: pickle.loads(pickle.dumps(x)),
          'copy': lambda link: link.copy(mode='copy')}


@pytest.mark.parametrize('how', COPIES)
def test_copy_of_a_network_is_its_own(how, flat):
    pair = Pair()
    pair.step()
    pair.step()
    copied = COPIES[how](pair.both[0].target)
    before = [param.array.copy() for param in copied.params()]
    pair.step()
    for param, value in zip(copied.params(), before, strict=True):
        same(param.array, value, param.name)
    assert flat == [False, True, True]


@pytest.mark.parametrize('how', ('deepcopy', 'pickle'))
def test_copy_of_an_optimizer_goes_on_alike(how, flat):
    pair = Pair()
    pair.step()
    pair.step()
    copied = COPIES[how](pair.both[0])
    size = sum(param.array.nbytes for param in copied.target.params())
    assert len(pickle.dumps(copied)) < 3.1 * size + 30000      # values, gradients, momenta; no buffers
    pair.step()
    pair.both[0], pair.rng = copied, numpy.random.default_rng(3)
    theirs = Pair()
    theirs.step()
    theirs.step()
    pair.both[1] = theirs.both[1]
    pair.step()
    pair.step()
    assert flat[-2:] == [True, True]


def test_copied_network_behind_the_same_optimizer(flat):
    """Its rules have a copy of the hyperparameters: the optimizer's own no longer reach them."""
    pair = Pair()
    pair.step()
    for optimizer in pair.both:
        optimizer.target = copy.deepcopy(optimizer.target)
        optimizer.lr = 100
    pair.step()
    pair.step()


def test_two_optimizers_of_one_network(flat):
    pair = Pair()
    pair.step()
    others = [optimizers.MomentumSGD(lr=0.3) for _ in range(2)]
    for optimizer, other in zip(pair.both, others, strict=True):
        other.setup(optimizer.target.sequential)
    for _ in range(2):
        pair.fill()
        others[0].update()
        optimizers.MomentumSGD.update.original(others[1])
        pair.update()
        pair.check()


def test_never_is_chainers_own(flat):
    pair = Pair()
    with chainer.using_config('use_ideep', 'never'):
        pair.step()
        pair.step()
    assert flat == []
    pair.step()
    assert flat == [True]


def test_gradients_are_not_kept():
    pair = Pair()
    pair.step()
    pair.step()
    kept = {id(a) for plan in flat_update._plans.values() for a in plan.values + plan.velocities}
    assert not kept & {id(param.grad) for param in pair.both[0].target.params()}


def test_apply_again_changes_nothing():
    before = [kind.update for kind in KINDS]
    flat_update.apply()
    assert [kind.update for kind in KINDS] == before
    assert all(kind.update.original is chainer.optimizer.GradientMethod.update for kind in KINDS)
    assert not hasattr(optimizers.Adam.update, 'original')
