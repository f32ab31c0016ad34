"""A data set as Chainer's iterators want it.

The order of the images and their random changes are functions of (seed, epoch) alone: they do not
depend on the number of worker processes, and a resumed run needs nothing but the epoch.
"""
import numpy

from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.transforms import resize_to_cover
from chainer_abn.errors import InputError
from chainer_abn.progress import Progress

import chainer

MEMORY = 2 << 30


class Store:
    """The images of a data set, each resized so that it covers ``size``.

    Making one reads every image once: to find those that cannot be read before anything else is
    done, to sum up their pixels, and to keep them all if they fit in ``memory``.

    Args:
        dataset: with ``labels``, ``image(i)`` and ``name(i)``.
        size: (height, width) to cover, in pixels.
        skip_bad (bool): go on when an image cannot be read; else the first one is an error.
        memory (int): bytes of decoded images to keep.

    Attributes:
        dataset: without the images that cannot be read; indices are into this one.
        bad (list of str): what is wrong with those.
        in_memory (bool): whether all images are kept.
    """

    def __init__(self, dataset, size, skip_bad=False, memory=MEMORY):
        self.dataset, self.size, self.bad = dataset, size, []
        self._moments = numpy.zeros((len(dataset), 2, 3))    # sums of x and x^2, x = pixel / 255
        self._pixels = numpy.zeros(len(dataset))
        self._kept = []
        good = []
        self.in_memory, used = True, 0
        with Progress('reading images', len(dataset), 'images') as progress:
            for i in range(len(dataset)):
                progress.update(i)
                try:
                    image = resize_to_cover(dataset.image(i), size)
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
            self.dataset = Subset(dataset, good)
            self._moments, self._pixels = self._moments[good], self._pixels[good]

    def _measure(self, i, image):
        pixels = image.reshape(-1, 3).astype('i8')
        self._moments[i] = pixels.sum(0) / 255, (pixels ** 2).sum(0) / 255 ** 2
        self._pixels[i] = len(pixels)

    def image(self, i):
        """(H, W, 3) uint8 RGB, at least ``size`` large."""
        if i < len(self._kept):
            return self._kept[i]
        return resize_to_cover(self.dataset.image(i), self.size)

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
        transform: (image, random generator) -> image.
        seed (int)
    """

    def __init__(self, store, indices, transform, seed=0):
        self.store, self.indices, self.transform, self.seed = store, indices, transform, seed

    def __len__(self):
        return len(self.indices)

    def get_example(self, i):
        epoch, i = divmod(int(i), len(self))
        rng = numpy.random.default_rng((self.seed, epoch, i))
        index = self.indices[i]
        try:
            image = self.store.image(index)
        except InputError as error:
            # raised by the converter: an exception in a worker would hang Chainer's iterator
            return error
        return self.transform(image, rng), self.store.dataset.labels[index]


class EpochOrder:
    """Chainer order sampler: a fresh permutation per epoch, numbered as ``Examples`` wants it."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, order, position):
        n = len(order)
        epoch = int(order[0]) // n + 1
        return numpy.random.default_rng((self.seed, epoch)).permutation(n) + n * epoch
