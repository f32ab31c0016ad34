"""The accelerators and their switches."""
import os

from chainer_abn.runtime import ACCELERATORS, cudnn, flat_update, onednn, threads
from chainer_abn.runtime.devices import find_gpus
from chainer_abn.runtime.onednn import drop_ins, primitives

import chainer


def install():
    """Put the CPU's accelerators behind Chainer and switch them on.

    They stay off where the environment says so (CHAINER_USE_IDEEP=never). A second call changes nothing.
    """
    if drop_ins.applied():
        return
    drop_ins.apply()
    flat_update.apply()
    chainer.global_config.use_ideep = os.environ.get('CHAINER_USE_IDEEP', 'auto')


def choose(choice):
    """See :func:`chainer_abn.runtime.set_accelerator`."""
    if choice not in ACCELERATORS:
        raise ValueError(f'accelerator {choice!r}: use auto or off')
    chainer.global_config.use_ideep = 'auto' if choice == 'auto' else 'never'
    if choice == 'off':
        threads.hand_back_to_blas()
    elif primitives.loaded():
        threads.hand_over_to_openmp()


def name():
    """Of the accelerator of the CPU in use, or None."""
    return f'oneDNN {primitives.library().version}' if onednn.active() else None


def describe():
    """Names and states of the accelerators, in words."""
    if onednn.active():
        cpu = f'{name()} ({primitives.library().path})'
    elif not onednn.wanted():
        cpu = f'off: switched off (use_ideep is {chainer.config.use_ideep!r})'
    else:
        cpu = f'off: {primitives.why_not()}'
    count, reason = find_gpus()
    gpus = str(count) if count else f'none: {reason}'
    return {'cpu accelerator': cpu, 'blas': threads.blas(), 'gpus': gpus, 'cudnn': _cudnn()}


def _cudnn():
    if cudnn.why_not() is None:
        return f'{cudnn.version()} ({cudnn.path()})'
    return f"{'on' if chainer.backends.cuda.cudnn_enabled else 'off'}: {cudnn.why_not()}"
