"""From what ``gpu_steps.py`` measured to rows, lines and tables."""
import statistics

import report
from cpu_report import floor_seconds
from report import quartiles, table

COLUMNS = {
    'case': 30, 'side': 24, 'ms': 14, 'theirs/this': 18, 'images/s': 9, 'TFLOP/s': 8, 'queued ms': 10,
    'MiB': 7, 'loss': 8}
LEGEND = """\
ms: of a training step, median and median absolute deviation of the turns.
theirs/this: time of PyTorch's faster eager side through this side's, above 1 this is faster; of the \
medians, in brackets the quartiles of the turns.
TFLOP/s: of the multiply-adds of convolutions and linear layers.
queued ms: until a step is queued on an idle GPU; about ms where Python sets the pace or the queue is full.
MiB: reserved by the pool of a process for its steps, after what was not in use was given back.
ours: plain step, deterministic, convolutions by cuDNN's rules, as training is; captured: the same as a CUDA \
graph, whose time is about what the GPU needs; autotune: convolutions chosen by timing; any order: those too \
that are not deterministic.
torch: eager, TF32 or autocast to float16, convolutions chosen by timing, fused SGD; graph: channels last, \
forward and backward as a CUDA graph, for information."""
EAGER = 'torch', 'torch channels_last'
MOST_FUNCTIONS = 12             # told in the report


def rows(result):
    """One row per side.

    Args:
        result (dict): ``case``; ``cost``, multiply-adds of an image; ``sides``, by name: what a side
            answered to ``start``; ``turns``, seconds per step of each; ``queued``, seconds of each step.
    """
    sides = result['sides']
    medians = {name: statistics.median(side['turns']) for name, side in sides.items()}
    reference = min((name for name in EAGER if name in sides), key=medians.get, default=None)
    flop = floor_seconds('train', result['cost'], result['case']['batch'], 1)
    found = []
    for name, side in sides.items():
        median = medians[name]
        row = {'case': result['case'], 'side': name, 'reference': reference, 'median': median,
               'deviation': statistics.median(abs(s - median) for s in side['turns']),
               'images_per_second': result['case']['batch'] / median, 'flop_per_second': flop / median,
               'queued': statistics.median(side['queued']), 'memory': side['memory'], 'loss': side['loss']}
        if reference is not None:
            row['ratio'] = medians[reference] / median
            row['ratio_quartiles'] = quartiles(
                [theirs / own for own, theirs in zip(side['turns'], sides[reference]['turns'], strict=True)])
        found.append(row)
    return found


def cells(row):
    """Text of each of COLUMNS."""
    ratio = '-'
    if row['side'] == row['reference']:
        ratio = 'reference'
    elif 'ratio' in row:
        ratio = '{:.2f} ({:.2f}-{:.2f})'.format(row['ratio'], *row['ratio_quartiles'])
    return [title(row['case']), row['side'],
            f'{1000 * row["median"]:.2f} ±{1000 * row["deviation"]:.2f}', ratio,
            f'{row["images_per_second"]:.0f}', f'{row["flop_per_second"] / 1e12:.1f}',
            f'{1000 * row["queued"]:.2f}', f'{row["memory"]["reserved"] / 2 ** 20:.0f}', f'{row["loss"]:.4f}']


def title(case):
    dtype = 'mixed16' if case['mixed'] else 'float32'
    return f'{case["arch"]} b{case["batch"]} {case["image_size"]}px {dtype}'


def function_lines(result):
    """Where the GPU's time of our plain step goes, the longest first."""
    if not result['functions']:
        return
    total = sum(seconds for _, seconds, _ in result['functions'])
    yield f'{title(result["case"])}: {1000 * total:.2f} ms on the GPU in our plain step\'s functions'
    for what, seconds, calls in result['functions'][:MOST_FUNCTIONS]:
        yield f'    {what:32} {1000 * seconds:8.2f} ms {seconds / total:5.0%} {calls:5} calls'


def complaints(result):
    """What is to be known before the figures of a case are believed."""
    yield from result['failures']
    yield from report.complaints(result['sides'])


def markdown(record):
    lines = [f'# GPU benchmark of training steps, {record["date"]}', '',
             f'- {record["repeat"]} turns of each side, which idle while another is timed']
    lines += [f'- {side}: ' + ', '.join(f'{name} {version}' for name, version in versions.items())
              for side, versions in record['versions'].items()]
    lines += [f'- beware: {complaint}' for complaint in record['complaints']]
    lines += ['', *table(COLUMNS, map(cells, record['rows']))]
    lines += ['', *(f'- {meaning}' for meaning in LEGEND.splitlines()), '']
    for case in record['cases']:
        lines += [*(f'    {text}' for text in function_lines(case)), '']
    return '\n'.join(lines)
