"""A whole block as one node of Chainer's graph."""
import weakref
from functools import partial

from chainer_abn.runtime import node
from chainer_abn.runtime.gpu_blocks.calls import Unfit
from chainer_abn.runtime.gpu_blocks.tape import Tape

import chainer.links as L

_fits = weakref.WeakKeyDictionary()     # block -> {(shape, dtype) of x: whether cuDNN can do all of it}


def run(block, x):
    """The block's outputs, as variables."""
    known = _fits.setdefault(block, {})
    key = x.shape, x.dtype.char
    if key in known:
        return _run(block, x) if known[key] else block.run_plainly(x)
    statistics = [(array, array.copy()) for array in _statistics(block)]
    try:
        y = _run(block, x)
        known[key] = True
        return y
    except Unfit:
        for array, before in statistics:
            array[...] = before         # they would be updated twice
        known[key] = False
        return block.run_plainly(x)     # where nobody can do it, Chainer says what is wrong


def _run(block, x):
    return node.run(partial(Tape, block, x.dtype.char), block, x)


def _statistics(block):
    links = {id(link): link for layer in block.layers() for link in layer.links()}
    return [array for link in links.values() if isinstance(link, L.BatchNormalization)
            for array in (link.avg_mean, link.avg_var)]
