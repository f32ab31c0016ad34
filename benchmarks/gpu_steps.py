"""Our training step on the GPU against PyTorch's: time, what limits it, memory.

    python benchmarks/gpu_steps.py [--cases resnet110 resnet18:64:224] [--repeat N]

Each side is a process of its own, started afresh for every case and dtype. They take turns of a few steps,
and idle while another is timed. Results are printed as each case ends and left in --out.
"""
import contextlib
import datetime
import subprocess
import sys
from pathlib import Path

from gpu_report import COLUMNS, LEGEND, cells, complaints, function_lines, markdown, rows, title
from report import line, write
from worker import Ended, Worker

from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.links.build import architecture
from chainer_abn.runtime.devices import find_gpus

PROGRAM = 'gpu_steps.py'
HERE = Path(__file__).resolve().parent
TORCH_PYTHONS = sys.executable, str(HERE.parent / '.venv-torch/bin/python')
CASES = {                       # arch: (batch, side of the images in pixels)
    'resnet110': (128, 32),
    'resnet50': (64, 224),
}
OURS = {
    'ours': [],
    'ours captured': ['--capture'],
    'ours captured autotune': ['--capture', '--autotune'],
    'ours captured any order': ['--capture', '--any-order'],
}
TORCH = {
    'torch': [],
    'torch channels_last': ['--channels-last'],
    'torch graph': ['--channels-last', '--graph'],
}
WARM = 2                        # steps that tell how long a turn is
TURN = 0.25                     # seconds of the slowest side, about; of 1 to MOST_STEPS steps
MOST_STEPS = 20


def case(text):
    """'resnet8:4:32' -> architecture, batch and side; those of CASES need only their name."""
    arch, *numbers = text.split(':')
    if not numbers and arch in CASES:
        return arch, *CASES[arch]
    batch, side = map(int, numbers)
    return arch, batch, side


class Sides:
    """The sides of a case; one whose process has ended is left out from then on."""

    def __init__(self, workers):
        self.workers, self.failures = workers, []

    def ask(self, do, *names, **request):
        """Ask each, or those named, in turn: name -> answer."""
        answers = {}
        for worker in list(self.workers):
            if names and worker.name not in names:
                continue
            try:
                answers[worker.name] = worker.ask(do, **request)
            except Ended as failure:
                self.failures.append(str(failure))
                self.workers.remove(worker)
        return answers


def commands(args):
    """Name and command of each side."""
    for name, flags in OURS.items():
        yield name, [sys.executable, HERE / 'gpu_ours.py', *flags]
    if args.torch:
        for name, flags in TORCH.items():
            yield name, [args.torch, HERE / 'gpu_torch.py', *flags]


def measure(args, asked):
    """The dict of a case that ``gpu_report.rows`` takes."""
    with contextlib.ExitStack() as stack:
        sides = Sides([stack.enter_context(Worker(*side)) for side in commands(args)])
        found = sides.ask('start', **asked)
        warm = sides.ask('burst', steps=WARM)
        slowest = max((answer['seconds'] for answer in warm.values()), default=TURN)
        steps = min(max(round(TURN / slowest), 1), MOST_STEPS)
        turns = [sides.ask('burst', steps=steps) for _ in range(args.repeat)]
        queued = sides.ask('queue')
        cost = sides.ask('cost', 'ours').get('ours')
        functions = sides.ask('functions', 'ours').get('ours', {}).get('functions')
    complete = {name: {**found[name], 'loss': turns[-1][name]['loss'], 'queued': queued[name]['seconds'],
                       'turns': [turn[name]['seconds'] for turn in turns]} for name in queued}
    return {'case': asked, 'steps': steps, 'cost': cost, 'sides': complete, 'functions': functions,
            'failures': sides.failures}


def find_torch(pythons):
    """The first interpreter that has PyTorch, or None."""
    has = 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
    for python in pythons:
        with contextlib.suppress(OSError):
            if subprocess.run([python, '-c', has]).returncode == 0:
                return python
    return None


def arguments():
    parser = ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument('--cases', nargs='+', type=case, metavar='ARCH[:BATCH:SIDE]',
                        default=[case(arch) for arch in CASES], help=f'default {" ".join(CASES)}')
    parser.add_argument('--repeat', type=int, default=9, help='turns of each side (9)')
    parser.add_argument('--torch-python', help='interpreter with PyTorch (default: this, or .venv-torch)')
    parser.add_argument('--out', type=Path, default=HERE / 'results', help='folder of the results')
    args = parser.parse_args()
    for arch, *_ in args.cases:
        architecture(arch)      # refuses an unknown one
    count, reason = find_gpus()
    if not count:
        raise InputError(f'this needs a GPU: {reason}')
    args.torch = find_torch([args.torch_python] if args.torch_python else TORCH_PYTHONS)
    if args.torch is None:
        print('no PyTorch: timing ours alone')
    return args


def main():
    args = arguments()
    now = datetime.datetime.now()
    record = {'date': f'{now:%Y-%m-%d %H:%M}', 'repeat': args.repeat, 'versions': {}, 'complaints': [],
              'rows': [], 'cases': []}
    path = args.out / f'gpu-steps-{now:%Y-%m-%d-%H-%M-%S}'
    print(line(COLUMNS, COLUMNS), flush=True)
    for arch, batch, side in args.cases:
        for mixed in False, True:
            result = measure(args, {'arch': arch, 'batch': batch, 'image_size': side, 'mixed': mixed})
            told = [f'{title(result["case"])}: {complaint}' for complaint in complaints(result)]
            record['complaints'] += told
            if result['sides'] and result['cost']:
                record['cases'].append(result)
                for name, answers in result['sides'].items():
                    record['versions'].setdefault(name.split()[0], answers['versions'])
                record['rows'] += (found := rows(result))
                print(*(line(cells(row), COLUMNS) for row in found), sep='\n')
                print(*function_lines(result), sep='\n')
            print(*(f'beware: {complaint}' for complaint in told), sep='\n', flush=True)
            # after every case, so that an interrupted run leaves what it has
            write(path, record, markdown(record))
    print(LEGEND)
    print(f'written: {path}.json and .md')
    return int(bool(record['complaints']))


if __name__ == '__main__':
    run_program(main, PROGRAM)
