"""Makes Chainer 7.8.1 import and run on today's Python and NumPy; knows nothing of ABN."""
import importlib.metadata
import platform

from chainer_abn.runtime import compat
from chainer_abn.version import __version__


def prepare():
    """Put every remedy in force and import chainer. Safe to call again."""
    compat.apply()


def versions():
    """Versions of what the results of a run depend on, by name."""
    found = {'python': platform.python_version(), 'chainer_abn': __version__}
    for package in 'chainer', 'numpy', 'pillow', 'scikit-learn', 'cupy-cuda12x', 'cupy-cuda13x':
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
