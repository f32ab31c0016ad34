"""Shared by all tests. The package comes first: it prepares Chainer."""
import importlib.util
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT, write_class_folders

from chainer_abn import runtime
from chainer_abn.errors import run_program
from chainer_abn.runtime.devices import find_gpus
from chainer_abn.training.extensions import TimedUpdater

import chainer


def pytest_configure(config):
    """Beside others, each on a processor of its own: threads that wait for each other would take turns."""
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    if worker and hasattr(os, 'sched_setaffinity'):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker[2:]) % len(processors)]})


def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu'):
        count, reason = find_gpus()
        if not count:
            pytest.skip(f'needs a GPU: {reason}')


@pytest.fixture
def python():
    """Runs Python in a fresh process from the repository's root -> CompletedProcess."""
    def run(*arguments, cwd=ROOT, **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
            env={**os.environ, **environment}, timeout=300)
    return run


@pytest.fixture
def class_folders(tmp_path):
    return write_class_folders(tmp_path / 'images')


@pytest.fixture
def script(capsys, monkeypatch):
    """Runs one of the two programs in this process -> status, out, err (lists of lines)."""
    def run(name, *arguments):
        spec = importlib.util.spec_from_file_location(name, ROOT / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        capsys.readouterr()
        ideep = chainer.global_config.use_ideep
        handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as stopped:
            run_program(module.main, module.PROGRAM)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        chainer.global_config.use_ideep = ideep
        runtime.set_threads()
        out, err = capsys.readouterr()
        return SimpleNamespace(status=stopped.value.code or 0, out=out.splitlines(),
                               err=err.splitlines())
    return run


@pytest.fixture
def before(monkeypatch):
    """Do something before a training iteration, which are numbered from 0 over all folds."""
    update = TimedUpdater.update

    def at(iteration, act):
        count = iter(range(10 ** 6))

        def acted(self):
            if next(count) == iteration:
                act()
            update(self)

        monkeypatch.setattr(TimedUpdater, 'update', acted)
    return at


@pytest.fixture
def cut(before):
    """Interrupt a run in this iteration."""
    def at(iteration):
        before(iteration, lambda: os.kill(os.getpid(), signal.SIGINT))
    return at
