"""Where the random numbers of a run start, and where they were when it was cut."""
import json
import random

import numpy

from chainer_abn.runtime import dropout

import chainer
from chainer.training import extension


def seed_everything(seed, fold, device, epoch=None):
    """Every fold starts from random states of its own, whichever folds were run before it.

    Args:
        seed (int): of the run.
        fold (int)
        device (chainer.backend.Device): whose random state is set too.
        epoch (int): of the fold, from 0; None: before the first, for the weights.
    """
    words = numpy.random.SeedSequence(
        (seed, fold, 0 if epoch is None else epoch + 1)).generate_state(4)
    numpy.random.seed(words)
    random.seed(int(words[0]))
    if device.xp is not numpy:
        device.xp.random.seed(int(words[0]))
        dropout.seed(int(words[1]))


class SeedEpochs(extension.Extension):
    """Every epoch has random states of its own, and those of now are saved with the training.

    They are Python's, NumPy's and that of the masks of dropout on a GPU. CuPy's own generator, whose place
    cannot be asked for, is set anew each epoch; nothing here draws from it.
    """

    trigger = 1, 'epoch'
    name = 'SeedEpochs'

    def __init__(self, seed, fold, device):
        self.seed, self.fold, self.device = seed, fold, device
        self.goes_on = False            # with states that were saved

    def initialize(self, trainer):
        if not self.goes_on:
            self(trainer)

    def __call__(self, trainer):
        seed_everything(self.seed, self.fold, self.device, trainer.updater.epoch)

    def serialize(self, serializer):
        kind, keys, *rest = numpy.random.get_state()
        keys = serializer('numpy_keys', keys)
        rest = json.loads(str(serializer('numpy_rest', json.dumps(rest))))
        if not 0 <= rest[0] <= len(keys):       # NumPy would read there, whatever there is
            raise ValueError(f"place {rest[0]} in NumPy's random numbers")
        version, words, gauss = json.loads(str(serializer('python', json.dumps(random.getstate()))))
        numpy.random.set_state((kind, keys, *rest))
        random.setstate((version, tuple(words), gauss))
        if self.device.xp is not numpy:
            dropout.seed(int(serializer('dropout', dropout.state())))
        self.goes_on = isinstance(serializer, chainer.serializer.Deserializer)
