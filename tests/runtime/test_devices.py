import sys
from types import SimpleNamespace

import numpy
import pytest

from chainer_abn import runtime
from chainer_abn.errors import InputError
from chainer_abn.runtime import cudnn, devices
from chainer_abn.runtime.onednn import primitives

import chainer


def test_the_cpu_by_number_and_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(devices, 'find_gpus', lambda: (0, 'no NVIDIA GPU found'))
    for gpu in -1, None:
        device = devices.choose_device(gpu)
        assert device.xp is numpy
        assert devices.describe(device).startswith('cpu (')


def test_the_accelerator_and_the_threads_of_the_cpu(monkeypatch):
    monkeypatch.setattr(chainer.global_config, 'use_ideep', 'auto')
    try:
        device = devices.choose_device(-1, 'off', 1)
        assert devices.describe(device) == 'cpu (no accelerator, 1 thread)'
        devices.choose_device(-1, None, 2)
        assert devices.describe(device) == 'cpu (no accelerator, 2 threads)'
        devices.choose_device(-1, 'auto', 2)
        assert devices.describe(device).startswith('cpu (oneDNN 3' if primitives.available() else 'cpu (no ')
    finally:
        runtime.set_threads()
    with pytest.raises(InputError, match='--threads 0: must be at least 1'):
        devices.choose_device(-1, None, 0)


@pytest.mark.parametrize('gpu', [0, 3, -2])
def test_a_gpu_that_is_not_there_is_named(monkeypatch, gpu):
    monkeypatch.setattr(devices, 'find_gpus', lambda: (0, 'no NVIDIA GPU found'))
    with pytest.raises(InputError, match=f'--gpu {gpu}: no such GPU .no NVIDIA GPU found'):
        devices.choose_device(gpu)


@pytest.mark.gpu
def test_the_first_gpu_is_the_default():
    assert devices.choose_device().xp is not numpy


class Runtime:
    """In the place of cupy.cuda.runtime."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, devices, driver=13020):
        self.devices, self.driver = devices, driver

    def getDeviceCount(self):
        if isinstance(self.devices, str):
            raise self.CUDARuntimeError(self.devices)
        return self.devices

    def driverGetVersion(self):
        return self.driver

    def runtimeGetVersion(self):
        return 13020


INSUFFICIENT = 'cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version'


@pytest.mark.parametrize('found, count, reason', [
    (Runtime(2), 2, ''),
    (Runtime(0), 0, 'no NVIDIA GPU found'),
    (Runtime(INSUFFICIENT, 0), 0, 'no NVIDIA driver found'),
    (Runtime(INSUFFICIENT, 12040), 0,
     'the NVIDIA driver is too old: it knows CUDA 12.4, CuPy is built for 13.2; update the driver or install '
     'CuPy for its CUDA'),
    (Runtime('cudaErrorECCUncorrectable:\nuncorrectable error'), 0,
     'cudaErrorECCUncorrectable: uncorrectable error'),
])
def test_why_there_is_no_gpu(monkeypatch, found, count, reason):
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=found))
    monkeypatch.setitem(sys.modules, 'cupy', cupy)
    assert devices.find_gpus() == (count, reason)


def test_cupy_that_is_missing_or_broken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'cupy', None)
    assert devices.find_gpus() == (0, "CuPy is not installed: pip install '.[cuda13]' or '.[cuda12]'")
    monkeypatch.delitem(sys.modules, 'cupy')
    (tmp_path / 'cupy.py').write_text('import libcudart_that_is_missing')
    monkeypatch.syspath_prepend(tmp_path)
    assert devices.find_gpus() == (
        0, "CuPy cannot be imported: No module named 'libcudart_that_is_missing'")


def test_a_gpu_that_cannot_compute_is_told(monkeypatch):
    def fail(n):
        raise RuntimeError('cudaErrorNoKernelImageForDevice:\nno kernel image')

    device = SimpleNamespace(use=lambda: None, xp=SimpleNamespace(arange=fail), device=SimpleNamespace(id=1))
    with pytest.raises(InputError) as told:
        devices.use_gpu(device)
    assert str(told.value) == ('--gpu 1: cannot compute there (cudaErrorNoKernelImageForDevice: no kernel '
                               'image); --gpu -1 is the CPU')


def test_that_cudnn_is_missing_is_told(monkeypatch, capsys):
    array = SimpleNamespace(sum=lambda: SimpleNamespace(get=lambda: 1))
    device = SimpleNamespace(use=lambda: None, xp=SimpleNamespace(arange=lambda n: array))
    monkeypatch.setattr(chainer.backends.cuda, 'cudnn_enabled', False)
    monkeypatch.setattr(cudnn, '_why_not', 'libcudnn.so.9: not found')
    devices.use_gpu(device)
    assert capsys.readouterr().err == 'without cuDNN convolutions are slower: libcudnn.so.9: not found\n'
    monkeypatch.setattr(chainer.backends.cuda, 'cudnn_enabled', True)
    devices.use_gpu(device)
    assert capsys.readouterr().err == ''
