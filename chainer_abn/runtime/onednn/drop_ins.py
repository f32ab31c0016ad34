"""Chainer's own functions on oneDNN, so that any Chainer network gains.

Each drop-in stands before the method that Chainer runs on the CPU. It takes float32 NumPy arrays of the
usual layouts and leaves every other case to that method, with the same result; gradients of gradients
come out right because Chainer's functions express them by each other. Chainer asks for iDeep at the same
places, so its switch, ``chainer.config.use_ideep``, holds for these too.
"""
import functools
import types

import numpy

from chainer_abn.runtime import onednn
from chainer_abn.runtime.onednn import api, primitives
from chainer_abn.runtime.onednn.primitives import Window, channels_last

import chainer
from chainer.backends import intel64
from chainer.functions.activation import relu
from chainer.functions.connection import convolution_2d, deconvolution_2d, linear
from chainer.functions.math import basic_math
from chainer.functions.normalization import batch_normalization
from chainer.functions.pooling import average_pooling_2d, max_pooling_nd
from chainer.utils.conv import get_conv_outsize

MAPS_AXES = (0, 2, 3)
# below, NumPy is done before a primitive has started
LEAST_VALUES, LEAST_PRODUCTS = 1 << 14, 1 << 20


def applied():
    return hasattr(convolution_2d.Convolution2DFunction.forward_cpu, 'original')


def apply():
    """Put the drop-ins in force; a second call changes nothing."""
    if applied():
        return
    for cls, method, ours in (
            (convolution_2d.Convolution2DFunction, 'forward_cpu', _convolution),
            (convolution_2d.Convolution2DGradW, 'forward_cpu', _convolution_weights),
            (deconvolution_2d.Deconvolution2DFunction, 'forward_cpu', _deconvolution),
            (linear.LinearFunction, 'forward', _linear),
            (linear.LinearGradData, 'forward', _linear_data),
            (linear.LinearGradWeight, 'forward', _linear_weights),
            (batch_normalization.GeneralBatchNormalizationImpl, 'forward', _batch_normalization),
            (batch_normalization.GeneralBatchNormalizationImpl, 'backward', _batch_normalization_backward),
            (batch_normalization.FixedBatchNormalization, 'forward', _fixed_batch_normalization),
            (relu.ReLU, 'forward_cpu', _relu),
            (relu.ReLUGrad2, 'forward_cpu', _relu_gradient),
            (basic_math.Add, 'forward', _add),
            (max_pooling_nd.MaxPoolingND, 'forward_cpu', _max_pooling),
            (max_pooling_nd.MaxPoolingNDGrad, 'forward_cpu', _max_pooling_gradient),
            (max_pooling_nd.MaxPoolingNDWithIndexes, 'forward_cpu', _max_pooling_with_indexes),
            (average_pooling_2d.AveragePooling2D, 'forward_cpu', _average_pooling),
            (average_pooling_2d.AveragePooling2DGrad, 'forward_cpu', _average_pooling_gradient)):
        setattr(cls, method, _before(getattr(cls, method), ours))
    _pretend_ideep()


def _before(original, ours):
    """``ours`` where oneDNN is in use and it does not return None, else ``original``."""
    @functools.wraps(original)
    def method(self, *args, **kwargs):
        if onednn.wanted():
            try:
                result = ours(self, *args, **kwargs)
            except api.Failed:          # oneDNN has none for such shapes
                result = None
            if result is not None:
                return result
        return original(self, *args, **kwargs)
    method.original = original
    return method


def _pretend_ideep():
    """Let ``use_ideep='always'`` and ``to_intel64()`` work; Chainer's own iDeep branches stay unused."""
    intel64.ideep = types.SimpleNamespace(
        mdarray=intel64.mdarray, wgt_array=None, array=lambda array, itype=None: array,
        check_ndim=lambda inputs, ndim: False, check_type=lambda inputs: False,
        get_array_module=lambda *arrays: numpy, __version__='oneDNN')
    intel64._ideep_version = 2


def _all_float32(arrays):
    """Whether oneDNN may take them; the library is loaded for the first that it may."""
    return all(type(a) is numpy.ndarray and a.dtype == numpy.float32 and a.size
               for a in arrays) and primitives.available()


def _contiguous(*arrays):
    return [numpy.ascontiguousarray(a) for a in arrays]


# Convolution

