"""Time and memory of ``attend`` against the same written with Chainer's own functions.

    python benchmarks/attend.py [--repeat N]

Both run forward and backward in turn, in one process; medians and ratios are printed.
"""
import argparse
import statistics
import time
import tracemalloc

import numpy

from chainer_abn.functions import attend

import chainer
import chainer.functions as F

SHAPES = {'resnet20, 32 px, batch 128': (128, 32, 16, 16), 'resnet50, 224 px, batch 8': (8, 1024, 14, 14)}


def composed(g, attention):
    """g (1 + M), as a reader of the paper would write it."""
    return g * (1 + F.broadcast_to(attention, g.shape))


def step(function, arrays):
    g, attention, gy = arrays
    g, attention = chainer.Variable(g), chainer.Variable(attention)
    y = function(g, attention)
    y.grad = gy
    y.backward()


def seconds(function, arrays):
    started = time.perf_counter()
    step(function, arrays)
    return time.perf_counter() - started


def peak(function, arrays):
    """Bytes allocated on top of the arrays given."""
    tracemalloc.start()
    step(function, arrays)
    bytes_ = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=30)
    repeat = parser.parse_args().repeat
    rng = numpy.random.default_rng(0)
    for name, shape in SHAPES.items():
        b, _, h, w = shape
        arrays = [rng.standard_normal(s).astype('f') for s in (shape, (b, 1, h, w), shape)]
        times = {attend: [], composed: []}
        for _ in range(repeat + 1):
            for function, taken in times.items():
                taken.append(seconds(function, arrays))
        ours, theirs = (statistics.median(taken[1:]) for taken in times.values())
        memory = [peak(function, arrays) / 2 ** 20 for function in times]
        print(f'{name} {shape}: {1000 * ours:.2f} ms against {1000 * theirs:.2f} ms '
              f'({theirs / ours:.2f} times as fast), peak {memory[0]:.1f} MiB against {memory[1]:.1f} MiB '
              f'({memory[0] / memory[1]:.2f})')


if __name__ == '__main__':
    main()
