"""Images per second that the input side of training supplies, each way against a plainer one.

    python benchmarks/input.py [--repeat N] [--batchsize B] [--folder FOLDER] [--image-size S]

CIFAR: augmentation and normalisation of images in memory, whole batches against example by example.
Photos: read from the disk every time, JPEG decoded at the scale needed against its own. Both ways take turns
in one process; medians with the extremes, and ratios are printed. OMP_NUM_THREADS=1 keeps to one core.
"""
import argparse
import statistics
import time
from pathlib import Path

import numpy

from chainer_abn.datasets.examples import EpochOrder, Examples, Store
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.transforms import Augment, Normalize
from chainer_abn.training.trainer import make_iterator

import chainer

NORMALIZE = Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


class Noise:
    """Images as many as CIFAR's for training, and of their size."""

    def __init__(self, n=50000):
        self.images = numpy.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), 'u1')
        self.labels = numpy.zeros(n, 'i')

    def __len__(self):
        return len(self.labels)

    def image(self, i, cover=None):
        return self.images[i]


class FullScale(Folder):
    """A folder whose photos are always decoded at their own size."""

    def image(self, i, cover=None):
        return super().image(i)


def cifar(batchsize):
    dataset = Noise()
    examples = Examples(Store(dataset, (32, 32)), numpy.arange(len(dataset)), Augment((32, 32), pad=4))
    return {'by whole batches': make_iterator(examples, batchsize, 0, True),
            'one by one': chainer.iterators.SerialIterator(examples, batchsize, order_sampler=EpochOrder(0))}


def photos(folder, side, n, batchsize):
    """Evenly spaced photos of a folder, under the folder recipe."""
    resize = round(side * 256 / 224)
    iterators = {}
    for title, kind in ('at the scale needed', Folder), ('at their own', FullScale):
        dataset = kind(folder)
        dataset = Subset(dataset, numpy.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int))
        store = Store(dataset, (resize, resize), memory=0)
        examples = Examples(store, numpy.arange(len(dataset)), Augment((side, side)))
        iterators[title] = make_iterator(examples, batchsize, 0, True)
    return iterators


def images_per_second(iterator, n_batches):
    """Of batches as the network takes them."""
    started = time.perf_counter()
    for _ in range(n_batches):
        batch = iterator.next()
        NORMALIZE(chainer.dataset.concat_examples(batch) if isinstance(batch, list) else batch)
    return n_batches * iterator.batch_size / (time.perf_counter() - started)


def compare(title, iterators, n_batches, repeat):
    speeds = {name: [] for name in iterators}
    for _ in range(repeat + 1):
        for name, iterator in iterators.items():
            speeds[name].append(images_per_second(iterator, n_batches))
    # the first round is for the caches
    medians = {name: statistics.median(taken[1:]) for name, taken in speeds.items()}
    told = [f'{name} {medians[name]:.0f} ({min(taken[1:]):.0f} to {max(taken[1:]):.0f})'
            for name, taken in speeds.items()]
    ours, theirs = medians.values()
    print(f'{title}, images/s: {", ".join(told)}: {ours / theirs:.2f} times as fast')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=9)
    parser.add_argument('--batchsize', type=int, default=128)
    parser.add_argument('--folder', default='data/pets/images', help='class folders of photos')
    parser.add_argument('--image-size', type=int, default=128, help='px, of the photos\' crops')
    options = parser.parse_args()
    compare(f'CIFAR, 32 px, batch {options.batchsize}', cifar(options.batchsize), 20, options.repeat)
    if not Path(options.folder).is_dir():
        print(f'photos left out: no folder {options.folder} (--folder)')
        return
    iterators = photos(options.folder, options.image_size, 256, batchsize=32)
    compare(f'photos, {options.image_size} px, batch 32', iterators, 4, options.repeat)


if __name__ == '__main__':
    main()
