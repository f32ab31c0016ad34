"""The scores of many images and what they come to: means with their intervals."""
import tempfile
from typing import NamedTuple

import numpy

from chainer_abn.explain.faithfulness import area
from chainer_abn.explain.scores import THRESHOLDS, bootstrap

CENTRE, UNIFORM = BASELINES = 'centre', 'uniform'
BLOCK = 1000                    # images whose IoUs are read at once


class Mean(NamedTuple):
    """A mean over images, and the ends of its interval."""
    value: float
    low: float
    high: float

    def __str__(self):
        return f'{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]'


class Tally:
    """The scores of ``n`` images, each by some methods and by the two baselines.

    In memory are some numbers for each image and method; the IoUs at all thresholds lie in a temporary
    file until the best threshold is known.

    Args:
        n (int): images.
        methods (list of str): names.
        steps (int): of the curves of insertion and deletion; 0: there are none.

    Attributes:
        rows (list of str): the methods and then the baselines.
        scores (list of str): names.
        values: (n, rows, scores) float64; NaN where a row has no such score (the curves of ``uniform``).
            IoU is there after :meth:`finish`.
        places: (n, rows, 2) int32, row and column of the maxima; -1 where there is none.
        thresholds: (rows,) the best one of each method over all images, after :meth:`finish`.
        curves (dict): insertion and deletion -> (rows, steps + 1), the mean over the images so far.
    """

    def __init__(self, n, methods, steps=0):
        self.rows = [*methods, *BASELINES]
        self.scores = ['pointing', 'energy', 'iou', *['insertion', 'deletion'] * bool(steps)]
        self.values = numpy.full((n, len(self.rows), len(self.scores)), numpy.nan)
        self.places = numpy.full((n, len(self.rows), 2), -1, 'i4')
        self.curves = {name: numpy.zeros((len(self.rows), steps + 1)) for name in self.scores[3:]}
        self.thresholds = None
        self._ious, self._order = tempfile.TemporaryFile(), []
        self._sum = numpy.zeros((len(self.rows), len(THRESHOLDS)))

    def add(self, i, found, curves=()):
        """The scores of an image, which is added once.

        Args:
            i (int): its number, below n.
            found: a :class:`~chainer_abn.explain.scores.Found` per row.
            curves: dicts, insertion and deletion -> (steps + 1,), for the first rows.
        """
        for row, one in enumerate(found):
            self.values[i, row, :2] = one.pointing, one.energy
            if one.place is not None:
                self.places[i, row] = one.place
        for row, both in enumerate(curves):
            for name, curve in both.items():
                self.values[i, row, self.scores.index(name)] = area(curve)
                self.curves[name][row] += curve / len(self.values)
        ious = numpy.stack([one.ious for one in found])
        self._sum += ious
        self._order.append(i)
        self._ious.write(ious.astype('f4').tobytes())

    def finish(self):
        """Choose the thresholds: for each row that with the largest mean IoU, the same for all images."""
        rows = numpy.arange(len(self.rows))
        best = self._sum.argmax(axis=1)
        self.thresholds = THRESHOLDS[best]
        self._ious.seek(0)
        for start in range(0, len(self._order), BLOCK):
            block = numpy.frombuffer(self._ious.read(4 * BLOCK * self._sum.size), 'f4')
            block = block.reshape(-1, *self._sum.shape)
            self.values[self._order[start:start + BLOCK], :, 2] = block[:, rows, best]
        self._ious.close()

    @property
    def empty(self):
        """(rows,) how many of the maps pointed nowhere; those of ``uniform`` are not counted."""
        count = (self.places[..., 0] < 0).sum(axis=0)
        count[self.rows.index(UNIFORM)] = 0
        return count

    def named_curves(self):
        """{insertion or deletion: {row: curve}}, of the rows that have one."""
        return {name: dict(zip(self.rows[:-1], curves, strict=False)) for name, curves in self.curves.items()}

    def means(self, seed):
        """Means with intervals: {row: {score: Mean}}, and {method: Mean} of pointing less the centre's."""
        n = len(self.values)
        centre = self.rows.index(CENTRE)
        flat = numpy.concatenate([self.values.reshape(n, -1),
                                  self.values[:, :centre, 0] - self.values[:, [centre], 0]], axis=1)
        low, high = bootstrap(flat, seed)
        found = [None if numpy.isnan(mean) else Mean(*map(float, (mean, *ends)))
                 for mean, *ends in zip(flat.mean(axis=0), low, high, strict=True)]
        width = len(self.scores)
        table = {row: dict(zip(self.scores, found[i * width:(i + 1) * width], strict=True))
                 for i, row in enumerate(self.rows)}
        return table, dict(zip(self.rows[:centre], found[width * len(self.rows):], strict=True))
