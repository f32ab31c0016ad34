"""Chainer's functions on cuDNN: the same numbers as on the CPU in float64, by the right calls.

The tests hold on a GPU with NVIDIA's library and on the emulated one with ``emulator/cudnn.c``, which refuses
what does not fit and notes the calls.
"""
import contextlib
import ctypes
import gc
import itertools
import threading

import emulator
import numpy
import pytest

from chainer_abn.runtime import cudnn
from chainer_abn.runtime.cudnn import api, constants

import chainer
import chainer.functions as F
import chainer.links as L
from chainer.backends import cuda

pytestmark = pytest.mark.gpu
TOLERANCE = {'e': 2e-2, 'f': 1e-4, 'd': 1e-10}     # of the largest value; algorithms round differently


@pytest.fixture
def xp():
    """CuPy, with float32 in full precision and no algorithm chosen yet."""
    if cudnn.why_not():
        pytest.skip(f'no cuDNN: {cudnn.why_not()}')
    from chainer_abn.runtime.cudnn import convolution
    convolution._found.clear()
    with chainer.using_config('use_cudnn_tensor_core', 'never'):
        yield cuda.cupy


@pytest.fixture
def noted(xp):
    """-> a function that returns the calls of cuDNN since the last time, one line each; None for NVIDIA's."""
    if not emulator.is_running():
        return None
    library = ctypes.CDLL(cudnn.path())
    library.fake_cudnn_log.restype = ctypes.c_char_p

    def since():
        lines = library.fake_cudnn_log().decode().splitlines()
        library.fake_cudnn_clear()
        return lines
    since()
    return since


@pytest.fixture
def calls(noted):
    if noted is None:
        pytest.skip('only the emulated library notes its calls')
    return noted


@pytest.fixture
def functions(xp):
    from chainer_abn.runtime.cudnn import functions
    return functions


def draw(*shape, seed=0):
    return numpy.random.default_rng((seed, *shape)).standard_normal(shape)


def results(function, arrays, twice):
    """Result, gradients and, ``twice``, gradients of the gradients, of a scalar that depends on all."""
    inputs = [chainer.Variable(a) for a in arrays]
    y = function(*inputs)
    weights = (1.5 + y.xp.cos(y.xp.arange(y.size))).reshape(y.shape).astype(y.dtype)
    gradients = chainer.grad([F.sum(y * weights)], inputs, enable_double_backprop=twice)
    found = [y, *gradients]
    if twice:
        found += chainer.grad([sum(F.sum(g * g) for g in gradients)], inputs)
    return [cuda.to_cpu(v.array) for v in found if v is not None]


def agree(found, exact, tolerance):
    """Relative to the largest value."""
    assert found.shape == exact.shape
    exact = exact.astype('d')
    numpy.testing.assert_allclose(found.astype('d'), exact, rtol=0, atol=tolerance * abs(exact).max())


def check(function, *arrays, dtype='f', twice=False, tolerance=None):
    """On the GPU in this dtype against the CPU in float64."""
    arrays = [numpy.array(a, dtype) for a in arrays]
    found = results(function, [cuda.to_gpu(a) for a in arrays], twice)
    with chainer.using_config('use_ideep', 'never'):
        exact = results(function, [numpy.array(a, 'd') for a in arrays], twice)
    assert all(a.dtype == dtype for a in found)
    for a, b in zip(found, exact, strict=True):
        agree(a, b, tolerance or TOLERANCE[dtype])


# batch, channels in, out, (height, width), kernel, stride, pad, dilation, groups, bias
CONVOLUTIONS = [
    (1, 1, 1, (1, 1), (1, 1), 1, 0, 1, 1, False),
    (2, 3, 8, (9, 7), (3, 3), 1, 1, 1, 1, True),
    (3, 5, 7, (8, 9), (3, 2), (1, 2), (0, 1), 1, 1, True),
    (2, 8, 4, (5, 7), (1, 1), 2, 0, 1, 1, False),
    (2, 6, 9, (9, 8), (3, 3), 1, 2, 2, 3, True),
    (2, 4, 4, (7, 7), (3, 3), 2, 1, 1, 4, False),
]


