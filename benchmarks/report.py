"""Figures as lines, tables and files: what the reports of the benchmarks share.

``columns`` are titles and widths of a table, whose first two columns are flush left.
"""
import json
import math
import statistics

LEFT = 2


def quartiles(values):
    """The first and the third."""
    if len(values) == 1:
        return values * 2
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return [first, third]


def complaints(sides):
    """What makes the figures of a case worthless, in words.

    Args:
        sides (dict): by name, with ``parameters`` (their number) and the last ``loss``.
    """
    if len({side['parameters'] for side in sides.values()}) > 1:
        yield 'the networks differ: ' + ', '.join(f'{n} {s["parameters"]:,}' for n, s in sides.items())
    for name, side in sides.items():
        if not math.isfinite(side['loss']):
            yield f'the loss of {name} ended at {side["loss"]}: arithmetic on it has another speed'


def line(texts, columns):
    """A line of the terminal's table."""
    return ' '.join(text.ljust(width) if i < LEFT else text.rjust(width)
                    for i, (text, width) in enumerate(zip(texts, columns.values(), strict=True)))


def table(columns, rows):
    """The lines of a Markdown table, of rows of texts."""
    yield '| ' + ' | '.join(columns) + ' |'
    yield '|' + '---|' * LEFT + '---:|' * (len(columns) - LEFT)
    for texts in rows:
        yield '| ' + ' | '.join(texts) + ' |'


def write(path, record, text):
    """``path``.json with everything, ``path``.md for readers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n')
    path.with_suffix('.md').write_text(text)
