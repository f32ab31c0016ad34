"""Stands for n_fold_train.py: leaves the files of a run, with accuracies that follow from its flags.

Each command line goes to ``calls.txt`` beside it. FAKE_STATUS: to end with, after FAKE_EPOCHS epochs.
FAKE_SECONDS: per epoch.
"""
import fcntl
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

DEFAULTS = {'--dataset': 'shapes', '--variant': 'abn', '--attention': 'residual', '--seed': '402',
            '--kfold': '4', '--epoch': '4', '--batchsize': '128'}
NUMBERS = 'seed', 'kfold', 'epoch', 'batchsize', 'n_images', 'gpu', 'threads'
stopped = []


def accuracy(arguments, fold, epoch):
    """Best at the last epoch but one, 1 point better than at the last."""
    kind = arguments['attention'] if arguments['variant'] == 'abn' else arguments['variant']
    points = {'baseline': 60, 'cam': 61, 'multiply': 62, 'residual': 65, 'log-sum': 66}
    percent = points[kind] + 2 * (arguments['seed'] % 10) + fold
    if kind == 'residual':
        percent += arguments['seed'] % 2
    return (percent - min(abs(arguments['epoch'] - 1 - epoch), 9)) / 100


def main():
    words = sys.argv[1:]
    with open(Path(__file__).with_name('calls.txt'), 'a', errors='surrogateescape') as calls:
        calls.write(shlex.join(words) + '\n')
    for signum in signal.SIGINT, signal.SIGTERM:
        signal.signal(signum, lambda number, frame: stopped.append(number))
    flags = dict(zip(words[::2], words[1::2], strict=True))
    if '--resume' in flags:
        out = Path(flags['--resume'])
        arguments = json.loads((out / 'config.json').read_text())['arguments']
    else:
        out = Path(flags['--out'])
        if (out / 'config.json').exists():
            sys.exit(f'fake: {out} holds a run already')
        arguments = {flag[2:].replace('-', '_'): value for flag, value in {**DEFAULTS, **flags}.items()}
        arguments.update({name: int(arguments[name]) for name in NUMBERS if name in arguments})
        arguments['folds'] = [int(fold) for fold in arguments.get('folds', '').split(',') if fold] or None
        if arguments.get('data_dir') == 'nowhere':
            print('fake: --data-dir nowhere: no such folder', file=sys.stderr)
            sys.exit(2)
        (out / 'log').mkdir(parents=True)
        (out / 'config.json').write_text(json.dumps({
            'arguments': arguments, 'command': shlex.join(['n_fold_train.py', *words])}))
    # as n_fold_train.py has its folder to itself
    fcntl.flock(os.open(out, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    rows, kfold, epochs = [], arguments['kfold'], arguments['epoch']
    for fold in arguments['folds'] or range(1, max(kfold, 1) + 1):
        log = out / f'log/{kfold}-{fold}_fold_log.json'
        entries = json.loads(log.read_text()) if log.exists() else []
        for epoch in range(len(entries) + 1, epochs + 1):
            time.sleep(float(os.environ.get('FAKE_SECONDS', 0)))
            entries.append({'epoch': epoch, 'validation/main/accuracy': accuracy(arguments, fold, epoch)})
            log.write_text(json.dumps(entries))
            if stopped:
                sys.exit(128 + stopped[0])
            if epoch == int(os.environ.get('FAKE_EPOCHS', -1)):
                sys.exit(int(os.environ['FAKE_STATUS']))
        rows.append({'fold': fold, 'best_epoch': max(epochs - 1, 1),
                     'best_accuracy': max(entry['validation/main/accuracy'] for entry in entries),
                     'last_accuracy': entries[-1]['validation/main/accuracy']})
        (out / 'summary.json').write_text(json.dumps({'folds': rows}))


if __name__ == '__main__':
    main()
