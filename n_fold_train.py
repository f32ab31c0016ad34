"""Train an Attention Branch Network with k-fold cross-validation.

    python n_fold_train.py --dataset FOLDER --arch resnet18 --kfold 4 --epoch 20
    python n_fold_train.py --resume result/2026-01-31-12-00-00

README.md tells the settings and what a run leaves in its folder.
"""
import argparse
import functools
import hashlib
import importlib
import math
import os
import re
import shlex
import sys
from pathlib import Path

from chainer_abn import runtime
from chainer_abn.datasets import NAMES, TASKS, is_multitask, open_dataset
from chainer_abn.datasets.examples import Store
from chainer_abn.datasets.folder import say_ignored
from chainer_abn.datasets.folds import digest, folds_of
from chainer_abn.datasets.transforms import CROPS, SMALLEST_PART
from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.interrupt import Terminated
from chainer_abn.links import ATTENTIONS, VARIANTS, build, summary
from chainer_abn.links.build import architecture, dropout_of
from chainer_abn.report import refresh
from chainer_abn.runtime import devices
from chainer_abn.training import checkpoint
from chainer_abn.training.finetune import PARTS, start_from
from chainer_abn.training.options import (
    DTYPES,
    check_attention,
    check_image_size,
    check_multitask,
    known_attention,
    resolve,
)
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.runner import first_network
from chainer_abn.training.schedule import SCHEDULES
from chainer_abn.training.settings import RECIPES
from chainer_abn.training.side_by_side import Task, train_side_by_side
from chainer_abn.training.weights import CAFFE, default_caffe_file, read_network

import chainer

PROGRAM = 'n_fold_train.py'


def main():
    options, run, old_config = read_command_line(sys.argv[1:])
    if options.summary:
        return print_network(options)
    start, start_config = read_start(options)
    if run is None:
        resolve(options, start_config)
    used = devices.choose_devices(options.gpu, options.accelerator, options.threads)
    check_capture(options.capture, used)
    check_tensorboard(options.tensorboard)
    store = open_store(options, len(used))
    folds = dict(enumerate(folds_of(store.dataset, options.kfold, options.seed), 1))
    check_batchsize(options.batchsize, folds.values())
    configs = {fold: network_config(options, store, fold, train) for fold, (train, _) in folds.items()}
    # before anything is written: whether the weights fit
    fresh = check_start(options, configs[1], start)
    config = run_config(options, list(configs.values()), digest(folds.values(), store.dataset.labels), used)
    if run is None:
        run = RunFolder.create(options.out, config)
    elif config['folds_digest'] != old_config['folds_digest']:
        raise InputError(f'--resume {run.root}: {options.dataset} does not hold the images any more '
                         'that the run was started with')
    elif config['pretrained_sha256'] != old_config.get('pretrained_sha256'):
        raise InputError(f'--resume {run.root}: {options.pretrained} is not the file any more '
                         'that the run was started with')
    print(f'{config["arch"]} {config["variant"]}, {len(store.dataset)} images, '
          f'{len(config["classes"])} {"tasks" if config["multitask"] else "classes"}, {config["device"]}; '
          f'writing to {run.root}')
    if start is not None:
        print(f'starting from {options.pretrained}; fresh: {" and ".join(fresh) or "nothing"}')
    task = Task(run, store, folds, configs, options, start)
    todo = [fold for fold in options.folds or folds if fold not in run.finished_folds()]
    report, failures = functools.partial(refresh, run, store.dataset), []
    go_on = f'go on with: python {PROGRAM} --resume {shlex.quote(str(run.root))}'
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
    finished = run.finished_folds()
    if finished:
        print_summary(run)
    missing = [str(fold) for fold in todo if fold not in finished]
    if missing:
        print(f'{PROGRAM}: fold{"s" * (len(missing) > 1)} {", ".join(missing)} not finished; {go_on}',
              file=sys.stderr)
        return 2 if all(failure.wrong_input for failure in failures) else 1


def read_command_line(argv):
    """The options as they were given; for a resumed run its own, with its folder and config."""
    parser = make_parser()
    given = parser.parse_args(argv)
    if given.resume is None:
        return given, None, None
    run, config = RunFolder.open(given.resume)
    taken = 'resume', 'gpu', 'accelerator', 'threads', 'workers'
    for name, value in vars(given).items():
        if value is not None and name not in taken:
            flag = '--' + name.replace('_', '-')
            raise InputError(f'{flag}: --resume takes its settings from {given.resume}; leave it out')
    options = argparse.Namespace(**config['arguments'])
    if set(vars(options)) != set(vars(given)):
        raise InputError(f'--resume {given.resume}: its config.json is of another version of this program')
    for name in taken[1:]:
        if getattr(given, name) is not None:
            setattr(options, name, getattr(given, name))
    return options, run, config


