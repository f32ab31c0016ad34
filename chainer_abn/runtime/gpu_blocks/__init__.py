"""Whole blocks in training on a GPU, on cuDNN: one node of the graph each.

Chainer's functions take more of Python's time than a small network takes of the GPU's, and each is a pass of
its own over memory.
"""
from chainer_abn.runtime import cudnn
from chainer_abn.runtime.layers import plain_layers

import chainer
from chainer.backends import cuda

# using_config('use_tape', False): Chainer's functions, one by one
chainer.global_config.use_tape = True


def runner(block, x):
    """How a block is to be run on ``x``: a function of both, or None for Chainer's own functions."""
    config = chainer.config
    array = x.array
    if not (isinstance(array, cuda.ndarray) and config.train and config.enable_backprop and config.use_tape):
        return None
    if (config.schedule_func is not None or config.debug or cudnn.why_not() is not None
            or not chainer.should_use_cudnn('>=auto')):
        return None
    if array.dtype.char not in 'ef' or array.ndim != 4 or not array.size:
        return None
    if not plain_layers(block, _usable_parameter) or config.cudnn_deterministic and _dilated(block):
        return None
    from chainer_abn.runtime.gpu_blocks import training
    return training.run


def _usable_parameter(array):
    return (type(array) is cuda.ndarray and array.dtype.char == 'f' and array.flags.c_contiguous
            and array.size > 0)


def _dilated(block):
    """Then Chainer takes no cuDNN for the gradients, which are not repeatable."""
    return any(tuple(getattr(link, 'dilate', (1, 1))) != (1, 1)
               for layer in block.layers() for link in layer.links())
