"""Which device to run on."""
from chainer_abn import runtime
from chainer_abn.errors import InputError

import chainer

MOST_THREADS = 1024


def add_flags(parser):
    """The flags that :func:`choose_device` takes."""
    parser.add_argument('--gpu', '-g', type=int,
                        help='number of the GPU, -1: CPU (default: the first GPU if there is one)')
    parser.add_argument('--accelerator', choices=runtime.ACCELERATORS,
                        help='off: compute on the CPU without oneDNN (default auto)')
    parser.add_argument('--threads', type=int, help='that compute on the CPU (default: all processors)')


def choose_device(gpu=None, accelerator=None, threads=None):
    """The device of the flags ``--gpu``, ``--accelerator`` and ``--threads``.

    Args:
        gpu (int or None): number of a GPU; -1: the CPU; None: the first GPU where there is one,
            else the CPU.
        accelerator (str or None): of the CPU, ``auto`` or ``off``; None: as it is.
        threads (int or None): that compute on the CPU; None: one per processor.

    Returns:
        chainer.backend.Device: in use from now on.

    Raises:
        InputError: there is no such GPU, or no thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f'--threads {threads}: must be at least 1')
    if threads is not None and threads > MOST_THREADS:
        raise InputError(f'--threads {threads}: more than {MOST_THREADS}')
    if accelerator:
        runtime.set_accelerator(accelerator)
    runtime.set_threads(threads)
    count, reason = find_gpus()
    if gpu is None:
        gpu = 0 if count else -1
    if gpu < -1 or gpu >= count:
        reason = reason or f'there {"is" if count == 1 else "are"} {count}'
        raise InputError(f'--gpu {gpu}: no such GPU ({reason}); --gpu -1 is the CPU')
    device = chainer.get_device('@numpy' if gpu < 0 else f'@cupy:{gpu}')
    device.use()
    return device


def find_gpus():
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
    """The device in words, such as ``cpu (oneDNN 3.2.0, 2 threads)`` or ``gpu 0: NVIDIA H200``."""
    if device.name == '@numpy':
        return f'cpu ({runtime.cpu()})'
    number = device.device.id
    name = device.xp.cuda.runtime.getDeviceProperties(number)['name'].decode()
    return f'gpu {number}: {name}'
