"""What a snapshot takes, against an epoch of training on as many images as CIFAR's.

    python benchmarks/snapshot.py [--arch A ...] [--repeat N] [--steps S] [--out DIR]

Steps of training and snapshots (written, flushed to the disk, renamed, the oldest removed) take turns in one
process. Printed are medians with the extremes, and the share of an epoch of 50,000 images.
"""
import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy

from chainer_abn.datasets.examples import Examples, Store
from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.transforms import Augment, CenterCrop, normalize_of
from chainer_abn.training import checkpoint
from chainer_abn.training.arguments import make_parser
from chainer_abn.training.classifier import make_classifier
from chainer_abn.training.options import resolve
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.runner import first_network
from chainer_abn.training.trainer import make_iterator, make_trainer

import chainer
from chainer.training import extension

IMAGES = 50_000


class Noise:
    """Some images of CIFAR's size."""
    classes, ignored, split = tuple('0123456789'), (), None

    def __init__(self, n):
        self.images = numpy.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), 'u1')
        self.labels = numpy.arange(n, dtype='i') % 10

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return str(i)

    def image(self, i, cover=None):
        return self.images[i]


def make(arch, folder):
    """A trainer as n_fold_train.py makes it, and its settings."""
    options = make_parser('').parse_args(['--dataset', 'cifar10', '--arch', arch])
    resolve(options, {})
    store = Store(Noise(20 * options.batchsize), (32, 32))
    config = checkpoint.make_config(
        arch=arch, variant='abn', attention='residual', dropout=options.dropout, in_channels=3,
        classes=Noise.classes, image_size=[32, 32], resize=[32, 32], mean=options.mean, std=options.std)
    indices = numpy.arange(len(store.dataset))
    examples = [Examples(store, indices, transform)
                for transform in (Augment((32, 32), pad=4), CenterCrop((32, 32)))]
    iterators = [make_iterator(one, options.batchsize, 0, train)
                 for one, train in zip(examples, (True, False), strict=True)]
    (folder / 'snap').mkdir()
    device = chainer.get_device('@numpy')
    return make_trainer(make_classifier(first_network(config, options)), iterators, normalize_of(config, 'f'),
                        device, options, RunFolder(folder, 4), 1, config,
                        Subset(store.dataset, indices)), options


class Watch(extension.Extension):
    """Times the steps since it was last called, and a snapshot."""
    priority = -200

    def __init__(self, n):
        self.trigger, self.n, self.steps, self.snapshots = (n, 'iteration'), n, [], []

    def initialize(self, trainer):
        self.since = time.perf_counter()

    def __call__(self, trainer):
        self.steps.append((time.perf_counter() - self.since) / self.n)
        started = time.perf_counter()
        trainer.get_extension('Snapshot').save(trainer)
        self.since = time.perf_counter()
        self.snapshots.append(self.since - started)


def measure(arch, options, folder):
    trainer, settings = make(arch, folder)
    trainer.stop_trigger = chainer.training.get_trigger((options.steps * (options.repeat + 1), 'iteration'))
    watch = Watch(options.steps)
    trainer.extend(watch)
    trainer.run()
    steps, snapshots = watch.steps[1:], watch.snapshots[1:]         # the first makes ready
    size = max(path.stat().st_size for path in (folder / 'snap').iterdir())
    epoch = statistics.median(steps) * IMAGES / settings.batchsize
    print(f'{arch:10} {told(steps)} a step of {settings.batchsize}, {epoch:7.1f} s an epoch; '
          f'{told(snapshots)} a snapshot of {size / 1e6:.1f} MB: '
          f'{100 * statistics.median(snapshots) / epoch:.3f} %', flush=True)


def told(seconds):
    return f'{1e3 * statistics.median(seconds):7.1f} ms [{1e3 * min(seconds):.1f}, {1e3 * max(seconds):.1f}]'


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--arch', nargs='+', default=['resnet8', 'resnet20', 'resnet110', 'wrn-16-4'])
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--steps', type=int, default=3, help='of training between two snapshots')
    parser.add_argument('--out', help='where snapshots are written (default: the temporary folder)')
    options = parser.parse_args()
    for arch in options.arch:
        folder = Path(tempfile.mkdtemp(dir=options.out))
        try:
            measure(arch, options, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == '__main__':
    main()
