"""Networks from other programs compute what those compute (see tests/official/make.py)."""
import json
from pathlib import Path

import numpy
import pytest
from official.draw import batch, weights

from chainer_abn.training import torch_file
from chainer_abn.training.weights import from_torch

import chainer
import chainer.functions as F

OFFICIAL = numpy.load(Path(__file__).parents[1] / 'official/networks.npz')
NAMES = sorted({name.split('/')[0] for name in OFFICIAL.files})


def official_checkpoint(arch, path):
    """Write an official checkpoint with the drawn weights -> name -> shape."""
    shapes = json.loads(str(OFFICIAL[f'{arch}/names']))
    state = {f'module.{name}': weights(name, shape) for name, shape in shapes.items()}
    torch_file.write(path, {'epoch': 1, 'state_dict': state})
    return shapes


@pytest.mark.parametrize('arch', NAMES)
def test_equal_to_the_official_network_in_evaluation_and_training(tmp_path, arch):
    official_checkpoint(arch, tmp_path / 'net.pth')
    with chainer.using_config('dtype', numpy.float64):
        net, config = from_torch(tmp_path / 'net.pth', arch)
    for link in net.links():
        if hasattr(link, 'dropout'):
            link.dropout = 0                # the official reference has none
    n, _, size, _ = OFFICIAL[f'{arch}/x']
    x, t = batch(arch, size, n, len(config['classes']))

    def evaluate(expected, tolerance):
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            output = net(x)
        for name in expected:
            wanted = OFFICIAL[f'{arch}/{name}']
            found = getattr(output, name.removeprefix('after_')).array
            assert found.dtype == numpy.float64
            numpy.testing.assert_allclose(found, wanted, atol=tolerance * abs(wanted).max())

    evaluate(['attention_logits', 'logits', 'attention'], 1e-9)
    optimizer = chainer.optimizers.MomentumSGD(1e-3, 0.9).setup(net)
    for wanted in OFFICIAL[f'{arch}/losses']:
        attention_logits, logits, _ = net(x)
        terms = [F.softmax_cross_entropy(y, t.astype('i')) for y in (attention_logits, logits)]
        net.cleargrads()
        sum(terms).backward()
        if not optimizer.t:
            grad_sq = sum(float((p.grad ** 2).sum()) for p in net.params())
            assert grad_sq == pytest.approx(float(OFFICIAL[f'{arch}/grad_sq']), rel=1e-9)
            optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
        optimizer.update()
        numpy.testing.assert_allclose([float(term.array) for term in terms], wanted, rtol=1e-8)
    evaluate(['after_attention_logits', 'after_logits'], 1e-6)   # rounding grows with the steps
