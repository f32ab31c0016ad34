"""One fold's trainer: optimizer, schedule and extensions put together."""
import sys

import matplotlib

from chainer_abn.datasets.ahead import send_ahead
from chainer_abn.datasets.batches import BatchIterator
from chainer_abn.datasets.examples import EpochOrder
from chainer_abn.datasets.workers import WorkerIterator
from chainer_abn.training.divergence import LookForDivergence
from chainer_abn.training.extensions import (
    KeepBest,
    Plot,
    ProgressLine,
    TimedUpdater,
    Validation,
    WithoutEscapes,
)
from chainer_abn.training.finetune import freeze
from chainer_abn.training.schedule import Schedule
from chainer_abn.training.seeds import SeedEpochs
from chainer_abn.training.snapshot import Snapshot
from chainer_abn.training.step import make_step

import chainer
from chainer.training import extensions

matplotlib.use('Agg')           # PlotReport draws through pyplot, which would look for a display

TERMS = 'loss', 'perception_loss', 'attention_loss'
ACCURACIES = 'accuracy', 'attention_accuracy', 'top5_accuracy'
MANY = 100              # classes from which on the five best are looked at


def make_optimizer(classifier, options):
    """SGD with momentum (or Nesterov's) and weight decay on every parameter that is not frozen."""
    kind = chainer.optimizers.NesterovAG if options.nesterov else chainer.optimizers.MomentumSGD
    optimizer = kind(lr=options.lr, momentum=options.momentum).setup(classifier)
    if options.weight_decay:
        optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(options.weight_decay))
    for part in options.freeze:
        freeze(classifier.network, part)
    return optimizer


def make_iterator(examples, batchsize, workers, train, seed=0):
    """One whose batches are made in this process, or, of ``workers`` more than 0, in so many others."""
    order = {'order_sampler': EpochOrder(seed)} if train else {'shuffle': False}
    if workers == 0:
        return BatchIterator(examples, batchsize, repeat=train, **order)
    return WorkerIterator(examples, batchsize, workers, repeat=train, **order)


def make_trainer(classifier, iterators, converter, device, options, run, fold, config, held_out):
    """The trainer of a fold.

    Args:
        classifier (ABNClassifier)
        iterators: of the training and of the validation examples.
        converter (Normalize)
        device (chainer.backend.Device)
        options: the run's settings, as attributes.
        run (RunFolder)
        fold (int)
        config (dict): for the network files.
        held_out (Subset): the validation images.
    """
    (train, validation), converter = send_ahead(iterators, converter, device)
    step = make_step(make_optimizer(classifier, options), device, options.dtype == 'mixed16',
                     options.capture)
    updater = TimedUpdater(train, step, converter, device)
    trainer = chainer.training.Trainer(updater, (options.epoch, 'epoch'), out=str(run.root))
    validation = Validation(validation, classifier, converter, device)
    trainer.extend(validation, name='validation')
    trainer.extend(SeedEpochs(options.seed, fold, device))
    trainer.extend(extensions.observe_lr(), trigger=(1, 'epoch'))
    trainer.extend(Schedule(options.lr, options.epoch, options.schedule, options.milestones,
                            options.gamma, options.warmup))
    trainer.extend(extensions.LogReport(filename=str(run.log(fold).relative_to(run.root))))
    many = len(config['classes']) >= MANY and not config['multitask']
    top5 = ['validation/main/top5_accuracy'] if many else []
    trainer.extend(extensions.PrintReport(
        ['epoch', 'lr', 'main/loss', 'main/accuracy', 'validation/main/loss', 'validation/main/accuracy',
         *top5, 'elapsed_time'], out=WithoutEscapes(sys.stdout)), trigger=(1, 'epoch'))
    for name, terms in ('loss', TERMS), ('accuracy', ACCURACIES):
        trainer.extend(Plot(
            [f'{part}main/{term}' for part in ('', 'validation/') for term in terms], 'epoch',
            filename=run.curve(name, fold).name), name=f'plot_{name}')
    trainer.extend(KeepBest(validation, run, fold, config, held_out))
    trainer.extend(ProgressLine(f'fold {fold}', options.epoch, len(train.dataset)))
    divergence = LookForDivergence(run, fold)
    trainer.extend(divergence)
    trainer.extend(Snapshot(run, fold, options.snapshot_every, options.epoch, divergence))
    return trainer
