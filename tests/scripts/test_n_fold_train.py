"""n_fold_train.py from the command line to the files."""
import json
import os
import signal
import subprocess
import sys
import time

import helpers
import numpy
import pytest
from helpers import ROOT, write_class_folders
from PIL import Image

import chainer_abn
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import k_folds
from chainer_abn.explain.inputs import to_batch
from chainer_abn.training.extensions import TimedUpdater
from chainer_abn.training.run_folder import RunFolder, new_folder

import chainer

TINY = ('--dataset', 'shapes', '--n-images', 48, '-a', 'resnet8', '-k', 2, '-e', 2, '-b', 8, '-g', -1)


def contents(run, with_log=True):
    """Networks, matrices and logs of a run, without elapsed times."""
    folders = ('snap', 'model', 'matrix', 'log') if with_log else ('snap', 'model', 'matrix')
    return {name: content for name, content in helpers.contents(run).items() if name.startswith(folders)}


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp('runs') / 'tiny'
    arguments = [sys.executable, ROOT / 'n_fold_train.py', *map(str, TINY), '--out', out]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return out, result


def test_every_file_of_the_contract(tiny):
    out, result = tiny
    found = {str(p.relative_to(out)) for p in out.rglob('*') if p.is_file()}
    assert found == {'config.json', 'summary.json', 'report.html'} | {
        name.format(i) for i in (1, 2) for name in (
            'log/2-{}_fold_log.json', 'snap/2-{}_fold_model.npz', 'model/2-{}_fold.npz',
            'matrix/{}-fold_heatmap.png', 'matrix/{}-fold_heatmap.npy', 'matrix/{}-fold_predictions.csv',
            'loss{}.png', 'accuracy{}.png')}
    for picture in out.rglob('*.png'):
        with Image.open(picture) as image:
            assert min(image.size) > 200
    assert 'mean' in result.stdout and str(out) in result.stdout


def test_config(tiny):
    config = json.loads((tiny[0] / 'config.json').read_text())
    assert config['arch'] == 'resnet8' and config['variant'] == 'abn'
    assert config['classes'] == ['circle', 'cross', 'ring', 'square', 'star', 'triangle']
    assert config['image_size'] == [32, 32] and config['device'].startswith('cpu (')
    assert config['arguments']['batchsize'] == 8 and config['arguments']['lr'] == 0.05
    assert config['versions']['chainer'] == '7.8.1'
    assert '--n-images 48' in config['command'] and len(config['folds_digest']) == 64
    assert len(config['mean']) == len(config['std']) == 3
    numpy.testing.assert_allclose(
        config['mean'], numpy.mean([fold['mean'] for fold in config['folds']], 0))


def test_mean_and_deviation_are_those_of_the_training_images_of_the_fold(tiny):
    shapes = open_dataset('shapes', n_images=48, seed=402)
    folds = k_folds(shapes.labels, shapes.classes, 2, 402)
    for i, (train, _) in enumerate(folds, 1):
        _, config = chainer_abn.load(tiny[0] / f'snap/2-{i}_fold_model.npz')
        pixels = shapes.images[train].reshape(-1, 3) / 255
        numpy.testing.assert_allclose(config['mean'], pixels.mean(0), rtol=1e-9)
        numpy.testing.assert_allclose(config['std'], pixels.std(0), rtol=1e-9)


def test_log_and_summary_agree(tiny):
    summary = json.loads((tiny[0] / 'summary.json').read_text())
    assert [row['fold'] for row in summary['folds']] == [1, 2]
    for row in summary['folds']:
        log = json.loads((tiny[0] / f'log/2-{row["fold"]}_fold_log.json').read_text())
        assert [entry['epoch'] for entry in log] == [1, 2]
        assert [entry['iteration'] for entry in log] == [3, 6]
        assert [entry['lr'] for entry in log] == pytest.approx([0.05, 0.025])
        for entry in log:
            for part in 'main/', 'validation/main/':
                assert entry[part + 'loss'] == pytest.approx(
                    entry[part + 'attention_loss'] + entry[part + 'perception_loss'], rel=1e-5)
                assert {part + 'accuracy', part + 'attention_accuracy', part + 'top5_accuracy'} < set(entry)
        accuracies = [entry['validation/main/accuracy'] for entry in log]
        best = int(numpy.argmax(accuracies))
        assert row['best_epoch'] == best + 1
        assert row['best_accuracy'] == accuracies[best] and row['last_accuracy'] == accuracies[-1]
        assert row['top5_accuracy'] == log[best]['validation/main/top5_accuracy']
        assert row['loss'] == log[best]['validation/main/loss']
        assert row['images_per_second'] > 0
        assert 0 < row['waiting_share'] < 1
    accuracies = [row['best_accuracy'] for row in summary['folds']]
    assert summary['mean_accuracy'] == pytest.approx(numpy.mean(accuracies))
    assert summary['std_accuracy'] == pytest.approx(numpy.std(accuracies))


