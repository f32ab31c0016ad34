"""Train an Attention Branch Network with k-fold cross-validation.

    python n_fold_train.py --dataset FOLDER --arch resnet18 --kfold 4 --epoch 20
    python n_fold_train.py --resume result/2026-01-31-12-00-00

README.md tells the settings and what a run leaves in its folder.
"""
import functools
import importlib
import math
import os
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from chainer_abn import runtime
from chainer_abn.datasets import is_multitask, open_dataset
from chainer_abn.datasets.examples import Store
from chainer_abn.datasets.folder import say_ignored
from chainer_abn.datasets.folds import digest, folds_of
from chainer_abn.datasets.images import set_limit
from chainer_abn.datasets.transforms import SMALLEST_PART
from chainer_abn.errors import DISK, Diverged, InputError, disk_failure, run_program
from chainer_abn.files import only_writer, sha256
from chainer_abn.interrupt import Terminated
from chainer_abn.links import build, summary
from chainer_abn.links.build import architecture, dropout_of
from chainer_abn.report import refresh
from chainer_abn.runtime import devices
from chainer_abn.training import checkpoint, resume
from chainer_abn.training.arguments import make_parser
from chainer_abn.training.finetune import start_from
from chainer_abn.training.options import (
    check_attention,
    check_image_size,
    check_multitask,
    complete,
    known_attention,
    resolve,
)
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.runner import first_network
from chainer_abn.training.side_by_side import Task, train_side_by_side
from chainer_abn.training.weights import CAFFE, default_caffe_file, read_network

import chainer

PROGRAM = 'n_fold_train.py'


def main():
    options, run, started = read_command_line(sys.argv[1:])
    set_limit(options.max_pixels)
    if options.summary:
        return print_network(options)
    start, start_config = read_start(options)
    (resolve if run is None else complete)(options, start_config)
    used = devices.choose_devices(options.gpu, options.accelerator, options.threads)
    options.threads = runtime.threads.count()       # a run that goes on elsewhere computes with as many
    check_capture(options.capture, used)
    check_tensorboard(options.tensorboard)
    if run is None:
        check_out(options)
    store = open_store(options, len(used))
    folds = dict(enumerate(folds_of(store.dataset, options.kfold, options.seed), 1))
    check_batchsize(options.batchsize, folds.values())
    configs = {fold: network_config(options, store, fold, train) for fold, (train, _) in folds.items()}
    # before anything is written: whether the weights fit
    fresh = check_start(options, configs[1], start)
    config = run_config(options, list(configs.values()), store, folds.values(), used)
    if run is None:
        run = RunFolder.new(options.out, options.kfold)
    with only_writer(run.root):
        if started:
            resume.check(run, started.config, config, started.differ, started.force)
            run.tidy()
        else:
            run.begin(config)
        print(f'{config["arch"]} {config["variant"]}, {len(store.dataset)} images, '
              f'{len(config["classes"])} {"tasks" if config["multitask"] else "classes"}, '
              f'{config["device"]}; writing to {run.root}')
        if start is not None:
            print(f'starting from {options.pretrained}; fresh: {" and ".join(fresh) or "nothing"}')
        return train(Task(run, store, folds, configs, options, start), used)


def train(task, used):
    """Train the folds that are not finished, and return the program's exit status."""
    run, options = task.run, task.options
    todo = [fold for fold in options.folds or task.folds if fold not in run.finished_folds()]
    report, failures = functools.partial(refresh, run, task.store.dataset), []
    resuming = f'python {PROGRAM} --resume {shlex.quote(str(run.root))}'
    go_on = f'go on with: {resuming}'
    try:
        if len(used) > 1:
            failures = train_side_by_side(task, todo, options.gpu, after_fold=report)
        else:
            for fold in todo:
                print(f'\n{task.heading(fold)}', flush=True)
                task.train(fold, *used)
                report()
        if not todo:
            report()
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)(f'; {go_on}') from None
    except InputError as error:
        if not run.finished_folds() and not any(run.root.glob('snap/*')):
            raise
        raise InputError(f'{error}; {go_on}') from None
    except Diverged as error:
        raise Diverged(f'{error}; try {resuming} --force --lr {options.lr / 10:g}') from None
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise InputError(f'{disk_failure(error)}; {go_on}') from None
    finished = run.finished_folds()
    if finished:
        print_summary(run)
    missing = [str(fold) for fold in todo if fold not in finished]
    if missing:
        print(f'{PROGRAM}: fold{"s" * (len(missing) > 1)} {", ".join(missing)} not finished; {go_on}',
              file=sys.stderr)
        statuses = {failure.status for failure in failures}
        return statuses.pop() if len(statuses) == 1 else 1
    return 0


