"""``python -m chainer_abn.runtime`` and what it prints."""
import numpy

from chainer_abn import runtime


def test_it_tells_versions_accelerators_and_threads(python):
    told = python('-m', 'chainer_abn.runtime')
    assert told.returncode == 0
    found = {line[:18].strip(): line[19:] for line in told.stdout.splitlines()}
    assert found['numpy'] == numpy.__version__ and found['chainer'] == '7.8.1'
    assert found['cpu accelerator'].startswith(('oneDNN 3', 'off: '))
    assert found['gpus'] and found['blas'] and int(found['threads']) >= 1
    assert found == runtime.info() | {'blas': found['blas'], 'threads': found['threads']}


def test_it_tells_why_the_accelerator_is_off(python):
    hide = 'from chainer_abn.runtime.onednn import api; api.NAME = "libnothere.so"\n'
    told = python('-c', hide + 'import chainer_abn; print(chainer_abn.runtime.info()["cpu accelerator"])')
    assert told.stdout.startswith('off: libnothere.so')
    told = python('-m', 'chainer_abn.runtime', CHAINER_USE_IDEEP='never')
    assert 'off: switched off' in told.stdout and told.stderr == ''
