"""Two processes that write to one folder."""
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT, contents

from chainer_abn.errors import InputError
from chainer_abn.files import only_writer, replacing
from chainer_abn.training.run_folder import RunFolder

HOLD = '''
import os, time
from chainer_abn.files import only_writer
with only_writer({folder!r}):
    if os.fork() == 0:              # and has let go of the lock by now
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


def test_a_run_is_locked_from_its_first_file_on(script, tiny, tmp_path, monkeypatch):
    """Two that are started with one --out."""
    begin, refused = RunFolder.begin, []

    def both(run, config):
        assert not run.config_file.exists()
        refused.append(script('n_fold_train', *tiny, '--out', run.root))
        begin(run, config)

    monkeypatch.setattr(RunFolder, 'begin', both)
    assert script('n_fold_train', *tiny, '-e', 1, '--out', tmp_path).status == 0
    assert [(result.status, result.err[0]) for result in refused] == [
        (2, f'n_fold_train.py: {tmp_path}: another process is writing there')]


def test_what_is_written_replaces_links(tmp_path):
    kept, path = tmp_path / 'kept', tmp_path / 'new'
    kept.write_text('mine')
    for link in path, tmp_path / 'new.part':
        link.symlink_to(kept)
    with replacing(path) as file:
        file.write(b'ours')
    assert kept.read_text() == 'mine' and path.read_text() == 'ours' and not path.is_symlink()
    assert sorted(tmp_path.iterdir()) == [kept, path]
