"""Weight decay, loss scaling and update of all parameters in one pass on a GPU.

Chainer launches a kernel or two per parameter, from Python, and looks for overflows with a wait for the GPU
per parameter. Here three kernels do it for all parameters together, with what changes from step to step
(learning rate, loss scale, whether a gradient overflowed) in the GPU's memory: nothing waits, and the step
can be captured as a graph. The arithmetic is that of Chainer 7.8.1 in float32: SGD, MomentumSGD, NesterovAG;
weight decay; dynamic loss scaling (``chainer.Optimizer.loss_scaling``), which skips the update when gradients
overflow, halves the scale then, and doubles it every ``INTERVAL`` steps (every step until the first
overflow).
"""
import math

import numpy

from chainer.optimizer_hooks import WeightDecay
from chainer.optimizers import SGD, MomentumSGD, NesterovAG

CHUNK = 4096            # elements per block of threads
THREADS = 256
INTERVAL = 1000         # steps in which the loss scale doubles, as Chainer's default
LARGEST_SCALE = 65504   # likewise: the largest float16

# where things are in the arrays of floats that the kernels share
_LR, _MOMENTUM, _DECAY, _RATES = 0, 1, 2, 3
_SCALE, _EVER, _NOW, _STATE = 0, 1, 2, 3        # loss scale; overflow ever, in this step (0 or 1)

_SOURCE = r'''
struct Chunk { int parameter, start; };

// a block's part of its parameter
#define FOR_EACH_ELEMENT(i) \
    const Chunk chunk = chunks[blockIdx.x]; \
    const long long end = min(sizes[chunk.parameter], (long long)chunk.start + CHUNK); \
    for (long long i = chunk.start + threadIdx.x; i < end; i += blockDim.x)

extern "C" __global__ void look_for_overflow(
        const Chunk* chunks, const long long* sizes, float* const* grads, float* state) {
    const float* grad = grads[chunks[blockIdx.x].parameter];
    bool finite = true;
    FOR_EACH_ELEMENT(i)
        finite &= fabsf(grad[i]) <= 3.402823466e38f;    // not true of a NaN
    if (!finite)
        state[NOW] = 1;         // several threads write the same
}

extern "C" __global__ void update(
        const Chunk* chunks, const long long* sizes, float* const* params, float* const* grads,
        float* const* velocities, const float* rates, const float* state) {
    if (state[NOW])
        return;
    const int parameter = chunks[blockIdx.x].parameter;
    float* param = params[parameter];
    const float* grad = grads[parameter];
    float* velocity = velocities[parameter];
    const float lr = rates[LR], momentum = rates[MOMENTUM], decay = rates[DECAY], scale = state[SCALE];
    FOR_EACH_ELEMENT(i) {
        float p = param[i];
        const float g = grad[i] / scale + decay * p;
        if (KIND == 0) {                                // SGD
            p -= lr * g;
        } else {
            const float v = momentum * velocity[i] - lr * g;
            velocity[i] = v;
            if (KIND == 1)                              // MomentumSGD
                p += v;
            else                                        // NesterovAG
                p += momentum * momentum * v - (1 + momentum) * lr * g;
        }
        param[i] = p;
    }
}

extern "C" __global__ void rescale(float* state, float growth) {
    const bool now = state[NOW];
    if (now)
        state[EVER] = 1;
    const float factor = now ? 0.5f : state[EVER] ? growth : 2.0f;
    state[SCALE] = fmaxf(1, fminf(LARGEST_SCALE, state[SCALE] * factor));
    state[NOW] = 0;
}
'''
_KINDS = {SGD: 0, MomentumSGD: 1, NesterovAG: 2}


