"""Charts of scores: a panel per score, and the mean curves of insertion and deletion."""
import itertools

import numpy
from matplotlib.figure import Figure

from chainer_abn.errors import one_line
from chainer_abn.scores.tally import BASELINES

TITLES = {
    'pointing': 'pointing: share of hits', 'energy': 'energy inside', 'iou': 'IoU, best threshold',
    'insertion': 'insertion (more is better)', 'deletion': 'deletion (less is better)',
}
OURS, BASELINE = '#1f4e9c', '#767676'
LINES = '-', '--', ':', '-.'
MARKERS = 'osD^vP'


def draw_scores(tables):
    """Means with their intervals; the baselines are hollow diamonds, the centre's mean a line besides.

    Args:
        tables (dict): name of a run -> {row: {score: Mean or None}}.

    Returns:
        matplotlib.figure.Figure
    """
    scores = list(next(iter(next(iter(tables.values())).values())))
    labels = [label(tables, name, row) for name, table in tables.items() for row in table]
    longest = max(map(len, labels))
    figure = Figure((0.08 * longest + 2.6 * len(scores), 0.3 * len(labels) + 1.1), layout='constrained')
    for axes, score in zip(figure.subplots(1, len(scores), sharey=True), scores, strict=True):
        places = itertools.count()
        for table in tables.values():
            for row, means in table.items():
                y, mean = next(places), means[score]
                if mean is None:
                    continue
                colour, marker, fill = (BASELINE, 'D', 'white') if row in BASELINES else (OURS, 'o', OURS)
                axes.errorbar(mean.value, y, xerr=[[mean.value - mean.low], [mean.high - mean.value]],
                              fmt=marker, color=colour, markerfacecolor=fill, markersize=6, capsize=3)
                if row == 'centre':
                    axes.vlines(mean.value, y - len(table) + 1.5, y, BASELINE, ':', zorder=0)
        axes.set_title(TITLES[score], fontsize=9)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis='x', alpha=0.4)
        axes.tick_params(labelsize=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    figure.supxlabel('mean and 95 % interval over images; hollow: baselines', fontsize=8)
    return figure


def draw_curves(curves):
    """The mean probability while pixels are added or removed.

    Args:
        curves (dict): name of a run -> {insertion or deletion: {row: (N + 1,)}}.

    Returns:
        matplotlib.figure.Figure
    """
    figure = Figure((9, 3.8), layout='constrained')
    for axes, (score, text) in zip(figure.subplots(1, 2, sharey=True),
                                   (('insertion', 'added'), ('deletion', 'removed')), strict=True):
        styles = itertools.cycle(zip(itertools.cycle(LINES), MARKERS, strict=False))
        for name, scores in curves.items():
            for row, curve in scores[score].items():
                line, marker = next(styles)
                share = numpy.linspace(0, 1, len(curve))
                axes.plot(share, curve, line, marker=marker, markersize=4, markevery=max(len(curve) // 10, 1),
                          color=BASELINE if row in BASELINES else None, label=label(curves, name, row))
        axes.set_title(TITLES[score], fontsize=9)
        axes.set_xlabel(f'share of the pixels that are {text}', fontsize=8)
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.4)
        axes.tick_params(labelsize=8)
    axes.set_ylim(0)                        # of both, when all is drawn
    figure.axes[0].set_ylabel('probability of the predicted class', fontsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc='outside right upper', fontsize=8)
    return figure


def label(tables, name, row):
    """Of a row, with the name of the run where there are several; matplotlib takes $ for mathematics."""
    return one_line(f'{name}: {row}' if len(tables) > 1 else row).replace('$', r'\$')
