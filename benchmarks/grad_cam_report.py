"""From what ``grad_cam.py`` measured to rows, lines and tables."""
import statistics

from report import quartiles, table

KINDS = 'image', 'layer'
COLUMNS = {'case': 34, 'their order': 13, 'ours ms': 13, 'theirs ms': 13, 'ours images/s': 13,
           'theirs images/s': 15, 'theirs/ours': 17, 'difference': 10}
LEGEND = """\
case: maps as large as the image and from 0 to 1, or as large as they come out of the layer.
their order: of images and weights in memory, the faster of the two.
ms: median and median absolute deviation of the steps; images/s are those of the medians.
theirs/ours: ratio of the medians, above 1 ours is faster; in brackets the quartiles of the turns' ratios.
difference: the largest between our maps and theirs, each scaled to 0 to 1."""


def rows(result):
    """One row per size of the maps.

    Args:
        result (dict): ``case``; ``difference`` by kind; ``sides``, by name: the seconds of the steps by
            kind, a list per turn.
    """
    sides = dict(result['sides'])
    ours = sides.pop('ours')
    found = []
    for kind in KINDS:
        order = min(sides, key=lambda name: statistics.median(sum(sides[name][kind], [])))
        theirs = sides[order]
        row = {'case': result['case'], 'kind': kind, 'order': order, 'difference': result['difference'][kind],
               'ours': spread(ours[kind], result['case']['batch']),
               'theirs': spread(theirs[kind], result['case']['batch'])}
        row['ratio'] = row['theirs']['median'] / row['ours']['median']
        row['ratio_quartiles'] = quartiles([statistics.median(b) / statistics.median(a)
                                            for a, b in zip(ours[kind], theirs[kind], strict=True)])
        found.append(row)
    return found


def spread(turns, batch):
    seconds = sum(turns, [])
    median = statistics.median(seconds)
    return {'median': median, 'quartiles': quartiles(seconds), 'steps': len(seconds),
            'deviation': statistics.median(abs(s - median) for s in seconds),
            'images_per_second': batch / median}


def cells(row):
    """Text of each of COLUMNS."""
    case, sides = row['case'], [row['ours'], row['theirs']]
    name = f'{case["arch"]} {case["variant"]} b{case["batch"]} {case["image_size"]}px {row["kind"]}'
    return [name, row['order'], *(f'{1000 * s["median"]:.1f} ±{1000 * s["deviation"]:.1f}' for s in sides),
            *(f'{s["images_per_second"]:.1f}' for s in sides),
            '{:.2f} ({:.2f}-{:.2f})'.format(row['ratio'], *row['ratio_quartiles']),
            f'{row["difference"]:.0e}']


def markdown(record):
    machine = record['machine']
    avx512 = {True: 'with AVX-512', False: 'without AVX-512', None: 'AVX-512 unknown'}[machine['avx512']]
    lines = [
        f'# Grad-CAM against pytorch-grad-cam, {record["date"]}', '', f'    {record["command"]}', '',
        f'- {machine["processor"]}, {machine["cores"]} cores, {avx512}, {machine["system"]}; '
        f'load as it started {machine["load"][0]}',
        f'- {record["threads"]} threads on each side; our accelerator: {record["accelerator"]}']
    lines += [f'- {side}: ' + ', '.join(f'{name} {version}' for name, version in versions.items())
              for side, versions in record['versions'].items()]
    lines += [f'- not to be trusted: {complaint}' for complaint in record['complaints']]
    lines += ['', *table(COLUMNS, map(cells, record['rows']))]
    return '\n'.join([*lines, '', *(f'- {meaning}' for meaning in LEGEND.splitlines()), ''])
