"""ImageNet, the 1000 classes of ILSVRC2012, in its official layout.

https://image-net.org/download-images: training images as n01440764/n01440764_10026.JPEG and so on,
validation images in one folder with their labels in the development kit, as ILSVRC2012_IDs. Those are
numbers of the kit's own; here, as in most programs, classes are in the order of their WordNet ids.
"""
import os
import re

import numpy

from chainer_abn.datasets.archives import unpack, unpack_nested
from chainer_abn.datasets.folder import class_names
from chainer_abn.datasets.images import SUFFIXES
from chainer_abn.datasets.listed import Listed, check_images, data_folder, read_rows
from chainer_abn.datasets.mat import read_mat
from chainer_abn.errors import InputError
from chainer_abn.progress import Progress

URL = 'https://image-net.org/download-images'
TRAIN, VALIDATION = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
DEVKIT = 'ILSVRC2012_devkit_t12'
WORDNET_ID = re.compile(r'n\d{8}')


class ImageNet(Listed):
    """``imagenet``, or the classes of it that have a training folder.

    Training images are ``train/nXXXXXXXX/*.JPEG``, and with the split the validation images are its test
    part: ``val/nXXXXXXXX/*.JPEG``, or ``val/ILSVRC2012_val_00000001.JPEG`` and so on with the development
    kit's ``data/ILSVRC2012_validation_ground_truth.txt`` and ``data/meta.mat``. What is there as official
    archive only is unpacked beside it first. Hidden files, and files beside the class folders, are left out.

    Args:
        data_dir: the folder of all this.
        with_split (bool): the training images alone, or the validation images too, with ``split``.

    Attributes:
        classes: sorted WordNet ids, each with its first word (``n01440764 tench``) if the kit is there.

    Raises:
        InputError: something is missing or broken; it is named.
    """

    def __init__(self, data_dir, with_split=False):
        root = data_folder(data_dir, 'imagenet', f'train/nXXXXXXXX/*.JPEG or {TRAIN}', URL)
        ids = class_ids(_unpacked(root / 'train', root / TRAIN, unpack_nested))
        files, labels, ignored = class_files(root, 'train', ids)
        n_train = len(files) if with_split else None
        kit = DevelopmentKit(root)
        if with_split:
            more_files, more_labels, more_ignored = validation(root, ids, kit)
            files += more_files
            labels = numpy.concatenate([labels, more_labels])
            ignored += more_ignored
        super().__init__(root, files, labels, [kit.names.get(i, i) for i in ids], n_train, ignored)


class DevelopmentKit:
    """What ILSVRC2012_devkit_t12 tells of classes and validation images.

    Args:
        root (Path): the folder where it is, or its archive.

    Attributes:
        names (dict): WordNet id -> id and first word; empty where there is no kit.
        ids (dict): ILSVRC2012_ID -> WordNet id, of the classes that have images.
    """

    def __init__(self, root):
        folder, archive = root / DEVKIT, root / f'{DEVKIT}.tar.gz'
        if not folder.is_dir() and archive.is_file():
            unpack(archive, folder, strip=DEVKIT)
        self.meta = folder / 'data/meta.mat'
        self.ground_truth = folder / 'data/ILSVRC2012_validation_ground_truth.txt'
        self.names, self.ids = {}, {}
        if self.meta.is_file():
            self._read()

    def _read(self):
        synsets = read_mat(self.meta, ['synsets'])['synsets'].ravel()
        fields = 'ILSVRC2012_ID', 'WNID', 'words', 'num_children'
        try:
            for synset in synsets:
                number, wordnet_id, words, n_children = [synset[field].item() for field in fields]
                # a class with children in WordNet has no images of its own
                if not n_children:
                    self.ids[int(number)] = wordnet_id
                    self.names[wordnet_id] = f'{wordnet_id} {words.split(",")[0]}'
        except (AttributeError, IndexError, OverflowError, TypeError, ValueError):
            raise InputError(f"{self.meta}: 'synsets' is not the table with {', '.join(fields)} of {DEVKIT}; "
                             f'it is had from {URL}') from None


def class_ids(folder):
    """The sorted WordNet ids of the class folders in a folder.

    Raises:
        InputError: fewer than two, or a folder of another name that is not hidden.
    """
    names = class_names(folder)
    for name in names:
        if not WORDNET_ID.fullmatch(name):
            raise InputError(f'{folder / name}: no class folder: the name of one is an id such as n01440764')
    return names