class Started(NamedTuple):
    """A run that goes on."""
    config: dict
    differ: list                # what the command line says otherwise, in words
    force: bool


def read_command_line(argv):
    """The options as they were given; for a resumed run its own, with its folder and what is known of it."""
    given = make_parser(PROGRAM).parse_args(argv)
    if given.resume is None:
        if given.force:
            raise InputError('--force: goes with --resume')
        return given, None, None
    run, config = RunFolder.open(given.resume)
    options, differ = resume.options_of(run, config, given)
    return options, run, Started(config, differ, given.force)


def print_network(options):
    """``--summary``: the network that the command would train; of no data set, with its usual classes."""
    start_config = read_start(options)[1] if options.pretrained else {}
    if options.dataset is not None:
        resolve(options, start_config)
        dataset = open_data(options)
        n_class, multitask = len(dataset.classes), is_multitask(options.dataset)
    else:
        options.arch = options.arch or start_config.get('arch')
        if options.arch is None:
            raise InputError('--summary: --arch is missing')
        check_image_size(options.image_size)
        check_attention(options)
        n_class = 10 if architecture(options.arch).image_size == 32 else 1000
        if multitask := start_config.get('multitask', False):
            n_class = len(start_config['classes'])
    attention = options.attention or known_attention(start_config, multitask) or 'residual'
    net = build(options.arch, n_class, options.variant or 'abn', attention, dropout=options.dropout,
                multitask=multitask)
    try:
        print(summary(net, options.image_size))
    except MemoryError:
        raise InputError(f'--image-size {options.image_size}: too large for the memory') from None


def read_start(options):
    """The network that ``--pretrained`` names and its config; None and {} without it."""
    if options.pretrained is None and options.arch == CAFFE:
        options.pretrained = default_caffe_file()
        if not os.path.exists(options.pretrained):
            raise InputError(f'--arch {CAFFE} starts from ImageNet weights: --pretrained '
                             f'ResNet-50-model.npz is missing, and so is {options.pretrained}')
    if options.pretrained is None:
        return None, {}
    try:
        return read_network(options.pretrained, options.arch)
    except InputError as error:
        raise InputError(f'--pretrained {error}') from None


def check_start(options, config, start):
    """What of the network stays fresh; raises InputError where the weights do not fit."""
    if start is None:
        return None
    try:
        return start_from(first_network(config, options), start)
    except InputError as error:
        raise InputError(f'--pretrained {options.pretrained}: {error}') from None


def check_capture(capture, used):
    if capture and any(device.name == '@numpy' for device in used):
        raise InputError('--capture: is for a GPU')
    if capture and not chainer.backends.cuda.cudnn_enabled:
        raise InputError(f'--capture: needs cuDNN ({runtime.cudnn.why_not()})')


def check_tensorboard(tensorboard):
    if tensorboard:
        try:
            importlib.import_module('tensorboardX')
        except ImportError:
            raise InputError('--tensorboard: needs tensorboardX: pip install tensorboardX') from None


def check_out(options):
    """Refuse to write among the images: the next run would take the pictures of this one for its own."""
    out = options.out or 'result'
    images, folder = (Path(os.path.realpath(path)) for path in (options.dataset, out))
    if images.is_dir() and images in (folder, *folder.parents):
        raise InputError(f'--out {out}: lies in --dataset {options.dataset}; name a folder outside of it')


