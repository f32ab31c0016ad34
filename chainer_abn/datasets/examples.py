"""A data set as Chainer's iterators want it.

The order of the images and their random changes are functions of (seed, epoch) alone: they do not
depend on worker processes or the size of a batch, and a resumed run needs nothing but the epoch.
"""
import hashlib
import os

import numpy

from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.transforms import FITS
from chainer_abn.errors import InputError
from chainer_abn.progress import Progress

import chainer

MEMORY = 2 << 30
BAND = 1 << 18              # pixels that are counted at a time


class Store:
    """The images of a data set, each resized so that it covers ``size``.

    Making one reads every image once: to find those that cannot be read before anything else is
    done, to sum up their pixels, and to keep them all if they fit in ``memory``. Where nothing of that is
    wanted or can be (millions of images, whose mean is known) they are read when they are needed only.

    Args:
        dataset: with ``labels``, ``image(i, cover)`` and ``name(i)``.
        size: (height, width) to cover, in pixels.
        skip_bad (bool): go on when an image cannot be read; else the first one is an error.
        memory (int): bytes of decoded images to keep.
        fit (str): of ``FITS``: ``cover`` keeps the image's shape, ``squeeze`` makes it ``size`` exactly,
            ``keep`` leaves it as it is.
        measure (bool): whether :meth:`mean_std` is needed.

    Attributes:
        dataset: without the images that cannot be read; indices are into this one.
        bad (list of str): what is wrong with those.
        in_memory (bool): whether all images are kept.
    """

    def __init__(self, dataset, size, skip_bad=False, memory=MEMORY, fit='cover', measure=True):
        self.dataset, self.size, self.fit, self.bad = dataset, size, FITS[fit], []
        self._kept, self.in_memory, self._moments = [], False, None
        if measure or skip_bad or len(dataset) * size[0] * size[1] * 3 <= memory:
            self._read_all(skip_bad, memory)

    def _read_all(self, skip_bad, memory):
        dataset = self.dataset
        self._moments = numpy.zeros((len(dataset), 2, 3))    # sums of x and x^2, x = pixel / 255
        self._pixels = numpy.zeros(len(dataset))
        good = []
        self.in_memory, used = True, 0
        with Progress('reading images', len(dataset), 'images') as progress:
            for i in range(len(dataset)):
                progress.update(i)
                try:
                    image = self._read(i)
                except InputError as error:
                    if not skip_bad:
                        raise InputError(f'{error}; --skip-bad leaves such images out') from None
                    self.bad.append(str(error))
                    continue
                good.append(i)
                self._measure(i, image)
                used += image.nbytes
                if used > memory:
                    self.in_memory = False
                    self._kept.clear()
                elif self.in_memory:
                    self._kept.append(image)
        if self.bad:
            if not good:
                raise InputError(f'none of the {len(dataset)} images can be read, such as {self.bad[0]}')
            self.dataset = Subset(dataset, good)
            self._moments, self._pixels = self._moments[good], self._pixels[good]

    def _measure(self, i, image):
        pixels, counts = image.reshape(-1, 3), numpy.zeros((3, 256), 'i8')
        # in bands: they are counted as 64-bit integers
        for start in range(0, len(pixels), BAND):
            for channel, values in zip(counts, pixels[start:start + BAND].T, strict=True):
                channel += numpy.bincount(values, minlength=256)
        values = numpy.arange(256)
        self._moments[i] = counts @ values / 255, counts @ values ** 2 / 255 ** 2
        self._pixels[i] = len(pixels)

    @property
    def shape(self):
        """(n, H, W, 3) if all images are kept and are of one size, else None."""
        if not self.in_memory or len({image.shape for image in self._kept}) != 1:
            return None
        return len(self._kept), *self._kept[0].shape

    def image(self, i):
        """(H, W, 3) uint8 RGB; at least ``size`` large, unless kept as it is."""
        if i < len(self._kept):
            return self._kept[i]
        return self._read(i)

    def _read(self, i):
        return self.fit(self.dataset.image(i, self.size), self.size)

    def digests(self):
        """What tells whether these are the same images: their number, SHA-256 of their names (without the
        folder that all are in), and of the sums of their pixels where all have been read.

        Returns:
            dict of str.
        """
        names = [self.dataset.name(i) for i in range(len(self.dataset))]
        shared = len(os.path.commonprefix([min(names), max(names)]))
        sha = hashlib.sha256()
        for name in names:
            sha.update(name[shared:].encode(errors='surrogateescape') + b'\0')
        found = {'images': str(len(names)), 'names': sha.hexdigest()}
        if self._moments is not None:
            found['pixels'] = hashlib.sha256(self._moments.tobytes() + self._pixels.tobytes()).hexdigest()
        return found

    def mean_std(self, indices):
        """Mean and standard deviation per channel over the pixels of some images, in [0, 1].

        Returns:
            two lists of three floats.
        """
        mean, square = self._moments[indices].sum(0) / self._pixels[indices].sum()
        std = numpy.sqrt(numpy.maximum(square - mean ** 2, 0))
        # a channel of one value is left as it is
        return mean.tolist(), numpy.where(std > 1e-6, std, 1).tolist()