def class_files(root, part, ids):
    """The images of the class folders of one part.

    Returns:
        files (list of str, from root), labels (n,) int32, ignored (list of Path).

    Raises:
        InputError: a class has no image, or folders in its folder.
    """
    files, counts, ignored = [], [], []
    with Progress(f'listing {part}', len(ids), 'folders') as progress:
        for label, name in enumerate(ids):
            progress.update(label)
            folder = root / part / name
            here = sorted(file for file in _list(folder) if file[0] != '.')
            images = [file for file in here if os.path.splitext(file)[1].lower() in SUFFIXES]
            if not images:
                raise InputError(f'{folder}: the class {name!r} has no image')
            files += [f'{part}/{name}/{file}' for file in images]
            counts.append(len(images))
            ignored += [folder / file for file in sorted(set(here).difference(images))]
    for path in ignored:
        if path.is_dir():
            raise InputError(f'{path}: a folder; the images of a class lie directly in the class folder')
    return files, numpy.repeat(numpy.arange(len(ids), dtype='i'), counts), ignored


def validation(root, ids, kit):
    """The validation images, as :func:`class_files` gives the training images."""
    folder = _unpacked(root / 'val', root / VALIDATION, unpack)
    entries = [name for name in _list(folder) if name[0] != '.']
    flat = [name for name in entries if name.startswith('ILSVRC2012_val_')]
    sorted_in = [name for name in entries if WORDNET_ID.fullmatch(name)]
    if flat and sorted_in:
        raise InputError(f'{folder}: both class folders ({sorted_in[0]}) and images beside them ({flat[0]}); '
                         'either all images lie in class folders or none')
    if flat:
        files, labels = labelled(folder, len(flat), ids, kit)
        others = sorted(set(entries).difference(flat))
        return [f'val/{file}' for file in files], labels, [folder / name for name in others]
    if not sorted_in:
        raise InputError(f'{folder}: neither class folders nXXXXXXXX nor ILSVRC2012_val_00000001.JPEG and so '
                         f'on in it; they are had from {URL}')
    differ = sorted(set(ids).symmetric_difference(class_ids(folder)))
    if differ:
        raise InputError(f'{root}: {len(differ)} classes in only one of train/ and val/, such as {differ[0]}')
    return class_files(root, 'val', ids)


def labelled(folder, n, ids, kit):
    """The names of n validation images in one folder and, by the development kit, their labels."""
    if not kit.meta.is_file():
        raise InputError(f'{kit.meta}: no such file, so that the classes of the images in {folder} are not '
                         f'known; put {DEVKIT}.tar.gz into {folder.parent}; it is had from {URL}')
    rows = read_rows(kit.ground_truth, URL)
    files = [f'ILSVRC2012_val_{row:08}.JPEG' for row in range(1, len(rows) + 1)]
    check_images(folder, files, kit.ground_truth, URL)
    if n != len(rows):
        raise InputError(f'{kit.ground_truth}: {len(rows)} rows, but there are {n} images in {folder}')
    labels, label_of = [], {wordnet_id: label for label, wordnet_id in enumerate(ids)}
    for row, (text, file) in enumerate(zip(rows, files, strict=True), 1):
        where = f'{kit.ground_truth}, row {row}'
        if not re.fullmatch('[0-9]{1,9}', text):
            raise InputError(f'{where}: {text!r} is no ILSVRC2012_ID')
        wordnet_id = kit.ids.get(int(text))
        if wordnet_id is None:
            raise InputError(f'{where}: label {text}, but no class with images has this ILSVRC2012_ID in '
                             f'{kit.meta}')
        if wordnet_id not in label_of:
            raise InputError(f'{where}: {folder / file} is of class {kit.names[wordnet_id]!r}, which has no '
                             'folder in train/')
        labels.append(label_of[wordnet_id])
    return files, numpy.array(labels, 'i')


def _unpacked(folder, archive, unpack):
    """The folder, if need be unpacked from the archive."""
    if not folder.is_dir():
        if not archive.is_file():
            raise InputError(f'{folder}: no such folder, and no {archive.name} beside it; it is had '
                             f'from {URL}')
        unpack(archive, folder)
    return folder


def _list(folder):
    try:
        return os.listdir(folder)
    except OSError as error:
        raise InputError(f'{folder}: {error.strerror}') from None
