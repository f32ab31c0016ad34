"""The attention map of an ABN, as its own forward pass makes it (paper, Figure 2); in (0, 1)."""
from chainer_abn.errors import InputError

import chainer


def check(net):
    if not hasattr(net, 'attention_branch'):
        raise InputError('attention: the network has no attention branch (it is a baseline or CAM '
                         'variant)')


def maps(net, x):
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        _, logits, attention = net(x)
    return chainer.cuda.to_cpu(attention.array)[:, 0], chainer.cuda.to_cpu(logits.array)
