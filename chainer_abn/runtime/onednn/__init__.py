"""oneDNN on the CPU behind Chainer: single functions (``drop_ins``) and whole blocks.

It is in use where ``chainer.config.use_ideep`` is 'auto' (or 'always'), Chainer's own switch for its
own accelerator of the CPU, iDeep, which ended with Python 3.7.
"""
import numpy

from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.api import Failed

import chainer
import chainer.links as L


def wanted():
    """Whether oneDNN is to be used where it can be."""
    return chainer.config.use_ideep in ('auto', 'always')


def active():
    """Whether oneDNN is wanted and there."""
    return wanted() and primitives.available()


def runner(block, x):
    """How a block is to be run on ``x``: a function of both, or None for Chainer's own functions."""
    train, backprop = chainer.config.train, chainer.config.enable_backprop
    if train != backprop or chainer.config.schedule_func is not None:
        return None
    if not (wanted() and _usable(x.array, 4) and _plain_layers(block) and primitives.available()):
        return None
    from chainer_abn.runtime.onednn import inference, training
    return training.run if train else inference.run


def _usable(array, ndim):
    return (type(array) is numpy.ndarray and array.dtype == numpy.float32 and array.ndim == ndim
            and array.size > 0)


def _plain_layers(block):
    """Whether all layers are as Chainer made them: float32, without hooks or methods of their own."""
    if chainer._get_link_hooks():
        return False
    for layer in block.layers():
        for link in layer.links():
            if link._n_local_link_hooks or 'forward' in link.__dict__:
                return False
            if type(link) in _PLAIN:
                if not _PLAIN[type(link)](link):
                    return False
            elif type(link) is not chainer.ChainList and not hasattr(link, 'declare'):
                return False
    return True


def _usable_parameters(*arrays):
    return all(_usable(a, a.ndim) and a.flags.c_contiguous for a in arrays)


def _plain_convolution(link):
    return link.W.array is not None and _usable_parameters(
        link.W.array, *([] if link.b is None else [link.b.array]))


def _plain_batch_norm(link):
    return (link.gamma is not None and link.beta is not None and link.axis is None
            and link.avg_mean is not None
            and _usable_parameters(link.gamma.array, link.beta.array, link.avg_mean, link.avg_var))


def _plain_linear(link):
    return link.W.array is not None and link.b is not None and _usable_parameters(link.W.array, link.b.array)


_PLAIN = {L.Convolution2D: _plain_convolution, L.BatchNormalization: _plain_batch_norm,
          L.Linear: _plain_linear}