def test_matrix_and_accuracy_are_those_of_the_saved_network(tiny):
    """The best network, loaded, gives the matrix and accuracy of its fold's held-out images."""
    shapes = open_dataset('shapes', n_images=48, seed=402)
    summary = json.loads((tiny[0] / 'summary.json').read_text())
    for i, (_, held_out) in enumerate(k_folds(shapes.labels, shapes.classes, 2, 402), 1):
        net, config = chainer_abn.load(tiny[0] / f'snap/2-{i}_fold_model.npz')
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            predicted = net(to_batch(shapes.images[held_out], config)).logits.array.argmax(1)
        expected = numpy.zeros((6, 6), int)
        numpy.add.at(expected, (shapes.labels[held_out], predicted), 1)
        counts = numpy.load(tiny[0] / f'matrix/{i}-fold_heatmap.npy')
        numpy.testing.assert_array_equal(counts, expected)
        assert summary['folds'][i - 1]['best_accuracy'] == pytest.approx(
            numpy.trace(counts) / counts.sum())


def test_two_runs_write_the_same_and_workers_change_nothing(tiny, script, tmp_path):
    assert script('n_fold_train', *TINY, '--workers', 2, '--out', tmp_path / 'again').status == 0
    assert contents(tmp_path / 'again') == contents(tiny[0])


def test_without_the_accelerator(tiny, script, tmp_path):
    run = tmp_path / 'plain'
    assert script('n_fold_train', *TINY, '--accelerator', 'off', '--threads', 1, '--out', run).status == 0
    config = json.loads((run / 'config.json').read_text())
    assert config['device'] == 'cpu (no accelerator, 1 thread)'
    first = [json.loads((out / 'log/2-1_fold_log.json').read_text())[0]['main/loss']
             for out in (run, tiny[0])]
    assert first[0] == pytest.approx(first[1], rel=1e-3)


def test_another_seed_differs(tiny, script, tmp_path):
    assert script('n_fold_train', *TINY, '--seed', 7, '--out', tmp_path / 'other').status == 0
    ours, other = contents(tiny[0]), contents(tmp_path / 'other')
    assert set(ours) == set(other)
    assert all(ours[name] != other[name] for name in ours if name.endswith('.npz'))


def test_one_fold_alone_is_the_same_as_in_the_whole_run(tiny, script, tmp_path):
    run = tmp_path / 'second'
    assert script('n_fold_train', *TINY, '--folds', 2, '--out', run).status == 0
    assert contents(run, with_log=False).items() < contents(tiny[0]).items()
    summary = json.loads((run / 'summary.json').read_text())
    assert [row['fold'] for row in summary['folds']] == [2]


def snapshots(run):
    return sorted(int(path.stem.rpartition('-')[2]) for path in run.glob('snap/*_trainer-*'))


@pytest.mark.parametrize('iterations, kept, more', [
    ([0], [1], ()),                         # in the first epoch
    ([4, 0], [3, 5], ('--workers', 1)),     # in the second, and at once again
    ([7], [2], ())], ids=str)               # in the second fold
