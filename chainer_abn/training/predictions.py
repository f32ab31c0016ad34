"""What the best network of a fold says of its validation images: ``matrix/i-fold_predictions.csv``."""
import csv
import io
import itertools
from typing import NamedTuple

import numpy

from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import softmax
from chainer_abn.files import open_text, replacing

# names of files are written as the bytes that they are
ENCODING = {'encoding': 'utf-8', 'errors': 'surrogateescape'}


class Predictions(NamedTuple):
    """Of n images.

    Attributes:
        indices: (n,) int, of the images in the data set.
        names (list of str): of the images, as the data set tells them.
        truth, predicted: (n,) int; of several tasks (n, T) of 0 and 1.
        probabilities: (n, 2) float32, of the predicted and the true class; of several tasks (n, T), of yes.
    """
    indices: numpy.ndarray
    names: list
    truth: numpy.ndarray
    predicted: numpy.ndarray
    probabilities: numpy.ndarray


def probabilities_of(logits, truth, predicted):
    """The ``probabilities`` of :class:`Predictions`.

    Args:
        logits: (n, K) float; of several tasks (n, T, 2).
        truth, predicted: (n,) int; of several tasks not looked at.
    """
    with numpy.errstate(invalid='ignore'):              # a network that has diverged
        probability = softmax(logits.astype('f'))
    if logits.ndim == 3:
        return probability[..., 1]
    return numpy.take_along_axis(probability, numpy.stack([predicted, truth], 1), 1)


def columns(classes, multitask):
    """The table's first line."""
    if multitask:
        return ['index', 'file', *(column for name in classes for column in (name, f'{name}_probability'))]
    return ['index', 'file', 'true_class', 'predicted_class', 'probability', 'true_probability']


def write(path, predictions, classes):
    """Write the table, whole or not at all; the probabilities are told to the last bit.

    Args:
        path: of the .csv file.
        predictions (Predictions)
        classes (sequence of str): names of the classes or tasks.
    """
    indices, names, truth, predicted, probabilities = predictions
    multitask = truth.ndim == 2
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns(classes, multitask))
    for i, name, t, y, p in zip(indices, names, truth, predicted, probabilities, strict=True):
        said = itertools.chain(*zip(t, p, strict=True)) if multitask else [classes[t], classes[y], *p]
        table.writerow([i, name, *said])
    with replacing(path) as file:
        file.write(text.getvalue().encode(**ENCODING))


def read(path, classes, multitask):
    """The :class:`Predictions` that :func:`write` wrote.

    Raises:
        InputError: no such file, damaged, or of other classes.
    """
    try:
        with open_text(path, newline='', **ENCODING) as file:
            header, *rows = csv.reader(file)
        if header != columns(classes, multitask) or any(len(row) != len(header) for row in rows):
            raise ValueError('not the columns of this run')
        numbers = {name: label for label, name in enumerate(classes)}
        cells = numpy.array(rows, object).reshape(len(rows), len(header))
        if multitask:
            truth, probabilities = cells[:, 2::2].astype(int), cells[:, 3::2].astype('f')
            predicted = (probabilities > 0.5).astype(int)
        else:
            labels = [[numbers[name] for name in row] for row in cells[:, 2:4]]
            truth, predicted = numpy.array(labels, int).reshape(-1, 2).T
            probabilities = cells[:, 4:].astype('f')
        if not (numpy.isnan(probabilities) | (0 <= probabilities) & (probabilities <= 1)).all():
            raise ValueError('a probability that is none')
        return Predictions(cells[:, 0].astype(int), cells[:, 1].tolist(), truth, predicted, probabilities)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None
    except KeyError as error:
        raise InputError(f'{path}: damaged (there is no class {error})') from None
    except (ValueError, OverflowError, csv.Error) as error:
        raise InputError(f'{path}: damaged ({error})') from None
