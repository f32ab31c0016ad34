"""The section of confusions; of several tasks, of what is answered wrongly."""
import numpy

from chainer_abn.report import charts
from chainer_abn.report.markup import image, scrolling, table, tag

ROWS = 10                       # of the tables


def confusions(found):
    """The matrix of all folds, a table of what stands out in it, and the matrix of each fold."""
    if not found.counts:
        return None
    total, n, classes = sum(found.counts.values()), len(found.counts), found.classes
    name = 'Accuracy of each task' if found.multitask else 'Confusion matrix'
    summed = f'{name}, {n} folds summed' if n > 1 else name
    picture = image(charts.matrix(total, classes), f'{summed}: {in_words(total, classes)}')
    legend = ''
    if len(classes) > charts.MANY and not found.multitask:
        legend = tag('p', 'A square is a pair of classes, in the order of their list: rows are true classes, '
                          'columns predicted ones; the darker, the more often.', class_='soft')
    return [legend,
            tag('div', scrolling(summed, picture),
                (hardest_tasks if found.multitask else top_confusions)(total, classes), class_='beside'),
            [of_one_fold(found, fold, f'{name}, fold {fold}') for fold in found.counts] if n > 1 else '']


def of_one_fold(found, fold, name):
    """The picture that the training drew."""
    path = f'{found.run.matrix(fold)}.png'
    picture = charts.picture_of(path) if len(found.classes) <= charts.MANY else None
    told = in_words(found.counts[fold], found.classes)
    content = scrolling(name, image(picture, f'{name}: {told}')) if picture else [
        tag('p', told), tag('p', 'Its picture: ', tag('code', path))]
    return tag('details', tag('summary', f'Fold {fold}'), content)


def in_words(counts, classes):
    """What a matrix, (K, K) or (T, 2, 2), shows."""
    if counts.ndim == 3:
        return f'{right_answers(counts).mean():.2%} of the answers for {counts[0].sum()} images are right.'
    said = f'{numpy.trace(counts)} of {counts.sum()} images are right'
    for truth, taken in confused(counts)[:1]:
        said += f'; most often, {counts[truth, taken]} times, {classes[truth]} is taken for {classes[taken]}'
    return f'{said}.'


def confused(counts):
    """(true, predicted class) of each confusion that there is, the most frequent first."""
    wrong = counts * (1 - numpy.eye(len(counts), dtype=int))
    order = numpy.argsort(-wrong, axis=None, kind='stable')[:numpy.count_nonzero(wrong)]
    return [divmod(i, len(counts)) for i in order.tolist()]


def top_confusions(counts, classes):
    rows = [[classes[truth], classes[taken], counts[truth, taken],
             f'{counts[truth, taken] / counts[truth].sum():.1%}']
            for truth, taken in confused(counts)[:ROWS]]
    if not rows:
        return tag('p', 'No image was taken for something else.')
    return table('Most frequent confusions', ['true class', 'taken for', 'images', 'of the true class'], rows,
                 n_text=2)


def right_answers(counts):
    """(T, 2, 2) -> (T,), the share of right answers."""
    return numpy.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))


def hardest_tasks(counts, classes):
    right = right_answers(counts)
    rows = [[classes[t], f'{right[t]:.2%}', counts[t, 1].sum(), counts[t, 1, 0], counts[t, 0, 1]]
            for t in numpy.argsort(right, kind='stable')[:ROWS].tolist()]
    return table('Hardest tasks', ['task', 'right', 'true yes', 'yes taken for no', 'no taken for yes'], rows)
