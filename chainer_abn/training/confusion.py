"""What a network of a fold took for what."""
import matplotlib
import numpy
from matplotlib.figure import Figure

from chainer_abn.errors import one_line
from chainer_abn.files import replacing


def save(path, truth, predicted, classes):
    """Write ``path``.npy, counts (rows: truth, columns: prediction), and .png.

    Args:
        path (pathlib.Path): without the suffixes.
        truth, predicted: (n,) int: the counts are (K, K), every class has its row and column, whether
            or not it occurs, and the picture shows them. (n, T) int of 0 and 1: the counts are
            (T, 2, 2), and the picture shows the accuracy of each task.
        classes (sequence of str): names of the classes or tasks.
    """
    # imported here for the same reason as in datasets/folds.py
    from sklearn.metrics import confusion_matrix

    if numpy.ndim(truth) == 2:
        counts, picture = counts_by_task(truth, predicted), draw_accuracies
    else:
        counts, picture = confusion_matrix(truth, predicted, labels=range(len(classes))), draw
    with replacing(path.with_name(path.name + '.npy')) as file:
        numpy.save(file, counts)
    # a name with two $ is no formula
    with matplotlib.rc_context({'text.parse_math': False}), \
            replacing(path.with_name(path.name + '.png')) as file:
        picture(counts, classes).savefig(file, format='png', dpi=100)


def counts_by_task(truth, predicted):
    """(n, T) int of 0 and 1, twice -> (T, 2, 2) counts: rows truth, columns prediction."""
    truth, predicted = (numpy.stack([a == 0, a == 1]) for a in map(numpy.asarray, (truth, predicted)))
    return numpy.einsum('rnt,cnt->trc', truth, predicted, dtype=int)


def attribute_accuracies(truth, predicted, classes):
    """Name of each task -> share of the images with the right answer.

    Args:
        truth, predicted: (n, T) int, 0 or 1.
        classes (sequence of str): T names.
    """
    right = (numpy.asarray(truth) == numpy.asarray(predicted)).mean(axis=0)
    return dict(zip(classes, right.tolist(), strict=True))


def draw_accuracies(counts, classes):
    """A figure of the accuracy per task and, marked on it, the share of the more frequent answer.

    Args:
        counts: (T, 2, 2), as of :func:`counts_by_task`.
        classes (sequence of str): T names.
    """
    n = counts[0].sum()
    accuracy = numpy.trace(counts, axis1=1, axis2=2) / n
    frequent = counts.sum(axis=2).max(axis=1) / n
    figure = Figure((8, 0.24 * len(classes) + 1.6), layout='constrained')
    axes = figure.subplots()
    rows = numpy.arange(len(classes))
    axes.barh(rows, accuracy, height=0.75, color='tab:blue', label='accuracy')
    axes.vlines(frequent, rows - 0.45, rows + 0.45, color='black', linewidth=2,
                label='share of the more frequent answer')
    for row, share in enumerate(accuracy):
        axes.annotate(f'{share:.1%}', (0, row), (4, 0), textcoords='offset points', va='center',
                      fontsize=8, color='white')
    axes.set_yticks(rows, classes, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(classes) - 0.4, -0.6), xlabel='share of the images',
             title=f'mean accuracy {accuracy.mean():.2%} of {n} images')
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    return figure


def draw(counts, classes):
    """A figure of the row-wise shares, with the counts written in where there is room."""
    n = len(classes)
    side = min(max(5, 0.45 * n + 2), 24)
    figure = Figure((side + 1, side), layout='constrained')
    axes = figure.subplots()
    share = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label='share of the images of the true class')
    font = min(9, 560 / n)
    classes = [one_line(name) for name in classes]          # a folder's name can be any bytes
    axes.set_xticks(range(n), classes, rotation=90, fontsize=font)
    axes.set_yticks(range(n), classes, fontsize=font)
    axes.set(xlabel='predicted class', ylabel='true class',
             title=f'{numpy.trace(counts)} of {counts.sum()} right')
    if n <= 40:
        for row in range(n):
            for column in range(n):
                if counts[row, column]:
                    axes.text(column, row, counts[row, column], ha='center', va='center',
                              fontsize=font, color='white' if share[row, column] > 0.5 else 'black')
    return figure
