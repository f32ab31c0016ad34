"""Kernels for what stands between cuDNN's functions, each one pass over its arrays.

Arrays are C-contiguous. An output may be one of the inputs. Arithmetic is in float32, and NaN stays NaN, as
it does with Chainer. ``inner`` is the number of neighbours in memory that belong to the same channel: the
pixels of a map, or 1 with the channels last.
"""
from functools import cache

import cupy

_INNER = 'int32 inner, int32 channels'
# of the element i: its channel, and its place in (N, C); 32 bits hold i, and divide many times faster
_CHANNEL = 'const int channel = (int)i / inner % channels;'
_ROW = _CHANNEL + 'const int row = (int)i / (pixels * channels) * channels + channel;'


def _kernel(name, inputs, body, outputs='T y'):
    return cupy.ElementwiseKernel(inputs, outputs, body, f'abn_{name}')


@cache
def end(bias, add, relu):
    """(x[, bias (C,) float32, inner, C][, added]) -> what ends a layer."""
    inputs, value, before = ['T x'], '(float)x', ''
    if bias:
        inputs += ['raw float32 bias', _INNER]
        before, value = _CHANNEL, value + ' + bias[channel]'
    if add:
        inputs.append('T added')
        value += ' + (float)added'
    result = 'value <= 0 ? 0.0f : value' if relu else 'value'
    name = 'end' + '_bias' * bias + '_add' * add + '_relu' * relu
    return _kernel(name, ', '.join(inputs), f'{before} const float value = {value}; y = T({result});')


ADD = end(False, True, False)
ADD_RELU = end(False, True, True)
RELU = end(False, False, True)

# the way back through a ReLU, by what came out of it: a NaN lets the gradient through
MASK = _kernel('mask', 'T out, T g', 'y = (float)out <= 0 ? T(0) : g')
MASK_SUM = _kernel('mask_sum', 'T out, T g, T h', 'y = T((float)out <= 0 ? 0.0f : (float)g + (float)h)')

MULTIPLY = _kernel('multiply', 'T a, T b', 'y = T((float)a * (float)b)')
# as Chainer computes it
SIGMOID = _kernel('sigmoid', 'T x', 'y = T(tanhf((float)x * 0.5f) * 0.5f + 0.5f)')
SIGMOID_BACK = _kernel('sigmoid_back', 'T out, T g', 'const float s = out; y = T((float)g * s * (1 - s))')

# maps and a (N, C) array
SPREAD = _kernel('spread', f'raw T g, float32 factor, {_INNER}, int32 pixels',
                 f'{_ROW} y = T((float)g[row] * factor)')
SCALE = _kernel('scale', f'T x, raw float32 weight, {_INNER}, int32 pixels',
                f'{_ROW} y = T((float)x * (float)T(weight[row]))')
SCALE_BACK = _kernel('scale_back', f'T g, raw float32 weight, raw float32 mean, {_INNER}, int32 pixels',
                     f'{_ROW} y = T((float)g * (float)T(weight[row]) + mean[row] / pixels)')
DOT = cupy.ReductionKernel('T a, T b', 'float32 y', '(float)a * (float)b', 'a + b', 'y = a', '0', 'abn_dot')
