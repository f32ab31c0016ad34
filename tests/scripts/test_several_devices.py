"""n_fold_train.py with --gpu 0,1, mostly as --gpu -1,-1: two processes on the CPU."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, runs
from test_n_fold_train import contents

from chainer_abn.training.run_folder import RunFolder

TINY = '--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 3, '-e', 2, '-b', 8
TIMES = 'images_per_second', 'waiting_share'


def summary(run):
    content = json.loads((run / 'summary.json').read_text())
    for row in content['folds']:
        for name in TIMES:
            del row[name]
    return content


def curves(run):
    return sorted(path.name for path in run.iterdir())


def command(*arguments):
    return [sys.executable, ROOT / 'n_fold_train.py', *map(str, arguments)]


@pytest.fixture(scope='module')
def one_by_one(tmp_path_factory):
    """The folds one after the other."""
    out = tmp_path_factory.mktemp('runs') / 'one-by-one'
    result = subprocess.run(command(*TINY, '-g', '-1', '--threads', 1, '--out', out), capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr
    return out


def is_the_same(run, other):
    assert contents(run) == contents(other)
    assert summary(run) == summary(other)
    assert curves(run) == curves(other)
    return True


def test_two_processes_write_the_same(one_by_one, script, tmp_path):
    run = tmp_path / 'run'
    result = script('n_fold_train', *TINY, '--gpu', '-1,-1', '--threads', 1, '--out', run)
    assert result.status == 0 and result.err == []
    assert is_the_same(run, one_by_one)
    for fold in 1, 2, 3:
        assert result.out.count(f'fold {fold} of 3 on cpu: 16 training and 8 validation images') == 1
        rows = [line.split()[1] for line in result.out if line.startswith(f'{fold}     ')]
        assert rows == ['1', '2']
    assert sum('validation/main/loss' in line for line in result.out) == 1
    assert result.out[-1].startswith('mean')
    config = json.loads((run / 'config.json').read_text())
    one, other = config['device'].split('; ')
    assert one == other and one.startswith('cpu (') and one.endswith(', 1 thread)')
    assert config['arguments']['gpu'] == [-1, -1]


def test_a_fold_that_fails_is_told_and_gone_on_with(one_by_one, script, tmp_path, monkeypatch):
    run = tmp_path / 'run'
    snapshot, obstacle = run / 'snap/3-1_fold_trainer-2.npz', run / 'log/3-2_fold_log.json'
    begin = RunFolder.begin

    def with_obstacles(*arguments):
        begin(*arguments)
        snapshot.write_text('not what fold 1 left')
        obstacle.mkdir()

    monkeypatch.setattr(RunFolder, 'begin', with_obstacles)
    result = script('n_fold_train', *TINY, '-g', '-1,-1', '--threads', 1, '--out', run)
    assert result.status == 1
    go_on = f'go on with: python n_fold_train.py --resume {run}'
    first, second, last = sorted(result.err)
    assert first.startswith(f'fold 1 failed on cpu: {snapshot}: ')
    assert '; no other snapshot of fold 1 is left; remove ' in first
    traceback = run / 'log/fold-2-error.txt'
    assert second.startswith('fold 2 failed on cpu: Error: ')
    assert second.endswith(f'; more in {traceback}')
    assert traceback.read_text().startswith('Traceback') and str(obstacle) in traceback.read_text()
    assert last == f'n_fold_train.py: folds 1, 2 not finished; {go_on}' == result.err[-1]
    assert [row['fold'] for row in summary(run)['folds']] == [3]
    assert result.out[-1].startswith('mean') and 'over 1 folds' in result.out[-1]

    shutil.rmtree(obstacle)
    result = script('n_fold_train', '--resume', run)        # on the devices that it was started with
    assert result.status == 2
    assert result.err == [first, f'n_fold_train.py: fold 1 not finished; {go_on}']
    snapshot.unlink()
    assert script('n_fold_train', '--resume', run, '-g', -1).status == 0
    assert is_the_same(run, one_by_one)


def started(out, *more):
    """A run with processes and workers of its own; the processes, once a fold has ended an epoch."""
    parent = subprocess.Popen(
        command(*TINY, '-g', '-1,-1', '--threads', 1, '--workers', 1, '--out', out, *more),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.glob('snap/*_trainer-*.npz')):
        assert time.monotonic() < deadline and parent.poll() is None, parent.communicate()
        time.sleep(0.05)
    return parent, children(parent.pid)


def children(parent):
    return [int(child) for task in Path(f'/proc/{parent}/task').iterdir()
            for child in (task / 'children').read_text().split()]


def wait_for_the_end_of(processes):
    deadline = time.monotonic() + 20
    while any(map(runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, processes))


def test_a_signal_ends_all_processes_and_the_run_can_go_on(one_by_one, script, tmp_path):
    run = tmp_path / 'run'
    parent, trainers = started(run)
    workers = [worker for trainer in trainers for worker in children(trainer)]
    os.killpg(parent.pid, signal.SIGTERM)
    _, err = parent.communicate(timeout=60)
    assert parent.returncode == 143 and len(trainers) == 2
    assert err.splitlines()[-1] == (
        f'n_fold_train.py: terminated; go on with: python n_fold_train.py --resume {run}')
    assert 'Traceback' not in err and 'failed' not in err
    wait_for_the_end_of([*trainers, *workers])
    assert not list(run.rglob('*.part'))
    assert script('n_fold_train', '--resume', run, '-g', '-1').status == 0
    assert is_the_same(run, one_by_one)


def test_a_killed_process_is_told_and_none_outlives_a_killed_parent(tmp_path):
    parent, trainers = started(tmp_path / 'run', '-e', 500)
    deadline = time.monotonic() + 60
    while not all(map(children, trainers)):                 # the other one may not have its fold yet
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    workers = [worker for trainer in trainers for worker in children(trainer)]
    os.kill(trainers[0], signal.SIGKILL)
    line = parent.stderr.readline()
    assert line.startswith('fold ') and 'failed on cpu: its process was killed by SIGKILL' in line
    deadline = time.monotonic() + 60
    while len(children(parent.pid)) < 2:                    # a fresh one for the next fold
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    trainers += children(parent.pid)
    workers += [worker for trainer in children(parent.pid) for worker in children(trainer)]
    parent.kill()
    parent.communicate()
    wait_for_the_end_of([*trainers, *workers])


@pytest.mark.parametrize('numbers, message', [
    ('0,0', '--gpu 0,0: GPU 0 is named twice'),
    ('-1,0', '--gpu -1,0: folds on the CPU and on GPUs'),
    ('-1,-2', '--gpu -1,-2: folds on the CPU and on GPUs'),
    ('0,999', 'no such GPU'),
    ('0,', "invalid gpu_numbers value: '0,'")])
def test_devices_that_make_no_sense(script, tmp_path, numbers, message):
    result = script('n_fold_train', *TINY, '-g', numbers, '--out', tmp_path / 'run')
    assert result.status == 2 and len(result.err) == 1 and message in result.err[0]
    assert not (tmp_path / 'run').exists()


def test_maps_are_drawn_on_one_device(one_by_one, script, tmp_path):
    model = one_by_one / 'snap/3-1_fold_model.npz'
    result = script('visualize', '--model', model, tmp_path, '--out', tmp_path, '--gpu', '0,1')
    assert result.status == 2 and len(result.err) == 1
    assert "--gpu/-g: invalid int value: '0,1'" in result.err[0]


@pytest.mark.gpu
def test_two_gpus_write_the_same_as_one(script, python, tmp_path):
    count = python('-c', 'from chainer_abn.runtime import devices; print(devices.find_gpus()[0])').stdout
    if int(count) < 2:
        pytest.skip(f'needs two GPUs that a fresh process finds too, not {int(count)}')
    for gpus, run in ('0', tmp_path / 'one'), ('0,1', tmp_path / 'two'):
        assert script('n_fold_train', *TINY, '--gpu', gpus, '--out', run).status == 0
    assert is_the_same(tmp_path / 'two', tmp_path / 'one')
