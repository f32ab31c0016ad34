"""Small runs."""
import subprocess
import sys

import pytest
from helpers import ROOT

TINY = ('--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 2, '--folds', 1, '-e', 2, '-b', 4,
        '-g', -1, '--threads', 1)


@pytest.fixture(scope='session')
def tiny():
    """The flags of a run of one fold, two epochs of three iterations each."""
    return TINY


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp('runs') / 'whole'
    command = [sys.executable, ROOT / 'n_fold_train.py', *map(str, TINY), '--out', out]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return out