def test_a_cut_run_goes_on_as_if_it_had_not_been(tiny, script, tmp_path, cut, iterations, kept, more):
    run = tmp_path / 'cut'
    command = *TINY, *more, '--out', run
    for iteration in iterations:
        cut(iteration)
        result = script('n_fold_train', *command)
        assert result.status == 130
        assert result.err[-1] == (
            f'n_fold_train.py: interrupted; go on with: python n_fold_train.py --resume {run}')
        if iteration:
            assert snapshots(run) == kept
        command = '--resume', run
    cut(-1)
    result = script('n_fold_train', *command)
    assert result.status == 0
    assert any(line.startswith('going on after iteration') for line in result.out)
    assert helpers.contents(run) == helpers.contents(tiny[0])


@pytest.mark.parametrize('flags', [('-a', 'wrn-10-1'), ('--dtype', 'mixed16', '--variant', 'baseline')],
                         ids=['dropout', 'mixed16'])
def test_what_is_drawn_and_scaled_goes_on_in_a_resumed_run(script, tmp_path, cut, flags):
    tiny = ('--dataset', 'shapes', '--n-images', 12, '-a', 'resnet8', '-k', 2, '--folds', 1, '-e', 2, '-b', 3,
            '-g', -1, *flags)
    assert script('n_fold_train', *tiny, '--out', tmp_path / 'whole').status == 0
    cut(2)                                  # in the second epoch
    assert script('n_fold_train', *tiny, '--out', tmp_path / 'cut').status == 130
    cut(-1)
    assert script('n_fold_train', '--resume', tmp_path / 'cut').status == 0
    assert helpers.contents(tmp_path / 'cut') == helpers.contents(tmp_path / 'whole')
    net, _ = chainer_abn.load(tmp_path / 'cut/model/2-1_fold.npz')
    assert all(param.dtype == 'f' for param in net.params())


def test_a_run_cut_between_a_folds_last_epoch_and_its_summary(tiny, script, tmp_path, monkeypatch):
    def interrupted(self, row):
        raise KeyboardInterrupt

    run = tmp_path / 'cut'
    add_summary = RunFolder.add_summary
    monkeypatch.setattr(RunFolder, 'add_summary', interrupted)
    assert script('n_fold_train', *TINY, '--folds', 1, '--out', run).status == 130
    monkeypatch.setattr(RunFolder, 'add_summary', add_summary)
    monkeypatch.setattr(TimedUpdater, 'update', lambda self: pytest.fail('trained past the end'))
    assert script('n_fold_train', '--resume', run).status == 0
    assert contents(run).items() < contents(tiny[0]).items()


def test_resuming_a_finished_run_trains_nothing(tiny, script, monkeypatch):
    monkeypatch.setattr(TimedUpdater, 'update', lambda self: pytest.fail('trained'))
    before = contents(tiny[0])
    result = script('n_fold_train', '-r', tiny[0])
    assert result.status == 0 and any(line.startswith('mean') for line in result.out)
    assert contents(tiny[0]) == before


def started_run(out):
    """A long run with workers in a process group of its own, in its second epoch or later."""
    process = subprocess.Popen(
        [sys.executable, ROOT / 'n_fold_train.py', *map(str, TINY), '-e', '500', '--workers', '2',
         '--out', out],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.glob('snap/*_trainer-*.npz')) and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


@pytest.mark.parametrize('signum, status, word', [
    (signal.SIGTERM, 143, 'terminated'), (signal.SIGINT, 130, 'interrupted')])
