"""python -m chainer_abn.convert"""
import os
import pickle

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


def hostile(path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f'touch {path.with_name("written")}',)
    path.write_bytes(pickle.dumps({'state_dict': {'module.conv1.weight': Bomb()}}))


WRONG = {
    'arch': (['NET', 'OUT'], ['--arch is missing']),
    'other arch': (['NET', 'OUT', '-a', 'resnet14'],
                   ['does not fit resnet14 (abn): missing: layer1.1.conv1.weight, ']),
    'unknown arch': (['NET', 'OUT', '-a', 'resnet9'], ["unknown architecture 'resnet9'"]),
    'variant': (['NET', 'OUT', '-a', 'resnet8', '--variant', 'baseline'],
                ['left over: ', 'att_layer3.0.conv1.weight']),
    'classes': (['NET', 'OUT', '-a', 'resnet8', '--classes', 'TWO'], ['has 3 classes, not the 2']),
    'no classes': (['NET', 'OUT', '-a', 'resnet8', '--classes', 'gone'], ['--classes gone: No such file']),
    'no file': (['gone', 'OUT', '-a', 'resnet8'], ['gone: No such file']),
    'folder': (['HERE', 'OUT', '-a', 'resnet8'], ['Is a directory']),
    'text': (['TWO', 'OUT', '-a', 'resnet8'], ['not a PyTorch checkpoint']),
    'hostile': (['HOSTILE', 'OUT', '-a', 'resnet8'], ['refused, it is not weights only', '.system']),
    'npz as pth': (['NET', 'OUT', '--to-torch'], ['net.pth.tar: not a network of chainer_abn']),
    'arch to torch': (['NPZ', 'OUT', '--to-torch', '-a', 'resnet14'], ['--arch resnet14: ', 'is resnet8']),
    'classes to torch': (['NPZ', 'OUT', '--to-torch', '--classes', 'TWO'], ['--classes: ']),
    'onto itself': (['NET', 'NET', '-a', 'resnet8'], ['is the file to read']),
    'nowhere': (['NET', 'HERE/gone/net.npz', '-a', 'resnet8'], ['gone/net.npz: No such file']),
    'flags for an npz': (['NPZ', 'OUT', '-a', 'resnet8', '--variant', 'abn'], ['of a PyTorch file only']),
}


@pytest.mark.parametrize('case', WRONG)
def test_one_line_status_2_and_nothing_written(script, tmp_path, checkpoint, case):
    arguments, messages = WRONG[case]
    (tmp_path / 'two').write_text('a\nb\n')
    hostile(tmp_path / 'hostile.pth')
    if 'NPZ' in arguments:
        assert script('chainer_abn/convert', checkpoint[1], tmp_path / 'net.npz', '-a', 'resnet8').status == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    names = {'NET': checkpoint[1], 'OUT': tmp_path / 'out', 'TWO': tmp_path / 'two', 'HERE': tmp_path,
             'HOSTILE': tmp_path / 'hostile.pth', 'NPZ': tmp_path / 'net.npz',
             'HERE/gone/net.npz': tmp_path / 'gone/net.npz'}
    result = script('chainer_abn/convert', *(names.get(word, word) for word in arguments))
    assert result.status == 2, result
    assert len(result.err) == 1 and result.err[0].startswith('chainer_abn.convert: ')
    for message in messages:
        assert message in result.err[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


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
