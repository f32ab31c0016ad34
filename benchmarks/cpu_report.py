"""From what ``cpu.py`` measured to rows, lines and tables."""
import statistics

import report
from report import quartiles, table

KINDS = 'train', 'infer'
COLUMNS = {
    'case': 33, 'against': 13, 'ours ms': 13, 'theirs ms': 13, 'theirs/ours': 16,
    'ours MiB': 8, 'theirs MiB': 10, 'ours/theirs': 11, 'floor ms': 8, 'floor/ours': 10, 'floor/theirs': 12}
LEGEND = """\
ms: median and median absolute deviation of the steps.
theirs/ours: ratio of the medians, above 1 ours is faster; in brackets the quartiles of the turns' ratios.
MiB: peak memory of a training step above the process's own before the network was built.
floor: time of the multiply-adds of the convolutions (and linear layers) at the float32 GEMM rate."""


def rows(result, gemm_rate):
    """One row per kind of step and reference.

    Args:
        result (dict): ``case``; ``cost``, multiply-adds of an image; ``sides``, by name: what a side
            answered to ``start``, and the seconds of its steps, a list per turn.
        gemm_rate (float): per second.
    """
    sides = dict(result['sides'])
    ours = sides.pop('ours')
    found = []
    for kind in KINDS:
        floor = floor_seconds(kind, result['cost'], result['case']['batch'], gemm_rate)
        for reference, theirs in sides.items() or [(None, None)]:
            row = {'case': result['case'], 'kind': kind, 'reference': reference, 'floor': floor,
                   'ours': spread(ours[kind], floor)}
            if theirs:
                row['theirs'] = spread(theirs[kind], floor)
                row['ratio'] = row['theirs']['median'] / row['ours']['median']
                row['ratio_quartiles'] = quartiles([
                    statistics.median(b) / statistics.median(a)
                    for a, b in zip(ours[kind], theirs[kind], strict=True)])
            if kind == 'train':
                memory = [ours['memory'], theirs and theirs['memory']]
                row['ours']['memory'] = memory[0]
                if all(memory):
                    row['theirs']['memory'] = memory[1]
                    row['memory_ratio'] = memory[0] / memory[1]
            found.append(row)
    return found


def floor_seconds(kind, cost, batch, gemm_rate):
    """Training takes each layer three times, but nobody needs the gradient of the images."""
    multiply_adds = 3 * cost['total'] - cost['first'] if kind == 'train' else cost['total']
    return 2 * batch * multiply_adds / gemm_rate


def spread(turns, floor):
    seconds = sum(turns, [])
    median = statistics.median(seconds)
    return {'median': median, 'quartiles': quartiles(seconds), 'steps': len(seconds),
            'deviation': statistics.median(abs(s - median) for s in seconds),
            'share_of_floor': floor / median}


def cells(row):
    """Text of each of COLUMNS."""
    case = row['case']
    sides = [row['ours'], row.get('theirs', {})]
    milliseconds = [f'{1000 * s["median"]:.1f} ±{1000 * s["deviation"]:.1f}' if s else '-' for s in sides]
    memory = [f'{s["memory"] / 2 ** 20:.0f}' if s.get('memory') else '-' for s in sides]
    shares = [f'{s["share_of_floor"]:.0%}' if s else '-' for s in sides]
    ratio = '{:.2f} ({:.2f}-{:.2f})'.format(row['ratio'], *row['ratio_quartiles']) if 'ratio' in row else '-'
    memory_ratio = f'{row["memory_ratio"]:.2f}' if 'memory_ratio' in row else '-'
    name = f'{case["arch"]} b{case["batch"]} {case["image_size"]}px {row["kind"]}'
    return [name, row['reference'] or '-', *milliseconds, ratio, *memory, memory_ratio,
            f'{1000 * row["floor"]:.1f}', *shares]


def complaints(result):
    """What makes the figures of a case worthless, in words."""
    yield from report.complaints(result['sides'])
    if (result['other_load'] or 0) > 0.05:
        yield f'other processes took {result["other_load"]:.0%} of the processor'


def markdown(record):
    machine = record['machine']
    avx512 = {True: 'with AVX-512', False: 'without AVX-512', None: 'AVX-512 unknown'}[machine['avx512']]
    lines = [
        f'# CPU benchmark, {record["date"]}', '', f'    {record["command"]}', '',
        f'- {machine["processor"]}, {machine["cores"]} cores, {avx512}, {machine["system"]}; '
        f'load as it started {machine["load"][0]}',
        f'- {record["threads"]} threads on each side; our accelerator: {record["accelerator"]}; '
        f'float32 GEMM {record["gemm_rate"] / 1e9:.0f} GFLOP/s']
    lines += [f'- {side}: ' + ', '.join(f'{name} {version}' for name, version in versions.items())
              for side, versions in record['versions'].items()]
    lines += [f'- not to be trusted: {complaint}' for complaint in record['complaints']]
    lines += ['', *table(COLUMNS, map(cells, record['rows']))]
    return '\n'.join([*lines, '', *(f'- {meaning}' for meaning in LEGEND.splitlines()), ''])