class GpuUpdate:
    """What follows the backward pass of a step.

    Args:
        optimizer: SGD, MomentumSGD or NesterovAG, set up, with no hook but one weight decay; of a link on the
            GPU whose parameters are float32. Its ``lr`` may change from step to step.
        dynamic (bool): whether the loss scale is dynamic, as for float16; else it is 1.

    Attributes:
        scale: () float32 array on the GPU, the loss scale: the gradient that the backward pass starts with.

    Raises:
        ValueError: another optimizer or hook.
    """

    def __init__(self, optimizer, dynamic=False):
        import cupy
        self.cupy, self.optimizer, self.dynamic = cupy, optimizer, dynamic
        hooks = list(optimizer._hookable._pre_update_hooks.values())
        if type(optimizer) not in _KINDS or len(hooks) > 1 or not all(type(h) is WeightDecay for h in hooks):
            raise ValueError('only SGD, MomentumSGD and NesterovAG with weight decay')
        self.decay = hooks[0].rate if hooks else 0
        self.state = cupy.zeros(_STATE, 'f')
        self.scale = self.state[_SCALE]
        self.scale.fill(1)
        self.rates, self.known_rates = cupy.zeros(_RATES, 'f'), [0.0] * _RATES
        names = {'LR': _LR, 'MOMENTUM': _MOMENTUM, 'DECAY': _DECAY, 'SCALE': _SCALE, 'EVER': _EVER,
                 'NOW': _NOW, 'CHUNK': CHUNK, 'KIND': _KINDS[type(optimizer)],
                 'LARGEST_SCALE': f'{LARGEST_SCALE}.0f'}
        module = cupy.RawModule(
            code=_SOURCE, options=('--std=c++14', *(f'-D{name}={value}' for name, value in names.items())))
        self.kernels = {name: module.get_function(name)
                        for name in ('look_for_overflow', 'update', 'rescale')}
        self.params = None

    def __call__(self):
        """Update the parameters by their gradients; nothing waits for the GPU."""
        if self.params is None:
            self._look_at_parameters()
        self.set_rates()
        self.launch(self._upload(self.gradients()))
        self.count()

    def set_rates(self):
        """Bring the optimizer's learning rate and momentum to the GPU, where they have changed."""
        hyperparam = self.optimizer.hyperparam
        rates = [hyperparam.lr, getattr(hyperparam, 'momentum', 0), self.decay]
        for i, rate in enumerate(rates):
            if rate != self.known_rates[i]:
                self.rates[i].fill(rate)
        self.known_rates = rates

    def gradients(self):
        """Of the parameters that are updated, C-contiguous float32; keep them until the update is done."""
        if self.params is None:
            self._look_at_parameters()
        grads = []
        for param in self.params:
            if param.grad is None:
                param.grad = self.cupy.zeros_like(param.array)  # as Chainer does: weight decay goes on
            grads.append(self.cupy.ascontiguousarray(param.grad, 'f'))
        return grads

    def launch(self, table):
        """The kernels, with the addresses of the gradients in a (parameters,) uint64 array on the GPU."""
        grid, block = (len(self.chunks),), (THREADS,)
        if self.dynamic:
            self.kernels['look_for_overflow'](grid, block, (self.chunks, self.sizes, table, self.state))
        self.kernels['update'](grid, block, (self.chunks, self.sizes, self.addresses[0], table,
                                             self.addresses[1], self.rates, self.state))
        if self.dynamic:
            growth = numpy.float32(math.pow(2, 1 / INTERVAL))
            self.kernels['rescale']((1,), (1,), (self.state, growth))

    def count(self):
        """Note a step in the counters that Chainer saves."""
        self.optimizer.t += 1
        for param in self.params:
            param.update_rule.t += 1

    @property
    def loss_scaling(self):
        """The loss scale and whether a gradient has overflowed ever; waits for the GPU."""
        scale, ever, _ = self.state.get().tolist()
        return scale, bool(ever)

    @loss_scaling.setter
    def loss_scaling(self, value):
        self.state.set(numpy.array([*value, 0], 'f'))

    def _look_at_parameters(self):
        """Tables of what stays where it is: parameters, momenta, and the blocks' parts of them."""
        cupy, self.params = self.cupy, []
        for _, param in sorted(self.optimizer.target.namedparams()):
            rule = param.update_rule
            if rule is not None and rule.enabled:
                rule._init_states(param)
                self.params.append(param)
        # kept, so that the addresses stay theirs
        self.values = [param.array for param in self.params]
        self.velocities = [param.update_rule.state.get('v', param.array) for param in self.params]
        for array in self.values + self.velocities:
            if array.dtype != 'f' or not array.flags.c_contiguous:
                raise ValueError('parameters and momenta must be C-contiguous float32 arrays')
        sizes = [array.size for array in self.values]
        chunks = [(i, start) for i, size in enumerate(sizes) for start in range(0, size, CHUNK)]
        self.sizes = cupy.asarray(numpy.array(sizes, 'i8'))
        self.chunks = cupy.asarray(numpy.array(chunks, 'i4'))
        self.addresses = [cupy.asarray(addresses_of(arrays)) for arrays in (self.values, self.velocities)]
        self.known_grads, self.table = None, cupy.empty(len(sizes), 'u8')

    def _upload(self, grads):
        """The table of the gradients' addresses; most often they are where they were in the step before."""
        addresses = addresses_of(grads)
        if self.known_grads is None or not numpy.array_equal(addresses, self.known_grads):
            self.table.set(addresses)
            self.known_grads = addresses
        return self.table


def addresses_of(arrays):
    """(n,) uint64 of CuPy arrays."""
    return numpy.array([array.data.ptr for array in arrays], 'u8')
