"""What each choice around oneDNN gains: with and without it in turn, in one process.

    python benchmarks/onednn_choices.py [--repeat N]

BLAS threads held to one, memory kept by malloc, channels padded to a multiple of 16, the 3x3 convolution
to one map by way of nine, statistics of groups of pixels. Medians and ratios.
"""
import argparse
import ctypes
import statistics
import time

import numpy
from threadpoolctl import threadpool_limits

import chainer_abn
from chainer_abn.runtime import threads
from chainer_abn.runtime.onednn import primitives
from chainer_abn.runtime.onednn.primitives import norm
from chainer_abn.training.classifier import ABNClassifier

import chainer

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1         # malloc.h


def maps(*shape):
    x = primitives.empty(shape)
    x[...] = numpy.random.default_rng(0).standard_normal(shape)
    return x


def training_step(arch='resnet20', batch=128):
    numpy.random.seed(0)
    classifier = ABNClassifier(chainer_abn.build(arch, 10))
    optimizer = chainer.optimizers.MomentumSGD(0.01).setup(classifier)
    optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
    x, t = maps(batch, 3, 32, 32), numpy.zeros(batch, 'i')
    return lambda: optimizer.update(classifier, x, t)


def blas_threads():
    """A step with BLAS's threads as they were, and held to one; BLAS computes a little in each."""
    step = training_step()
    a = numpy.ones((512, 512), 'f')

    def run(n):
        def with_threads():
            with threadpool_limits(n, user_api='blas'):
                a @ a           # such as a user's own product between two steps: then the threads spin
                step()
        return with_threads
    return 'BLAS threads 1', run(1), f'{threads.processors()}', run(threads.processors())


def malloc():
    step = training_step()
    libc = ctypes.CDLL(None)

    def forgetful():
        libc.mallopt(MMAP_THRESHOLD, 128 << 10)         # glibc's initial values
        libc.mallopt(TRIM_THRESHOLD, 128 << 10)
        step()

    def keeping():
        threads.keep_memory()
        step()
    return 'malloc keeps large arrays', keeping, 'gives them back', forgetful


def padded_channels(c=100):
    x, gy = maps(64, c, 16, 16), maps(64, c, 16, 16)
    gamma = numpy.ones(c, 'f')
    wide = primitives.round_up(c)
    narrow_bn = primitives.batch_normalization(x.shape, 1e-5)
    wide_bn = primitives.batch_normalization((64, wide, 16, 16), 1e-5)
    wide_x, wide_gy = primitives.widened(x, wide), primitives.widened(gy, wide)
    wide_gamma = primitives.pad(gamma, wide)

    def run(bn, x, gy, gamma):
        def both_ways():
            _, mean, var, workspace = bn.forward(x, gamma, gamma)
            bn.backward(x, gamma, mean, var, workspace, gy)
        return both_ways
    return (f'BN of {c} channels padded to {wide}', run(wide_bn, wide_x, wide_gy, wide_gamma),
            'as they are', run(narrow_bn, x, gy, gamma))


def one_map(c):
    x, w, gy = maps(128, c, 16, 16), numpy.ones((1, c, 3, 3), 'f'), maps(128, 1, 16, 16)
    conv = primitives.convolution(x.shape, w.shape, primitives.Window(pad=(1, 1)))

    def taps():
        way = primitives.Taps(x, w)
        way.forward()
        way.backward(gy)

    def direct():
        conv.forward(x, w)
        conv.weights(x, gy)
        conv.data(gy, w)
    return f'3x3 convolution {c} -> 1 by nine taps', taps, 'directly', direct


def grouped_statistics():
    shape = 128, 16, 64, 64
    x, gamma = maps(*shape), numpy.ones(16, 'f')
    grouped = primitives.batch_normalization(shape, 1e-5)
    plain = norm._BatchNormalization(shape, 1e-5)
    exact = x.astype('d').var((0, 2, 3))
    errors = [abs(bn.forward(x, gamma, gamma)[2] / exact - 1).max() for bn in (grouped, plain)]
    return (f'statistics in groups (error {errors[0]:.0e}, without {errors[1]:.0e})',
            lambda: grouped.forward(x, gamma, gamma), 'in one', lambda: plain.forward(x, gamma, gamma))


CHOICES = (blas_threads, malloc, padded_channels, lambda: one_map(10), lambda: one_map(100),
           grouped_statistics)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=15)
    repeat = parser.parse_args().repeat
    if not primitives.available():
        return
    for choice in CHOICES:
        name, ours, other, without = choice()
        times = {ours: [], without: []}
        for _ in range(repeat + 2):
            for function, taken in times.items():
                started = time.perf_counter()
                function()
                taken.append(1000 * (time.perf_counter() - started))
        mine, theirs = (statistics.median(taken[2:]) for taken in times.values())
        print(f'{name}: {mine:.2f} ms, {other}: {theirs:.2f} ms ({theirs / mine:.2f} times as fast)')
    threads.keep_memory()


if __name__ == '__main__':
    main()
