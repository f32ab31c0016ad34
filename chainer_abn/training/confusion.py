"""The confusion matrix of a fold."""
import numpy
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix


def save(path, truth, predicted, classes):
    """Write ``path``.npy, the (K, K) counts (rows: truth, columns: prediction), and .png.

    Every class has its row and column, whether or not it occurs.
    """
    counts = confusion_matrix(truth, predicted, labels=range(len(classes)))
    numpy.save(path.with_name(path.name + '.npy'), counts)
    draw(counts, classes).savefig(path.with_name(path.name + '.png'), dpi=100)


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
