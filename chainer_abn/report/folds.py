"""The sections of folds and curves."""
import numpy

from chainer_abn.report import charts
from chainer_abn.report.markup import image, table, tag

# name in summary.json, heading, how the numbers are written
COLUMNS = (('best_epoch', 'best epoch', '{:.0f}'), ('best_accuracy', 'best accuracy', '{:.2%}'),
           ('last_accuracy', 'last accuracy', '{:.2%}'), ('top5_accuracy', 'top-5 accuracy', '{:.2%}'),
           ('loss', 'loss', '{:.4f}'), ('images_per_second', 'images/s', '{:.1f}'))


def folds(found):
    """The table of folds, the unfinished ones with how far they are."""
    rows = found.summary['folds']
    columns = [column for column in COLUMNS
               if not rows or any(row.get(column[0]) is not None for row in rows)]
    lines = {row['fold']: [row['fold'], *(number(row.get(name), form) for name, _, form in columns)]
             for row in rows}
    lines |= {fold: [fold, so_far(found, fold)] for fold in found.unfinished}
    return [
        table('Accuracy and loss of held-out images',
              ['fold', *(heading for _, heading, _ in columns)],
              [lines[fold] for fold in sorted(lines)], means(rows, columns) if rows else None),
        tag('p', 'The best epoch is that of the highest accuracy, chosen by these same images; the loss is '
                 'of that epoch. Last is the end of the training. ± is the population deviation over the '
                 'finished folds.', class_='soft')]


def means(rows, columns):
    """The last line of the table."""
    cells = ['mean']
    for name, _, form in columns:
        told = [row[name] for row in rows if row.get(name) is not None]
        cells.append('' if name == 'best_epoch' else spread(told, form))
    return cells


def spread(values, form):
    """Mean ± deviation, which one value does not have."""
    deviation = f' ± {form.format(numpy.std(values))}' if len(values) > 1 else ''
    return form.format(numpy.mean(values)) + deviation


def so_far(found, fold):
    if fold not in found.logs:
        return 'not begun'
    accuracy = charts.values(found.logs[fold], 'validation', 'accuracy')
    return (f'epoch {found.logs[fold][-1]["epoch"]} of {found.arguments["epoch"]}; '
            f'best accuracy so far {accuracy.max():.2%}')


def number(value, form):
    return '–' if value is None else form.format(value)


def curves(found):
    """A chart for each fold that has begun."""
    if not found.logs:
        return None
    scale = charts.limits(list(found.logs.values()))
    return [
        tag('p', 'Validation is the solid line, training the dashed one; all folds are on one scale.',
            class_='soft'),
        tag('ul', [tag('li', tag('figure', tag('figcaption', f'Fold {fold}' + (
                '' if fold in found.finished else ', not finished')),
            image(charts.curves(log, *scale), in_words(fold, log))))
            for fold, log in found.logs.items()], class_='curves')]


def in_words(fold, log):
    """What a fold's chart shows."""
    accuracy, loss = ({part: charts.values(log, part, term) for part in charts.PARTS}
                      for term in ('accuracy', 'loss'))
    validation = accuracy['validation']
    best = int(numpy.argmax(numpy.nan_to_num(validation, nan=-1)))
    return (f'Fold {fold}, epochs {log[0]["epoch"]} to {log[-1]["epoch"]}. Validation accuracy: from '
            f'{validation[0]:.1%} to {validation[-1]:.1%}, best {validation[best]:.1%} in epoch '
            f'{log[best]["epoch"]}. Training accuracy at the end: {accuracy["training"][-1]:.1%}. Loss at '
            f'the end: validation {loss["validation"][-1]:.3f}, training {loss["training"][-1]:.3f}.')
