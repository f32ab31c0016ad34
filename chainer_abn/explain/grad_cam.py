"""Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2).

The map of class c at a layer is ReLU(sum_k alpha_k A_k): A (B, C, h, w) is what comes out of the layer, and
alpha_k the average over its pixels of dS^c / dA_k, where S^c is the logit of the class (not its probability).
At the layer that a classifier averages and weighs it is ReLU(CAM) / (h w).
"""
from chainer_abn.explain.cam import weighted_sum


def check(net):
    """It applies to every network."""


def maps(seen):
    return seen.by_gradient(formula)


def formula(features, gradient):
    return weighed(features, gradient).clip(0, None)


def weighed(features, gradient):
    """The map before the ReLU.

    Args:
        features: A, (B, C, h, w) float32.
        gradient: dS / dA, likewise.

    Returns:
        (B, h, w) float32.
    """
    return weighted_sum(features, gradient.mean(axis=(2, 3)))