def _window(node):
    return Window((node.sy, node.sx), (node.ph, node.pw), (node.dy, node.dx), node.groups)


def _convolution(self, inputs):
    if not _all_float32(inputs) or self.cudnn_fast or any(self.input_layouts):
        return None
    x, w, *bias = inputs
    out = tuple(get_conv_outsize(n, k, s, p, cover_all=self.cover_all, d=d) for n, k, s, p, d in zip(
        x.shape[2:], w.shape[2:], (self.sy, self.sx), (self.ph, self.pw), (self.dy, self.dx), strict=True))
    if min(out) <= 0:
        return None
    self.retain_inputs((0, 1))
    conv = primitives.convolution(x.shape, w.shape, _window(self), bool(bias), (), out)
    return conv.forward(channels_last(x), *_contiguous(w, *bias)),


def _convolution_weights(self, inputs):
    if not _all_float32(inputs) or self.W_dtype != numpy.float32:
        return None
    x, gy = inputs
    self.retain_inputs((0, 1))
    conv = primitives.convolution(x.shape, self.W_shape, _window(self), False, (), gy.shape[2:])
    return conv.weights(channels_last(x), channels_last(gy))[0],


def _deconvolution(self, inputs):
    """A deconvolution is the data gradient of the convolution from its output to its input."""
    if not _all_float32(inputs) or any(self.input_layouts):
        return None
    x, w, *bias = inputs
    self._calc_out_size(x.shape, w.shape)
    y = len(x), w.shape[1] * self.groups, self.outh, self.outw
    window = _window(self)
    if min(window.out_size(y[2:], w.shape[2:])) <= 0:
        return None
    self.retain_inputs((0, 1))
    conv = primitives.convolution(y, w.shape, window, False, (), x.shape[2:])
    y = conv.data(channels_last(x), numpy.ascontiguousarray(w))
    if bias:
        y += bias[0][:, None, None]
    return y,


# Linear

def _linear(self, inputs):
    x, w, *bias = inputs
    if (not _all_float32(inputs) or chainer.config.schedule_func is not None
            or x.size * len(w) < LEAST_PRODUCTS):
        return None
    self._config_use_ideep = chainer.config.use_ideep
    self.retain_inputs((0, 1))
    return primitives.matmul(x, w.T, *bias),


def _linear_data(self, inputs):
    w, gy = inputs
    if not _all_float32(inputs) or gy.size * w.shape[1] < LEAST_PRODUCTS:
        return None
    self._config_use_ideep = chainer.config.use_ideep
    self.retain_inputs((0, 1))
    return primitives.matmul(gy, w),


def _linear_weights(self, inputs):
    x, gy = inputs
    if (not _all_float32(inputs) or self._w_dtype != numpy.float32
            or gy.size * x.shape[1] < LEAST_PRODUCTS):
        return None
    self._config_use_ideep = chainer.config.use_ideep
    self.retain_inputs((0, 1))
    return primitives.matmul(gy.T, x),


# Batch normalization

def _batch_normalization(self, axis, gamma, x, x_layout, xp, expander, beta, eps, decay, running_mean,
                         running_var):
    # subclasses take the statistics over several processes
    if (type(self) is not batch_normalization.GeneralBatchNormalizationImpl or x.ndim != 4
            or tuple(axis) != MAPS_AXES or x_layout is not None or not _all_float32((x, gamma, beta))):
        return None
    bn = primitives.batch_normalization(x.shape, eps)
    y, mean, var, workspace = bn.forward(channels_last(x), *_contiguous(gamma, beta))
    inv_std = numpy.reciprocal(numpy.sqrt(var + numpy.float32(eps)))
    if running_mean is not None:
        m = x.size // gamma.size
        running_mean *= decay
        running_mean += (1 - decay) * mean
        running_var *= decay
        running_var += (1 - decay) * (m / max(m - 1., 1.)) * var
    # the last value comes back in the backward method
    return y, None, running_mean, running_var, mean, var, inv_std, (bn, var, workspace)


def _batch_normalization_backward(self, axis, gamma, gy, x, x_layout, xp, expander, mean, inv_std, eps, var,
                                  forward_data):
    if forward_data is None or not _all_float32((gy,)):
        return None
    bn, var, workspace = forward_data
    gx, ggamma, gbeta = bn.backward(
        channels_last(x), numpy.ascontiguousarray(gamma), mean, var, workspace, channels_last(gy))
    return gx, None, ggamma, gbeta


