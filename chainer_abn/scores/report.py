"""The scores as a table in the terminal, CSV files and pictures."""
import csv
import io
from pathlib import Path

import numpy

from chainer_abn.errors import InputError, one_line
from chainer_abn.files import replacing
from chainer_abn.scores.chart import draw_curves, draw_scores
from chainer_abn.scores.tally import UNIFORM


def report(name, judged, tolerance):
    """Yield the lines of a table and what belongs to it.

    Args:
        name (str): of the run or network.
        judged (Judged)
        tolerance (float): of pointing in pixels; None: the usual.
    """
    source, tally, (table, differences) = judged[:3]
    right = ''
    if source.has_classes:
        true = [source.class_of(i) == guess for i, (guess, _) in
                zip(source.indices, judged.predictions, strict=True)]
        right = f', the class of {numpy.mean(true):.1%} told right (seen whole)'
    yield (f'{one_line(name)}: {len(tally.values)} images{right}; mean [95 % bootstrap interval over the '
           'images]')
    rows = [['', 'empty maps', *tally.scores]]
    for row, empty in zip(tally.rows, tally.empty, strict=True):
        rows.append([row, '-' if row == UNIFORM else str(empty),
                     *('-' if mean is None else str(mean) for mean in table[row].values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    distance = ('15 px of the object for each 500 px of the image\'s longer side, in whole pixels'
                if tolerance is None else f'{tolerance:g} px of the object')
    yield f'pointing: a hit is within {distance}'
    yield ('iou: at one threshold for all images, the one with the largest mean on these: '
           + ', '.join(f'{row} {best:.2f}' for row, best in zip(tally.rows, tally.thresholds, strict=True)
                       if row != UNIFORM))
    for method, difference in differences.items():
        yield 'pointing, {} less centre: {:+.3f} [{:+.3f}, {:+.3f}]'.format(method, *difference)


def write(out, judged):
    """Write all files, each whole or not at all.

    Args:
        out: the folder.
        judged (dict): name of a run -> Judged.

    Returns:
        list of Path

    Raises:
        InputError: it cannot be written.
    """
    tables = {name: one.means[0] for name, one in judged.items()}
    writers = {
        'scores.csv': lambda file: write_csv(file, score_rows(judged)),
        'images.csv': lambda file: write_csv(file, image_rows(judged)),
        'scores.png': lambda file: save(draw_scores(tables), file),
    }
    for name, one in judged.items():
        writers['examples.png' if len(judged) == 1 else f'examples-{name}.png'] = (
            lambda file, sheet=one.sheet: sheet.draw().save(file, 'png'))
    curves = {name: one.tally.named_curves() for name, one in judged.items() if one.tally.curves}
    if curves:
        writers['curves.png'] = lambda file: save(draw_curves(curves), file)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        for name, write_to in writers.items():
            with replacing(Path(out, name)) as file:
                write_to(file)
    except OSError as error:
        raise InputError(f'--out {out}: {error.strerror or error}') from None
    return [Path(out, name) for name in writers]


def save(figure, file):
    figure.savefig(file, dpi=100, format='png')


def write_csv(file, rows):
    # a file's name can be any bytes
    text = io.TextIOWrapper(file, 'utf-8', 'surrogateescape', newline='')
    csv.writer(text).writerows(rows)
    text.flush()
    text.detach()


def score_rows(judged):
    """The lines of scores.csv: one per run and method."""
    scores = next(iter(judged.values())).tally.scores
    yield ['run', 'method', 'images', 'empty_maps', 'iou_threshold',
           *(f'{score}{end}' for score in (*scores, 'pointing_less_centre') for end in ('', '_low', '_high'))]
    for name, one in judged.items():
        tally, (table, differences) = one.tally, one.means
        for row, empty, threshold in zip(tally.rows, tally.empty, tally.thresholds, strict=True):
            means = [*table[row].values(), differences.get(row)]
            yield [name, row, len(tally.values), empty, '' if row == UNIFORM else f'{threshold:.2f}',
                   *(f'{value:.6f}' if mean else '' for mean in means for value in mean or range(3))]


def image_rows(judged):
    """The lines of images.csv: one per image and method, with the place of the map's maximum."""
    scores = next(iter(judged.values())).tally.scores
    yield ['run', 'file', 'class', 'predicted_class', 'probability', 'method', 'row', 'column', *scores]
    for name, (source, tally, _, predictions, _) in judged.items():
        for i, (guess, probability), places, values in zip(source.indices, predictions, tally.places,
                                                           tally.values, strict=True):
            for row, place, numbers in zip(tally.rows, places, values, strict=True):
                yield [name, source.images.name(i), source.class_of(i), guess, f'{probability:.4f}', row,
                       *('' if at < 0 else at for at in place),
                       *('' if numpy.isnan(number) else f'{number:.6f}' for number in numbers)]
