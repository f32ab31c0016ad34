"""What the runs of a table gave, beside the paper's figures."""
import itertools
from typing import NamedTuple

import numpy
import scipy.stats

from chainer_abn.tables.runs import HOW, WHERE, flags_of, runs_there

CONFIDENCE = 0.95
LEAST_PAIRS = 3
# what makes a cell that cell, and a run that run
IDENTITY = {'--arch', '--variant', '--attention', '--task', '--seed', *HOW, *WHERE}


class Score(NamedTuple):
    """Mean and population deviation, in % or points; of one value it has none."""
    mean: float
    deviation: float | None

    def __str__(self):
        return f'{self.mean:.2f}' + ('' if self.deviation is None else f' ± {self.deviation:.2f}')


class Result(NamedTuple):
    """A cell with what is there of it.

    Attributes:
        cell (Cell)
        runs (list of Run): all, by seed.
        best (Score): over the finished folds of all runs, each at its best epoch; None without one.
        last (Score): likewise, at the last epoch.
        n (int): folds in these.
        difference (float): of the best mean to the paper's figure, in points; None where one is missing or of
            another data set or split.
        state (str): of the run that is not finished, such as ``running 12/300 epochs``; else empty.
    """
    cell: object
    runs: list
    best: Score | None
    last: Score | None
    n: int
    difference: float | None
    state: str


class Difference(NamedTuple):
    """A mean of paired differences, in points, and its t interval.

    Attributes:
        mean (float)
        interval: (low, high); None for fewer than 3 pairs.
    """
    mean: float
    interval: tuple | None

    def verdict(self, measure):
        """Whether that is ahead; less of an error is better."""
        if self.interval is None:
            return 'too few for an interval'
        low, high = self.interval if measure == 'accuracy' else (-self.interval[1], -self.interval[0])
        return 'ahead' if low > 0 else 'behind' if high < 0 else 'not clearly ahead'

    def __str__(self):
        bounds = f' [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}]' if self.interval else ''
        return f'{self.mean:+.2f}{bounds}'


def collect(table, out):
    """The results of all cells of a table, from its folder.

    Raises:
        InputError: a run cannot be read.
    """
    return [result_of(table, cell, runs_there(out, cell) if cell.training else []) for cell in table.cells]


def result_of(table, cell, runs):
    folds = [fold for run in runs for fold in run.rows]
    best, last = (score([points(table, fold[name]) for fold in folds])
                  for name in ('best_accuracy', 'last_accuracy'))
    comparable = best and cell.paper is not None and all(
        run.arguments['dataset'] == cell.training.dataset and run.arguments['kfold'] == 0 for run in runs)
    unfinished = [f'{"running" if run.running else "cut at"} {run.epochs_done}/{run.epochs} epochs'
                  for run in runs if not run.finished]
    return Result(cell, runs, best, last, len(folds), best.mean - cell.paper if comparable else None,
                  ', '.join(unfinished))


def points(table, accuracy):
    """An accuracy in [0, 1] as the table's measure in %."""
    return 100 * accuracy if table.measure == 'accuracy' else 100 - 100 * accuracy


def score(values):
    if not values:
        return None
    return Score(float(numpy.mean(values)), float(numpy.std(values)) if len(values) > 1 else None)


def deviations(results):
    """What the runs were made with that the table's recipe does not say.

    Returns:
        dict: text -> list of the cells' names.
    """
    found = {}
    for result in results:
        texts = {text: None for run in result.runs for text in deviations_of(run)}
        for text in texts:
            found.setdefault(text, []).append(result.cell.name)
    return found


def deviations_of(run):
    training, dataset, epoch = run.cell.training, run.arguments['dataset'], run.arguments['epoch']
    if dataset != training.dataset:
        yield (f'trained on {dataset}, not {training.dataset}: the paper\'s figures are of another data set, '
               'no difference is given')
    usual = training.epochs(dataset)
    if epoch != usual:
        yield f'epochs: {epoch} instead of the recipe\'s {usual}'
    asked, used = flags_of(training.flags()), run.flags
    leave = IDENTITY | {'--dataset', '--epoch'}
    more = [f'{flag} {value}'.strip() for flag, value in used.items()
            if flag not in leave and asked.get(flag, {'--kfold': '0'}.get(flag)) != value]
    more += [f'no {flag}' for flag in asked if flag not in leave and flag not in used]
    if more:
        yield f'with {" ".join(more)}'


def comparisons(table, results):
    """Networks that differ in their mechanism only, two by two, paired by seed.

    Yields:
        label (str), number of pairs (int), Difference at the best epoch, Difference at the last.
    """
    groups = {}
    for result in results:
        if result.cell.training:
            training = result.cell.training
            groups.setdefault((training.dataset, training.arch, training.task), []).append(result)
    for group in groups.values():
        for first, second in itertools.combinations(group, 2):
            pairs = [(a, b) for a in first.runs for b in second.runs
                     if a.seed == b.seed and a.finished and b.finished and settings(a) == settings(b)]
            if pairs:
                best, last = (
                    difference([mean_of(table, b, name) - mean_of(table, a, name) for a, b in pairs])
                    for name in ('best_accuracy', 'last_accuracy'))
                yield label(first.cell, second.cell), len(pairs), best, last


def settings(run):
    return {flag: value for flag, value in run.flags.items() if flag not in IDENTITY}


def mean_of(table, run, name):
    return float(numpy.mean([points(table, fold[name]) for fold in run.rows]))


def label(first, second):
    if first.row == second.row:
        return f'{first.row}: {second.column} - {first.column}'
    return f'{first.column}: {second.row} - {first.row}'


def difference(values):
    n = len(values)
    if n < LEAST_PAIRS:
        return Difference(float(numpy.mean(values)), None)
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * numpy.std(values, ddof=1) / n ** 0.5
    mean = float(numpy.mean(values))
    return Difference(mean, (mean - float(half), mean + float(half)))
