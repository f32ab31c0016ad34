import numpy


class Subset:
    """Some of the images of a data set."""

    def __init__(self, dataset, indices):
        self.base, self.indices = dataset, numpy.asarray(indices)
        self.classes, self.ignored = dataset.classes, dataset.ignored
        self.labels = dataset.labels[self.indices]
        self.split = None
        if dataset.split is not None:
            self.split = [numpy.flatnonzero(numpy.isin(self.indices, part))
                          for part in dataset.split]

    def __len__(self):
        return len(self.indices)

    def name(self, i):
        return self.base.name(self.indices[i])

    def image(self, i, cover=None):
        return self.base.image(self.indices[i], cover)
