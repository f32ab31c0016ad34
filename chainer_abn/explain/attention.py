"""The attention map of an ABN, as its own forward pass makes it (paper, Figure 2).

It is in (0, 1), but from 0 up with ``log-sum``, and of any sign in a multi-task network with ``multiply``.
There too the highest place is where the attribute is seen most: the attention score is the map's maximum.
It is of no class: ``--class`` does not change it, nor does ``--layer``.
"""
from chainer_abn.errors import InputError


def check(net):
    if not hasattr(net, 'attention_branch'):
        raise InputError('attention: the network has no attention branch (it is a baseline or CAM '
                         'variant); use grad-cam or cam')


def maps(seen):
    return seen.attention if seen.net.multitask else seen.attention[:, 0]