def _fixed_batch_normalization(self, inputs):
    x, gamma, *_ = inputs
    if x.ndim != 4 or gamma.ndim != 1 or not _all_float32(inputs):
        return None
    axis = batch_normalization._compute_axis(x.ndim, gamma.ndim, self.axis)
    if tuple(axis) != MAPS_AXES:
        return None
    self.axis, self.key_axis, self.expander = axis, (1,), (None, slice(None), None, None)
    self.inv_var = self.inv_std = None      # the gradient makes them where it is asked for
    self.retain_inputs((0, 1, 3, 4))
    bn = primitives.batch_normalization(x.shape, self.eps, fixed=True)
    return bn.forward(channels_last(x), *_contiguous(*inputs[1:]))[0],


# Elementwise

def _dense_alike(*arrays):
    """Whether arrays have one layout without gaps, so that any order will do, and are worth it."""
    first = arrays[0]
    if any(a.shape != first.shape or a.strides != first.strides for a in arrays[1:]):
        return False
    if first.size < LEAST_VALUES:
        return False
    return first.flags.c_contiguous or first.ndim == 4 and primitives.is_channels_last(first)


def _relu(self, inputs):
    x, = inputs
    # oneDNN turns NaN into 0, which would hide that a training diverged
    if not _all_float32(inputs) or not _dense_alike(x) or primitives.contains_nan(x):
        return None
    self.retain_outputs((0,))
    return primitives.relu(x),


def _relu_gradient(self, inputs):
    gy, = inputs
    if not _all_float32((gy, self.b)):
        return None
    if gy.ndim == 4 and primitives.is_channels_last(self.b):
        gy = channels_last(gy)
    return (primitives.relu_backward(self.b, gy),) if _dense_alike(self.b, gy) else None


def _add(self, inputs):
    a, b = inputs
    if not _all_float32(inputs) or not _dense_alike(a, b):
        return None
    return primitives.add(a, b),


# Pooling

def _pooling(maximum, x, ksize, stride, pad, cover_all):
    out = tuple(get_conv_outsize(n, k, s, p, cover_all) for n, k, s, p in zip(
        x.shape[2:], ksize, stride, pad, strict=True))
    inside = all(p < k and s * (o - 1) - p < n for n, k, s, p, o in zip(
        x.shape[2:], ksize, stride, pad, out, strict=True))
    if min(out) <= 0 or not inside:
        return None
    return primitives.pooling(x.shape, maximum, tuple(ksize), tuple(stride), tuple(pad), out)


def _max_pooling(self, inputs):
    x, = inputs
    if self.ndim != 2 or self.return_indices or not _all_float32(inputs):
        return None
    pooling = _pooling(True, x, self.ksize, self.stride, self.pad, self.cover_all)
    x = channels_last(x)
    if pooling is None or primitives.contains_nan(x):
        return None
    self._in_shape, self._in_dtype = x.shape, x.dtype
    y, workspace = pooling.forward(x)
    self.retain_inputs((0,))
    self.indexes, self.onednn = None, (pooling, workspace)
    return y,


def _max_pooling_gradient(self, inputs):
    gy, = inputs
    if not _used(self.func):
        return None
    if not _all_float32(inputs):
        _find_indexes(self.func)
        return None
    pooling, workspace = self.func.onednn
    return pooling.backward(channels_last(gy), workspace),


def _max_pooling_with_indexes(self, inputs):
    if _used(self.func):
        _find_indexes(self.func)


def _used(node):
    return getattr(node, 'onednn', None) is not None


def _find_indexes(node):
    """Chainer's gradient of the gradient wants the places of the maxima as numbers."""
    if node.indexes is None:
        x, = node.get_retained_inputs()
        type(node).forward_cpu.original(node, (x.array,))


def _average_pooling(self, inputs):
    x, = inputs
    if not _all_float32(inputs):
        return None
    pooling = _pooling(False, x, (self.kh, self.kw), (self.sy, self.sx), (self.ph, self.pw), False)
    if pooling is None:
        return None
    self._in_shape, self._in_dtype, self.onednn = x.shape, x.dtype, pooling
    return pooling.forward(channels_last(x))[0],


def _average_pooling_gradient(self, inputs):
    gy, = inputs
    if not _used(self.apool2d) or not _all_float32(inputs):
        return None
    return self.apool2d.onednn.backward(channels_last(gy), None),
