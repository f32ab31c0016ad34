"""Write ``networks.npz``: what the official PyTorch networks compute, for the tests to agree with;
and ``zip.pth`` and ``legacy.pth``: small files in the two formats of PyTorch.

    python tests/official/make.py PATH/TO/attention_branch_network

needs PyTorch and a clone of the official repository (HEAD 5e41878). Weights and images are not
kept: ``draw.py`` gives them anew, by name. Everything is computed in float64.
"""
import importlib
import json
import sys
from pathlib import Path

import numpy
import torch
from draw import batch, weights

N_CLASS = 6
NETWORKS = {
    'resnet14': ('cifar.resnet', 'ResNet', {'depth': 14}),
    'resnet44': ('cifar.resnet', 'ResNet', {'depth': 44}),
    'wrn-10-2': ('cifar.wrn', 'WideResNet', {'depth': 10, 'widen_factor': 2}),
    'densenet-bc-16-8': ('cifar.densenet', 'DenseNet', {'depth': 16, 'growthRate': 8}),
    'resnext-11-2x64d': ('cifar.resnext', 'CifarResNeXt', {'depth': 11, 'cardinality': 2}),
    'resnet18': ('imagenet.resnet', 'resnet18', {}),
    'resnet50': ('imagenet.resnet', 'resnet50', {}),
    'se-resnet18': ('imagenet.senet_resnet', 'se_resnet_18', {}),
    'se-resnet50': ('imagenet.senet_resnet', 'se_resnet_50', {}),
}


def main():
    sys.path.insert(0, sys.argv[1])
    kept = {}
    for arch, (module, name, options) in NETWORKS.items():
        net = getattr(importlib.import_module(f'models.{module}'), name)(num_classes=N_CLASS, **options)
        size, n = (64, 2) if module.startswith('imagenet') else (32, 4)
        kept.update((f'{arch}/{key}', value) for key, value in outputs(net, arch, size, n).items())
        print(arch, kept[f'{arch}/losses'].tolist())
    here = Path(__file__)
    numpy.savez_compressed(here.with_name('networks.npz'), **kept)
    for name, new in ('zip.pth', True), ('legacy.pth', False):
        torch.save(tensors(), here.with_name(name), _use_new_zipfile_serialization=new)


def tensors():
    """A tensor of every kind that a checkpoint may hold: 0, 1, 2, ... in its own way."""
    grid = torch.arange(24.).reshape(2, 3, 2, 2)
    state = torch.nn.BatchNorm2d(3).state_dict()            # an OrderedDict with metadata
    state.update(
        parameter=torch.nn.Parameter(torch.arange(3.)), transposed=torch.arange(6.).reshape(3, 2).t(),
        channels_last=grid.contiguous(memory_format=torch.channels_last), part=torch.arange(10.)[4:7],
        half=torch.arange(3.).half(), double=torch.tensor(2.5, dtype=torch.double),
        bool=torch.tensor([True, False]), empty=torch.zeros(0, 3))
    return {'epoch': 3, 'state_dict': state, 'best_acc': torch.tensor(71.5), 'size': grid.shape}


def outputs(net, arch, size, n):
    """Outputs before and after three steps of SGD, and the losses of these."""
    net = net.double()
    if size != 224 and size != 32:
        pool_globally(net)
    shapes = {name: tuple(array.shape) for name, array in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(weights(name, shape)) for name, shape in shapes.items()})
    x, t = (torch.from_numpy(array) for array in batch(arch, size, n, N_CLASS))
    result = {'names': json.dumps(shapes), 'x': numpy.array(x.shape)}
    net.eval()
    with torch.no_grad():
        attention_logits, logits, attention = net(x)
    attention = attention[0] if isinstance(attention, list) else attention
    result.update(attention_logits=attention_logits, logits=logits, attention=attention)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(3):
        attention_logits, logits, _ = net(x)
        terms = [torch.nn.functional.cross_entropy(y, t) for y in (attention_logits, logits)]
        optimizer.zero_grad()
        sum(terms).backward()
        if step == 0:
            result['grad_sq'] = sum(float((p.grad ** 2).sum()) for p in net.parameters()
                                    if p.grad is not None)
        optimizer.step()
        losses.append([float(term) for term in terms])
    net.eval()
    with torch.no_grad():
        after_attention, after, _ = net(x)
    result.update(losses=losses, after_attention_logits=after_attention, after_logits=after)
    return {name: numpy.asarray(value) for name, value in result.items()}


def pool_globally(net):
    """The official poolings have the fixed sizes of 224 px, where each of them is global."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.AvgPool2d):
                setattr(module, name, torch.nn.AdaptiveAvgPool2d(1))


if __name__ == '__main__':
    main()