def open_store(options, n_processes):
    """The images of the data set; what was left out is told."""
    dataset = open_data(options)
    say_ignored(dataset.ignored)
    size, fit = options.resize, options.fit
    if options.crop == 'resized':           # decoded so large that no part has to be enlarged
        size, fit = [math.ceil(side / math.sqrt(SMALLEST_PART)) for side in options.image_size], 'keep'
    store = Store(dataset, size, options.skip_bad, fit=fit,
                  measure=options.mean is None or options.std is None)
    if store.bad:
        print(f'--skip-bad left out {len(store.bad)} of {len(dataset)} images:',
              *store.bad, sep='\n  ', file=sys.stderr)
    if options.workers is None:
        options.workers = 0 if store.in_memory else max(1, os.cpu_count() // n_processes)
    return store


def open_data(options):
    """The data set; refused where the network asked for does not fit it."""
    more = {name: getattr(options, name) for name in ('task', 'boxes') if getattr(options, name) is not None}
    dataset = open_dataset(options.dataset, options.data_dir, options.kfold == 0, options.n_images,
                           options.seed, **more)
    if is_multitask(options.dataset):
        check_multitask(options)
    return dataset


def check_batchsize(batchsize, folds):
    smallest = min(len(train) for train, _ in folds)
    if batchsize > smallest:
        raise InputError(f'--batchsize {batchsize}: more than the {smallest} training images of a fold')


def network_config(options, store, fold, train):
    """What the network files of a fold carry: enough to rebuild it and to feed it."""
    mean, std = options.mean, options.std
    if mean is None or std is None:
        mean, std = (told or measured for told, measured in
                     zip((mean, std), store.mean_std(train), strict=True))
    return checkpoint.make_config(
        arch=options.arch, variant=options.variant, attention=options.attention,
        dropout=dropout_of(options.arch, options.dropout), in_channels=3, classes=store.dataset.classes,
        image_size=options.image_size, resize=options.resize,
        mean=mean, std=std, fit=options.fit, multitask=is_multitask(options.dataset),
        kfold=options.kfold, fold=fold, seed=options.seed)


def run_config(options, configs, store, folds, used):
    """The content of ``config.json``; ``mean`` and ``std`` at the top are averages over the folds."""
    shared = {name: value for name, value in configs[0].items() if name not in ('fold', 'mean', 'std')}
    average = {name: [sum(channel) / len(configs) for channel in zip(*(c[name] for c in configs),
                                                                     strict=True)]
               for name in ('mean', 'std')}
    return {
        **shared, **average,
        'folds': [{name: c[name] for name in ('fold', 'mean', 'std')} for c in configs],
        'data': store.digests(), 'folds_digest': digest(folds, store.dataset.labels),
        'pretrained_sha256': options.pretrained and sha256(options.pretrained),
        'arguments': {name: value for name, value in vars(options).items()
                      if name not in resume.NOT_SETTINGS},
        'command': shlex.join([PROGRAM, *sys.argv[1:]]),
        'versions': runtime.versions(), 'device': '; '.join(map(devices.describe, used)),
    }


def print_summary(run):
    summary = run.summary()
    print('\nfold  best accuracy  (epoch)  last accuracy')
    for row in summary['folds']:
        print(f'{row["fold"]:4}  {row["best_accuracy"]:13.4f}  ({row["best_epoch"]:5})  '
              f'{row["last_accuracy"]:13.4f}')
    if 'attribute_accuracy' in summary['folds'][0]:
        tables = [row['attribute_accuracy'] for row in summary['folds']]
        print(', '.join(f'{name} {sum(table[name] for table in tables) / len(tables):.4f}'
                        for name in tables[0]))
    print(f'mean  {summary["mean_accuracy"]:13.4f} ± {summary["std_accuracy"]:.4f} '
          f'over {len(summary["folds"])} folds; everything is in {run.root}'
          + f', the report is {run.report}' * run.report.exists())


if __name__ == '__main__':
    run_program(main, PROGRAM)
