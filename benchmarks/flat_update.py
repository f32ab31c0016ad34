"""Time of an optimizer's step: the flat update against Chainer's own.

    python benchmarks/flat_update.py [--repeat N]

MomentumSGD with weight decay, on the CPU. Both update the same network with the same random gradients in
turn, in one process; medians and ratios are printed.
"""
import argparse
import statistics
import time

import numpy

import chainer_abn
from chainer_abn.runtime import flat_update

import chainer

BACKBONES = 'resnet110', 'resnet50'
OPTIMIZERS = chainer.optimizers.MomentumSGD, chainer.optimizers.NesterovAG, chainer.optimizers.SGD


def prepare(name, kind):
    """An optimizer of a network with gradients."""
    rng = numpy.random.default_rng(0)
    network = chainer_abn.build(name, 10)
    optimizer = kind(lr=1e-4).setup(network)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
    for param in network.params():
        param.grad = rng.standard_normal(param.shape).astype('f')
    return optimizer


def seconds(update, optimizer):
    started = time.perf_counter()
    update(optimizer)
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=30)
    repeat = parser.parse_args().repeat
    flat_update.apply()
    chainer.config.use_ideep = 'auto'
    for name in BACKBONES:
        for kind in OPTIMIZERS:
            optimizer = prepare(name, kind)
            params = list(optimizer.target.params())
            times = {kind.update: [], kind.update.original: []}
            for _ in range(repeat + 2):         # the first makes the momenta, the second the buffers
                for update, taken in times.items():
                    taken.append(seconds(update, optimizer))
            ours, theirs = (1000 * statistics.median(taken[2:]) for taken in times.values())
            print(f'{name} ({len(params)} parameters, {sum(p.size for p in params) / 1e6:.1f} million '
                  f'numbers), {kind.__name__}: {ours:.2f} ms against {theirs:.2f} ms '
                  f'({theirs / ours:.2f} times as fast)')


if __name__ == '__main__':
    main()
