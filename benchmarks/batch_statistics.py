"""Mean and variance of a batch: time and error of ours against Chainer's own.

    python benchmarks/batch_statistics.py [--repeat N]

Both are taken in turn, in one process, of float32 maps in training; medians, ratios and the largest
relative errors against float64 are printed.
"""
import argparse
import statistics
import time

import numpy

import chainer_abn  # noqa: F401 (before chainer: it prepares it)

from chainer.functions.normalization.batch_normalization import GeneralBatchNormalizationImpl

SHAPES = [(128, 16, 32, 32), (128, 64, 8, 8), (16, 64, 56, 56), (32, 256, 16, 16)]
AXIS = 0, 2, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=30)
    repeat = parser.parse_args().repeat
    rng = numpy.random.default_rng(0)
    ours = GeneralBatchNormalizationImpl.get_mean_and_var
    for shape in SHAPES:
        x = rng.normal(1, 0.3, shape).astype('f')
        exact = [statistic(axis=AXIS, dtype='d') for statistic in (x.mean, x.var)]
        times, errors = {ours: [], ours.original: []}, {}
        for _ in range(repeat + 1):
            for function, taken in times.items():
                started = time.perf_counter()
                found = function(None, AXIS, None, x, numpy, numpy.dtype('f'))
                taken.append(time.perf_counter() - started)
                errors[function] = max(abs(f / e - 1).max() for f, e in zip(found, exact, strict=True))
        (t, error), (t_theirs, error_theirs) = (
            (1000 * statistics.median(times[f][1:]), errors[f]) for f in times)
        print(f'{shape}: {t:.2f} ms against {t_theirs:.2f} ms ({t_theirs / t:.2f} times as fast), error '
              f'{error:.1e} against {error_theirs:.1e} ({error / error_theirs:.2f})')


if __name__ == '__main__':
    main()
