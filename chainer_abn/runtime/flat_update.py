"""One update of all parameters together behind Chainer's SGD, MomentumSGD and NesterovAG on the CPU.

Chainer goes through hooks, devices and properties in Python for every parameter: some 30 microseconds for
arrays of often a hundred numbers. Here one plain loop looks at all parameters; the small ones are copied
next to each other, updated in one go and copied back, the large ones are updated where they are, in pieces
that stay in the cache. The arithmetic is that of Chainer 7.8.1 in its order, so every bit is the same, and
the arrays are the same too: parameters, momenta and gradients (to which weight decay adds).

That is for a step without surprises: float32 NumPy arrays that share no memory, update rules as the
optimizer made them, no hook but weight decay. Everything else, and the first step, which makes the momenta,
is left to Chainer. Each step looks at every parameter anew; what is kept between steps, buffers and what the
arrays are like, holds only for the very same arrays.
"""
import functools
import itertools
import math
import operator
import weakref
from collections import deque

import numpy
from numpy.lib.array_utils import byte_bounds

import chainer
from chainer import Parameter
from chainer.backend import CpuDevice
from chainer.optimizer import GradientMethod, Hyperparameter, UpdateRule
from chainer.optimizer_hooks import WeightDecay
from chainer.optimizers import SGD, MomentumSGD, NesterovAG
from chainer.optimizers.momentum_sgd import MomentumSGDRule
from chainer.optimizers.nesterov_ag import NesterovAGRule
from chainer.optimizers.sgd import SGDRule

SMALL = 2048        # elements up to which copying costs less than NumPy's calls
PIECE = 65536       # elements of parameter, gradient, momentum and spare that fit the cache together


def _sgd(lr):
    lr = numpy.array(lr, 'f')

    def update(spare, p, g):
        numpy.multiply(lr, g, spare)
        numpy.subtract(p, spare, p)
    return update


def _momentum_sgd(lr, momentum):
    lr, momentum = numpy.array(lr, 'f'), numpy.array(momentum, 'f')

    def update(spare, p, g, v):
        numpy.multiply(v, momentum, v)
        numpy.multiply(lr, g, spare)
        numpy.subtract(v, spare, v)
        numpy.add(p, v, p)
    return update


def _nesterov_ag(lr, momentum):
    of_v, of_g = numpy.array(momentum * momentum, 'f'), numpy.array((1 + momentum) * lr, 'f')
    lr, momentum = numpy.array(lr, 'f'), numpy.array(momentum, 'f')

    def update(spare, p, g, v):
        numpy.multiply(v, momentum, v)
        numpy.multiply(lr, g, spare)
        numpy.subtract(v, spare, v)
        numpy.multiply(of_v, v, spare)
        numpy.add(p, spare, p)
        numpy.multiply(of_g, g, spare)
        numpy.subtract(p, spare, p)
    return update


def _decayed(rates, update=None):
    """Weight decay before an update, or alone."""
    rates = [numpy.array(rate, 'f') for rate in rates]

    def decay_and_update(spare, p, g, *v):
        for rate in rates:
            numpy.multiply(rate, p, spare)
            numpy.add(g, spare, g)
        if update:
            update(spare, p, g, *v)
    return decay_and_update


# optimizer: its rule, the hyperparameters that the rule reads, what it keeps, the arithmetic
_KINDS = {
    SGD: (SGDRule, ('lr',), (), _sgd),
    MomentumSGD: (MomentumSGDRule, ('lr', 'momentum'), ('v',), _momentum_sgd),
    NesterovAG: (NesterovAGRule, ('lr', 'momentum'), ('v',), _nesterov_ag),
}

# what a step of Chainer's calls: where a subclass (or a test) has put something else, all is left to it
_STEP = {name: getattr(GradientMethod, name) for name in (
    '_check_set_up', 'call_hook', 'call_hooks', 'check_nan_in_grads', 'is_safe_to_update',
    'reallocate_cleared_grads', 'update_loss_scale')}
