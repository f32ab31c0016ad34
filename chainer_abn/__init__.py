"""Attention Branch Network in Chainer.

Importing the package prepares Chainer for today's Python and NumPy first.
"""
from chainer_abn import runtime

runtime.prepare()

from chainer_abn.links import build
from chainer_abn.training.checkpoint import load
from chainer_abn.version import __version__
