"""A whole block as one node of Chainer's graph in training."""
from chainer_abn.runtime import node
from chainer_abn.runtime.onednn.tape import Tape


def run(block, x):
    """The block's outputs, as variables."""
    return node.run(Tape, block, x)
