"""Our Grad-CAM on the CPU against pytorch-grad-cam's: images a second, on the same network and images.

    python benchmarks/grad_cam.py [--cases resnet20 resnet20-abn resnet50] [--repeat N] [--threads N]

From a batch of normalised images in memory to maps in NumPy: as large as the images and from 0 to 1, and as
the layer that the classifier averages gives them. Each side is a process of its own in its own environment,
started afresh for every case; pytorch-grad-cam is there twice, with the two orders of images and weights in
memory, and the faster one counts. Both must give the same maps first. They take turns of about a second;
medians and ratios are printed as each case ends and left in --out.
"""
import argparse
import contextlib
import datetime
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy
from cpu_machine import OtherLoad, machine
from grad_cam_report import COLUMNS, KINDS, LEGEND, cells, markdown, rows
from report import line, write
from worker import Ended, Worker

HERE = Path(__file__).resolve().parent
TORCH_PYTHON = HERE.parent / '.venv-torch/bin/python'
CASES = {                       # name: (arch, variant, side of the images in pixels, batches)
    'resnet20': ('resnet20', 'baseline', 32, (64, 1)),
    'resnet20-abn': ('resnet20', 'abn', 32, (64, 1)),
    'resnet50': ('resnet50', 'baseline', 224, (8, 1)),
}
TOLERANCE = 1e-3                # of maps scaled to 0 to 1
TURN = 1                        # seconds, about; of 1 to MOST_STEPS steps
MOST_STEPS = 100


def commands(args):
    """Name and command of each side of a case."""
    threads = ['--threads', str(args.threads)]
    yield 'ours', [args.ours_python, HERE / 'grad_cam_ours.py', *threads, '--accelerator', args.accelerator]
    torch = [args.torch_python, HERE / 'grad_cam_torch.py', *threads]
    yield 'contiguous', torch
    yield 'channels last', [*torch, '--channels-last']


def measure(args, name, batch):
    """The dict of a case that ``grad_cam_report.rows`` takes."""
    arch, variant, image_size, _ = CASES[name]
    case = {'arch': arch, 'variant': variant, 'batch': batch, 'image_size': image_size}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = [stack.enter_context(Worker(*side)) for side in commands(args)]
        sides = {worker.name: worker.ask('start', **case, path=str(folder / 'weights.pth'))
                 for worker in workers}
        difference = {kind: largest_difference(workers, kind, folder) for kind in KINDS}
        for kind in KINDS:
            warm = [worker.ask('burst', kind=kind, steps=2)[-1] for worker in workers]
            steps = min(max(round(TURN / max(warm)), 1), MOST_STEPS)
            for worker in workers:
                sides[worker.name][kind] = []
            for _ in range(args.repeat):
                for worker in workers:
                    sides[worker.name][kind].append(worker.ask('burst', kind=kind, steps=steps))
    return {'case': case, 'difference': difference, 'sides': sides}


def largest_difference(workers, kind, folder):
    """Between our maps and the others', all scaled to 0 to 1; a map without a highest place is refused."""
    maps = []
    for worker in workers:
        path = folder / 'maps.npy'
        worker.ask('save', kind=kind, path=str(path))
        values = numpy.load(path)
        low, high = (f(values, axis=(1, 2), keepdims=True) for f in (numpy.min, numpy.max))
        if not (high > low).all():
            sys.exit(f'{worker.name}: a map without a highest place shows nothing of the others')
        maps.append((values - low) / (high - low))
    ours, *others = maps
    difference = max(float(abs(ours - theirs).max()) for theirs in others)
    if not difference <= TOLERANCE:
        sys.exit(f'maps as large as the {kind} differ by {difference:.0e}, more than {TOLERANCE}: '
                 'their times are not to be compared')
    return difference


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), metavar='CASE',
                        help=f'of {", ".join(CASES)}')
    parser.add_argument('--repeat', type=int, default=9, help='turns of each side (9)')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='of each side')
    parser.add_argument('--accelerator', choices=('auto', 'off'), default='auto', help='of our side')
    parser.add_argument('--ours-python', default=sys.executable)
    parser.add_argument('--torch-python', default=str(TORCH_PYTHON))
    parser.add_argument('--out', type=Path, default=HERE / 'results', help='folder of the results')
    args = parser.parse_args()
    if shutil.which(args.torch_python) is None:
        sys.exit(f'no PyTorch at {args.torch_python}: make .venv-torch/ready brings it')
    return args


def main():
    args = arguments()
    now = datetime.datetime.now()
    record = {'date': f'{now:%Y-%m-%d %H:%M}', 'command': shlex.join(['python', *sys.argv]),
              'machine': machine(), 'threads': args.threads, 'accelerator': args.accelerator,
              'versions': {}, 'complaints': [], 'rows': [], 'cases': []}
    path = args.out / f'grad-cam-{now:%Y-%m-%d-%H-%M-%S}'
    print(f'{record["machine"]["processor"]}, {args.threads} threads on each side')
    print(line(COLUMNS, COLUMNS), flush=True)
    for name in args.cases:
        for batch in CASES[name][-1]:
            with OtherLoad() as load:
                result = measure(args, name, batch)
            result['other_load'] = load.share
            record['cases'].append(result)
            record['versions'].update({name: side['versions'] for name, side in result['sides'].items()})
            record['rows'] += rows(result)
            for row in rows(result):
                print(line(cells(row), COLUMNS), flush=True)
            if (load.share or 0) > 0.05:
                complaint = f'{name} b{batch}: other processes took {load.share:.0%} of the processor'
                record['complaints'].append(complaint)
                print(f'not to be trusted: {complaint}', flush=True)
            # after every case, so that an interrupted run leaves what it has
            write(path, record, markdown(record))
    print(LEGEND)
    print(f'written: {path}.json and .md')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Ended as error:
        sys.exit(str(error))
