"""Where the random numbers of a run start."""
import random

import numpy

from chainer_abn.runtime import dropout

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
        (seed, fold) if epoch is None else (seed, fold, epoch)).generate_state(4)
    numpy.random.seed(words)
    random.seed(int(words[0]))
    if device.xp is not numpy:
        device.xp.random.seed(int(words[0]))
        dropout.seed(int(words[1]))


class SeedEpochs(extension.Extension):
    """Every epoch has random states of its own: dropout is the same in a run that was cut and resumed."""

    trigger = 1, 'epoch'
    name = 'SeedEpochs'

    def __init__(self, seed, fold, device):
        self.seed, self.fold, self.device = seed, fold, device

    def initialize(self, trainer):
        self(trainer)

    def __call__(self, trainer):
        seed_everything(self.seed, self.fold, self.device, trainer.updater.epoch)
