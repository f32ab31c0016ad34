"""A disk that is full."""
import resource

import pytest
from helpers import contents


@pytest.fixture
def room():
    """Let no file grow beyond so many bytes; writing more fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def leave(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield leave
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize('size, what', [(400_000, '/run/snap/2-1_fold_trainer-6.npz'), (100, '')],
                         ids=['snapshot', 'log'])
def test_the_training_stops_and_can_go_on(whole, script, tiny, tmp_path, before, room, size, what):
    run = tmp_path / 'run'
    before(4, lambda: room(size))
    result = script('n_fold_train', *tiny, '--out', run)
    assert result.status == 2 and len(result.err) == 1
    named = f' {tmp_path}{what}' if what else ''
    assert result.err[0] == (f'n_fold_train.py: cannot write{named}: File too large; go on with: '
                             f'python n_fold_train.py --resume {run}')
    assert [path.name for path in run.glob('snap/*_trainer-*')] == ['2-1_fold_trainer-3.npz']
    assert not list(run.rglob('*.part'))
    room(resource.RLIM_INFINITY)
    before(-1, None)
    assert script('n_fold_train', '--resume', run).status == 0
    assert contents(run) == contents(whole)


def test_side_by_side_each_fold_is_told(script, tiny, tmp_path, room):
    """The report fails too, which is told and ends nothing."""
    run = tmp_path / 'run'
    room(100_000)                                               # enough for what is written before a network
    result = script('n_fold_train', *tiny, '--folds', '1,2', '-g', '-1,-1', '--out', run)
    assert result.status == 2
    first, second, *_, last = sorted(result.err)
    assert [first, second] == [
        f'fold {fold} failed on cpu: cannot write {run}/snap/2-{fold}_fold_model.npz: File too large'
        for fold in (1, 2)]
    assert last.endswith(f'folds 1, 2 not finished; go on with: python n_fold_train.py --resume {run}')


@pytest.mark.parametrize('name', ['loss1.png', 'matrix/1-fold_heatmap.npy', 'model/2-1_fold.npz'])
def test_a_folder_in_the_place_of_a_file_ends_the_run_in_one_line(script, tiny, tmp_path, before, name):
    run = tmp_path / 'run'
    before(2, (run / name).mkdir)
    result = script('n_fold_train', *tiny, '--out', run)
    assert result.status == 2 and result.err[-1].startswith(
        f'n_fold_train.py: cannot write {run / name}: Is a directory; go on with: python n_fold_train.py')
