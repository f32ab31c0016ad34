"""CompCars, its web-nature images with the official split for classification.

http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/: makers and models of cars are numbers there, whose names
are in a .mat file; of the split, 431 models by 75 makers, 16,016 training and 14,939 test images.
"""
import re
from collections import Counter

import numpy

from chainer_abn.datasets.listed import Listed, check_images, data_folder, read_rows
from chainer_abn.datasets.mat import read_mat
from chainer_abn.errors import InputError

URL = 'http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/'
LAYOUT = 'data/image/MAKE/MODEL/YEAR/*.jpg'
ROW = re.compile(r'([0-9]{1,9})/([0-9]{1,9})/[^/]+/[^/]+')
TASKS = {'maker': 0, 'model': 1}        # column of its number in a row of a list


class CompCars(Listed):
    """``compcars``: which model of car, or which maker's.

    Args:
        data_dir: the folder ``data`` of the data set, or the one above it.
        with_split (bool): the training images alone, or the test images too, with ``split``.
        task (str): ``model`` or ``maker``.
        boxes (bool): crop each image to the box of its car.

    Attributes:
        classes: the models (``Audi A4L``) or makers (``Audi``) of the training images, in the order of their
            numbers, which are the names of their folders; where a name is not known, the number; where
            several have one name, it is followed by the number.

    Raises:
        InputError: something is missing or broken; it is named.
    """

    def __init__(self, data_dir, with_split=False, task='model', boxes=False):
        if task not in TASKS:
            raise InputError(f'--task {task}: not one of {", ".join(TASKS)}')
        top = data_folder(data_dir, 'compcars', LAYOUT, URL)
        data = top if (top / 'image').is_dir() else top / 'data'
        root, lists = data / 'image', data / 'train_test_split/classification'
        if not root.is_dir():
            raise InputError(f'{top}: neither image/ nor data/image/ in it; it is had from {URL}')
        self.boxes, self.label_root = boxes, data / 'label'
        names = read_names(data / 'misc/make_model_name.mat')
        files, numbers = read_list(lists / 'train.txt', root, names)
        n_train = len(files) if with_split else None
        classes = class_names(numbers, names, task)
        if len(classes) < 2:
            raise InputError(f'{lists / "train.txt"}: images of only one {task}; at least two are needed')
        if with_split:
            more_files, more_numbers = read_list(lists / 'test.txt', root, names)
            check_test(lists / 'test.txt', more_files, more_numbers[:, TASKS[task]], files, classes, task)
            files += more_files
            numbers = numpy.concatenate([numbers, more_numbers])
        labels = numpy.searchsorted(list(classes), numbers[:, TASKS[task]])
        super().__init__(root, files, labels, classes.values(), n_train)

    def image(self, i, cover=None):
        """As every data set; with boxes, an InputError if the image's label file or its box is wrong."""
        if not self.boxes:
            return super().image(i, cover)
        # the box is told in pixels of the image's own size
        image = super().image(i)
        path, (x1, y1, x2, y2) = self.box(i)
        height, width = image.shape[:2]
        if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):
            raise InputError(f'{path}, row 3: the box {x1} {y1} {x2} {y2} is empty or not inside the image, '
                             f'which has {width} x {height} pixels')
        # a copy, which does not keep the whole image in memory
        return image[y1 - 1:y2, x1 - 1:x2].copy()

    def box(self, i):
        """The label file of an image and its box: x1, y1, x2, y2 in pixels from 1, all inside the box."""
        path = (self.label_root / self.path(i).relative_to(self.root)).with_suffix('.txt')
        rows = read_rows(path, URL)
        if len(rows) != 3 or rows[1].strip() != '1':
            raise InputError(f'{path}: not the three rows of one car: viewpoint, 1, and its box')
        if not re.fullmatch(r'\s*' + r'\s+'.join([r'-?[0-9]{1,9}'] * 4), rows[2]):
            raise InputError(f'{path}, row 3: {rows[2]!r} is no box x1 y1 x2 y2')
        return path, [int(number) for number in rows[2].split()]


def read_names(path):
    """make_model_name.mat.

    Returns:
        two dicts, of makers and of models: number -> name, '' where it is not known. Both are empty if there
        is no such file.
    """
    if not path.is_file():
        return {}, {}
    variables = read_mat(path, ['make_names', 'model_names'])
    return tuple({number: _text(cell) for number, cell in enumerate(variables[name].ravel(), 1)}
                 for name in ('make_names', 'model_names'))


def read_list(path, root, names):
    """A list of images.

    Returns:
        files (list of str) and (n, 2) int, the numbers of maker and model.

    Raises:
        InputError: no list, a row that is none, an image twice or missing, a number out of range.
    """
    files, numbers = read_rows(path, URL), []
    for row, file in enumerate(files, 1):
        match = ROW.fullmatch(file)
        if not match:
            raise InputError(f'{path}, row {row}: {file!r} is not MAKE/MODEL/YEAR/NAME.jpg')
        numbers.append([int(match[1]), int(match[2])])
        for task, number, known in zip(TASKS, numbers[-1], names, strict=True):
            if known and number not in known:
                raise InputError(f'{path}, row {row}: {task} {number}, but make_model_name.mat has 1 to '
                                 f'{len(known)}')
    check_images(root, files, path, URL)
    return files, numpy.array(numbers)


def check_test(path, files, numbers, train_files, classes, task):
    """Refuse test images of a class that has no training image, and training images."""
    train_files = set(train_files)
    for row, (file, number) in enumerate(zip(files, numbers.tolist(), strict=True), 1):
        if number not in classes:
            raise InputError(f'{path}, row {row}: {file} is of {task} {number}, which has no training image')
        if file in train_files:
            raise InputError(f'{path}, row {row}: {file} is a training image too')


def class_names(numbers, names, task):
    """The classes of the training images.

    Args:
        numbers: (n, 2) int, of maker and model.
        names: of makers and of models, as :func:`read_names` gives them.
        task (str)

    Returns:
        dict: number of the maker or model -> its name, in the order of the numbers.
    """
    makers, models = names
    if task == 'maker':
        found = {maker: makers.get(maker) for maker, _ in numbers.tolist()}
    else:
        found = {model: models.get(model) and f'{makers.get(maker, "")} {models[model]}'.strip()
                 for maker, model in numbers.tolist()}
    classes = {number: found[number] or str(number) for number in sorted(found)}
    count = Counter(classes.values())
    return {number: f'{name} ({number})' if count[name] > 1 else name for number, name in classes.items()}


def _text(cell):
    """The text in a cell, '' if it holds none."""
    cell = numpy.asarray(cell)
    return ' '.join(cell.item().split()) if cell.size == 1 and cell.dtype.kind == 'U' else ''
