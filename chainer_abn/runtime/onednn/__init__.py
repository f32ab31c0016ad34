"""oneDNN on the CPU behind Chainer: single functions (``drop_ins``) and whole blocks.

It is in use where ``chainer.config.use_ideep`` is 'auto' (or 'always'), Chainer's own switch for its
own accelerator of the CPU, iDeep, which ended with Python 3.7.
"""
import numpy

from chainer_abn.runtime.layers import plain_layers
from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.api import Failed

import chainer


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
    if not (wanted() and _usable(x.array, 4) and plain_layers(block, _usable_parameter)
            and primitives.available()):
        return None
    from chainer_abn.runtime.onednn import inference, training
    return training.run if train else inference.run


def _usable(array, ndim):
    return (type(array) is numpy.ndarray and array.dtype == numpy.float32 and array.ndim == ndim
            and array.size > 0)


def _usable_parameter(array):
    return _usable(array, array.ndim) and array.flags.c_contiguous
