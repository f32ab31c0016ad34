"""The attention map of an ABN, as its own forward pass makes it (paper, Figure 2).

It is in (0, 1), but from 0 up with ``log-sum``, and of any sign in a multi-task network with ``multiply``.
There too the highest place is where the attribute is seen most: the attention score is the map's maximum.
"""
from chainer_abn.errors import InputError

import chainer


def check(net):
    if not hasattr(net, 'attention_branch'):
        raise InputError('attention: the network has no attention branch (it is a baseline or CAM '
                         'variant)')


def maps(net, x):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        _, logits, attention = net(x)
    attention, logits = (chainer.cuda.to_cpu(y.array) for y in (attention, logits))
    return attention if net.multitask else attention[:, 0], logits
