"""The charts of the page: the same bytes each time, told apart without colours, readable on a phone."""
import io
import math
import warnings

import matplotlib
import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from chainer_abn.files import read_file
from chainer_abn.report.markup import Picture
from chainer_abn.training import confusion

SETTINGS = {
    'svg.hashsalt': 'chainer_abn', 'svg.fonttype': 'none', 'text.parse_math': False, 'font.size': 9,
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.edgecolor': '#8a96a3', 'axes.grid': True,
    'grid.color': '#e3e8ed', 'xtick.color': '#4d5b69', 'ytick.color': '#4d5b69', 'axes.labelcolor': '#1c2733',
}
SIDE = 3.4, 4.0                 # of a fold's curves, inches
DOTS = 40                       # epochs up to which each has its dot
MANY = 60                       # classes that a confusion matrix can name
CELLS = 600                     # px, its side where it does not
LARGE = 150_000                 # bytes of a drawing from which on the same in pixels may be smaller
# Okabe and Ito's blue and vermilion, which the colour-blind tell apart; and the lines differ
LINES = {
    'training': {'color': '#d55e00', 'linestyle': (0, (4, 2)), 'linewidth': 1.3, 'marker': 's'},
    'validation': {'color': '#0072b2', 'linewidth': 1.8, 'marker': 'o'},
}
PARTS = {'training': 'main/', 'validation': 'validation/main/'}


def values(log, part, term):
    """A term of each epoch, NaN where it was not measured."""
    return numpy.array([entry.get(PARTS[part] + term, math.nan) for entry in log], float)


def limits(logs):
    """What the charts of all folds share: lowest accuracy, highest loss, last epoch."""
    def all_of(term):
        found = numpy.concatenate([values(log, part, term) for log in logs for part in PARTS])
        return found[numpy.isfinite(found)]

    accuracy, loss = all_of('accuracy'), all_of('loss')
    return (math.floor(10 * accuracy.min()) / 10 if len(accuracy) else 0,
            1.05 * loss.max() if len(loss) else 1, max(log[-1]['epoch'] for log in logs))


def curves(log, lowest, highest, last):
    """Accuracy and loss of a fold over the epochs.

    Args:
        log (list of dict): the entries of its log, not empty.
        lowest, highest, last: of :func:`limits`.

    Returns:
        Picture
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(SIDE)
        upper, lower = figure.subplots(2, sharex=True, gridspec_kw={
            'left': 0.14, 'right': 0.97, 'bottom': 0.1, 'top': 0.93, 'hspace': 0.22})
        epochs = [entry['epoch'] for entry in log]
        for axes, term in (upper, 'accuracy'), (lower, 'loss'):
            for part, look in LINES.items():
                axes.plot(epochs, values(log, part, term), label=part, clip_on=False,
                          markersize=3 if last <= DOTS else 0, **look)
            axes.set_title(term, loc='left', fontsize=9, weight='bold', x=-0.13)
        upper.set(xlim=(min(1, last - 1), last), ylim=(lowest, 1))
        lower.set(ylim=(0, highest), xlabel='epoch')
        lower.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1, 0))
        figure.legend(*upper.get_legend_handles_labels(), loc='upper right', ncols=2, frameon=False,
                      borderaxespad=0, handlelength=3)
        return encoded(figure)


def matrix(counts, classes):
    """What was taken for what, as :mod:`chainer_abn.training.confusion` draws it.

    Args:
        counts: (K, K) int, of several tasks (T, 2, 2).
        classes (sequence of str)

    Returns:
        Picture: of more than ``MANY`` classes, whose names could not be read, the cells alone.
    """
    if counts.ndim == 2 and len(counts) > MANY:
        return cells(counts)
    draw = confusion.draw_accuracies if counts.ndim == 3 else confusion.draw
    with matplotlib.rc_context({**SETTINGS, 'axes.grid': False}):
        return encoded(draw(counts, classes))


def cells(counts):
    """(K, K) counts -> Picture of K x K squares: rows are true classes, darker is a larger share of them."""
    share = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    # the root: else single images could not be seen
    colours = matplotlib.colormaps['Blues'](numpy.sqrt(share), bytes=True)[..., :3]
    file = io.BytesIO()
    Image.fromarray(colours).save(file, 'PNG', optimize=True)
    side = len(counts) * max(CELLS // len(counts), 1)
    return Picture(file.getvalue(), 'image/png', side, side, enlarged=True)


def encoded(figure):
    """A figure as a drawing, or in pixels where that is smaller -> Picture."""
    width, height = (round(96 * side) for side in figure.get_size_inches())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')         # letters that matplotlib's font lacks the browser has
        drawing = saved(figure, format='svg', metadata={'Date': None})
        if len(drawing) > LARGE:
            pixels = saved(figure, format='png', dpi=120)
            if len(pixels) < len(drawing):
                return Picture(pixels, 'image/png', width, height)
    return Picture(drawing, 'image/svg+xml', width, height)


def saved(figure, **options):
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


def picture_of(path):
    """A .png file as it is -> Picture; None where there is no such file or it is damaged."""
    try:
        data = read_file(path)
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return Picture(data, 'image/png', *opened.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
