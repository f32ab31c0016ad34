"""The time that Python takes to queue a training step on a GPU, with the GPU's own work left out.

    .venv-gpu/bin/python benchmarks/gpu_queueing.py [--archs resnet20,resnet110] [--repeat N]

It needs no GPU: the work goes to the emulated one of the tests, which throws it away. Stages as one node of
the graph each, and Chainer's functions one by one, take turns; medians in milliseconds.
"""
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ('.', 'tests')]

import emulator  # noqa: E402

emulator.start()

import numpy  # noqa: E402

import chainer_abn  # noqa: E402
from chainer_abn.errors import ArgumentParser, run_program  # noqa: E402
from chainer_abn.training.classifier import ABNClassifier  # noqa: E402
from chainer_abn.training.step import GpuStep  # noqa: E402

import chainer  # noqa: E402

PROGRAM = 'gpu_queueing.py'
WARM_UP = 2


def step_of(arch, dtype):
    """A function that queues a step and returns its seconds."""
    numpy.random.seed(0)
    classifier = ABNClassifier(chainer_abn.build(arch, 10))
    device = chainer.get_device('@cupy:0')
    classifier.to_device(device)
    optimizer = chainer.optimizers.MomentumSGD(lr=0.01).setup(classifier)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
    step = GpuStep(optimizer, dtype == 'e')
    x = device.send(numpy.random.standard_normal((2, 3, 32, 32)).astype(dtype))
    t = device.send(numpy.array([1, 2], 'i'))
    reporter = chainer.Reporter()
    reporter.add_observer('main', classifier)

    def queue(as_nodes):
        with reporter.scope({}), chainer.using_config('use_tape', as_nodes), \
                chainer.using_config('cudnn_deterministic', True):
            started = time.perf_counter()
            step(x, t)
            return time.perf_counter() - started
    return queue


def main():
    parser = ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument('--archs', default='resnet20,resnet110', help='networks (default resnet20,resnet110)')
    parser.add_argument('--repeat', type=int, default=15, help='turns of each side (default 15)')
    options = parser.parse_args()
    print(f'{"network":12} {"dtype":8} {"stages":>8} {"functions":>10} {"ratio":>6}')
    for arch in options.archs.split(','):
        for dtype, name in ('f', 'float32'), ('e', 'mixed16'):
            emulator.set_skipping(False)
            queue = step_of(arch, dtype)
            for _ in range(WARM_UP):
                queue(True), queue(False)
            emulator.set_skipping(True)
            turns = [(queue(True), queue(False)) for _ in range(options.repeat)]
            ours, chainers = (1000 * statistics.median(side) for side in zip(*turns, strict=True))
            print(f'{arch:12} {name:8} {ours:8.1f} {chainers:10.1f} {chainers / ours:6.2f}', flush=True)


if __name__ == '__main__':
    run_program(main, PROGRAM)