_CALLED = [(owner, name, getattr(owner, name)) for owner, name in (
    (WeightDecay, '__call__'), (Parameter, 'update'),
    *itertools.product((SGDRule, MomentumSGDRule, NesterovAGRule),
                       ('update', 'update_core', 'update_core_cpu')))]
_WEIGHT_DECAYS = WeightDecay, chainer.optimizer.WeightDecay      # the second is the old name
_RULE_ATTRIBUTES = len(vars(UpdateRule()))

_FLOAT32 = numpy.dtype('f')
_shape, _dtype, _is_behaved = map(operator.attrgetter, ('shape', 'dtype', 'flags.behaved'))

# beside the optimizers, not in them: copies of these shall not take the buffers along
_plans = weakref.WeakKeyDictionary()


def apply():
    """Put the update behind Chainer's three optimizers; a second call changes nothing.

    It acts where ``chainer.config.use_ideep`` is not ``'never'``. Chainer's own stays in reach as
    ``MomentumSGD.update.original``.
    """
    for optimizer, kind in _KINDS.items():
        if not hasattr(optimizer.update, 'original'):
            optimizer.update = _update_of(kind, optimizer.update)


def _update_of(kind, original):
    @functools.wraps(original)
    def update(self, lossfun=None, *args, **kwds):
        if chainer.config.use_ideep == 'never':
            return original(self, lossfun, *args, **kwds)
        if lossfun is not None:     # as GradientMethod.update does
            loss = lossfun(*args, **kwds)
            if getattr(self, '_use_cleargrads', True):
                self.target.cleargrads()
            else:
                self.target.zerograds()
            loss.backward(loss_scale=self._loss_scale)
            del loss
        if not _step(self, *kind):
            _plans.pop(self, None)
            original(self)

    update.original = original
    return update


def _step(optimizer, rule_type, names, kept, arithmetic):
    """GradientMethod.update with the gradients as they are. False: it is for Chainer, all is as it was."""
    hyperparam = optimizer.hyperparam
    numbers = [vars(hyperparam).get(name) for name in names]
    rates = _decay_rates(optimizer)
    if rates is None or type(hyperparam) is not Hyperparameter or not _are_numbers(numbers):
        return False
    params = _parameters(optimizer.target)
    found = params and _look(params, rule_type, hyperparam, kept)
    if not found:
        return False
    plan = _plans.get(optimizer)
    if plan is None or not plan.fits(found):
        plan = _plans[optimizer] = _Plan(found)
    if not plan.takes(found.grads):
        return False

    optimizer.check_nan_in_grads()
    optimizer.t += 1
    for rule in found.rules:
        rule.t += 1
    plan.run(found.grads, arithmetic(*numbers), rates)
    for param in found.others:
        for hook in optimizer._hookable._pre_update_hooks.values():
            hook(param.update_rule, param)
        param.update()
    return True


def _are_numbers(values):
    # with NumPy's scalars of float64 Chainer computes in float64
    return all(type(value) in (float, int) for value in values)


def _decay_rates(optimizer):
    """Rates of the hooks, all of them weight decay. None: the optimizer does more than that."""
    if not (all(getattr(type(optimizer), name) is method for name, method in _STEP.items())
            and all(getattr(owner, name) is method for owner, name, method in _CALLED)
            and _STEP.keys().isdisjoint(vars(optimizer))):
        return None
    hookable = optimizer._hookable
    if (hookable is None or hookable._post_update_hooks or optimizer._loss_scale is not None
            or optimizer._loss_scaling_is_dynamic):
        return None
    hooks = hookable._pre_update_hooks.values()
    if not all(type(hook) in _WEIGHT_DECAYS and hook.call_for_each_param is True for hook in hooks):
        return None
    rates = [hook.rate for hook in hooks]
    return rates if _are_numbers(rates) else None


@functools.cache
def _children(kind):
    """How links of a class hold their children: 'none', 'names' or 'links'. None: they may hide some."""
    for known, way in (chainer.Link, 'none'), (chainer.Chain, 'names'), (chainer.ChainList, 'links'):
        if kind.params is known.params and kind.namedparams is known.namedparams:
            return way


