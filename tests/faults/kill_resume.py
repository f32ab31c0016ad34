"""Kill runs at random moments, go on with them, and compare what they end with.

    python tests/faults/kill_resume.py --n 30

Each run trains three folds of generated images; its process is killed (SIGKILL) at a random moment between
its start and the usual end, gone on with, and compared with a run that nobody killed: networks, matrices,
predictions and curves byte by byte, logs and summary but for times, and no file more or less. Runs with one
worker and with two, on oneDNN and on plain Chainer take turns. The exit status tells whether all were equal.
"""
import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import ROOT, contents  # noqa: E402

SETTINGS = [('--workers', workers, '--accelerator', accelerator)
            for workers, accelerator in (('1', 'auto'), ('2', 'off'), ('1', 'off'), ('2', 'auto'))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--n', type=int, default=30, help='runs to kill (default 30)')
    parser.add_argument('--n-images', type=int, default=96, help='per run (default 96)')
    parser.add_argument('--epoch', type=int, default=4, help='per fold (default 4)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default 1)')
    parser.add_argument('--seed', type=int, default=0, help='of the moments (default 0)')
    options = parser.parse_args()
    command = ['--dataset', 'shapes', '--n-images', options.n_images, '-a', 'wrn-10-1', '-k', 3,
               '-e', options.epoch, '-b', 8, '-g', -1, '--threads', 1]
    root = Path(tempfile.mkdtemp(prefix='kill-resume-'))
    try:
        return kill_all([str(word) for word in command], options, root)
    finally:
        shutil.rmtree(root)


def kill_all(command, options, root):
    whole = {}
    for settings in SETTINGS[:options.n]:
        started = time.monotonic()
        train([*command, *settings, '--out', root / '-'.join(settings)])
        whole[settings] = root / '-'.join(settings), time.monotonic() - started
        print(f'uninterrupted, {" ".join(settings)}: {whole[settings][1]:.1f} s', flush=True)
    rng = random.Random(options.seed)
    moments = [(i, settings, rng.random())
               for i, settings in zip(range(1, options.n + 1), itertools.cycle(SETTINGS))]
    equal = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        trials = [pool.submit(trial, command, settings, root / f'run-{i}', moment, *whole[settings])
                  for i, settings, moment in moments]
        for (i, settings, _), one in zip(moments, trials, strict=True):
            told, differ = one.result()
            equal += not differ
            print(f'{i:3}  {" ".join(settings)}  {told}: '
                  f'{"different: " + ", ".join(differ) if differ else "identical"}', flush=True)
    print(f'{equal} of {options.n} resumed results are identical')
    return equal != options.n


def trial(command, settings, out, moment, whole, seconds):
    """Kill a run, go on with it, compare -> what it had done when it was killed, and what differs."""
    arguments = [*command, *settings, '--out', out]
    while True:
        process = start(arguments)
        try:
            process.wait(moment * seconds)
        except subprocess.TimeoutExpired:
            break
        shutil.rmtree(out)              # quicker than the one that nobody killed
        moment *= 0.9
    process.send_signal(signal.SIGKILL)
    process.communicate()
    told = f'killed after {moment * seconds:5.2f} s with {len(list(out.glob("model/*")))} folds and ' \
           f'{len(list(out.glob("snap/*_trainer-*.npz")))} snapshots'
    # killed before it had begun, there is nothing to go on with
    train(['--resume', out] if (out / 'config.json').exists() else arguments)
    differ = differences(whole, out)
    if not differ:
        shutil.rmtree(out)
    return told, differ


def start(arguments):
    return subprocess.Popen([sys.executable, ROOT / 'n_fold_train.py', *map(str, arguments)], cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def train(arguments):
    process = start(arguments)
    _, err = process.communicate()
    if process.returncode:
        raise SystemExit(f'{arguments} ended with {process.returncode}: {err}')


def differences(one, other):
    """The names of the files of two runs that are in one only, or differ by more than times."""
    found = [contents(run) for run in (one, other)]
    return sorted(name for name in {*found[0], *found[1]} if found[0].get(name) != found[1].get(name))


if __name__ == '__main__':
    os.environ['PYTHONUNBUFFERED'] = '1'
    sys.exit(main())
