"""The two programs on a GPU."""
import csv

import numpy
import pytest
from test_n_fold_train import contents

from chainer_abn.runtime import cudnn
from chainer_abn.training.step import CapturedStep

import chainer

pytestmark = pytest.mark.gpu

TINY = ('--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 2, '--folds', 1, '-e', 3, '-b', 4,
        '-g', 0)


@pytest.fixture(autouse=True)
def cpu_again():
    yield
    chainer.get_device('@numpy').use()


@pytest.fixture(scope='module')
def whole(request, tmp_path_factory):
    """Runs by flags, each made once."""
    made = {}

    def make(script, *flags):
        if flags not in made:
            made[flags] = tmp_path_factory.mktemp('runs') / 'whole'
            result = script('n_fold_train', *TINY, *flags, '--out', made[flags])
            # a slow machine draws progress
            assert result.status == 0 and all(' [' in line for line in result.err)
        return made[flags]
    return make


@pytest.mark.parametrize('flags', [
    (), ('--dtype', 'mixed16'), ('-a', 'wrn-10-1'), ('--dataset', 'faces', '--dtype', 'mixed16', '-e', 2)],
    ids=['float32', 'mixed16', 'dropout', 'tasks'])
def test_the_same_files_again_and_captured(whole, script, tmp_path, monkeypatch, flags):
    first = whole(script, *flags)
    assert script('n_fold_train', *TINY, *flags, '--out', tmp_path / 'again').status == 0
    assert contents(tmp_path / 'again') == contents(first)
    steps = []
    launch = CapturedStep.__call__
    monkeypatch.setattr(CapturedStep, '__call__', lambda self, x, t: (launch(self, x, t), steps.append(self)))
    assert script('n_fold_train', *TINY, *flags, '--capture', '--out', tmp_path / 'captured').status == 0
    assert contents(tmp_path / 'captured') == contents(first)
    assert steps[-1].graph is not None


@pytest.mark.parametrize('flags', [(), ('--dtype', 'mixed16', '--capture'), ('-a', 'wrn-10-1')],
                         ids=['float32', 'mixed16 captured', 'dropout'])
def test_a_cut_run_goes_on_as_if_it_had_not_been(whole, script, tmp_path, cut, flags):
    cut(7)                                  # in the middle of the third epoch
    assert script('n_fold_train', *TINY, *flags, '--out', tmp_path / 'cut').status == 130
    cut(-1)
    assert script('n_fold_train', '--resume', tmp_path / 'cut').status == 0
    assert contents(tmp_path / 'cut') == contents(whole(script, *flags))


def test_a_batch_that_does_not_fit_is_told_with_one_to_try(script, tmp_path):
    import cupy
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (8 << 20))
    try:
        result = script('n_fold_train', *TINY, '-b', 12, '--out', tmp_path / 'run')
    finally:
        pool.set_limit(size=0)
    assert result.status == 2 and len(result.err) == 1
    assert result.err[0].startswith('n_fold_train.py: --batchsize 12: needs more memory than is free on gpu')
    assert result.err[0].endswith('; try --batchsize 6')


def test_captured_steps_need_a_gpu_and_cudnn(script, tmp_path, monkeypatch):
    result = script('n_fold_train', *TINY, '-g', -1, '--capture', '--out', tmp_path / 'run')
    assert result.status == 2 and result.err == ['n_fold_train.py: --capture: is for a GPU']
    monkeypatch.setattr(chainer.backends.cuda, 'cudnn_enabled', False)
    monkeypatch.setattr(cudnn, '_why_not', 'libcudnn.so.9: not found')
    result = script('n_fold_train', *TINY, '--capture', '--out', tmp_path / 'run')
    assert result.status == 2
    assert result.err == ['without cuDNN convolutions are slower: libcudnn.so.9: not found',
                          'n_fold_train.py: --capture: needs cuDNN (libcudnn.so.9: not found)']
    assert not (tmp_path / 'run').exists()


def test_maps_are_those_of_the_cpu(whole, script, tmp_path, class_folders):
    model = whole(script) / 'snap/2-1_fold_model.npz'
    for gpu in 0, -1:
        result = script('visualize', '--model', model, class_folders, '--out', tmp_path / str(gpu), '--npy',
                        '-g', gpu)
        assert result.status == 0
    for path in (tmp_path / '0').glob('*.npy'):
        numpy.testing.assert_allclose(numpy.load(path), numpy.load(tmp_path / '-1' / path.name), atol=2e-3)
    tables = [list(csv.DictReader((tmp_path / gpu / 'predictions.csv').open())) for gpu in ('0', '-1')]
    assert len(tables[0]) == 12
    for a, b in zip(*tables, strict=True):
        assert float(a['probability']) == pytest.approx(float(b['probability']), abs=5e-3)