def _parameters(target):
    """Those of ``target.params()`` in another order, in a third of the time. None: it may hide some."""
    links, params = [target], []
    for link in links:
        d = link.__dict__
        way = _children(type(link))
        if way is None or 'params' in d or 'namedparams' in d:
            return None
        for name in d['_params']:
            params.append(d[name])
        if way == 'names':
            for name in d['_children']:
                links.append(d[name])
        elif way == 'links':
            links += d['_children']
    return params


class _Found:
    """Arrays of the parameters to update, then of the frozen ones, then of those that Chainer updates."""

    def __init__(self, active, frozen, others, rules, other_params):
        self.values = active[0] + frozen[0] + others[0]
        self.grads = active[1] + frozen[1] + others[1]
        self.velocities = active[2] + others[2]
        self.n_active, self.n_frozen = len(rules), len(frozen[0])
        self.rules, self.others = rules, other_params


def _look(params, rule_type, parent, kept):
    """What a step needs of the parameters. None: with some of them it is out of the ordinary."""
    active, frozen, others = ([], [], []), ([], [], []), ([], [], [])
    rules, other_params = [], []
    for param in params:
        d = param.__dict__
        if (type(param) is not Parameter or 'update' in d or not d['_grad_valid'] or d['_layout'] is not None
                or d['_loss_scale'] is not None or type(d['_device'] or param.device) is not CpuDevice):
            return None
        value = d['_data'][0]
        grad = d['_grad'] if d['_grad_var'] is None else d['_grad_var']._data[0]
        if grad is None:
            if value is None:
                return None
            grad = param.grad = numpy.zeros_like(value)     # as reallocate_cleared_grads
        rule, group = d['update_rule'], frozen
        if rule is not None:
            r = rule.__dict__
            # one attribute more may be a method of its own
            if type(rule) is not rule_type or len(r) != _RULE_ATTRIBUTES:
                return None
            if r['enabled']:
                state, hooks, hyperparam = r['_state'], r['_hookable'], r['hyperparam']
                if (state is None or len(state) != len(kept)
                        or hooks._pre_update_hooks or hooks._post_update_hooks):
                    return None
                own = hyperparam.__dict__
                if len(own) == 1 and own['_parent'] is parent and type(hyperparam) is Hyperparameter:
                    group = active
                    rules.append(rule)
                else:
                    group = others
                    other_params.append(param)
                if kept:
                    group[2].append(state.get('v'))
        group[0].append(value)
        group[1].append(grad)
    return _Found(active, frozen, others, rules, other_params)


class _Plan:
    """What is known of the parameters and momenta of an optimizer, and the buffers for them."""

    def __init__(self, found):
        # not what was found: it has the gradients, which are not kept from step to step
        self.values, self.velocities = found.values, found.velocities
        self.n_active, self.n_known = found.n_active, found.n_active + found.n_frozen
        arrays = self.values + self.velocities
        self.usable = _are_plain(arrays)
        if not self.usable:
            return
        n, known = self.n_active, self.n_known
        self.shapes = list(map(_shape, self.values))
        self.owners = _owners(arrays)
        self.usable = _are_apart(arrays, self.owners) and (
            not self.velocities
            or list(map(_shape, self.velocities)) == self.shapes[:n] + self.shapes[known:])
        if self.usable:
            self.active = _Batch(self.values[:n], *([self.velocities[:n]] if self.velocities else []))
            self.frozen = _Batch(self.values[n:known])

    def fits(self, found):
        """Whether it was made for just these arrays."""
        return ((self.n_active, self.n_known) == (found.n_active, found.n_active + found.n_frozen)
                and _are_same(self.values, found.values) and _are_same(self.velocities, found.velocities)
                and all(map(_is_behaved, found.values)))

    def takes(self, grads):
        """Whether each parameter can be updated by itself, in any order."""
        if not self.usable or not _are_plain(grads) or list(map(_shape, grads)) != self.shapes:
            return False
        owners = _owners(grads)
        if owners is None or self.owners is None or not set(owners).isdisjoint(self.owners):
            return _are_apart(self.values + self.velocities + grads)
        return _are_apart(grads, owners)

    def run(self, grads, update, rates):
        n, known = self.n_active, self.n_known
        if rates:
            self.active.run(_decayed(rates, update), grads[:n], written=(0, 1, 2))
            # frozen or not, Chainer adds the decay to the gradient
            self.frozen.run(_decayed(rates), grads[n:known], written=(1,))
        else:
            self.active.run(update, grads[:n], written=(0, 2))


