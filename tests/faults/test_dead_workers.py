"""Worker processes that die or hang while n_fold_train.py trains."""
import faulthandler
import os
import signal
import time
from pathlib import Path

import pytest
from helpers import write_class_folders

from chainer_abn.datasets import examples
from chainer_abn.datasets.folder import Folder
from chainer_abn.datasets.workers import Readers

PROCESS = 'n_fold_train.py: a process that reads images'


def children():
    return {int(child) for task in Path('/proc/self/task').iterdir()
            for child in (task / 'children').read_text().split()}


@pytest.fixture
def train(script, tmp_path, monkeypatch):
    """Trains on images of which reading ``ant/3.png`` does ``fault`` to a worker -> result of the script."""
    def run(fault, *more, workers=2):
        monkeypatch.setattr(examples.Store.__init__, '__defaults__', (False, 0, 'cover', True))
        parent, image = os.getpid(), Folder.image

        def faulty(self, i, cover=None):
            if os.getpid() != parent and self.name(i).endswith('ant/3.png'):
                fault()
            return image(self, i, cover)

        monkeypatch.setattr(Folder, 'image', faulty)
        before = children()
        result = script(
            'n_fold_train', '--dataset', write_class_folders(tmp_path / 'images'), '-a', 'resnet8', '-k', 2,
            '--image-size', 16, '-e', 1, '-b', 3, '-g', -1, '--workers', workers, '--out', tmp_path / 'run',
            *more)
        assert children() == before
        assert result.status == 2
        return result

    return run


@pytest.mark.parametrize('fold', [1, 2])
def test_a_worker_that_is_killed_while_it_trains_or_validates(train, tmp_path, fold):
    """The image is of the training images of one fold, and of the validation images of the other."""
    result = train(lambda: os.kill(os.getpid(), signal.SIGKILL), '--folds', fold)
    assert result.err == [f'{PROCESS} was killed by SIGKILL while reading {tmp_path}/images/ant/3.png; '
                          'was the memory full? --workers 1 takes less']


def test_one_worker_cannot_be_fewer(train, tmp_path):
    result = train(lambda: os.kill(os.getpid(), signal.SIGKILL), workers=1)
    assert result.err == [f'{PROCESS} was killed by SIGKILL while reading {tmp_path}/images/ant/3.png; '
                          'was the memory full?']


def crash():
    faulthandler.disable()          # pytest's, which would print all that there is on the stack
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize('fault, words', [
    (lambda: os._exit(3), 'ended with status 3'), (crash, 'was killed by SIGSEGV')], ids=['exit', 'crash'])
def test_a_worker_that_ends(train, tmp_path, fault, words):
    result = train(fault)
    assert result.err == [f'{PROCESS} {words} while reading {tmp_path}/images/ant/3.png']


def test_a_worker_that_hangs(train, tmp_path, monkeypatch):
    monkeypatch.setattr(Readers, 'TICK', 1 / 64)
    monkeypatch.setattr(Readers, 'WARNING', 0.5)
    monkeypatch.setattr(Readers, 'LIMIT', 2)
    result = train(lambda: time.sleep(600))
    path = f'{tmp_path}/images/ant/3.png'
    assert [line for line in result.err if path in line] == [
        f'a process that reads images has not answered for 0.5 s while reading {path}',
        f'a process that reads images has not answered for 1 s while reading {path}',
        f'{PROCESS} has not answered for 2 s while reading {path}; are the disk and the network in order?']
