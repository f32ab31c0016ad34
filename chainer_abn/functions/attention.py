"""The attention mechanism: how the attention map M acts on the features g (paper, section 3.3)."""
from chainer_abn.errors import InputError
from chainer_abn.functions import kernels

import chainer
from chainer.backends import cuda
from chainer.utils import type_check

MECHANISMS = ('residual', 'multiply', 'none')


def attend(g, attention, mechanism='residual'):
    """Apply an attention map to feature maps.

    ========== ============== ==========================================
    mechanism  result         source
    ========== ============== ==========================================
    residual   g * (1 + M)    paper, equation 3 (its choice)
    multiply   g * M          paper, equation 2
    none       g              paper, Table 1, the ablation
    ========== ============== ==========================================

    Args:
        g: feature maps, (B, C, h, w), float16, float32 or float64.
        attention: the map M, (B, 1, h, w), of the same dtype.
        mechanism (str): one of the above.

    Returns:
        chainer.Variable: (B, C, h, w), dtype of ``g``. With ``none`` the gradient of the map is
        zero, not absent. It can be differentiated once.

    Raises:
        InputError: ``mechanism`` is not one of the above.
    """
    if mechanism not in MECHANISMS:
        raise InputError(f'unknown attention mechanism {mechanism!r}: use {", ".join(MECHANISMS)}')
    return Attend(mechanism).apply((g, attention))[0]


class Attend(chainer.FunctionNode):
    """One pass over g forward; g and gy read once each backward."""

    def __init__(self, mechanism):
        self.mechanism = mechanism

    def check_type_forward(self, in_types):
        type_check._argname(in_types, ('g', 'attention'))
        g, attention = in_types
        type_check.expect(
            g.dtype.kind == 'f', attention.dtype == g.dtype,
            g.ndim == 4, attention.ndim == 4,
            attention.shape[0] == g.shape[0], attention.shape[1] == 1,
            attention.shape[2:] == g.shape[2:])

    def forward(self, inputs):
        g, attention = inputs
        self.retain_inputs((0, 1))
        if self.mechanism == 'none':
            return g,
        if isinstance(g, cuda.ndarray):
            return kernels.weigh(g, attention, self.mechanism == 'residual'),
        return g * weight_of(attention, self.mechanism),

    def backward(self, target_input_indexes, grad_outputs):
        g, attention = self.get_retained_inputs()
        return AttendGrad(self.mechanism).apply((g, attention, *grad_outputs))


class AttendGrad(chainer.FunctionNode):
    """The gradients with respect to g and M; the latter is reduced over the channels."""

    def __init__(self, mechanism):
        self.mechanism = mechanism

    def forward(self, inputs):
        g, attention, gy = inputs
        xp = chainer.backend.get_array_module(g)
        if self.mechanism == 'none':
            return gy, xp.zeros_like(attention)
        if isinstance(g, cuda.ndarray):
            return kernels.weigh_grad(g, attention, gy, self.mechanism == 'residual')
        # summed in float32 at least: float16 would lose the small terms of a wide layer
        accumulator = xp.promote_types(g.dtype, 'f')
        g_attention = xp.einsum('bchw,bchw->bhw', g, gy, dtype=accumulator)[:, None]
        return gy * weight_of(attention, self.mechanism), g_attention.astype(g.dtype, copy=False)

    def backward(self, target_input_indexes, grad_outputs):
        raise RuntimeError('attend() can be differentiated once only')


def weight_of(attention, mechanism):
    """The factor of every channel of g, (B, 1, h, w)."""
    return attention + attention.dtype.type(1) if mechanism == 'residual' else attention
