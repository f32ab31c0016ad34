import numpy
import pytest

from chainer_abn import runtime
from chainer_abn.errors import InputError
from chainer_abn.runtime import devices
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
