"""Which device to run on."""
import sys

import numpy

from chainer_abn import runtime
from chainer_abn.errors import InputError, one_line
from chainer_abn.runtime import cudnn

import chainer

MOST_THREADS = 1024


def add_flags(parser, several=False):
    """The flags that :func:`choose_device` takes, and where ``several`` :func:`choose_devices`."""
    parser.add_argument('--gpu', '-g', type=gpu_numbers if several else int, metavar='G',
                        help='number of the GPU, -1: CPU (default: the first GPU if there is one)'
                             + '; 0,1: folds side by side' * several)
    parser.add_argument('--accelerator', choices=runtime.ACCELERATORS,
                        help='off: compute on the CPU without oneDNN (default auto)')
    parser.add_argument('--threads', type=int, help='that compute on the CPU (default: all processors)')


def gpu_numbers(text):
    """'0' -> 0; '0,1' -> [0, 1]."""
    numbers = [int(number) for number in text.split(',')]
    return numbers if len(numbers) > 1 else numbers[0]


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
    set_cpu(accelerator, threads)
    device = find_device(gpu)
    if device.xp is numpy:
        device.use()
    else:
        use_gpu(device)
    return device


def choose_devices(gpus, accelerator=None, threads=None):
    """The devices of a flag such as ``--gpu 0,1``, for as many processes; this one uses no GPU.

    Args:
        gpus (list of int): numbers of GPUs, or -1 for each process on the CPU. Where it is no list,
            :func:`choose_device` is asked for the one device.
        accelerator (str or None): as for :func:`choose_device`.
        threads (int or None): of each process; None: they share the processors out.

    Returns:
        list of chainer.backend.Device

    Raises:
        InputError: there is no such GPU, one is named twice, or the CPU beside a GPU.
    """
    if not isinstance(gpus, list):
        return [choose_device(gpus, accelerator, threads)]
    flag = f'--gpu {",".join(map(str, gpus))}'
    if -1 in gpus and set(gpus) != {-1}:
        raise InputError(f'{flag}: folds on the CPU and on GPUs would not be comparable; name one kind')
    twice = [gpu for gpu in gpus if gpu != -1 and gpus.count(gpu) > 1]
    if twice:
        raise InputError(f'{flag}: GPU {twice[0]} is named twice')
    if threads is None:
        threads = max(1, runtime.threads.processors() // len(gpus))
    set_cpu(accelerator, threads)
    return [find_device(gpu) for gpu in gpus]


def set_cpu(accelerator, threads):
    """Compute with this accelerator and so many threads from now on."""
    if threads is not None and threads < 1:
        raise InputError(f'--threads {threads}: must be at least 1')
    if threads is not None and threads > MOST_THREADS:
        raise InputError(f'--threads {threads}: more than {MOST_THREADS}')
    if accelerator:
        runtime.set_accelerator(accelerator)
    runtime.set_threads(threads)


def find_device(gpu=None):
    """The device of a number, which is not in use yet."""
    count, reason = find_gpus()
    if gpu is None:
        gpu = 0 if count else -1
    if gpu < -1 or gpu >= count:
        reason = reason or f'there {"is" if count == 1 else "are"} {count}'
        raise InputError(f'--gpu {gpu}: no such GPU ({reason}); --gpu -1 is the CPU')
    return chainer.get_device('@numpy' if gpu < 0 else f'@cupy:{gpu}')


def find_gpus():
    """Number of usable GPUs and, where it is 0, why."""
    try:
        import cupy
    except ImportError as error:
        if error.name == 'cupy':
            return 0, "CuPy is not installed: pip install '.[cuda13]' or '.[cuda12]'"
        return 0, f'CuPy cannot be imported: {one_line(error)}'
    # chainer.backends.cuda.available is True with CuPy alone, even without a GPU
    cuda = cupy.cuda.runtime
    try:
        count = cuda.getDeviceCount()
    except cuda.CUDARuntimeError as error:
        has, needs = cuda.driverGetVersion(), cuda.runtimeGetVersion()
        if has == 0:
            return 0, 'no NVIDIA driver found'
        if has // 1000 < needs // 1000:
            return 0, (f'the NVIDIA driver is too old: it knows CUDA {cuda_version(has)}, CuPy is built for '
                       f'{cuda_version(needs)}; update the driver or install CuPy for its CUDA')
        return 0, one_line(error)
    return count, '' if count else 'no NVIDIA GPU found'


def cuda_version(number):
    """13020 -> '13.2'."""
    return f'{number // 1000}.{number % 1000 // 10}'


def use_gpu(device):
    """Use a GPU from now on; that it is slower for want of cuDNN is told.

    Raises:
        InputError: it cannot be used: its memory is full, CUDA's libraries are missing or do not know it.
    """
    try:
        device.use()
        device.xp.arange(2).sum().get()
    except Exception as error:              # a broken installation can raise anything
        raise InputError(f'--gpu {device.device.id}: cannot compute there ({one_line(error)}); '
                         '--gpu -1 is the CPU') from None
    if not chainer.backends.cuda.cudnn_enabled:
        print(f'without cuDNN convolutions are slower: {cudnn.why_not()}', file=sys.stderr)


def describe(device):
    """The device in words, such as ``cpu (oneDNN 3.2.0, 2 threads)`` or ``gpu 0: NVIDIA H200``."""
    if device.name == '@numpy':
        return f'cpu ({runtime.cpu()})'
    number = device.device.id
    name = device.xp.cuda.runtime.getDeviceProperties(number)['name'].decode()
    return f'gpu {number}: {name}'
