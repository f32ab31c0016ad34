"""Which device to run on."""
from chainer_abn.errors import InputError

import chainer


def choose_device(gpu=None):
    """The device of a ``--gpu`` flag.

    Args:
        gpu (int or None): number of a GPU; -1: the CPU; None: the first GPU where there is one,
            else the CPU.

    Returns:
        chainer.backend.Device: in use from now on.

    Raises:
        InputError: there is no such GPU.
    """
    count, reason = _count_gpus()
    if gpu is None:
        gpu = 0 if count else -1
    if gpu < -1 or gpu >= count:
        reason = reason or f'there {"is" if count == 1 else "are"} {count}'
        raise InputError(f'--gpu {gpu}: no such GPU ({reason}); --gpu -1 is the CPU')
    device = chainer.get_device('@numpy' if gpu < 0 else f'@cupy:{gpu}')
    device.use()
    return device


def _count_gpus():
    """Number of usable GPUs and, where it is 0, why."""
    try:
        import cupy
    except ImportError:
        return 0, 'CuPy is not installed'
    # chainer.backends.cuda.available is True with CuPy alone, even without a GPU
    if not cupy.cuda.is_available():
        return 0, 'no NVIDIA GPU found'
    return cupy.cuda.runtime.getDeviceCount(), ''


def describe(device):
    """The device in words, such as ``cpu`` or ``gpu 0: NVIDIA H200``."""
    if device.name == '@numpy':
        return 'cpu'
    number = device.device.id
    name = device.xp.cuda.runtime.getDeviceProperties(number)['name'].decode()
    return f'gpu {number}: {name}'
