import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from chainer_abn.errors import InputError
from chainer_abn.tables import __main__ as command_line
from chainer_abn.tables import train


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The fake program instead of n_fold_train.py; its path, its calls so far, and the folder of runs."""
    path = tmp_path / 'fake' / 'n_fold_train.py'
    path.parent.mkdir()
    shutil.copy(Path(__file__).with_name('fake_program.py'), path)
    monkeypatch.setattr(train, 'program', lambda: path)
    calls = path.with_name('calls.txt')
    return SimpleNamespace(path=path, out=tmp_path / 'out', calls=lambda: (
        calls.read_text().splitlines() if calls.exists() else []))


@pytest.fixture
def tables(monkeypatch, capfd):
    """Runs ``python -m chainer_abn.tables`` in this process -> status, out and err (lists of lines)."""
    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['chainer_abn.tables', *map(str, words)])
        capfd.readouterr()
        try:
            status, complaint = command_line.main() or 0, None
        except InputError as error:
            status, complaint = 2, str(error)
        out, err = capfd.readouterr()
        lines = err.splitlines() + ([complaint] if complaint else [])
        return SimpleNamespace(status=status, out=out.splitlines(), err=lines)
    return run
