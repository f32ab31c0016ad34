"""Images per second that reach the GPU, ready for the network, by each way of making batches of CIFAR's size.

    python benchmarks/gpu_input.py [--repeat N] [--batchsize B] [--load MS] [--json FILE]

- host: augmented and normalised on the CPU, then sent as float32, one batch after the other.
- ahead: augmented on the CPU, sent as bytes from pinned memory while the GPU works, normalised there.
- gpu: all images are on the GPU and augmented there.

Each way alone, and with matrix products on the GPU for MS milliseconds after each batch, as a network would
take. They take turns in one process; medians with the extremes are printed, and the share of the speed that
the products alone would allow.
"""
import argparse
import json
import statistics
import time

import numpy
from input import NORMALIZE, Noise

from chainer_abn import runtime
from chainer_abn.datasets.ahead import send_ahead
from chainer_abn.datasets.examples import Examples, Store
from chainer_abn.datasets.on_gpu import Cuts, on_gpu
from chainer_abn.datasets.transforms import Augment
from chainer_abn.errors import InputError, run_program
from chainer_abn.runtime import devices
from chainer_abn.training.trainer import make_iterator

PROGRAM = 'gpu_input.py'
LOADS = 'alone', 'with load'


def make_sources(device, batchsize):
    """Name -> function that gives the next x and t."""
    dataset = Noise()
    examples = Examples(Store(dataset, (32, 32)), numpy.arange(len(dataset)), Augment((32, 32), pad=4))
    cuts, = on_gpu([examples], device)
    if not isinstance(cuts, Cuts):
        raise InputError('too little of the GPU\'s memory is free for the images')
    plain, below, above = (make_iterator(part, batchsize, 0, True) for part in (examples, examples, cuts))
    (ahead, resident), converter = send_ahead([below, above], NORMALIZE, device)

    def source(iterator, converter):
        return lambda: converter(iterator.next(), device)
    return {'host': source(plain, NORMALIZE), 'ahead': source(ahead, converter),
            'gpu': source(resident, converter)}


class Products:
    """Matrix products that keep the GPU busy for some milliseconds."""

    def __init__(self, device, milliseconds):
        xp = device.xp
        self.device, self.matmul = device.device, xp.matmul
        self.a = xp.random.standard_normal((2048, 2048), dtype='f')
        self.out = xp.empty_like(self.a)
        self.n = 20
        self()                                  # the first is slow
        self.n = max(round(self.n * milliseconds / self.milliseconds()), 1)
        self.taken = self.milliseconds()

    def __call__(self):
        for _ in range(self.n):
            self.matmul(self.a, self.a, out=self.out)

    def milliseconds(self):
        self.device.synchronize()
        started = time.perf_counter()
        self()
        self.device.synchronize()
        return 1000 * (time.perf_counter() - started)


def images_per_second(device, source, load, n_batches, batchsize):
    device.device.synchronize()
    started = time.perf_counter()
    for _ in range(n_batches):
        source()
        load()
    device.device.synchronize()
    return n_batches * batchsize / (time.perf_counter() - started)


def measure(options, device):
    """Way -> load -> images/s of each round."""
    sources = make_sources(device, options.batchsize)
    products = Products(device, options.load)
    loads = dict(zip(LOADS, (lambda: None, products), strict=True))
    speeds = {way: {name: [] for name in LOADS} for way in sources}
    for turn in range(options.repeat + 1):
        for way, source in sources.items():
            for name, load in loads.items():
                speed = images_per_second(device, source, load, options.batches, options.batchsize)
                if turn:                        # the first round is for the caches
                    speeds[way][name].append(speed)
    return speeds, products.taken


def report(speeds, ceiling):
    """The lines of the table."""
    yield f'{"way":8}' + ''.join(f'{name + ", images/s":>34}' for name in LOADS) + f'{"share":>8}'
    for way, by_load in speeds.items():
        told = [f'{statistics.median(taken):.0f} ({min(taken):.0f} to {max(taken):.0f})'
                for taken in by_load.values()]
        share = statistics.median(by_load[LOADS[1]]) / ceiling
        yield f'{way:8}' + ''.join(f'{text:>34}' for text in told) + f'{share:8.2f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=9)
    parser.add_argument('--batches', type=int, default=50, help='of one measurement')
    parser.add_argument('--batchsize', type=int, default=128)
    parser.add_argument('--load', type=float, default=5, metavar='MS', help='of matrix products per batch')
    parser.add_argument('--json', metavar='FILE', help='where all measurements go')
    options = parser.parse_args()
    count, reason = devices.find_gpus()
    if not count:
        raise InputError(f'this needs a GPU: {reason}')
    device = devices.choose_device(0)
    speeds, taken = measure(options, device)
    ceiling = 1000 * options.batchsize / taken
    print(f'{devices.describe(device)}: batches of {options.batchsize} images of 32 px; products of '
          f'{taken:.2f} ms, which allow {ceiling:.0f} images/s')
    print(*report(speeds, ceiling), sep='\n')
    if options.json:
        with open(options.json, 'w') as file:
            json.dump({'device': devices.describe(device), 'versions': runtime.versions(),
                       'batchsize': options.batchsize, 'products_ms': taken, 'images_per_second': speeds},
                      file, indent=1)


if __name__ == '__main__':
    run_program(main, PROGRAM)
