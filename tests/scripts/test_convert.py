"""python -m chainer_abn.convert"""

import numpy
import pytest

import chainer_abn
from chainer_abn.links import build
from chainer_abn.training import torch_file
from chainer_abn.training.weights import to_torch

import chainer


@pytest.fixture
def checkpoint(tmp_path):
    """An official-format checkpoint of a small network, and the network."""
    net = build('resnet8', 3)
    to_torch(tmp_path / 'net.pth.tar', net)
    return net, tmp_path / 'net.pth.tar'


def test_to_a_network_and_back(script, tmp_path, checkpoint):
    net, path = checkpoint
    (tmp_path / 'classes.txt').write_text('ant\nbee \n\ncat\n')
    result = script('chainer_abn/convert', path, tmp_path / 'net.npz', '--arch', 'resnet8',
                    '--classes', tmp_path / 'classes.txt', '--attention', 'multiply')
    assert result.status == 0 and result.err == []
    n_parameter = sum(p.size for p in net.params())
    assert result.out == [f'resnet8 abn, attention multiply, 3 classes, {n_parameter:,} parameters: '
                          f'{tmp_path / "net.npz"}']
    again, config = chainer_abn.load(tmp_path / 'net.npz')
    assert config['classes'] == ['ant', 'bee', 'cat'] and config['attention'] == 'multiply'
    assert config['resize'] == [32, 32] and config['mean'] == [0.4914, 0.4822, 0.4465]
    net.mechanism = 'multiply'
    x = numpy.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype('f')
    with chainer.using_config('train', False):
        for found, wanted in zip(again(x), net(x), strict=True):
            numpy.testing.assert_array_equal(found.array, wanted.array)
    result = script('chainer_abn/convert', tmp_path / 'net.npz', tmp_path / 'back.pth', '--to-torch')
    assert result.status == 0
    assert result.out[0] == ('a PyTorch file does not tell: mechanism multiply (give --attention multiply to '
                             'read it back), names of classes, mean and std, size of images')
    assert (tmp_path / 'back.pth').read_bytes() == path.read_bytes()


def test_visualize_draws_with_a_converted_network(script, tmp_path, checkpoint, class_folders):
    assert script('chainer_abn/convert', checkpoint[1], tmp_path / 'net.npz', '-a', 'resnet8').status == 0
    result = script('visualize', '--model', tmp_path / 'net.npz', class_folders / 'ant/0.png',
                    '--out', tmp_path / 'maps', '-g', -1)
    assert result.status == 0, result.err
    assert (tmp_path / 'maps/0_attention.png').exists()


def test_a_truncated_checkpoint(script, tmp_path, checkpoint):
    data = checkpoint[1].read_bytes()
    for share in 0.2, 0.7, 0.99:
        checkpoint[1].write_bytes(data[:int(share * len(data))])
        result = script('chainer_abn/convert', checkpoint[1], tmp_path / 'net.npz', '-a', 'resnet8')
        assert result.status == 2 and len(result.err) == 1
    assert not (tmp_path / 'net.npz').exists()


def test_the_real_program(python, tmp_path, checkpoint):
    result = python('-m', 'chainer_abn.convert', checkpoint[1], tmp_path / 'net.npz', '--arch', 'resnet8')
    assert result.returncode == 0 and result.stderr == '', result.stderr
    assert chainer_abn.load(tmp_path / 'net.npz')[0].arch == 'resnet8'
    assert torch_file.TorchFile(checkpoint[1]).content['epoch'] == 0
