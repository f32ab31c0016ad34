"""Makes Chainer 7.8.1 import and run fast on today's Python and NumPy; knows nothing of ABN."""
import importlib.metadata
import platform

from chainer_abn.runtime import compat, cudnn, threads
from chainer_abn.runtime.threads import set_threads
from chainer_abn.version import __version__

PACKAGES = ('chainer', 'numpy', 'pillow', 'scikit-learn', 'onednn-cpu-gomp', 'cupy-cuda12x', 'cupy-cuda13x',
            'nvidia-cudnn-cu12', 'nvidia-cudnn-cu13')
ACCELERATORS = ('auto', 'off')


def prepare():
    """Put every remedy in force, import chainer and let it run on oneDNN and cuDNN. Safe to call again."""
    cudnn.install()             # before Chainer looks for it
    compat.apply()
    from chainer_abn.runtime import accelerator
    accelerator.install()
    cudnn.install()             # the rest, in Chainer itself


def set_accelerator(choice):
    """Whether the CPU computes with oneDNN: ``auto``, where there is one, or ``off``.

    It is ``chainer.config.use_ideep``, so ``chainer.using_config('use_ideep', 'never')`` does the same
    for a part of a program.

    Raises:
        ValueError: another choice.
    """
    from chainer_abn.runtime import accelerator
    accelerator.choose(choice)


def info():
    """What computes here, by name: versions, accelerators (and why one is off), threads."""
    from chainer_abn.runtime import accelerator
    return {**versions(), **accelerator.describe(), 'threads': str(threads.count())}


def cpu():
    """What computes on the CPU, in a few words."""
    from chainer_abn.runtime import accelerator
    n = threads.count()
    return f'{accelerator.name() or "no accelerator"}, {n} thread{"s" * (n > 1)}'


def versions():
    """Versions of what the results of a run depend on, by name."""
    found = {'python': platform.python_version(), 'chainer_abn': __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
