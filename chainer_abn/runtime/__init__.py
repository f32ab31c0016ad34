"""Makes Chainer 7.8.1 import and run on today's Python and NumPy; knows nothing of ABN."""
from chainer_abn.runtime import compat


def prepare():
    """Put every remedy in force and import chainer. Safe to call again."""
    compat.apply()
