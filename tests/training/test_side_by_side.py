"""Real processes, whose folds do something else than training."""
import os
import signal
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import pytest
from helpers import ROOT, runs

from chainer_abn import interrupt, progress, runtime
from chainer_abn.errors import InputError
from chainer_abn.runtime import devices
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.side_by_side import Failure, Lines, Task, how_it_ended, train_side_by_side


class Plan(Task):
    """``store`` says what is done instead of training a fold."""

    def train(self, fold, device):
        self.store[fold](self, fold, device)
        self.run.curve('done', fold).write_text(f'{os.getpid()} {runtime.threads.count()}')


def make(root, *acts):
    """A task with so many folds."""
    folds = {fold: ([0, 1, 2], [3]) for fold in range(1, len(acts) + 1)}
    (root / 'log').mkdir()
    options = SimpleNamespace(accelerator=None, max_pixels=None)
    return Plan(RunFolder(root, len(acts)), dict(enumerate(acts, 1)), folds, {}, options)


def well(plan, fold, device):
    pass


def speak(plan, fold, device):
    print('epoch       lr', 2 * fold, sep='\n')
    with warnings.catch_warnings():
        warnings.simplefilter('always')         # one process may do both folds
        warnings.warn('a warning', stacklevel=1)
    line = progress.Progress('validation', 4, 'images')
    line.update(0)
    time.sleep(0.25)
    line.update(1)


def read_nothing(plan, fold, device):
    raise InputError('x.png: no such file')


def divide(plan, fold, device):
    return 1 / 0


def be_killed(plan, fold, device):
    worker = os.fork()
    if worker == 0:
        time.sleep(600)
    plan.run.curve('worker', fold).write_text(str(worker))
    os.kill(os.getpid(), signal.SIGKILL)


def compute(plan, fold, device):
    plan.run.curve('sum', fold).write_text(f'{device.name} {int(device.xp.arange(1000).sum())}')


def abort(plan, fold, device):
    os.abort()


def go_on_silently(plan, fold, device):
    worker = os.fork()
    if worker == 0:
        time.sleep(600)
    pids = plan.run.curve('pids', fold)
    pids.with_suffix('.part').write_text(f'{os.getpid()} {worker}')
    pids.with_suffix('.part').rename(pids)
    try:
        with interrupt.deferred():
            while True:
                time.sleep(0.05)
                interrupt.check()
    finally:
        plan.run.curve('stopped', fold).touch()


@pytest.fixture
def one_thread():
    runtime.set_threads(1)
    yield
    runtime.set_threads()


def done(task, fold):
    """Process and threads of a fold that is finished, else None."""
    file = task.run.curve('done', fold)
    return file.read_text().split() if file.exists() else None


def test_what_fails_is_told_and_the_others_are_kept(tmp_path, capfd, one_thread):
    task = make(tmp_path, well, read_nothing, divide, be_killed, abort, well, well)
    failures = train_side_by_side(task, [1, 2, 3, 4, 5, 6], [-1, -1])
    assert {failure.fold: failure[1:] for failure in failures} == {
        2: ('cpu', 2, 'x.png: no such file'),
        3: ('cpu', 1, f'ZeroDivisionError: division by zero; more in {tmp_path}/log/fold-3-error.txt'),
        4: ('cpu', 1, 'its process was killed by SIGKILL; was the memory full?'),
        5: ('cpu', 1, f'its process was killed by SIGABRT; more in {tmp_path}/log/fold-5-error.txt')}
    out, err = capfd.readouterr()
    assert err.splitlines() == [str(failure) for failure in failures]
    assert 'fold 2 failed on cpu: x.png: no such file' in err.splitlines()
    assert sorted(out.splitlines()) == [
        f'fold {fold} of 7 on cpu: 3 training and 1 validation images' for fold in range(1, 7)]
    assert (tmp_path / 'log/fold-3-error.txt').read_text().startswith('Traceback')
    assert 'in abort' in (tmp_path / 'log/fold-5-error.txt').read_text()
    assert len(list((tmp_path / 'log').iterdir())) == 2
    assert not runs(task.run.curve('worker', 4).read_text())
    assert [fold for fold in range(1, 8) if done(task, fold)] == [1, 6]
    assert done(task, 6)[1] == '1'


def test_a_process_takes_the_next_fold_and_a_device_that_is_not_there_is_given_up(tmp_path, capfd):
    task = make(tmp_path, well, well, well)
    failure, = train_side_by_side(task, [1, 3], [998, -1])
    assert failure.fold is None and failure.status == 2
    assert str(failure).startswith('gpu 998 is given up: --gpu 998: no such GPU')
    assert done(task, 1) == done(task, 3) and done(task, 1) and not done(task, 2)
    failure, = train_side_by_side(task, [2], [999])
    assert failure.device == 'gpu 999' and not done(task, 2)


