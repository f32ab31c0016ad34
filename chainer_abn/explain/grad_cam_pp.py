"""Grad-CAM++ (Chattopadhyay et al., WACV 2018, equations 10, 11 and 19).

The map of class c at a layer is ReLU(sum_k w_k A_k) with w_k = sum_xy alpha_k ReLU(g_k), where A (B, C, h, w)
is what comes out of the layer, g = dS^c / dA, S^c the logit of the class, and

    alpha_k = g_k^2 / (2 g_k^2 + sum_xy(A_k) g_k^3),    0 where g_k or the denominator is 0.

Three variants circulate. This one takes the derivatives of exp(S^c) (whence the powers of g) but leaves out
the factor exp(S^c) > 0 of the weights, which is one number for the whole map and does not change what is
drawn; and it does not scale the alphas of a channel to a sum of 1.
"""
from chainer_abn.explain.cam import weighted_sum

import chainer


def check(net):
    """It applies to every network."""


def maps(seen):
    return seen.by_gradient(formula)


def formula(features, gradient):
    """features A and gradient dS / dA, (B, C, h, w) float32 -> map (B, h, w) float32."""
    xp = chainer.backend.get_array_module(features)
    # alpha = 1 / (2 + sum(A) g) where g is not 0: nothing overflows or vanishes in a square
    denominator = 2 + features.sum(axis=(2, 3), keepdims=True) * gradient
    usable = (gradient > 0) & (denominator != 0)
    alpha_g = xp.where(usable, gradient, 0) / xp.where(usable, denominator, 1)
    return weighted_sum(features, alpha_g.sum(axis=(2, 3))).clip(0, None)
