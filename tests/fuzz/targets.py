"""Every reader of files, as a function of any bytes and a folder to put them into.

It comes back when the reader made something of the bytes or refused them in one line that names the file;
whatever else is raised is a fault of the reader.
"""
import contextlib
import io
import json
import os
import random
import shutil
from pathlib import Path
from unittest import mock

import numpy
from parts import BETWEEN, pairs, whole
from PIL import Image
from small import ARCH, LOG, SomeImages, state, training

from chainer_abn.datasets import celeba, cifar, compcars, download, imagenet, svhn
from chainer_abn.datasets.archives import unpack, unpack_nested
from chainer_abn.datasets.boxes import Boxes, read_boxes
from chainer_abn.datasets.folder import Folder, find_images
from chainer_abn.datasets.images import is_image, read_image
from chainer_abn.datasets.listed import check_images
from chainer_abn.datasets.masks import Masks
from chainer_abn.datasets.mat import read_mat, shapes
from chainer_abn.errors import InputError, one_line
from chainer_abn.report.found import Found, open_run
from chainer_abn.training import checkpoint, held_out, predictions, resume, runner, weights
from chainer_abn.training import snapshot as snapshots
from chainer_abn.training.arguments import make_parser
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.torch_file import TorchFile

from chainer.training import extensions

PIXELS = 1 << 20                # of an image; Pillow's own limit is some hundred times that, and slow


class Fault(Exception):
    """A reader refused a file in the wrong way."""


def tried(where, read, *arguments):
    """What the reader gives, or None where it refuses.

    Raises:
        Fault: it does not name ``where``, or came to refuse by asking for more memory than it may have.
    """
    try:
        return read(*arguments)
    except InputError as error:
        if one_line(where) not in one_line(error):
            raise Fault(f'{where} is not named: {error}') from None
        cause = error
        while cause := cause.__context__:
            if isinstance(cause, MemoryError):
                raise Fault(f'asked for too much memory: {error}') from cause