class Examples(chainer.dataset.DatasetMixin):
    """Some images of a store, transformed, with their labels.

    Example ``i + len(self) * epoch`` is image ``i`` as it is seen in that epoch.

    Args:
        store (Store)
        indices: of the images in the store.
        transform: (list of images, uniform numbers (B, ``transform.draws``)) -> images of one size.
        seed (int)
    """

    def __init__(self, store, indices, transform, seed=0):
        self.store, self.indices, self.transform = store, numpy.asarray(indices), transform
        self.seed, self._epoch, self._table = seed, None, None

    def __len__(self):
        return len(self.indices)

    def get_example(self, i):
        """One image, (height, width, 3) uint8 RGB, and its label."""
        (image,), (label,) = self.batch(numpy.array([i]))
        return image, label

    def name(self, i):
        """The name of the image of an example."""
        return self.store.dataset.name(self.indices[i % len(self)])

    def labels(self, numbers):
        """The labels of a batch."""
        return self.store.dataset.labels[self.indices[numbers % len(self)]]

    def batch(self, numbers):
        """Many examples at once, the same as each by itself.

        Args:
            numbers: (B,) int array, of the examples.

        Returns:
            images (B, height, width, 3) uint8 RGB and labels (B,) int32, of several tasks (B, T).

        Raises:
            InputError: an image cannot be read any more.
        """
        indices, uniform = self.drawn(numbers)
        images = [self.store.image(i) for i in indices]
        return self.transform(images, uniform), self.store.dataset.labels[indices]

    def drawn(self, numbers):
        """The images of a batch, (B,) int, and their uniform numbers, (B, draws) float64 in [0, 1)."""
        epochs, rows = numpy.divmod(numbers, len(self))
        return self.indices[rows], self._uniform(epochs, rows)

    def _uniform(self, epochs, rows):
        """(B, draws) float64 in [0, 1)."""
        out = numpy.empty((len(rows), self.transform.draws))
        for epoch in numpy.unique(epochs):
            if epoch != self._epoch:
                # row i is for image i; the 1 keeps the stream apart from that of EpochOrder
                rng = numpy.random.default_rng((self.seed, epoch, 1))
                self._epoch, self._table = epoch, rng.random((len(self), self.transform.draws))
            now = epochs == epoch
            out[now] = self._table[rows[now]]
        return out


class EpochOrder:
    """Chainer order sampler: a fresh permutation per epoch, numbered as ``Examples`` wants it."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, order, position):
        n = len(order)
        epoch = int(order[0]) // n + 1
        return numpy.random.default_rng((self.seed, epoch)).permutation(n) + n * epoch
