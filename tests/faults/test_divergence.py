"""Losses that are not finite numbers any more."""
import json
from types import SimpleNamespace

import numpy
import pytest

from chainer_abn import interrupt
from chainer_abn.errors import Diverged
from chainer_abn.training.divergence import LookForDivergence
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.snapshot import Snapshot

import chainer


def test_the_first_fold_is_stopped_at_once(script, tiny, tmp_path):
    run = tmp_path / 'run'
    result = script('n_fold_train', *tiny, '--lr', 1e30, '--out', run)
    assert result.status == 3 and result.err[-1] == (
        'n_fold_train.py: fold 1: the loss is not a finite number any more at iteration 2 (epoch 1) with '
        'learning rate 1e+30; there is no good snapshot yet; try python n_fold_train.py '
        f'--resume {run} --force --lr 1e+29')
    assert not list(run.glob('snap/*')) and not (run / 'summary.json').exists()


def test_it_goes_on_from_the_last_good_snapshot(script, tiny, tmp_path):
    run = tmp_path / 'run'
    steep = '--schedule', 'multistep', '--milestones', 1
    result = script('n_fold_train', *tiny, *steep, '--gamma', 1e30, '--out', run)
    assert result.status == 3
    assert f'iteration 5 (epoch 2) with learning rate 5e+28; the last good snapshot is {run}/snap/' \
           '2-1_fold_trainer-3.npz' in result.err[-1]
    assert script('n_fold_train', '--resume', run, '--force', '--gamma', 0.1).status == 0
    log = json.loads((run / 'log/2-1_fold_log.json').read_text())
    assert [entry['lr'] for entry in log] == pytest.approx([0.05, 0.005])


def test_side_by_side(script, tiny, tmp_path):
    result = script('n_fold_train', *tiny, '--folds', '1,2', '-g', '-1,-1', '--lr', 1e30, '--out',
                    tmp_path / 'run')
    assert result.status == 3
    assert sum('failed on cpu: fold' in line and 'at iteration 2' in line for line in result.err) == 2


def on_a_gpu(losses, look, lr=lambda iteration: 0.1):
    """The trainers that an extension sees, iteration after iteration."""
    optimizer = SimpleNamespace()
    updater = SimpleNamespace(
        is_new_epoch=False, epoch=0, get_optimizer=lambda name: optimizer,
        get_iterator=lambda name: SimpleNamespace(batch_size=10, dataset=range(100)))
    for updater.iteration, loss in enumerate(losses, 1):
        optimizer.lr = lr(updater.iteration)
        trainer = SimpleNamespace(updater=updater, observation={
            'main/loss': chainer.backends.cuda.cupy.array(loss, 'f')})
        look(trainer)
        yield trainer


@pytest.mark.gpu
def test_on_a_gpu_the_iteration_is_told_that_it_happened_in(tmp_path):
    """It is looked at later; nothing waits for the loss."""
    losses = numpy.ones(200)
    losses[[72, 89]] = numpy.nan, numpy.inf
    done = 0
    with pytest.raises(Diverged, match=r'^fold 2: .* at iteration 73 \(epoch 8\) with learning rate 0.73; '):
        for trainer in on_a_gpu(losses, LookForDivergence(RunFolder(tmp_path, 4), 2), lambda i: i / 100):
            done = trainer.updater.iteration
    assert done == 99


@pytest.mark.gpu
def test_on_a_gpu_a_signal_does_not_save_what_nobody_looked_at(tmp_path, monkeypatch):
    run = RunFolder(tmp_path, 4)
    look = LookForDivergence(run, 2)
    snapshot = Snapshot(run, 2, every=1, epochs=5, divergence=look)
    with pytest.raises(Diverged, match=r'at iteration 2 \(epoch 1\) .*; there is no good snapshot yet'):
        for trainer in on_a_gpu([1, numpy.nan, 1], look):
            if trainer.updater.iteration == 3:
                # it comes after the extension had its turn
                monkeypatch.setattr(interrupt, 'pending', lambda: True)
            snapshot(trainer)