class _Batch:
    """Parameters that take the same update: the small ones in flat buffers, the large ones in place.

    Args:
        values, velocities: lists of arrays; no velocities: the rule has none.
    """

    def __init__(self, values, *velocities):
        kept = list(zip(values, *velocities, strict=True))
        self.small, self.large = [], []
        for i, arrays in enumerate(kept):
            if values[i].size <= SMALL or not all(a.flags.c_contiguous for a in arrays):
                self.small.append(i)
            else:
                self.large.append((i, *(a.reshape(-1) for a in arrays)))
        shapes = [values[i].shape for i in self.small]
        ends = list(itertools.accumulate(values[i].size for i in self.small))
        # of values, gradients and velocities
        self.kept = [[kept[i][k] for i in self.small] for k in range(1 + len(velocities))]
        self.flat = [numpy.empty(ends[-1] if ends else 0, 'f') for _ in range(2 + len(velocities))]
        self.views = [[flat[end - math.prod(shape):end].reshape(shape)
                       for end, shape in zip(ends, shapes, strict=True)] for flat in self.flat]
        self.spare = numpy.empty(PIECE, 'f')

    def run(self, update, grads, written):
        """``written``: which of values, gradients and velocities the update changes."""
        small = [self.kept[0], [grads[i] for i in self.small], *self.kept[1:]]
        for views, arrays in zip(self.views, small, strict=True):
            _copy(views, arrays)
        self._in_pieces(update, *self.flat)
        for k, (views, arrays) in enumerate(zip(self.views, small, strict=True)):
            if k in written:
                _copy(arrays, views)
        for i, value, *velocity in self.large:
            grad = grads[i].reshape(-1)
            self._in_pieces(update, value, grad, *velocity)
            if 1 in written and not grads[i].flags.c_contiguous:    # then reshape has made a copy
                grads[i][...] = grad.reshape(grads[i].shape)

    def _in_pieces(self, update, *arrays):
        size = arrays[0].size
        if 0 < size <= PIECE:
            update(self.spare[:size], *arrays)
            return
        for start in range(0, size, PIECE):
            pieces = [a[start:start + PIECE] for a in arrays]
            update(self.spare[:pieces[0].size], *pieces)


def _copy(to, of):
    """Every array of one list into that of another, in a loop of the interpreter's own."""
    deque(map(operator.setitem, to, itertools.repeat(...), of), maxlen=0)


def _are_same(these, those):
    return len(these) == len(those) and all(map(operator.is_, these, those))


def _are_plain(arrays):
    """Float32 NumPy arrays of which each can be written."""
    return (set(map(type, arrays)) <= {numpy.ndarray} and set(map(_dtype, arrays)) <= {_FLOAT32}
            and all(map(_is_behaved, arrays)))


def _owners(arrays):
    """Ids of what the memory of each array belongs to. None: to something unknown, of some."""
    owners = [a if a.base is None else a.base for a in arrays]
    # an array that was unpickled belongs to bytes
    if all(type(a) is numpy.ndarray and a.base is None or type(a) is bytes for a in owners):
        return list(map(id, owners))


def _are_apart(arrays, owners=None):
    """Whether no two arrays share memory, as those of different owners do not."""
    if owners is None:
        groups = {None: arrays}
    elif len(set(owners)) == len(arrays):
        return True
    else:
        groups = {}
        for array, owner in zip(arrays, owners, strict=True):
            groups.setdefault(owner, []).append(array)
    return all(map(_is_apart, groups.values()))


def _is_apart(group):
    if len(group) == 1:
        return True
    if len(group) == 2:         # such as the gradients of one batch normalization
        return not numpy.may_share_memory(*group)
    bounds = sorted(map(byte_bounds, group))
    return all(end <= start for (_, end), (start, _) in itertools.pairwise(bounds))
