"""The paper's figures and ours: in the terminal, as Markdown, CSV and a chart."""
import csv
import io
from pathlib import Path

from chainer_abn.errors import InputError
from chainer_abn.files import replacing
from chainer_abn.tables.chart import draw
from chainer_abn.tables.results import CONFIDENCE, collect, comparisons, deviations

NOT_RUN = '-'


def show(table, out):
    """Print the table and write ``OUT/TABLE.md``, ``.csv`` and ``.png``.

    Args:
        table (Table)
        out (Path): folder of the table.

    Raises:
        InputError: a run cannot be read, or a file not written.
    """
    results = collect(table, out)
    heading, below = notes(table, results), statements(table, results)
    header, *rows = lines(table, results)
    print(table.title, *heading, '', *aligned([header, *rows]), '', *below, sep='\n')
    files = [Path(out, f'{table.name}.{suffix}') for suffix in ('md', 'csv', 'png')]
    picture = io.BytesIO()
    draw(table, results, heading[:-1]).savefig(picture, dpi=100, format='png')
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        for file, content in zip(files, (
                markdown(table.title, heading, [header, *rows], below).encode(errors='surrogateescape'),
                comma_separated(table, results).encode(), picture.getvalue()), strict=True):
            with replacing(file) as part:
                part.write(content)
    except OSError as error:
        raise InputError(f'--out {out}: {error.strerror}') from None
    print('written:', ', '.join(map(str, files)))


def notes(table, results):
    """What is to be known before the figures, one line each."""
    tried = [result.cell.name for result in results if result.runs]
    said = [text if names == tried else f'{text}: {", ".join(names)}'
            for text, names in deviations(results).items()]
    if any(result.cell.paper is not None for result in results):
        said.append(f'{table.measure} in %; the paper\'s at the best epoch on the test images'
                    + ', * re-implemented by its authors' * any(result.cell.starred for result in results))
    else:
        said.append(f'{table.measure} in %; the paper has no such table')
    return [*said, 'ours: mean ± population deviation over the n finished runs (seeds x folds), at the best '
                   'epoch on the test images and at the last']


def lines(table, results):
    """Header and one line per cell, as text; columns in which nothing stands are left out."""
    header = ['row', 'column', 'paper', 'ours, best', 'ours, last', 'n', 'best - paper', 'unfinished']
    rows = []
    for result in results:
        missing = NOT_RUN if result.cell.training else 'quoted'
        rows.append([
            result.cell.row, result.cell.column, result.cell.figure or '', str(result.best or missing),
            str(result.last or missing), str(result.n or ''),
            '' if result.difference is None else f'{result.difference:+.2f}', result.state])
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [[line[i] for i in kept] for line in [header, *rows]]


def statements(table, results):
    """What the runs say of networks that differ in their mechanism."""
    said = []
    for label, n, best, last in comparisons(table, results):
        if best.interval is None:
            seeds = f'{n} paired seed{"s" * (n > 1)}: {best.verdict(table.measure)}'
            said.append(f'{label} = {best} points at the best epoch, {last} at the last; {seeds}')
        else:
            said.append(f'{label} = {best} points at the best epoch: {best.verdict(table.measure)}; '
                        f'{last} at the last: {last.verdict(table.measure)}; {n} paired seeds')
    if any('[' in line for line in said):
        said.append(f'[...]: {CONFIDENCE:.0%} t interval of the mean difference, each for itself: of many, '
                    'some miss by chance')
    if said and table.measure == 'error':
        said.append('less error is ahead')
    return said


def aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, second, *numbers = range(len(widths))
    return ['  '.join([row[first].ljust(widths[first]), row[second].ljust(widths[second]),
                       *(row[i].rjust(widths[i]) for i in numbers)]).rstrip() for row in rows]


def markdown(title, heading, rows, below):
    """A Markdown page with one table."""
    header, *rows = [[escaped(text) for text in row] for row in rows]
    rule = ['---', '---', *['---:'] * (len(header) - 2)]
    table = ['| ' + ' | '.join(row) + ' |' for row in (header, rule, *rows)]
    items = [[f'- {escaped(line)}' for line in part] for part in (heading, below)]
    return '\n'.join([f'# {escaped(title)}', '', *items[0], '', *table, '', *items[1]]).rstrip() + '\n'


def escaped(text):
    """Text that Markdown shows as it is."""
    return ''.join('\\' + c if c in '\\|*_[]<`#' else c for c in text)


def comma_separated(table, results):
    """Numbers only, in %; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['cell', 'row', 'column', 'measure', 'paper', 'reimplemented', 'best_mean',
                     'best_deviation', 'last_mean', 'last_deviation', 'n', 'difference', 'state'])
    for result in results:
        cell = result.cell
        state = result.state or ('finished' if result.n else 'not run' if cell.training else 'quoted')
        writer.writerow([cell.name, cell.row, cell.column, table.measure, cell.paper, int(cell.starred),
                         *(result.best or (None, None)), *(result.last or (None, None)), result.n,
                         result.difference, state])
    return text.getvalue()
