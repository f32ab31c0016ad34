"""Folds, one after the other."""
import math

import numpy

from chainer_abn import interrupt, links
from chainer_abn.datasets.examples import Examples
from chainer_abn.datasets.on_gpu import on_gpu
from chainer_abn.datasets.subset import Subset
from chainer_abn.datasets.transforms import Augment, CenterCrop, ResizedCrop, normalize_of
from chainer_abn.errors import InputError
from chainer_abn.runtime import devices
from chainer_abn.training import checkpoint
from chainer_abn.training.classifier import make_classifier
from chainer_abn.training.finetune import start_from
from chainer_abn.training.seeds import seed_everything
from chainer_abn.training.snapshot import restore
from chainer_abn.training.trainer import make_iterator, make_trainer

import chainer


def train_fold(run, fold, store, split, config, options, device, start=None):
    """Train one fold from its first network, or from where it was cut, and leave its files.

    Args:
        run (RunFolder)
        fold (int): from 1.
        store (Store): of all images.
        split: (train, validation) index arrays.
        config (dict): of the fold's network files; ``mean`` and ``std`` are the fold's.
        options: the run's settings, as attributes.
        device (chainer.backend.Device)
        start (chainer.Chain): the network that ``--pretrained`` named, or None.

    Returns:
        dict: the fold's row of ``summary.json``.
    """
    seed_everything(options.seed, fold, device)
    network = first_network(config, options, start)
    classifier = make_classifier(network)
    classifier.to_device(device)

    seed = int(numpy.random.SeedSequence((options.seed, fold)).generate_state(1)[0])
    augment, middle = transforms_of(options)
    train, validation = Examples(store, split[0], augment, seed), Examples(store, split[1], middle)
    if options.workers == 0:
        train, validation = on_gpu([train, validation], device)
    iterators = (make_iterator(train, options.batchsize, options.workers, True, seed),
                 make_iterator(validation, options.batchsize, options.workers, False))
    converter = normalize_of(config, 'e' if options.dtype == 'mixed16' else 'f')
    trainer = make_trainer(
        classifier, iterators, converter, device, options, run, fold, config, Subset(store.dataset, split[1]))
    if options.tensorboard:
        from chainer_abn.training.tensorboard import TensorBoard, spread
        trainer.extend(TensorBoard(run.root / f'tensorboard/fold-{fold}',
                                   Examples(store, spread(split[1]), middle), config, vars(options)))
    if restore(trainer, run, fold):
        done = trainer.updater.epoch_detail
        if done > options.epoch:
            raise InputError(f'--epoch {options.epoch}: fold {fold} has {done:.2f} behind it, '
                             f'--force --epoch {math.ceil(done)} or more')
        print(f'going on after iteration {trainer.updater.iteration}, '
              f'{trainer.updater.epoch_detail:.2f} of {options.epoch} epochs', flush=True)
    try:
        # the same bits in every run: cuDNN's quickest gradients add up in any order;
        # NumPy does not warn of numbers beyond all bounds, LookForDivergence tells of them
        with interrupt.deferred(), chainer.using_config('cudnn_deterministic', True), \
                numpy.errstate(over='ignore', invalid='ignore'):
            trainer.run(show_loop_exception_msg=False)
    except MemoryError:                     # NumPy's and CuPy's
        smaller = (f'--batchsize {options.batchsize // 2}' if options.batchsize > 1
                   else 'a smaller --image-size')
        raise InputError(f'--batchsize {options.batchsize}: needs more memory than is free on '
                         f'{devices.describe(device)}; try {smaller}') from None

    checkpoint.save(run.last_network(fold), network, config)
    row = summary_row(trainer, fold)
    run.add_summary(row)
    run.drop_snapshots(fold)
    run.error(f'fold {fold}').unlink(missing_ok=True)
    return row


def transforms_of(options):
    """What becomes of an image in training and in validation."""
    size = options.image_size
    if options.crop == 'resized':           # the store keeps images as they are
        return (ResizedCrop(size, options.flip, options.rotate, options.turn),
                CenterCrop(size, cover=options.resize))
    return Augment(size, options.pad, options.flip, options.rotate, options.turn), CenterCrop(size)


def first_network(config, options, start=None):
    """The network that the training of a fold starts from.

    Raises:
        InputError: ``start`` is of another architecture.
    """
    network = links.build(config['arch'], len(config['classes']), config['variant'],
                          config['attention'], config['in_channels'], config['dropout'],
                          config['multitask'])
    if options.positive_map and config['variant'] == 'abn':
        network.attention_branch.start_positive()
    if start is not None:
        start_from(network, start)
    return network


def summary_row(trainer, fold):
    """Accuracies and loss are of the perception branch and on the validation images."""
    best, updater = trainer.get_extension('KeepBest'), trainer.updater
    log = trainer.get_extension('LogReport').log
    at_best = next(entry for entry in log if entry['epoch'] == best.epoch)
    row = {
        'fold': fold,
        'best_epoch': best.epoch,
        'best_accuracy': at_best['validation/main/accuracy'],
        'last_accuracy': log[-1]['validation/main/accuracy'],
        'top5_accuracy': at_best.get('validation/main/top5_accuracy'),
        'loss': at_best['validation/main/loss'],
        'images_per_second': round(updater.images / updater.seconds, 1) if updater.seconds else None,
        'waiting_share': round(updater.waiting / updater.seconds, 4) if updater.seconds else None,
    }
    if best.attributes:
        row['attribute_accuracy'] = best.attributes
    return row
