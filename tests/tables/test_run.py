"""What is trained, left alone, resumed, refused; on a program that stands for n_fold_train.py."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT

from chainer_abn.errors import InputError
from chainer_abn.files import only_writer
from chainer_abn.tables import TABLES, train
from chainer_abn.tables.runs import Run, flags_of

TWO = 'run', 'table1', '--rows', 'resnet20/[br]*'          # baseline and residual
CUT = {'FAKE_EPOCHS': '2', 'FAKE_STATUS': '143'}


@pytest.fixture
def cut(fake, tables, monkeypatch):
    """The first of two runs was ended after two epochs."""
    with monkeypatch.context() as context:
        for name, value in CUT.items():
            context.setenv(name, value)
        assert tables(*TWO, '--out', fake.out).status == 143
    return fake


def test_a_command_for_each_cell_and_seed(fake, tables):
    result = tables('run', 'table1', '--rows', 'resnet20', '--seeds', '1,2', '--epochs-scale', '0.01',
                    '--data-dir', 'd', '--gpu', '0', '--out', fake.out, '--', '--batchsize', '64')
    assert result.status == 0
    assert fake.calls()[0] == (
        f'--recipe paper --dataset cifar100 --arch resnet20 --variant baseline --kfold 0 --seed 1 --epoch 3 '
        f'--data-dir d --gpu 0 --out {fake.out}/resnet20/baseline/seed-1 --batchsize 64')
    assert [call.partition('--out ')[2].split()[0] for call in fake.calls()] == [
        f'{fake.out}/resnet20/{kind}/seed-{seed}'
        for seed in (1, 2) for kind in ('baseline', 'multiply', 'residual')]
    assert '[5/6] table1 ResNet20 g*M, seed 2' in result.out


def test_what_stands_behind_the_dashes_wins(fake, tables):
    tables(*TWO, '--epochs-scale', 0.01, '--out', fake.out, '--', '--kfold', 10, '--folds', 2, '-e', 5)
    config = json.loads((fake.out / 'resnet20/baseline/seed-402/config.json').read_text())
    asked = flags_of(fake.calls()[0].split())
    assert asked['--kfold'] == '10' and asked['--epoch'] == '5'
    assert config['arguments']['kfold'] == 10


def test_runs_of_other_seeds_must_be_alike(fake, tables):
    assert tables(*TWO, '--seeds', 1, '--epochs-scale', '0.01', '--out', fake.out).status == 0
    result = tables(*TWO, '--seeds', 2, '--out', fake.out)
    assert result.status == 2 and '--epoch 3' in result.err[0] and len(fake.calls()) == 2


def test_other_data_are_trained_on(fake, tables):
    tables('run', 'table3', '--rows', 'vgg16/model', '--dataset', 'cars', '--out', fake.out)
    assert '--dataset cars' in fake.calls()[0] and '--task' not in fake.calls()[0]


def test_what_is_finished_is_left_alone(fake, tables):
    assert tables(*TWO, '--out', fake.out).status == 0
    before = {path: path.stat().st_mtime_ns for path in fake.out.rglob('*.json')}
    again = tables(*TWO, '--gpu', '0', '--data-dir', 'elsewhere', '--out', fake.out)
    assert again.status == 0 and len(fake.calls()) == 2
    assert '[2/2] table1 ResNet20 g*(1+M), seed 402: finished, left alone' in again.out
    assert before == {path: path.stat().st_mtime_ns for path in fake.out.rglob('*.json')}
    tables('run', 'table1', '--rows', 'resnet20', '--out', fake.out)
    assert len(fake.calls()) == 3 and '--attention multiply' in fake.calls()[2]


def test_what_was_cut_goes_on(cut, tables):
    folder = cut.out / 'resnet20/baseline/seed-402'
    assert len(cut.calls()) == 1
    result = tables(*TWO, '--gpu', '1', '--out', cut.out, '--', '--threads', '2')
    assert result.status == 0
    assert cut.calls()[1] == f'--resume {folder} --gpu 1 --threads 2'
    assert cut.calls()[2].endswith(f'--out {cut.out}/resnet20/residual/seed-402 --threads 2')
    log = json.loads((folder / 'log/0-1_fold_log.json').read_text())
    assert [entry['epoch'] for entry in log] == [1, 2, 3, 4]


def test_a_run_is_finished_when_each_of_its_folds_is(fake, tables, monkeypatch):
    flags = *TWO, '--out', fake.out, '--', '--kfold', 3
    for name, value in CUT.items():
        monkeypatch.setenv(name, value)
    tables(*flags)
    monkeypatch.setenv('FAKE_EPOCHS', '-1')
    tables(*flags)
    folder = fake.out / 'resnet20/baseline/seed-402'
    summary = json.loads((folder / 'summary.json').read_text())
    summary['folds'].pop(1)
    (folder / 'summary.json').write_text(json.dumps(summary))
    n = len(fake.calls())
    tables(*flags)
    assert fake.calls()[n:] == [f'--resume {folder}']


@pytest.mark.parametrize('more, said', [
    (['--epochs-scale', '0.5'], 'was made without --epoch, and now --epoch 150 is asked for'),
    (['--dataset', 'cifar10'], 'was made with --dataset cifar100, and now --dataset cifar10 is asked for'),
    (['--', '-b', '64'], 'was made without --batchsize, and now --batchsize 64 is asked for'),
    (['--', '--recipe', 'original'], 'was made with --recipe paper, and now --recipe original is asked for')])
def test_a_run_with_other_settings_is_refused_before_anything_is_trained(fake, tables, more, said):
    assert tables('run', 'table1', '--rows', 'resnet20/residual', '--out', fake.out).status == 0
    result = tables('run', 'table1', '--rows', 'resnet20', '--out', fake.out, *more)
    assert result.status == 2 and len(fake.calls()) == 1
    assert result.err == [f'{fake.out}/resnet20/residual/seed-402: {said}; name another folder with --out']


def test_a_flag_that_is_not_asked_for_any_more_is_told(fake, tables):
    tables(*TWO, '--out', fake.out, '--', '--epoch', '5')
    result = tables(*TWO, '--out', fake.out)
    assert 'was made with --epoch 5, and now none is asked for' in result.err[0]


def test_the_recipe_spelled_out_is_the_same_run(fake, tables):
    """The fake trains 4 epochs at batch 128 where nothing is said."""
    tables(*TWO, '--out', fake.out)
    assert tables(*TWO, '--out', fake.out, '--', '--epoch', '4', '-b', '128').status == 0
    assert len(fake.calls()) == 2


def test_rows_quoted_in_the_paper_are_passed_over_by_a_pattern(fake, tables):
    tables('run', 'table2', '--rows', 'resnext/*', '--out', fake.out)
    assert [flags_of(call.split())['--dataset'] for call in fake.calls()] == ['cifar10', 'cifar100', 'svhn']


def test_a_run_that_fails_ends_it_and_leaves_nothing(fake, tables):
    result = tables(*TWO, '--data-dir', 'nowhere', '--out', fake.out)
    assert result.status == 2 and len(fake.calls()) == 1
    assert result.err == [
        'fake: --data-dir nowhere: no such folder',
        'chainer_abn.tables: resnet20/baseline, seed 402 did not finish (status 2); once the cause is '
        'mended, the same command goes on with it']
    assert not fake.out.exists()


def test_a_run_that_another_process_trains_is_left_alone(fake, tables):
    folder = fake.out / 'resnet20/baseline/seed-402'
    folder.mkdir(parents=True)
    with only_writer(folder):
        result = tables(*TWO, '--out', fake.out)
    assert '[1/2] table1 ResNet20 g, seed 402: another process is at it; left alone' in result.out
    assert len(fake.calls()) == 1 and '--attention residual' in fake.calls()[0]


def test_a_run_that_another_process_was_quicker_with_is_left_alone(fake, tables, monkeypatch):
    asked = []

    def running(run):
        """Not yet when it is looked for, but when the child of this process was refused."""
        asked.append(run.cell.name)
        return asked.count(run.cell.name) == 2 and 'baseline' in run.cell.name

    monkeypatch.setattr(Run, 'running', property(running))
    monkeypatch.setenv('FAKE_STATUS', '2')
    monkeypatch.setenv('FAKE_EPOCHS', '1')
    result = tables(*TWO, '--out', fake.out)
    assert '[1/2] table1 ResNet20 g, seed 402: another process was quicker; left alone' in result.out
    assert len(fake.calls()) == 2 and 'residual, seed 402 did not finish' in result.err[0]


def test_the_program_lies_beside_the_package(monkeypatch, tmp_path):
    assert train.program() == ROOT / 'n_fold_train.py'
    monkeypatch.setattr(train.chainer_abn, '__file__', str(tmp_path / 'site/chainer_abn/__init__.py'))
    with pytest.raises(InputError, match='n_fold_train.py is missing'):
        train.program()


def command(fake):
    """``chainer_abn.tables run`` with the fake, for a process of its own."""
    program = (f'from pathlib import Path; from chainer_abn.tables import __main__, train; '
               f'from chainer_abn.errors import run_program; train.PATIENCE = 0.5; '
               f'train.program = lambda: Path({str(fake.path)!r}); '
               f'run_program(__main__.main, "chainer_abn.tables")')
    return [sys.executable, '-c', program, *TWO, '--out', str(fake.out)]


@pytest.mark.parametrize('signum, group, status', [
    (signal.SIGTERM, False, 143),       # to the parent alone, as a scheduler does
    (signal.SIGINT, True, 130),         # to both, as Ctrl-C on a terminal does
    (signal.SIGINT, False, 130)])
def test_signals(fake, signum, group, status):
    """The child ends its epoch and is gone; the same command goes on with it."""
    process = subprocess.Popen(command(fake), cwd=ROOT, env={**os.environ, 'FAKE_SECONDS': '1'}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    config = fake.out / 'resnet20/baseline/seed-402/config.json'
    wait_for(config.exists)
    (os.killpg if group else os.kill)(process.pid, signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    what = {143: 'terminated', 130: 'interrupted'}[status]
    assert err.splitlines() == [f'chainer_abn.tables: {what}; the same command goes on with it']
    log = json.loads((config.parent / 'log/0-1_fold_log.json').read_text())
    assert [entry['epoch'] for entry in log] == [1] and len(fake.calls()) == 1
    process = subprocess.run(command(fake), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert fake.calls()[1] == f'--resume {config.parent}'


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_whose_parent_was_killed_is_not_trained_twice(fake, tables):
    process = subprocess.Popen(command(fake), cwd=ROOT, env={**os.environ, 'FAKE_SECONDS': '60'},
                               stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for((fake.out / 'resnet20/baseline/seed-402/config.json').exists)
    process.kill()
    process.wait()
    try:
        result = tables(*TWO, '--out', fake.out)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert '[1/2] table1 ResNet20 g, seed 402: another process is at it; left alone' in result.out
    assert len(fake.calls()) == 2 and '--attention residual' in fake.calls()[1]


def test_flags_of_a_command_line():
    assert flags_of(['-b', '64', '--no-flip', '--resize', '3', '--epoch=4', '--gpu', '-1', '-e', '5']) == {
        '--batchsize': '64', '--no-flip': '', '--resize': '3', '--epoch': '5', '--gpu': '-1'}
    assert flags_of(['-aresnet8', '-e=5', '-g-1']) == {'--arch': 'resnet8', '--epoch': '5', '--gpu': '-1'}


def test_lists(tables):
    assert [line.split()[0] for line in tables('list').out] == list(TABLES)
    told = '\n'.join(tables('list', 'demo').out)
    assert '--arch resnet32 --variant abn --attention multiply' in told
    assert f'--out {Path("result/tables/demo/resnet32/multiply/seed-1")}' in told