def written(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def npz(data, folder):
    path = written(whole(data), folder / 'a.npz')
    tried(path, checkpoint.read_npz, path)
    tried(path, weights.read_network, path)


def snapshot(data, folder):
    """Names and contents of a snapshot's arrays, and what a training asks of the state that it comes to."""
    path, trainer = folder / 'a.npz', training()
    arrays = {**state(), **{name: array_of(name, content) for name, content in pairs(data.split(BETWEEN))}}
    # that reader is looked at by itself
    with mock.patch.object(checkpoint, 'read_npz', lambda _: arrays):
        loaded = tried(path, lambda: [snapshots.load(path, trainer)])
    if loaded:
        trainer.updater.get_iterator('main').next()
        trainer.get_extension('Schedule')(trainer)
        numpy.random.random(700)
        random.random()
        reports = [trainer.get_extension(name) for name in ('LogReport', 'plot_loss', 'plot_accuracy')]
        for report in reports:
            report._summary.compute_mean()
        if trainer.updater.epoch:
            runner.summary_row(trainer, 1)
            extensions.PrintReport([*LOG], reports[0], io.StringIO())._print(reports[0].log[-1])


def array_of(name, content):
    """The array that bytes stand for: a .npy file, numbers in JSON, or text."""
    if content.startswith(b'\x93NUMPY'):
        with contextlib.suppress(Exception):            # a damaged header can raise anything
            return numpy.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    text, kind = content.decode('utf-8', 'replace'), state().get(name, numpy.array('')).dtype
    if kind.char != 'U':
        with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
            return numpy.array(json.loads(text), kind)
    return numpy.array(text)


def pth(data, folder):
    path = written(whole(data), folder / 'a.pth')
    tried(path, arrays_in, path)
    tried(path, weights.read_network, path, ARCH)


def arrays_in(path):
    with TorchFile(path) as file:
        for tensor in file.content.values() if isinstance(file.content, dict) else ():
            if hasattr(tensor, 'storage'):
                file.array(tensor)


def mat(data, folder):
    """The readers of SVHN, and of what comes with CompCars and ImageNet."""
    data = whole(data)
    path = written(data, folder / 'train_32x32.mat')
    for name in 'extra_32x32.mat', 'test_32x32.mat':
        os.link(path, folder / name)
    known = tried(path, shapes, path, [])
    for name in ('X', 'y', 'make_names', 'synsets') if known is not None else ():
        tried(path, read_mat, path, [name])
    tried(folder, svhn.Svhn, folder, True)
    tried(path, compcars.read_names, path)
    written(data, folder / imagenet.DEVKIT / 'data/meta.mat')
    tried(folder, imagenet.DevelopmentKit, folder)


def cifar_binary(data, folder):
    """Names of classes, records of CIFAR-10, records of CIFAR-100; or an archive."""
    path = written(whole(data), folder / 'archive' / cifar.SOURCES['cifar10'].archive.name)
    with mock.patch.object(download.Remote, 'check'):       # else nothing but the official archive is opened
        tried(path.parent, cifar.Cifar, 'cifar10', path.parent, True)
    names, ten, hundred, *_ = [*data.split(BETWEEN), b'', b'']
    for set_name, records in ('cifar10', ten), ('cifar100', hundred):
        source = cifar.SOURCES[set_name]
        written(names, folder / source.folder / source.class_names)
        for file in (*source.train, *source.test):
            written(records, folder / source.folder / file)
        images = tried(folder, cifar.Cifar, set_name, folder, True)
        assert images is None or 0 <= images.labels.min() <= images.labels.max() < len(images.classes)


def voc(data, folder):
    path = written(data, folder / 'a.xml')
    tried(path, read_boxes, path)
    tried(path, Boxes(folder).read, 'a', (40, 60))


def image(data, folder):
    path = written(whole(data), folder / 'a.png')
    os.link(path, folder / 'a')
    with mock.patch.object(Image, 'MAX_IMAGE_PIXELS', PIXELS):
        pixels = tried(path, read_image, path)
        tried(path, read_image, path, (8, 8))
        if is_image(folder / 'a'):
            tried(folder / 'a', read_image, folder / 'a')
        tried(path, Masks(folder).read, 'a', (4, 6))
    assert pixels is None or pixels.dtype == 'u1' and pixels.ndim == 3 and pixels.shape[2] == 3


def tree(data, folder):
    """A folder of images: each part is a kind (d, i, t, l, p) and a path."""
    root = folder / 'images'
    root.mkdir()
    for part in data.split(BETWEEN):
        kind, names = part[:1], [name[:200] for name in part[1:].replace(b'\0', b'').split(b'/')[:99]]
        path = Path(root, *(os.fsdecode(name) for name in names if name not in (b'', b'.', b'..')))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case b'd':
                    path.mkdir()
                case b'i':
                    path.write_bytes(PIXEL)
                case b'l':
                    path.symlink_to(path.parents[len(names) % 3])
                case b'p':
                    os.mkfifo(path)
                case _:
                    path.write_bytes(part)
        except OSError:                 # there already, or too long
            continue
    images = tried(root, Folder, root)
    tried(root, Folder.with_split, root)
    tried(root, find_images, root)
    for i in range(len(images or ())):
        tried(images.paths[i], images.image, i)


PIXEL = io.BytesIO()
Image.new('L', (1, 1)).save(PIXEL, 'png')
PIXEL = PIXEL.getvalue()


def run(data, folder):
    """The folder of a run: config.json, summary.json, a log, a matrix, a table of predictions."""
    root = folder / 'run'
    files = RunFolder(root, 2)
    paths = (files.config_file, files.summary_file, files.log(1), Path(f'{files.matrix(1)}.npy'),
             files.predictions(1))
    for path, content in zip(paths, data.split(BETWEEN), strict=False):
        written(content, path)
    opened = tried(root, RunFolder.open, root)
    if opened is None:
        return
    tried(root, opened[0].summary)
    # what the config calls for may be of any size, or far away
    with mock.patch.object(held_out, 'open_dataset', lambda *_, **__: SomeImages()):
        tried(root, held_out.held_out, *opened)
    tried(root, resumed, *opened)
    found = tried(root, open_run, root)
    if found is not None:
        tried(root, Found, *found)


def resumed(run, config):
    resume.options_of(run, config, make_parser('').parse_args([]))
    return resume.differences(config, NOW)


# of the config that a run would have if it were started now, what is looked at
NOW = {'device': 'cpu', 'pretrained_sha256': None, 'arguments': {'pretrained': None},
       'classes': ['ant', 'bee'], 'data': {'images': 12}}


def table(data, folder):
    """Tables of predictions."""
    path = written(data, folder / 'a.csv')
    for multitask in False, True:
        tried(path, predictions.read, path, ('ant', 'bee'), multitask)


def lists(data, folder):
    """The lists of CelebA and CompCars."""
    first, second, *_ = [*data.split(BETWEEN), b'']
    attributes = written(first, folder / 'attributes.txt')
    partition = written(second, folder / 'partition.txt')
    found = tried(attributes, celeba.read_attributes, attributes)
    if found is not None:
        tried(folder, celeba.read_partition, partition, attributes, found[1])
        tried(attributes, check_images, folder, found[1], attributes, celeba.URL)
    tried(partition, compcars.read_list, partition, folder, ({}, {}))


def archive(data, folder):
    """Archives of images, with a folder beside them in which nothing may come to lie."""
    path = written(whole(data), folder / 'in/a.tar')
    for function in unpack, unpack_nested:
        tried(path, function, path, folder / 'in/out')
        shutil.rmtree(folder / 'in/out', ignore_errors=True)
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob('*'))
    if there != ['in', 'in/a.tar']:
        raise Fault(f'written: {there}')


TARGETS = {'npz': npz, 'cifar': cifar_binary, 'mat': mat, 'voc': voc, 'image': image, 'folder': tree,
           'config': run, 'snapshot': snapshot, 'pth': pth, 'predictions': table, 'lists': lists,
           'archive': archive}