def make_parser():
    parser = ArgumentParser(
        prog=PROGRAM, description='Train an Attention Branch Network with k-fold cross-validation.',
        epilog='Defaults that are not told here depend on the data set: see README.md.')
    # else argparse takes the -1,-1 of --gpu for a flag
    parser._negative_number_matcher = re.compile(r'^-\d+(,-?\d+)*$|^-\d*\.\d+$')
    data = parser.add_argument_group('data')
    data.add_argument('--dataset', help=f'a folder of class folders, or {", ".join(NAMES)}')
    data.add_argument('--data-dir', help='where the files of a named data set are (default: a cache)')
    data.add_argument('--task', choices=TASKS, help='of compcars: what is to be told (default model)')
    data.add_argument('--boxes', action='store_true', default=None, help='of compcars: crop to the cars')
    data.add_argument('--n-images', type=int, help='take (shapes: generate) so many images')
    data.add_argument('--skip-bad', action='store_true', default=None,
                      help='leave out images that cannot be read')
    data.add_argument('--image-size', type=size, metavar='S|HxW', help='of the network\'s input, px')
    data.add_argument('--resize', type=size, metavar='S|HxW',
                      help='size that images are made to cover before they are cropped')
    data.add_argument('--fit', choices=('cover', 'squeeze'),
                      help='cover --resize and keep the shape of images, or squeeze them into it')
    data.add_argument('--crop', choices=CROPS,
                      help='random: a part of the network\'s size; resized: of any size and shape')
    data.add_argument('--pad', type=int, help='black pixels around the image before a random crop')
    data.add_argument('--flip', action=argparse.BooleanOptionalAction, help='random mirroring')
    data.add_argument('--turn', action=argparse.BooleanOptionalAction, help='random turns by 90 degrees')
    data.add_argument('--rotate', type=float, metavar='DEG', help='largest random angle (default 0)')
    data.add_argument('--mean', type=three, metavar='R,G,B',
                      help='of the pixels, in [0, 1] (default: measured on each training fold)')
    data.add_argument('--std', type=three, metavar='R,G,B', help='likewise')
    data.add_argument('--workers', type=int,
                      help='processes that read images (default: 0 if all fit in memory)')

    network = parser.add_argument_group('network')
    network.add_argument('--arch', '-a', help='such as resnet20 (CIFAR style) or resnet50')
    network.add_argument('--variant', choices=VARIANTS, help='default abn')
    network.add_argument('--attention', '--attention-map', choices=ATTENTIONS, help='default residual')
    network.add_argument('--positive-map', action=argparse.BooleanOptionalAction,
                         help='start the attention map as an increasing function of the evidence')
    network.add_argument('--dropout', type=float, help='ratio, where the network has dropout')
    network.add_argument('--pretrained', metavar='FILE',
                         help='start from the weights of a network (.npz) or PyTorch checkpoint (.pth)')
    network.add_argument('--freeze', type=part_list, metavar='PART,...',
                         help=f'train the rest only: {", ".join(PARTS)}')
    network.add_argument('--summary', action='store_true', default=None,
                         help='print the network, its sizes and costs, and stop')

    training = parser.add_argument_group('training')
    training.add_argument('--recipe', choices=RECIPES,
                          help='settings of the paper, or of the original port; flags change them')
    training.add_argument('--kfold', '-k', type=int,
                          help='number of folds (default 4); 0: the data set\'s own split')
    training.add_argument('--folds', type=fold_list, metavar='I,J', help='train these folds only')
    training.add_argument('--epoch', '-e', type=int)
    training.add_argument('--batchsize', '-b', type=int)
    training.add_argument('--lr', type=float)
    training.add_argument('--momentum', type=float, help='default 0.9')
    training.add_argument('--nesterov', action='store_true', default=None)
    training.add_argument('--weight-decay', type=float)
    training.add_argument('--schedule', choices=SCHEDULES)
    training.add_argument('--milestones', type=epoch_list, metavar='E,F',
                          help='epochs at which multistep multiplies the rate by --gamma')
    training.add_argument('--gamma', type=float, help='default 0.1')
    training.add_argument('--warmup', type=float, help='epochs of linear rise (default 0)')
    training.add_argument('--seed', type=int, help='fixes everything (default 402)')
    training.add_argument('--dtype', choices=DTYPES,
                          help='mixed16: compute in float16, keep weights in float32 (default float32)')
    training.add_argument('--capture', action='store_true', default=None,
                          help='on a GPU, record the step once as a CUDA graph and replay it')
    training.add_argument('--tensorboard', action='store_true', default=None,
                          help='write curves and maps for TensorBoard too (needs tensorboardX)')
    devices.add_flags(training, several=True)
    training.add_argument('--out', help='folder of the results (default result/<date-time>)')
    training.add_argument('--resume', '-r', metavar='DIR', help='go on with a run that was cut')
    return parser


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


def run_config(options, configs, folds_digest, used):
    """The content of ``config.json``; ``mean`` and ``std`` at the top are averages over the folds."""
    shared = {name: value for name, value in configs[0].items() if name not in ('fold', 'mean', 'std')}
    average = {name: [sum(channel) / len(configs) for channel in zip(*(c[name] for c in configs),
                                                                     strict=True)]
               for name in ('mean', 'std')}
    return {
        **shared, **average,
        'folds': [{name: c[name] for name in ('fold', 'mean', 'std')} for c in configs],
        'folds_digest': folds_digest,
        'pretrained_sha256': options.pretrained and sha256(options.pretrained),
        'arguments': vars(options), 'command': shlex.join([PROGRAM, *sys.argv[1:]]),
        'versions': runtime.versions(), 'device': '; '.join(map(devices.describe, used)),
    }


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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


def size(text):
    """'128' or '96x128' (height x width) -> [height, width]."""
    sides = [int(side) for side in text.lower().split('x')]
    if len(sides) > 2:
        raise ValueError
    return sides if len(sides) == 2 else sides * 2


def three(text):
    red, green, blue = (float(value) for value in text.split(','))
    return [red, green, blue]


def part_list(text):
    return list(dict.fromkeys(text.split(',')))


def epoch_list(text):
    return sorted(int(epoch) for epoch in text.split(','))


def fold_list(text):
    folds = sorted({int(fold) for fold in text.split(',')})
    if folds[0] < 1:
        raise ValueError
    return folds


if __name__ == '__main__':
    run_program(main, PROGRAM)
