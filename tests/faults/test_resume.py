"""Snapshots that are damaged, and runs that are gone on with where something is not as it was."""
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy
import pytest
from helpers import contents, save_network, write_class_folders
from kill_resume import main

from chainer_abn.training import checkpoint
from chainer_abn.training.resume import check, differences
from chainer_abn.training.run_folder import RunFolder

NEVER = 10 ** 6
CURVES = [f'{part}main/{term}' for part in ('', 'validation/')
          for term in ('loss', 'perception_loss', 'attention_loss')]


@pytest.fixture(scope='module')
def prepared():
    """A folder that a run is made in but once."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, 'run')


@pytest.fixture
def stopped(prepared, script, tiny, tmp_path, cut):
    """A run that was cut in its second epoch: it has snapshots of iterations 3 and 5."""
    if not prepared.exists():
        cut(4)
        assert script('n_fold_train', *tiny, '--out', prepared).status == 130
        cut(NEVER)
    assert names(prepared) == ['2-1_fold_trainer-3.npz', '2-1_fold_trainer-5.npz']
    return shutil.copytree(prepared, tmp_path / 'run')


def names(run):
    return sorted(path.name for path in run.glob('snap/*_trainer-*'))


def sizes(folder):
    """Of all that is in a folder, and when it was written."""
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob('*')}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize('damage', [flip, truncate])
def test_a_damaged_snapshot_is_told_and_the_one_before_is_taken(whole, stopped, script, damage):
    first, last = sorted(stopped.glob('snap/*_trainer-*'))
    damage(last)
    result = script('n_fold_train', '--resume', stopped)
    assert result.status == 0
    assert any(line.startswith(f'{last}: ') and line.endswith(f'going on from {first.name}')
               for line in result.err)
    assert contents(stopped) == contents(whole)


def test_without_a_good_snapshot_nothing_is_lost(stopped, script):
    kept = []
    for path in sorted(stopped.glob('snap/*_trainer-*')):
        truncate(path)
        kept.append(path.read_bytes())
    result = script('n_fold_train', '--resume', stopped)
    assert result.status == 2
    assert f'of fold 1 is left; remove {stopped}/snap/2-1_fold_trainer-*.npz to train the fold anew' \
        in result.err[-1]
    assert [path.read_bytes() for path in sorted(stopped.glob('snap/*_trainer-*'))] == kept


LOG = {'epoch': 1, 'iteration': 3, 'validation/main/accuracy': 0.5, 'validation/main/loss': 1}
MAIN = 'updater/iterator:main/'
MADE_UP = [
    (f'{MAIN}current_position', -5), (f'{MAIN}current_position', 10 ** 12), (f'{MAIN}epoch', -5),
    (f'{MAIN}epoch', 10 ** 12), (f'{MAIN}epoch', 2 ** 63 - 1), (f'{MAIN}order', [24] * 12),
    (f'{MAIN}order', list(range(12))), (f'{MAIN}order', [-99] * 12), ('updater/iteration', -1),
    ('extensions/KeepBest/epoch', 0), ('extensions/KeepBest/epoch', 9),
    *(('extensions/LogReport/_log', json.dumps(log)) for log in (
        {}, 5, None, [], [1], [[1]], [{}], [{**LOG, 'epoch': 'x'}], [{**LOG, 'lr': []}],
        [{**LOG, 'epoch': 9}])),
    ('extensions/LogReport/_log', 100000 * '['),
    *(('extensions/plot_loss/_plot_loss1.png', json.dumps(data)) for data in (
        None, [], {}, {'main/loss': [[1, 2]]}, dict.fromkeys(CURVES, 5), dict.fromkeys(CURVES, [[1, 2, 3]]),
        dict.fromkeys(CURVES, [['x', 2]]))),
    *(('extensions/KeepBest/attributes', json.dumps(data)) for data in (5, {'circle': 0.5}, {'circle': 'x'})),
    *(('extensions/SeedEpochs/numpy_rest', json.dumps([place, 0, 0.0]))
      for place in (-1, 625, 10 ** 9, 'x', [])),
    *(('extensions/SeedEpochs/python', json.dumps(state)) for state in (5, [3, [1], None], [9, 9, 9])),
]


@pytest.mark.parametrize('name, value', MADE_UP, ids=[f'{name} {value!s:.20}' for name, value in MADE_UP])
def test_a_snapshot_that_was_made_up_is_refused(stopped, script, name, value):
    first, last = sorted(stopped.glob('snap/*_trainer-*'))
    first.unlink()
    arrays = checkpoint.read_npz(last)
    assert name in arrays
    checkpoint.write_npz(last, {**arrays, name: numpy.array(value)})
    kept = contents(stopped)
    result = script('n_fold_train', '--resume', stopped)
    assert result.status == 2
    assert result.err[-1].startswith(f'n_fold_train.py: {last}: not a snapshot of this training (')
    assert contents(stopped) == kept


def test_a_snapshot_of_another_network_is_refused(stopped, script, tiny, tmp_path, cut):
    cut(4)
    assert script('n_fold_train', *tiny, '--variant', 'baseline', '--out', tmp_path / 'other').status == 130
    cut(NEVER)
    for path in stopped.glob('snap/*_trainer-*'):
        path.write_bytes((tmp_path / 'other/snap' / path.name).read_bytes())
    result = script('n_fold_train', '--resume', stopped)
    assert result.status == 2 and 'trainer-3.npz: not a snapshot of this training (KeyError' in result.err[-1]


def edit(run, change):
    config = json.loads((run / 'config.json').read_text())
    change(config)
    (run / 'config.json').write_text(json.dumps(config))


DIFFERENCES = {
    'version': (lambda config: config['versions'].update(numpy='1.26.4'), (), ', not 1.26.4'),
    'package': (lambda config: config['versions'].pop('pillow'), (), 'pillow '),
    'device': (lambda config: config.update(device='gpu 0: NVIDIA X'), (), ', not gpu 0: NVIDIA X'),
    'threads': (None, ('--threads', 2), 'it would compute on cpu ('),
    'flag': (None, ('--lr', 0.1), '--lr 0.1, not 0.05'),
    'epochs': (None, ('-e', 3), '--epoch 3, not 2'),
    'classes': (lambda config: config['classes'].reverse(), (), 'other classes in the data'),
    'pixels': (lambda config: config['data'].update(pixels='0'), (), 'other pixels in the images'),
    'names': (lambda config: config['data'].update(names='0'), (), 'other names of images'),
    'folds': (lambda config: config.update(folds_digest='0'), (), 'other images in the folds'),
    'older': (lambda config: config['arguments'].pop('snapshot_every'), (), 'of another version'),
    'newer': (lambda config: config['arguments'].update(warp=9), (), 'unknown settings warp'),
}


@pytest.mark.parametrize('case', DIFFERENCES)
def test_what_differs_is_told_and_refused(stopped, script, case):
    change, flags, message = DIFFERENCES[case]
    if change:
        edit(stopped, change)
    before = contents(stopped)
    result = script('n_fold_train', '--resume', stopped, *flags)
    assert result.status == 2 and len(result.err) == 1
    assert message in result.err[0] and result.err[0].endswith('; --force goes on all the same')
    assert contents(stopped) == before


def test_forced_it_goes_on_and_says_so_in_the_config(whole, stopped, script):
    for name in 'version', 'older':
        edit(stopped, DIFFERENCES[name][0])
    result = script('n_fold_train', '--resume', stopped, '--force')
    assert result.status == 0 and result.err[0].startswith('--force goes on, although: no settings snapshot_')
    found, expected = contents(stopped), contents(whole)
    config = found.pop('config.json')
    assert ', not 1.26.4' in config.pop('forced')[0][-1]
    assert config == expected.pop('config.json') and found == expected
    assert script('n_fold_train', '--resume', stopped).status == 0          # it is of this version now


def test_forced_it_trains_longer(stopped, script):
    assert script('n_fold_train', '--resume', stopped, '--force', '-e', 3).status == 0
    log = json.loads((stopped / 'log/2-1_fold_log.json').read_text())
    assert [entry['epoch'] for entry in log] == [1, 2, 3]


def test_forced_it_does_not_go_back(stopped, script):
    result = script('n_fold_train', '--resume', stopped, '--force', '-e', 1)
    assert result.status == 2
    assert '--epoch 1: fold 1 has 1.67 behind it, --force --epoch 2 or more; go on' in result.err[-1]
    assert script('n_fold_train', '--resume', stopped, '--force', '-e', 2).status == 0


def test_forced_on_other_images_it_goes_on_again_by_itself(tmp_path):
    """Though scores are told which images the finished folds have not seen."""
    run = RunFolder(tmp_path, 2)
    old = {'arguments': {'kfold': 2}, 'classes': ['ant', 'bee'], 'pretrained_sha256': None, 'device': 'cpu',
           'folds_digest': 'old', 'data': {'images': 2}}
    run.write_config(old)
    run.add_summary({'fold': 1, 'best_epoch': 1, 'best_accuracy': 0.5, 'last_accuracy': 0.5, 'loss': 1.0})
    new = {**old, 'folds_digest': 'new'}
    check(run, old, new, [], True)
    written = json.loads(run.config_file.read_text())
    assert written['folds_digest'] == 'old' and len(written['forced']) == 1
    assert differences(written, new) == [] != differences(written, old)


def test_flags_that_say_what_the_run_has_are_welcome(whole, stopped, script, tiny):
    assert script('n_fold_train', '--resume', stopped, *tiny, '--workers', 1).status == 0
    assert contents(stopped) == contents(whole)


def test_images_and_the_pretrained_network_may_have_moved(script, tmp_path, cut):
    there, here, run, source = (tmp_path / name for name in ('there', 'here', 'run', 'net.npz'))
    save_network(source, ['ant', 'bee'], size=16)
    flags = ('--dataset', write_class_folders(there), '--pretrained', source, '--image-size', 16, '-k', 2,
             '-e', 1, '-b', 3, '-g', -1, '--threads', 1, '--out')
    assert script('n_fold_train', *flags, tmp_path / 'whole').status == 0
    cut(3)
    assert script('n_fold_train', *flags, run).status == 130
    cut(NEVER)
    there.rename(here)
    moved = source.rename(tmp_path / 'moved.npz')
    write_class_folders(there, seed=1)
    save_network(source, ['ant', 'bee'], size=16, seed=1)
    flags = '--dataset', here, '--pretrained', moved
    for wrong in ('--dataset', there), ('--dataset', 'shapes'), ('--pretrained', source):
        assert script('n_fold_train', '--resume', run, *flags, *wrong).status == 2
    assert script('n_fold_train', '--resume', run, *flags).status == 0
    assert contents(run) == contents(tmp_path / 'whole')
    arguments = RunFolder.open(run)[1]['arguments']
    assert (arguments['dataset'], arguments['pretrained']) == (str(here), str(moved))


def test_snapshots_come_as_often_as_asked(script, tiny, tmp_path, before):
    run, found = tmp_path / 'run', []
    for iteration in 5, 7:
        before(iteration, lambda: found.append(names(run)))
        command = *tiny, '-e', 3, '--snapshot-every', 2, '--out', run
        assert script('n_fold_train', *command).status == 0
        assert not names(run)
        shutil.rmtree(run)
    assert found == [[], ['2-1_fold_trainer-6.npz']]


@pytest.mark.parametrize('name', ['loss1.png', 'snap', 'summary.json.part', 'model/2-1_fold.npz', 'new'])
def test_nothing_is_written_where_links_lead(stopped, script, tmp_path, name):
    link = stopped / name
    elsewhere = link.rename(tmp_path / 'kept') if link.exists() else tmp_path / 'nowhere'
    link.symlink_to(elsewhere)
    before = sizes(tmp_path)
    result = script('n_fold_train', '--resume', stopped, '--force', '-e', 3)
    assert result.status == 2 and len(result.err) == 1
    assert result.err[0].startswith(f'n_fold_train.py: {link}: a link, and ')
    assert sizes(tmp_path) == before


def test_empty_folders_may_be_missing(whole, stopped, script):
    (stopped / 'model').rmdir()
    assert script('n_fold_train', '--resume', stopped).status == 0
    assert contents(stopped) == contents(whole)


@pytest.mark.parametrize('make, said', [(Path.touch, 'File exists'),
                                        (os.mkfifo, 'neither a file nor a folder')])
def test_what_is_no_folder_is_told(stopped, script, make, said):
    (stopped / 'model').rmdir()
    make(stopped / 'model')
    result = script('n_fold_train', '--resume', stopped)
    assert result.status == 2 and result.err == [f'n_fold_train.py: {stopped}/model: {said}']


def test_what_a_killed_process_left_is_removed(stopped, script, whole):
    (stopped / 'snap/2-1_fold_model.npz.part').write_text('cut')
    (stopped / 'log/2-1_fold_log.jsonx7').mkdir()
    (stopped / 'log/2-1_fold_log.jsonx7/log.json').write_text('cut')
    assert script('n_fold_train', '--resume', stopped).status == 0
    (stopped / 'snap/2-1_fold_trainer-6.npz').write_text('of a fold that is finished')
    assert script('n_fold_train', '--resume', stopped).status == 0
    assert contents(stopped) == contents(whole)


def test_what_somebody_put_there_is_left(stopped, script):
    (stopped / 'old.part').mkdir()
    (stopped / 'log/2-1_fold_log.json.bak').write_text('mine')
    assert script('n_fold_train', '--resume', stopped).status == 0
    assert (stopped / 'old.part').is_dir() and (stopped / 'log/2-1_fold_log.json.bak').read_text() == 'mine'


def test_killed_at_any_moment(monkeypatch, capsys):
    """The short form of kill_resume.py."""
    monkeypatch.setattr('sys.argv', ['kill_resume.py', '--n', '2', '--n-images', '24', '--epoch', '2'])
    assert main() == 0, capsys.readouterr().out
