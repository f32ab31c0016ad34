"""The learning rate as a function of the epoch."""
import math

from chainer.training import extension

SCHEDULES = ('multistep', 'cosine', 'constant')


class Schedule(extension.Extension):
    """Sets the learning rate from the position of the training alone.

    Nothing is kept between calls, so a resumed run has the rate that it would have had.

    Args:
        lr (float): base learning rate.
        epochs (int): length of the training.
        kind (str): ``multistep`` multiplies by ``gamma`` at each milestone, ``cosine`` follows
            half a cosine from ``lr`` to 0 (Loshchilov and Hutter 2017, without restarts), in steps
            of one epoch; ``constant`` stays.
        milestones (sequence of int): epochs.
        gamma (float)
        warmup (float): epochs of a linear rise at the start, by iteration.
    """

    trigger = 1, 'iteration'
    name = 'Schedule'

    def __init__(self, lr, epochs, kind, milestones=(), gamma=0.1, warmup=0):
        self.lr, self.epochs, self.kind = lr, epochs, kind
        self.milestones, self.gamma, self.warmup = milestones, gamma, warmup

    def rate(self, epoch_detail, iteration_length=0):
        """The rate of the iteration that starts after ``epoch_detail`` epochs.

        ``iteration_length``, in epochs, makes the first step of the warm-up positive.
        """
        epoch = int(epoch_detail)
        if epoch_detail < self.warmup:
            return self.lr * min((epoch_detail + iteration_length) / self.warmup, 1)
        if self.kind == 'multistep':
            return self.lr * self.gamma ** sum(epoch >= m for m in self.milestones)
        if self.kind == 'cosine':
            return self.lr * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2
        return self.lr

    def initialize(self, trainer):
        self(trainer)

    def __call__(self, trainer):
        updater = trainer.updater
        iterator = updater.get_iterator('main')
        step = iterator.batch_size / len(iterator.dataset)
        updater.get_optimizer('main').lr = self.rate(updater.epoch_detail, step)
