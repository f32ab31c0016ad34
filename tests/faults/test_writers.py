"""Two processes that write to one folder."""
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT, contents

from chainer_abn.errors import InputError
from chainer_abn.files import only_writer

HOLD = '''
import os, time
from chainer_abn.files import only_writer
with only_writer({folder!r}):
    if os.fork() == 0:
        time.sleep(600)
    print('held', flush=True)
    time.sleep(600)
'''


def hold(folder):
    """A process that writes to a folder, and has a worker."""
    process = subprocess.Popen([sys.executable, '-c', HOLD.format(folder=str(folder))], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == 'held\n'
    return process


def test_the_second_is_refused_and_a_crash_leaves_no_lock(tmp_path):
    process = hold(tmp_path)
    try:
        with pytest.raises(InputError, match=f'{tmp_path}: another process is writing there'), \
                only_writer(tmp_path):
            pass
        process.kill()                                          # its worker lives on
        process.wait()
        with only_writer(tmp_path):
            assert list(tmp_path.iterdir()) == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_a_run_has_one_writer(script, tiny, tmp_path, cut):
    run, new = tmp_path / 'run', tmp_path / 'new'
    cut(4)
    assert script('n_fold_train', *tiny, '--out', run).status == 130
    cut(-1)
    new.mkdir()
    kept = contents(run)
    for folder, command in (run, ('--resume', run)), (new, (*tiny, '--out', new)):
        with only_writer(folder):
            result = script('n_fold_train', *command)
        assert result.status == 2
        assert result.err == [f'n_fold_train.py: {folder}: another process is writing there']
    assert contents(run) == kept and not list(new.iterdir())
    assert script('n_fold_train', '--resume', run).status == 0
