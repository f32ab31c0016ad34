"""Which of the held-out images of a fold are shown."""
from typing import NamedTuple

import numpy

SHOWN = 9                       # of a kind: whole rows of three


class Choice(NamedTuple):
    """An image, by its row in the predictions, and of several tasks one of the tasks."""
    row: int
    task: int | None = None


def most_confident_errors(predictions, n=SHOWN):
    """The wrong answers that the network was surest of, the surest first; of equals the first.

    Args:
        predictions (Predictions)
        n (int): at most so many.

    Returns:
        list of Choice: of several tasks, each wrong answer for itself.
    """
    truth, predicted, p = predictions.truth, predictions.predicted, predictions.probabilities
    multitask = truth.ndim == 2
    confidence = numpy.where(predicted == 1, p, 1 - p).ravel() if multitask else p[:, 0]
    wrong = numpy.flatnonzero(truth != predicted)
    order = wrong[numpy.argsort(-confidence[wrong], kind='stable')][:n].tolist()
    return [Choice(*divmod(i, truth.shape[1])) if multitask else Choice(i) for i in order]


def at_random(predictions, seed, n=SHOWN):
    """Images drawn from ``seed`` alone, in the order of the predictions.

    Args:
        predictions (Predictions)
        seed: what :func:`numpy.random.default_rng` takes.
        n (int): at most so many.

    Returns:
        list of Choice: of several tasks, with a task drawn for each image.
    """
    rng = numpy.random.default_rng(seed)
    rows = numpy.sort(rng.permutation(len(predictions.names))[:n]).tolist()
    if predictions.truth.ndim == 1:
        return [Choice(row) for row in rows]
    return [Choice(row, int(rng.integers(predictions.truth.shape[1]))) for row in rows]
