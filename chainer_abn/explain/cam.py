"""Class Activation Mapping (Zhou et al., CVPR 2016, equation 2).

The map of class c is sum_k w_k^c f_k: f are the features (B, C, h, w) that are averaged over the pixels and
w the weights of the linear layer behind that. It is of any sign, and its average plus the bias is the class
score. ``--layer`` does not change it. In an ABN these are the features of the perception branch.
"""
from chainer_abn.errors import InputError
from chainer_abn.links.blocks import global_average

import chainer.links as L


def check(net):
    if net.multitask:
        raise InputError('cam: a multi-task network has a linear layer for each task; use grad-cam')
    branch = net.perception_branch
    if branch.pool is not global_average or not isinstance(branch.fc, L.Linear):
        raise InputError('cam: the network does not end in global average pooling and one linear layer '
                         f'({net.arch}); use grad-cam, or train it with --variant cam')


def maps(seen):
    weights = seen.net.perception_branch.fc.W.array[seen.targets]
    return weighted_sum(seen.pooled, weights)


def weighted_sum(features, weights):
    """sum_k w_k f_k: features (B, C, h, w), weights (B, C) -> (B, h, w)."""
    b, c, h, w = features.shape
    return (weights[:, None] @ features.reshape(b, c, h * w)).reshape(b, h, w)