@pytest.mark.parametrize('kill', [os.kill, os.killpg], ids=['process', 'group'])
def test_a_signal_ends_the_run_and_says_how_to_go_on(tmp_path, kill, signum, status, word):
    out = tmp_path / 'run'
    process = started_run(out)
    kill(process.pid, signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err.splitlines()[-1] == (
        f'n_fold_train.py: {word}; go on with: python n_fold_train.py --resume {out}')
    assert 'Traceback' not in err
    with pytest.raises(ProcessLookupError):                 # no worker is left behind
        os.killpg(process.pid, 0)


def test_resume_refuses_other_images_and_other_flags(script, tmp_path):
    images = write_class_folders(tmp_path / 'images')
    run = tmp_path / 'run'
    arguments = '--dataset', images, '-a', 'resnet8', '--image-size', 16, '-k', 2, '-e', 1, '-b', 3
    assert script('n_fold_train', *arguments, '--out', run, '--folds', 1).status == 0
    result = script('n_fold_train', '--resume', run, '--lr', 0.1, '-e', 1)
    assert result.status == 2 and result.err == [
        f'n_fold_train.py: --resume {run}: not as the run was started: --lr 0.1, not 0.025; '
        '--force goes on all the same']
    (images / 'ant/0.png').unlink()
    result = script('n_fold_train', '--resume', run)
    assert result.status == 2 and 'as the run was started: 11 images, not 12; --force' in result.err[0]


def test_folder_of_images_learns_its_colours_non_square(script, tmp_path):
    images = write_class_folders(tmp_path / 'images', 16, ('ant', 'bee', 'cat'))
    result = script('n_fold_train', '--dataset', images, '-a', 'resnet8', '--image-size', '16x24', '-k', 2,
                    '-e', 6, '-b', 8, '--lr', 0.05, '--variant', 'baseline', '--out', tmp_path / 'run')
    assert result.status == 0, result.err
    summary = json.loads((tmp_path / 'run/summary.json').read_text())
    assert summary['mean_accuracy'] > 0.9
    assert summary['folds'][0]['top5_accuracy'] is None
    _, config = chainer_abn.load(tmp_path / 'run/snap/2-1_fold_model.npz')
    assert config['image_size'] == [16, 24] and config['resize'] == [18, 27]


def test_own_split(script, tmp_path):
    run = tmp_path / 'run'
    result = script('n_fold_train', *TINY[:6], '-k', 0, '-e', 1, '-b', 8, '--out', run)
    assert result.status == 0, result.err
    assert (run / 'snap/0-1_fold_model.npz').exists()
    assert numpy.load(run / 'matrix/1-fold_heatmap.npy').sum() == 9


def test_skip_bad_says_how_many(script, tmp_path):
    images = write_class_folders(tmp_path / 'images')
    (images / 'ant/5.png').write_bytes(b'nothing')
    arguments = '--dataset', images, '-a', 'resnet8', '--image-size', 16, '-k', 2, '-e', 1, '-b', 3
    result = script('n_fold_train', *arguments, '--skip-bad', '--out', tmp_path / 'run')
    assert result.status == 0
    assert '--skip-bad left out 1 of 12 images:' in result.err
    assert numpy.load(tmp_path / 'run/matrix/1-fold_heatmap.npy').sum() \
        + numpy.load(tmp_path / 'run/matrix/2-fold_heatmap.npy').sum() == 11


def test_skip_bad_leaves_no_class_without_training_images(script, tmp_path):
    images = tmp_path / 'images'
    for part in 'train', 'val':
        write_class_folders(images / part)
    for path in (images / 'train/bee').iterdir():
        path.write_text('nothing')
    result = script('n_fold_train', '--dataset', images, '-a', 'resnet8', '--image-size', 16, '-k', 0,
                    '-e', 1, '-b', 3, '--skip-bad', '--out', tmp_path / 'run')
    assert result.status == 2 and '--skip-bad left out 6 of 24 images:' in result.err
    assert result.err[-1] == "n_fold_train.py: class 'bee' has no image in the training part of the data set"


def test_folders_of_one_second_have_numbers(tmp_path):
    made = [new_folder(tmp_path / 'result', 'now') for _ in range(3)]
    assert [folder.name for folder in made] == ['now', 'now-2', 'now-3']
    assert all(folder.is_dir() and folder.parent.name == 'result' for folder in made)


def test_default_out_is_named_by_the_time(python, tmp_path):
    result = python(ROOT / 'n_fold_train.py', *TINY, '-e', 1, '--folds', 1, cwd=tmp_path,
                    PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    run, = (tmp_path / 'result').iterdir()
    time.strptime(run.name, '%Y-%m-%d-%H-%M-%S')


def test_no_folder_of_the_user_is_written_to(script, tmp_path):
    images = write_class_folders(tmp_path / 'images')
    before = sorted(os.walk(images))
    assert script('n_fold_train', '--dataset', images, '-a', 'resnet8', '--image-size', 16, '-k', 2, '-e', 1,
                  '-b', 3, '--out', tmp_path / 'run').status == 0
    assert sorted(os.walk(images)) == before
