import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.runtime import devices


def test_the_cpu_by_number_and_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(devices, 'find_gpus', lambda: (0, 'no NVIDIA GPU found'))
    for gpu in -1, None:
        device = devices.choose_device(gpu)
        assert device.xp is numpy
        assert devices.describe(device) == 'cpu'


@pytest.mark.parametrize('gpu', [0, 3, -2])
def test_a_gpu_that_is_not_there_is_named(monkeypatch, gpu):
    monkeypatch.setattr(devices, 'find_gpus', lambda: (0, 'no NVIDIA GPU found'))
    with pytest.raises(InputError, match=f'--gpu {gpu}: no such GPU .no NVIDIA GPU found'):
        devices.choose_device(gpu)


@pytest.mark.gpu
def test_the_first_gpu_is_the_default():
    if not devices.find_gpus()[0]:
        pytest.skip(f'needs a GPU: {devices.find_gpus()[1]}')
    assert devices.choose_device().xp is not numpy
