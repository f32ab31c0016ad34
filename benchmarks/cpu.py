"""Our training step and inference on the CPU against PyTorch's: time, peak memory, share of the floor.

    python benchmarks/cpu.py [--cases resnet20 wrn-16-4] [--repeat N] [--compile]

Each side is a process of its own in its own environment, started afresh for every case. They take
turns of about a second; medians and ratios are printed as each case ends and left in --out.
"""
import argparse
import contextlib
import datetime
import os
import shlex
import shutil
import sys
from pathlib import Path

from cpu_machine import OtherLoad, gemm_rate, machine
from cpu_report import COLUMNS, KINDS, LEGEND, cells, complaints, markdown, rows
from report import line, write
from worker import Ended, Worker

HERE = Path(__file__).resolve().parent
TORCH_PYTHON = HERE.parent / '.venv-torch/bin/python'
CASES = {                       # arch: (batch, side of the images in pixels)
    'resnet20': (128, 32),
    'resnet110': (32, 32),
    'wrn-16-4': (128, 32),
    'densenet-bc-100-12': (64, 32),
    'resnext-29-2x64d': (32, 32),
    'resnet18': (16, 224),
}
COMPILED = 'resnet20'           # the case of --compile
TURN = 1                        # seconds, about; of 1 to MOST_STEPS steps
MOST_STEPS = 10


def commands(args, arch):
    """Name and command of each side of a case."""
    threads = ['--threads', str(args.threads)]
    yield 'ours', [args.ours_python, HERE / 'cpu_ours.py', *threads, '--accelerator', args.accelerator]
    if args.torch:
        torch = [args.torch_python, HERE / 'cpu_torch.py', *threads]
        yield 'torch', torch
        if args.compile and arch == COMPILED:
            yield 'torch.compile', [*torch, '--compile']


def measure(args, arch):
    """The dict of a case that ``cpu_report.rows`` takes."""
    batch, image_size = CASES[arch]
    case = {'arch': arch, 'batch': batch, 'image_size': image_size}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(*side)) for side in commands(args, arch)]
        sides = {worker.name: worker.ask('start', **case) for worker in workers}
        if 'torch.compile' in sides:
            sides['torch.compile']['memory'] = None     # the compiler's own would count
        cost = workers[0].ask('cost')
        for kind in KINDS:
            # the first two calls compile, where there is a compiler
            warm = [worker.ask('burst', kind=kind, steps=2)['seconds'][-1] for worker in workers]
            steps = min(max(round(TURN / max(warm)), 1), MOST_STEPS)
            for worker in workers:
                sides[worker.name][kind] = []
            for _ in range(args.repeat):
                for worker in workers:
                    answer = worker.ask('burst', kind=kind, steps=steps)
                    sides[worker.name][kind].append(answer['seconds'])
                    if kind == 'train':
                        sides[worker.name]['loss'] = answer['loss']
    return {'case': case, 'cost': cost, 'sides': sides}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), metavar='ARCH',
                        help=f'of {", ".join(CASES)}')
    parser.add_argument('--repeat', type=int, default=9, help='turns of each side (9)')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='of each side')
    parser.add_argument('--accelerator', choices=('auto', 'off'), default='auto', help='of our side')
    parser.add_argument('--compile', action='store_true',
                        help=f'torch.compile as well, of {COMPILED}: minutes for its first calls')
    parser.add_argument('--no-torch', dest='torch', action='store_false', help='ours alone')
    parser.add_argument('--ours-python', default=sys.executable)
    parser.add_argument('--torch-python', default=str(TORCH_PYTHON))
    parser.add_argument('--out', type=Path, default=HERE / 'results', help='folder of the results')
    args = parser.parse_args()
    if args.torch and shutil.which(args.torch_python) is None:
        print(f'no PyTorch at {args.torch_python}: timing ours alone (make .venv-torch/ready brings it)')
        args.torch = False
    return args


def main():
    args = arguments()
    now = datetime.datetime.now()
    record = {'date': f'{now:%Y-%m-%d %H:%M}', 'command': shlex.join(['python', *sys.argv]),
              'machine': machine(), 'threads': args.threads, 'accelerator': args.accelerator,
              'gemm_rate': 0, 'versions': {}, 'complaints': [], 'rows': [], 'cases': []}
    path = args.out / f'cpu-{now:%Y-%m-%d-%H-%M-%S}'
    print(f'{record["machine"]["processor"]}, {args.threads} threads on each side')
    print(line(COLUMNS, COLUMNS), flush=True)
    for arch in args.cases:
        # the best of the run: what else the machine does can only lower it
        record['gemm_rate'] = max(record['gemm_rate'], gemm_rate(args.threads))
        with OtherLoad() as load:
            result = measure(args, arch)
        result['other_load'] = load.share
        record['cases'].append(result)
        record['versions'].update({name: side['versions'] for name, side in result['sides'].items()})
        record['rows'] = [row for case in record['cases'] for row in rows(case, record['gemm_rate'])]
        record['complaints'] += (found := [f'{arch}: {complaint}' for complaint in complaints(result)])
        for row in rows(result, record['gemm_rate']):
            print(line(cells(row), COLUMNS), flush=True)
        for complaint in found:
            print(f'not to be trusted: {complaint}', flush=True)
        # after every case, so that an interrupted run leaves what it has
        write(path, record, markdown(record))
    print(LEGEND)
    print(f'float32 GEMM: {record["gemm_rate"] / 1e9:.0f} GFLOP/s; written: {path}.json and .md')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Ended as error:
        sys.exit(str(error))