@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('n, c, k, size, kernel, stride, pad, dilation, groups, bias', CONVOLUTIONS)
def test_convolution(xp, n, c, k, size, kernel, stride, pad, dilation, groups, bias, dtype):
    def convolution(x, w, b=None):
        return F.convolution_2d(x, w, b, stride, pad, dilate=dilation, groups=groups)

    arrays = [draw(n, c, *size), draw(k, c // groups, *kernel) / 3, draw(k)]
    check(convolution, *arrays[:2 + bias], dtype=dtype, twice=dtype != 'e')


@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('n, c, k, size, kernel, stride, pad, dilation, groups, bias', CONVOLUTIONS)
def test_deconvolution(xp, n, c, k, size, kernel, stride, pad, dilation, groups, bias, dtype):
    def deconvolution(x, w, b=None):
        return F.deconvolution_2d(x, w, b, stride, pad, dilate=dilation, groups=groups)

    arrays = [draw(n, k, *size), draw(k, c // groups, *kernel) / 3, draw(c)]
    check(deconvolution, *arrays[:2 + bias], dtype=dtype)


@pytest.mark.parametrize('dtype', 'efd')
def test_convolution_of_volumes(xp, dtype):
    x, w = draw(2, 4, 5, 6, 4), draw(6, 2, 3, 2, 1) / 3
    window = dict(stride=(1, 2, 1), pad=(1, 0, 1), groups=2)
    check(lambda *a: F.convolution_nd(*a, dilate=(2, 1, 1), **window), x, w, draw(6), dtype=dtype)
    check(lambda *a: F.deconvolution_nd(*a, **window), draw(2, 6, 3, 2, 4), w, draw(4), dtype=dtype)


@pytest.mark.parametrize('choice', ['auto', 'always'])
def test_convolution_on_tensor_cores(xp, choice):
    """The factors may be rounded to 10 bits."""
    with chainer.using_config('use_cudnn_tensor_core', choice):
        check(lambda x, w: F.convolution_2d(x, w, pad=1), draw(4, 8, 7, 7), draw(8, 8, 3, 3), tolerance=5e-3)


def test_no_images_give_no_results_and_no_gradients(xp):
    x, w, b = xp.empty((0, 3, 5, 5), 'f'), chainer.Parameter(xp.ones((4, 3, 3, 3), 'f')), xp.ones(4, 'f')
    y = F.softmax(F.dropout(F.relu(F.average_pooling_2d(F.convolution_2d(x, w, b), 2))))
    y.grad = xp.empty_like(y.array)
    y.backward()
    assert y.shape == (0, 4, 1, 1)
    assert (w.grad == 0).all()


# Memory orders

ORDERS = 'NCHW', 'NHWC', 'scattered'
DENSE = ORDERS[:2]


def put(array, order):
    """On the GPU, with this order of memory."""
    array = cuda.to_gpu(array)
    if order == 'scattered':
        return cuda.cupy.repeat(array, 2, axis=1)[:, ::2]
    if order == 'NHWC':
        return cuda.cupy.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return array


def channels_last(array):
    return array.transpose(0, 2, 3, 1)


@pytest.mark.parametrize('told', DENSE)
@pytest.mark.parametrize('of_x, of_w, of_y', list(itertools.product(ORDERS, repeat=3)))
def test_any_memory_order_is_taken(functions, of_x, of_w, of_y, told):
    x, w, b, gy = draw(2, 3, 6, 5), draw(4, 3, 3, 3), draw(4), draw(2, 4, 6, 5, seed=1)
    with chainer.using_config('use_ideep', 'never'):
        x_variable, w_variable = chainer.Variable(x), chainer.Variable(w)
        y = F.convolution_2d(x_variable, w_variable, b, pad=1)
        y.grad = gy
        y.backward()
    view = channels_last if told == 'NHWC' else lambda a: a
    layout = getattr(constants, f'CUDNN_TENSOR_{told}')
    options = dict(auto_tune=False, tensor_core='never', d_layout=layout, w_layout=layout)
    on_gpu = [view(put(a, order)) for a, order in ((x, of_x), (w, of_w), (gy, of_x))]
    outputs = [view(put(numpy.full_like(a, 9), order)) for a, order in ((gy, of_y), (x, of_y), (w, of_y))]
    window = (1, 1), (1, 1), (1, 1), 1
    functions.convolution_forward(*on_gpu[:2], cuda.to_gpu(b), outputs[0], *window, **options)
    functions.convolution_backward_data(on_gpu[1], on_gpu[2], None, outputs[1], *window, deterministic=False,
                                        **options)
    functions.convolution_backward_filter(on_gpu[0], on_gpu[2], outputs[2], *window, deterministic=False,
                                          **options)
    for output, right in zip(outputs, (y.array, x_variable.grad, w_variable.grad), strict=True):
        output = cuda.to_cpu(output)
        agree(output.transpose(0, 3, 1, 2) if told == 'NHWC' else output, right, TOLERANCE['d'])


def test_the_output_decides_the_order_of_memory(functions, calls):
    x, w = put(draw(2, 3, 6, 5).astype('f'), 'NCHW'), put(draw(4, 3, 1, 1).astype('f'), 'NCHW')
    y = put(draw(2, 4, 6, 5).astype('f'), 'NHWC')
    functions.convolution_forward(x, w, None, y, (0, 0), (1, 1), (1, 1), 1, auto_tune=False,
                                  tensor_core='never')
    assert 'x=2,3,6,5/NHWC/float w=4,3,1,1/any/float y=2,4,6,5/NHWC/float' in calls()[-1]


@pytest.mark.parametrize('dtype', 'ef')
def test_compute_mode_cudnn_fast(xp, dtype):
    """Chainer's mode of channels last, in which convolution and batch normalization pass on raw arrays.

    Chainer itself cannot sum the gradient of a bias there, and gives that of a filter with its channels last.
    """
    found = []
    for mode in (None, 'cudnn_fast'):
        with chainer.using_config('compute_mode', mode), chainer.using_config('dtype', numpy.dtype(dtype)):
            convolution = L.Convolution2D(3, 8, 3, pad=1, nobias=True, initialW=draw(8, 3, 3, 3))
            normalization = L.BatchNormalization(8)
        for link in (convolution, normalization):
            link.to_device('@cupy:0')
            link.cleargrads()
        x = chainer.Variable(xp.asarray(draw(4, 3, 6, 5).astype(dtype)))
        y = normalization(convolution(x.as_layout(convolution.x_layout)))
        assert y.layout == convolution.x_layout
        y = y.as_layout(None)
        F.sum(y * xp.cos(xp.arange(y.size)).reshape(y.shape).astype(dtype)).backward()
        found.append([cuda.to_cpu(v.as_layout(None).array) for v in (
            y, x.grad_var, normalization.gamma.grad_var)])
        gradient = cuda.to_cpu(convolution.W.grad_var.array)
        found[-1].append(gradient.transpose(0, 3, 1, 2) if mode else gradient)
        found[-1].append(cuda.to_cpu(normalization.avg_var))
    for plain, fast in zip(*found, strict=True):
        agree(fast, plain, 3 * TOLERANCE[dtype])


# Batch normalization

AXES = {(4, 5, 6, 3): None, (9, 5): None, (4, 6, 5): (0, 1)}


@pytest.mark.parametrize('dtype, parameters', ['ee', 'ef', 'ff', 'dd'])
@pytest.mark.parametrize('shape', AXES, ids=str)
def test_batch_normalization(xp, shape, dtype, parameters):
    """Also of (batch, sequence, channels), by axes; running statistics keep their dtype."""
    axis = AXES[shape]
    arrays = [draw(*shape) * 2 + 3, draw(5, seed=1), draw(5, seed=2)]
    arrays = [arrays[0].astype(dtype), *[a.astype(parameters) for a in arrays[1:]]]
    found = []
    for device, to in (('@cupy:0', cuda.to_gpu), ('@numpy', lambda a: a.astype('d'))):
        running = [to(numpy.full(5, 0.5, parameters)), to(numpy.full(5, 2, parameters))]
        with chainer.using_device(device), chainer.using_config('use_ideep', 'never'):
            found.append(results(lambda *a, running=running: F.batch_normalization(
                *a, eps=1e-3, running_mean=running[0], running_var=running[1], decay=0.75, axis=axis),
                [to(a) for a in arrays], False) + [cuda.to_cpu(a) for a in running])
    ours, exact = found
    assert [a.dtype for a in ours] == [dtype, dtype, *[parameters] * 4]
    for a, b in zip(ours, exact, strict=True):
        agree(a, b, TOLERANCE[dtype] * 3)


@pytest.mark.parametrize('dtype, parameters', ['ee', 'ef', 'ff', 'dd'])
@pytest.mark.parametrize('shape', [(4, 5, 6, 3), (9, 5)], ids=str)
def test_batch_normalization_by_given_statistics(xp, shape, dtype, parameters):
    arrays = [draw(5), draw(5, seed=1), draw(5, seed=2), abs(draw(5, seed=3))]
    arrays = [draw(*shape).astype(dtype), *[a.astype(parameters) for a in arrays]]
    ours = F.fixed_batch_normalization(*[cuda.to_gpu(a) for a in arrays], eps=0.1)
    with chainer.using_config('use_ideep', 'never'):
        exact = F.fixed_batch_normalization(*[a.astype('d') for a in arrays], eps=0.1)
    assert ours.dtype == dtype
    agree(cuda.to_cpu(ours.array), exact.array, TOLERANCE[dtype])


@pytest.mark.parametrize('order', ORDERS)
def test_batch_normalization_keeps_the_order_of_memory(functions, order):
    x, gamma = draw(4, 5, 6, 3), draw(5)
    x_gpu, (gamma_gpu, zeros, ones) = put(x, order), map(cuda.to_gpu, (gamma, numpy.zeros(5), numpy.ones(5)))
    y, mean, inv_std = functions.batch_normalization_forward_training(
        x_gpu, gamma_gpu, zeros, zeros.copy(), ones, None, None, 0.0, 0.9, True,
        constants.CUDNN_BATCHNORM_SPATIAL, False)
    agree(cuda.to_cpu(mean), x.mean(axis=(0, 2, 3)), 1e-12)
    agree(cuda.to_cpu(inv_std), 1 / x.std(axis=(0, 2, 3)), 1e-12)
    if order != 'scattered':
        assert y.strides == x_gpu.strides
    gx = functions.batch_normalization_backward(
        x_gpu, gamma_gpu, cuda.to_gpu(x ** 2), mean, inv_std, 0.0, True, constants.CUDNN_BATCHNORM_SPATIAL,
        False)
    v = chainer.Variable(x)
    y = F.batch_normalization(v, gamma, numpy.zeros(5), eps=0.0)
    y.grad = x ** 2
    y.backward()
    agree(cuda.to_cpu(gx[0]), v.grad, 1e-12)


def test_persistent_batch_normalization(xp, noted, recwarn):
    x = [draw(4, 5, 6, 3), draw(5, seed=1), draw(5, seed=2)]
    with chainer.using_config('cudnn_fast_batch_normalization', True), chainer.using_config('debug', True):
        check(F.batch_normalization, *x)
    if noted:
        told = [line.split()[:2] for line in noted()]
        assert ['BatchNormalizationForwardTrainingEx', 'mode=2'] in told
        assert ['BatchNormalizationBackwardEx', 'mode=2'] in told
        assert told.count(['QueryRuntimeError']) == 2
    assert not [w for w in recwarn if 'overflow' in str(w.message)]


@pytest.mark.parametrize('dtype', 'fd')
def test_group_normalization(xp, dtype):
    arrays = draw(3, 6, 4, 5), draw(6, seed=1), draw(6, seed=2)
    check(lambda *a: F.group_normalization(a[0], 3, *a[1:]), *arrays, dtype=dtype)


# Pooling

@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('cover_all', [True, False])
@pytest.mark.parametrize('size, kernel, stride, pad', [
    ((8, 8), 3, 2, 0), ((9, 7), 3, 2, 1), ((9, 8), (3, 2), (2, 3), (1, 0)), ((5, 6), (5, 6), 1, 0)])
def test_max_pooling(xp, size, kernel, stride, pad, cover_all, dtype):
    x = numpy.random.default_rng(1).permutation(2 * 3 * size[0] * size[1]).reshape(2, 3, *size) / 64
    check(lambda x: F.max_pooling_2d(x, kernel, stride, pad, cover_all=cover_all), x, dtype=dtype)


@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('size, kernel, stride, pad', [
    ((8, 8), 2, 2, 0), ((9, 7), 3, 2, 1), ((9, 8), (3, 2), (2, 3), (1, 0)), ((5, 6), (5, 6), 1, 0)])
def test_average_pooling(xp, size, kernel, stride, pad, dtype):
    x = draw(2, 3, *size)
    check(lambda x: F.average_pooling_2d(x, kernel, stride, pad), x, dtype=dtype)


@pytest.mark.parametrize('pad_value', [0, None])
def test_pooling_of_volumes(xp, pad_value):
    x = draw(2, 3, 5, 6, 4)
    check(lambda x: F.average_pooling_nd(x, (3, 2, 2), (2, 2, 1), (1, 0, 1), pad_value), x)
    check(lambda x: F.max_pooling_nd(x, (3, 2, 2), (2, 2, 1), (1, 0, 1), cover_all=False), x)


@pytest.mark.parametrize('order', ORDERS)
def test_pooling_takes_any_memory_order(functions, order):
    x, gy = draw(2, 3, 6, 4), draw(2, 3, 3, 2, seed=1)
    x_gpu, y = put(x, order), put(numpy.empty_like(gy), ORDERS[ORDERS.index(order) - 1])
    window = (2, 2), (2, 2), (0, 0), constants.CUDNN_POOLING_MAX
    functions.pooling_forward(x_gpu, y, *window)
    gx = functions.pooling_backward(x_gpu, y, put(gy, order), *window)
    right = x.reshape(2, 3, 3, 2, 2, 2).max(axis=(3, 5))
    agree(cuda.to_cpu(y), right, 1e-12)
    right, gy = (a.repeat(2, 2).repeat(2, 3) for a in (right, gy))
    agree(cuda.to_cpu(gx), numpy.where(x == right, gy, 0), 1e-12)


# Activations, softmax, dropout

@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('shape', [(), (7,), (3, 5), (2, 3, 4, 5, 2)], ids=str)
@pytest.mark.parametrize('function', [F.relu, F.sigmoid, F.tanh, lambda x: F.clipped_relu(x, 0.75)],
                         ids=['relu', 'sigmoid', 'tanh', 'clipped_relu'])
def test_activations(xp, noted, function, shape, dtype):
    with chainer.using_config('use_cudnn', 'always'):
        check(function, draw(*shape), dtype=dtype)
    if noted:
        assert [line.split()[0] for line in noted()] == ['ActivationForward', 'ActivationBackward']


def test_not_a_number_stays(xp):
    """Loss scaling sees an overflow only if it comes through."""
    x = xp.array([[[[1, numpy.nan], [2, 3]]]], 'f')
    assert xp.isnan(F.relu(x).array).sum() == 1
    assert xp.isnan(F.max_pooling_2d(x, 2).array).all()


@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('shape, axis', [((4, 5), 1), ((4, 5), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1),
                                         ((2, 3, 4, 5), 2), ((6,), 0), ((3, 1), 1)])
@pytest.mark.parametrize('function', [F.softmax, F.log_softmax])
def test_softmax(xp, noted, function, shape, axis, dtype):
    check(lambda x: function(x, axis=axis), draw(*shape) * 3, dtype=dtype)
    if noted:
        assert [line.split()[0] for line in noted()] == ['SoftmaxForward', 'SoftmaxBackward']


@pytest.mark.parametrize('dtype', 'efd')
def test_dropout(xp, dtype):
    x = chainer.Variable(xp.full((50, 401), 3, dtype))
    y = F.dropout(x, 0.25)
    F.sum(y * 2).backward()
    kept = y.array != 0
    assert abs(float(kept.mean()) - 0.75) < 0.02
    agree(cuda.to_cpu(y.array), numpy.where(cuda.to_cpu(kept), 4, 0), 1e-3)
    agree(cuda.to_cpu(x.grad), numpy.where(cuda.to_cpu(kept), 8 / 3, 0), 1e-3)
    assert (F.dropout(x, 0.25).array != y.array).any()


def test_a_seed_repeats_the_masks(functions, xp):
    x = xp.ones((30, 40), 'f')
    one, same, other = (functions.DropoutStates(None, numpy.uint64(seed)) for seed in (5, 5, 6))
    first = [states.forward(None, x, 0.5)[1] for states in (one, same, other)]
    assert (first[0] == first[1]).all()
    assert (first[0] != first[2]).any()
    assert (one.forward(None, x, 0.5)[1] == same.forward(None, x, 0.5)[1]).all()


# Chainer's networks

def network():
    return chainer.Sequential(
        L.Convolution2D(3, 8, 3, pad=1, nobias=True), L.BatchNormalization(8), F.relu,
        lambda x: F.max_pooling_2d(x, 2),
        L.Convolution2D(8, 8, 3, pad=1), F.relu, lambda x: F.average_pooling_2d(x, 4), L.Linear(8, 5))


def test_a_network_trains_as_on_the_cpu(xp):
    numpy.random.seed(0)
    nets = [network()]
    with chainer.using_config('use_ideep', 'never'):
        x, t = draw(6, 3, 8, 8).astype('f'), numpy.arange(6) % 5
        nets.append(nets[0].copy(mode='copy'))
        nets[0].to_device('@cupy:0')
        for net in nets:
            optimizer = chainer.optimizers.MomentumSGD(0.05).setup(net)
            inputs = [net.xp.asarray(a) for a in (x, t)]
            for _ in range(3):
                optimizer.update(lambda x, t, net=net: F.softmax_cross_entropy(net(x), t), *inputs)
    for ours, right in zip(nets[0].params(), nets[1].params(), strict=True):
        agree(cuda.to_cpu(ours.array), right.array, 1e-4)


def test_a_network_goes_through_cudnn(xp, calls):
    net = network()
    net.to_device('@cupy:0')
    x = xp.asarray(draw(6, 3, 8, 8).astype('f'))
    F.sum(F.softmax(F.dropout(net(x)))).backward()
    with chainer.using_config('train', False):
        net(x)
    names = {line.split()[0] for line in calls()}
    assert names >= {
        'ConvolutionForward', 'ConvolutionBackwardData', 'ConvolutionBackwardFilter', 'AddTensor',
        'BatchNormalizationForwardTrainingEx', 'BatchNormalizationBackwardEx',
        'BatchNormalizationForwardInference', 'PoolingForward', 'PoolingBackward', 'ActivationForward',
        'ActivationBackward', 'SoftmaxForward', 'SoftmaxBackward', 'DropoutForward', 'DropoutBackward'}
    with chainer.using_config('use_cudnn', 'never'):
        F.sum(F.softmax(net(x))).backward()
    assert not calls()


def test_what_cudnn_9_lost_is_left_to_chainer(xp, calls):
    numpy.random.seed(0)
    for link in (L.NStepLSTM, L.NStepBiLSTM, L.NStepGRU, L.NStepBiGRU, L.NStepRNNTanh, L.NStepBiRNNReLU):
        net, found = link(2, 3, 4, 0.0), []
        xs = [draw(5, 3).astype('f'), draw(2, 3).astype('f')]
        for device in ('@numpy', '@cupy:0'):
            net.to_device(device)
            inputs = [chainer.Variable(net.xp.asarray(x)) for x in xs]
            ys = net(*[None] * net.n_cells, inputs)[-1]
            sum(F.sum(y * y) for y in ys).backward()
            found.append([cuda.to_cpu(a) for a in (ys[0].array, ys[1].array, inputs[0].grad)])
        for right, ours in zip(*found, strict=True):
            agree(ours, right, 1e-5)

    def transformed(x, theta):
        return F.spatial_transformer_sampler(x, F.spatial_transformer_grid(theta, (4, 5)))

    check(transformed, draw(2, 3, 6, 6), draw(2, 2, 3) / 3)
    assert not calls()


# Algorithms

def layer(x, w, **config):
    """A convolution forward and backward -> its gradients."""
    x, w = chainer.Variable(x), chainer.Variable(w)
    with contextlib.ExitStack() as stack:
        for name, value in config.items():
            stack.enter_context(chainer.using_config(name, value))
        F.sum(F.convolution_2d(x, w, pad=1) ** 2).backward()
    return x.grad, w.grad


@pytest.fixture
def arrays(xp):
    return xp.asarray(draw(4, 3, 7, 6).astype('f')), xp.asarray(draw(5, 3, 3, 3).astype('f'))


def test_an_algorithm_is_chosen_once_for_a_shape(calls, arrays):
    for _ in range(3):
        layer(*arrays)
    names = [line.split()[0] for line in calls()]
    for kind in ('Forward', 'BackwardData', 'BackwardFilter'):
        assert names.count(f'GetConvolution{kind}Algorithm_v7') == 1
        assert names.count(f'Convolution{kind}') == 3
    layer(arrays[0][:2], arrays[1])
    assert sum(line.startswith('Get') for line in calls()) == 3


def test_a_search_runs_once_and_leaves_the_result_right(calls, arrays):
    right = layer(*arrays)
    plain = calls()
    for _ in range(2):
        for ours, exact in zip(layer(*arrays, autotune=True), right, strict=True):
            agree(cuda.to_cpu(ours), cuda.to_cpu(exact), 1e-4)
    searched = calls()
    assert sum(line.startswith('FindConvolution') for line in searched) == 3
    # the fake's search finds another one best
    assert 'ConvolutionForward algo=7 ' in ' '.join(plain)
    assert 'ConvolutionForward algo=0 ' in ' '.join(searched)


def test_deterministic_gradients_are_the_same_bits_every_time(arrays):
    first, second = (layer(*arrays, cudnn_deterministic=True) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_deterministic_algorithms_are_chosen(calls, arrays):
    def chosen(**config):
        layer(*arrays, **config)
        return [line.split()[1] for line in calls() if line.startswith('ConvolutionB')]

    assert chosen() == ['algo=0', 'algo=0']     # the fake's best are not deterministic
    assert chosen(cudnn_deterministic=True) == ['algo=5', 'algo=5']


@pytest.fixture
def limit(functions):
    before = functions.get_max_workspace_size()
    yield chainer.backends.cuda.set_max_workspace_size
    functions.set_max_workspace_size(before)


def test_no_algorithm_needs_more_than_the_limit(limit, calls, arrays):
    right = layer(*arrays)
    calls()
    limit(0)
    assert chainer.backends.cuda.get_max_workspace_size() == 0
    for ours, exact in zip(layer(*arrays), right, strict=True):
        agree(cuda.to_cpu(ours), cuda.to_cpu(exact), 1e-4)
    assert {line.split()[1] for line in calls() if line.startswith('ConvolutionF')} == {'algo=0'}


def test_memory_that_runs_out_leads_to_a_smaller_workspace(calls, arrays, monkeypatch):
    layer(*arrays)
    alloc, refused = cuda.cupy.cuda.alloc, []

    def scarce(size):
        if size:
            refused.append(size)
            raise cuda.cupy.cuda.memory.OutOfMemoryError(size, 0, 0)
        return alloc(size)

    calls()
    monkeypatch.setattr(cuda.cupy.cuda, 'alloc', scarce)
    layer(*arrays)
    layer(*arrays)
    assert {line.split()[1] for line in calls() if line.startswith('ConvolutionF')} == {'algo=0'}
    assert len(refused) == 6        # two algorithms of each kind want one; they are not asked again


def test_no_limit_allows_nothing(limit, functions, arrays):
    limit(-1)
    with pytest.raises(api.Error, match='no algorithm .that needs up to -1 bytes'):
        layer(*arrays)


def test_math_types(calls, xp):
    """By dtype and by Chainer's switch; float64 has one kind of arithmetic."""
    found = {}
    for dtype, choice in itertools.product('efd', ('never', 'auto', 'always')):
        layer(*(xp.asarray(draw(*s).astype(dtype)) for s in ((2, 3, 5, 5), (4, 3, 3, 3))),
              use_cudnn_tensor_core=choice)
        found[dtype + choice] = {line.split()[2] for line in calls() if line.startswith('Convolution')}
    tensor, default, fma = {'math=1'}, {'math=0'}, {'math=3'}
    assert found == {'eauto': tensor, 'ealways': tensor, 'enever': default,
                     'fauto': default, 'falways': default, 'fnever': fma,
                     'dauto': default, 'dalways': default, 'dnever': default}


def test_tensor_cores(functions):
    capability = int(cuda.cupy.cuda.Device().compute_capability)
    found = [functions.is_tensor_core_available(numpy.dtype(d)) for d in 'efd']
    assert found == [capability >= 70, capability >= 80, False]


# Streams, threads, captured graphs, errors, memory

def test_calls_follow_the_current_stream(calls, arrays):
    stream = cuda.cupy.cuda.Stream(non_blocking=True)
    for s in (stream, cuda.cupy.cuda.Stream.null):
        with s:
            F.convolution_2d(*arrays)
        told = [line for line in calls() if line.startswith('ConvolutionForward')][-1]
        assert int(told.rpartition('stream=')[2].replace('(nil)', '0'), 16) == s.ptr


def test_a_captured_graph_computes_anew(arrays, xp, limit):
    """While the stream records, no search runs, and what is chosen then does not stay."""
    from chainer_abn.runtime.cudnn import convolution
    limit(0)        # a workspace of a new size could not be allocated
    x, w = arrays
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        for autotune in (True, False):
            with chainer.using_config('autotune', autotune):
                F.convolution_2d(x, w)
        convolution._found.clear()
        stream.synchronize()
        stream.begin_capture()
        with chainer.using_config('autotune', True):
            y = F.convolution_2d(x, w)
        graph = stream.end_capture()
        assert not convolution._found
        x *= 2
        graph.launch()
        stream.synchronize()
        agree(cuda.to_cpu(y.array), F.convolution_2d(cuda.to_cpu(x), cuda.to_cpu(w)).array, 1e-4)


def test_threads_have_handles_of_their_own(arrays):
    from chainer_abn.runtime.cudnn import descriptors
    found, right = {}, layer(*arrays)

    def work(i):
        with cuda.cupy.cuda.Device(0):
            found[i] = [layer(*arrays) for _ in range(5)][-1], descriptors.handle()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len({handle._as_parameter_ for _, handle in found.values()}) == 4
    for gradients, _ in found.values():
        for ours, exact in zip(gradients, right, strict=True):
            agree(cuda.to_cpu(ours), cuda.to_cpu(exact), 1e-4)


def test_what_cudnn_refuses_is_an_error_with_its_name(functions, xp):
    x, w, y = xp.ones((1, 3, 5, 5), 'f'), xp.ones((2, 4, 3, 3), 'f'), xp.ones((1, 2, 3, 3), 'f')
    with pytest.raises(api.Error, match=r'cudnn\w+: CUDNN_STATUS_BAD_PARAM') as refused:
        functions.convolution_forward(x, w, None, y, (0, 0), (1, 1), (1, 1), 1, auto_tune=False,
                                      tensor_core='auto')
    assert refused.value.status // 1000 == 2
    assert isinstance(refused.value, RuntimeError)


def test_descriptors_are_freed_when_they_leave_the_cache(calls, arrays):
    from chainer_abn.runtime.cudnn import convolution, descriptors
    alive = ctypes.CDLL(cudnn.path()).fake_cudnn_alive
    alive.restype = ctypes.c_long
    layer(*arrays)
    before = alive()
    layer(arrays[0][:3], arrays[1])
    assert alive() == before + 2        # of the input and of the output
    for cached in (descriptors.tensor, descriptors.weights, descriptors.convolution):
        cached.cache_clear()
    convolution._found.clear()
    gc.collect()
    assert alive() < before
    layer(*arrays)