def test_the_parent_is_told_of_each_fold_that_has_ended(tmp_path, capfd):
    task, ended = make(tmp_path, well, read_nothing, well), []

    def after_fold(warn):
        ended.append([fold for fold in (1, 3) if done(task, fold)])
        warn(f'{len(ended)} in process {os.getpid()}')

    assert len(train_side_by_side(task, [1, 2, 3], [-1], after_fold=after_fold)) == 1
    assert ended == [[1], [1], [1, 3]]
    said = [line for line in capfd.readouterr().err.splitlines() if 'in process' in line]
    assert said == [f'{i} in process {os.getpid()}' for i in (1, 2, 3)]


def test_what_folds_say(tmp_path, capfd):
    class Rows(progress.Rows):
        def __init__(self):
            super().__init__()
            self.interval, self.texts = 0.2, set()

        def draw(self, name, text):
            self.texts.add(text[:38])

    rows = Rows()
    assert train_side_by_side(make(tmp_path, speak, speak), [1, 2], [-1, -1], rows) == []
    out, err = (text.splitlines() for text in capfd.readouterr())
    assert [line for line in out if 'epoch' in line] == ['fold  epoch       lr']
    assert {'1     2', '2     4'} < set(out) and len(out) == 5
    assert sum('UserWarning: a warning' in line for line in err) == 2
    assert {line[:8] for line in err} == {'fold 1: ', 'fold 2: '}
    assert rows.texts == {f'fold {fold} validation [######             ' for fold in (1, 2)}


@pytest.mark.parametrize('signum, status, stopped', [(signal.SIGINT, 130, True), (signal.SIGKILL, -9, False)])
def test_no_process_outlives_its_parent(tmp_path, signum, status, stopped):
    """Stopped by Ctrl-C, it lets them stop by themselves; killed, it takes them along."""
    program = f'''
import sys
from pathlib import Path
sys.path[:0] = {[str(ROOT), *sys.path]!r}
from test_side_by_side import *
from chainer_abn.errors import run_program
task = make(Path({str(tmp_path)!r}), go_on_silently, go_on_silently)
run_program(lambda: train_side_by_side(task, [1, 2], [-1, -1]), 'it')
'''
    parent = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.DEVNULL,
                              start_new_session=True)
    deadline = time.monotonic() + 60
    while len(files := list(tmp_path.glob('pids*.png'))) < 2:
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    pids = [pid for file in files for pid in file.read_text().split()]
    assert len(pids) == 4 and all(map(runs, pids))
    os.killpg(parent.pid, signum)                           # as a terminal does
    assert parent.wait(30) == status
    deadline = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, pids))
    assert len(list(tmp_path.glob('stopped*'))) == 2 * stopped


@pytest.mark.gpu
def test_a_process_computes_on_its_gpu_beside_a_parent_that_does(tmp_path, python):
    count = python('-c', 'from chainer_abn.runtime import devices; print(devices.find_gpus()[0])').stdout
    if not int(count):
        pytest.skip('needs a GPU that a fresh process finds too')
    assert int(devices.choose_device(0).xp.arange(10).sum()) == 45
    task = make(tmp_path, compute, compute)
    assert train_side_by_side(task, [1, 2], [0]) == []
    for fold in 1, 2:
        assert task.run.curve('sum', fold).read_text() == '@cupy:0 499500'


def test_lines_are_sent_whole_but_not_by_forked_workers(capfd):
    sent = []

    def send(*message):
        sent.append(message)

    send.connection = SimpleNamespace(closed=False)
    lines = Lines(send, 'printed')
    print('a', 1, file=lines)
    lines.write('b')
    assert sent == [('printed', 'a 1')]
    print('c\n\nd', file=lines)
    assert sent[1:] == [('printed', 'bc'), ('printed', 'd')]
    send.connection.closed = True
    print('from a worker', file=lines)
    assert len(sent) == 3 and capfd.readouterr().err == 'from a worker\n'


def test_how_a_process_ended():
    assert how_it_ended(3) == 'its process ended with status 3'
    assert how_it_ended(-signal.SIGSEGV) == 'its process was killed by SIGSEGV'
    assert how_it_ended(None) == 'its process does not answer'


def test_a_failure_is_one_line():
    assert str(Failure(2, 'gpu 1', False, 'A: b\nc')) == 'fold 2 failed on gpu 1: A: b c'


def test_folds_add_themselves_to_the_summary_at_the_same_time(tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    program = '''
import sys
from chainer_abn.training.run_folder import RunFolder
run = RunFolder(sys.argv[1], 80)
sys.stdin.read()
for fold in range(int(sys.argv[2]), 81, 2):
    run.add_summary({'fold': fold, 'best_accuracy': 0.5})
'''
    processes = [subprocess.Popen([sys.executable, '-c', program, tmp_path, str(first)],
                                  stdin=subprocess.PIPE) for first in (1, 2)]
    for process in processes:
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0]
    assert RunFolder(tmp_path, 80).finished_folds() == list(range(1, 81))
