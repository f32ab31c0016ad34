"""What a person gets wrong in n_fold_train.py: one line, status 2, nothing written."""
import pytest
from helpers import write_class_folders
from PIL import Image

BASE = {'-a': 'resnet8', '--image-size': '16', '-k': '2', '-e': '1', '-b': '3', '-g': '-1'}


def make(tmp_path, case):
    """The data of a case; most need good folders."""
    images = write_class_folders(tmp_path / 'images')
    if case == 'truncated':
        path = images / 'bee/photo.jpg'
        Image.effect_noise((90, 90), 60).save(path)
        path.write_bytes(path.read_bytes()[:900])
    if case == 'text':
        (images / 'bee/text.png').write_text('hello')
    if case == 'empty class':
        (images / 'cat').mkdir()
    if case == 'small class':
        (images / 'cat').mkdir()
        (images / 'ant/0.png').rename(images / 'cat/0.png')
    if case == 'no class':
        images = tmp_path / 'flat'
        images.mkdir()
        (images / 'x.png').touch()
    if case == 'one class':
        images = write_class_folders(tmp_path / 'single', classes=['ant'])
    return images


CASES = {
    'no dataset': ({'--dataset': None}, ['--dataset is missing']),
    'no folder': ({'--dataset': 'nowhere'}, ['--dataset nowhere: no such folder', 'shapes']),
    'no class': ({}, ['flat: no class folder']),
    'one class': ({}, ['only one class folder (ant)']),
    'empty class': ({}, ["class 'cat' has no image"]),
    'small class': ({}, ["class 'cat' has 1 images, fewer than the 2 folds"]),
    'truncated': ({}, ['bee/photo.jpg: unreadable image', '--skip-bad']),
    'text': ({}, ['bee/text.png: not an image', '--skip-bad']),
    'arch': ({'-a': 'resnet21'}, ["'resnet21'", 'resnet20']),
    'arch for shapes': ({'--dataset': 'shapes', '-a': 'vgg'}, ["'vgg'"]),
    'variant': ({'--variant': 'abm'}, ['--variant', 'abm']),
    'attention': ({'--attention': 'sum'}, ['--attention', 'sum']),
    'batch 0': ({'-b': '0'}, ['--batchsize 0: must be at least 1']),
    'batch too large': ({'-b': '7'}, ['--batchsize 7: more than the 6 training images']),
    'threads 0': ({'--threads': '0'}, ['--threads 0: must be at least 1']),
    'accelerator': ({'--accelerator': 'mkl'}, ['--accelerator', 'mkl', 'auto', 'off']),
    'epoch 0': ({'-e': '0'}, ['--epoch 0: must be at least 1']),
    'epoch no number': ({'-e': 'ten'}, ['--epoch', 'ten']),
    'kfold 1': ({'-k': '1'}, ['--kfold 1']),
    'kfold -2': ({'-k': '-2'}, ['--kfold -2']),
    'kfold 0 of a flat folder': ({'-k': '0'}, ['no folder train']),
    'folds': ({'--folds': '1,3'}, ['--folds 3: there are 2 folds']),
    'fold 0': ({'--folds': '0'}, ['--folds']),
    'gpu': ({'-g': '99'}, ['--gpu 99: no such GPU']),
    'lr': ({'--lr': '0'}, ['--lr 0: must be more than 0']),
    'lr nan': ({'--lr': 'nan'}, ['--lr nan']),
    'momentum': ({'--momentum': '-1'}, ['--momentum -1']),
    'image size': ({'--image-size': '8'}, ['--image-size', '16 px']),
    'image size words': ({'--image-size': 'big'}, ['--image-size', 'big']),
    'resize': ({'--resize': '12'}, ['--resize: smaller than --image-size']),
    'mean': ({'--mean': '1,2'}, ['--mean']),
    'std': ({'--std': '1,0,1'}, ['--std: must be more than 0']),
    'seed': ({'--seed': '-1'}, ['--seed -1']),
    'n-images': ({'--n-images': '1'}, ['--n-images 1: fewer than the 2 classes']),
    'schedule': ({'--schedule': 'linear'}, ['--schedule', 'linear']),
    'workers': ({'--workers': '-1'}, ['--workers -1']),
    'unknown flag': ({'--epochs-of-fame': '3'}, ['--epochs-of-fame']),
    'resume nothing': ({'--resume': 'nowhere'}, ['nowhere: no run there']),
    'recipe': ({'--recipe': 'mine'}, ['--recipe', 'mine', 'paper', 'original']),
    'task of a folder': ({'--task': 'maker'}, ['--task: is for --dataset compcars']),
    'task': ({'--dataset': 'compcars', '--task': 'colour'}, ['--task', 'colour', 'maker']),
    'pad and resized crop': ({'--crop': 'resized', '--pad': '2'}, ['--pad 2: a resized crop needs none']),
    'fit and resized crop': ({'--crop': 'resized', '--fit': 'squeeze'}, ['--fit squeeze']),
    'imagenet without a folder': ({'--dataset': 'imagenet'}, ['imagenet', '--data-dir', 'image-net.org']),
    'compcars without a folder': ({'--dataset': 'compcars'}, ['compcars', '--data-dir', 'comp_cars']),
    'celeba without a folder': ({'--dataset': 'celeba'}, ['celeba', '--data-dir', 'CelebA.html']),
    'svhn in an empty folder': ({'--dataset': 'svhn', '--data-dir': 'tests'}, ['train_32x32.mat', 'http']),
    'cam of several tasks': (
        {'--dataset': 'faces', '--variant': 'cam', '--n-images': '8'}, ['--variant cam']),
    'log-sum of several tasks': (
        {'--dataset': 'faces', '--attention': 'log-sum', '--n-images': '8'}, ['--attention log-sum']),
    'cifar folder': ({'--dataset': 'cifar10', '--data-dir': 'nowhere'}, ['nowhere: neither cifar-10']),
}


@pytest.mark.parametrize('case', CASES)
def test_one_line_status_2_and_nothing_written(script, tmp_path, case):
    changes, messages = CASES[case]
    flags = {**BASE, '--dataset': str(make(tmp_path, case)), '--out': str(tmp_path / 'run'), **changes}
    if case == 'resume nothing':
        flags = changes
    result = script('n_fold_train', *(word for flag, value in flags.items() if value is not None
                                      for word in (flag, value)))
    assert result.status == 2, result
    assert len(result.err) == 1 and result.err[0].startswith('n_fold_train.py: ')
    for message in messages:
        assert message in result.err[0]
    assert not (tmp_path / 'run').exists()


def arguments(tmp_path, out):
    flags = {**BASE, '--dataset': str(write_class_folders(tmp_path / 'images')), '--out': str(out)}
    return [word for item in flags.items() for word in item]


def test_out_that_holds_a_run_is_kept(script, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/config.json').write_text('kept')
    result = script('n_fold_train', *arguments(tmp_path, tmp_path / 'run'))
    assert result.status == 2 and 'holds a run already' in result.err[0] and len(result.err) == 1
    assert [p.name for p in (tmp_path / 'run').iterdir()] == ['config.json']
    assert (tmp_path / 'run/config.json').read_text() == 'kept'


def test_out_that_cannot_be_written(script, tmp_path):
    (tmp_path / 'file').write_text('kept')
    result = script('n_fold_train', *arguments(tmp_path, tmp_path / 'file/run'))
    assert result.status == 2 and '--out' in result.err[0] and len(result.err) == 1
    assert (tmp_path / 'file').read_text() == 'kept'


@pytest.mark.parametrize('content', ['{', '[]', '{"arguments": {}}', '{"arguments": {"kfold": 2}}'])
def test_resume_of_a_broken_config(script, tmp_path, content):
    (tmp_path / 'config.json').write_text(content)
    result = script('n_fold_train', '--resume', tmp_path)
    assert result.status == 2 and 'config.json' in result.err[0] and len(result.err) == 1


def test_an_image_that_vanishes_during_training_is_named(script, tmp_path, monkeypatch):
    from chainer_abn.datasets import examples
    from chainer_abn.training.extensions import TimedUpdater
    monkeypatch.setattr(examples.Store.__init__, '__defaults__', (False, 0, 'cover', True))   # none in memory
    update = TimedUpdater.update

    def vanish(self):
        for path in (tmp_path / 'images/ant').glob('*.png'):
            path.unlink()
        update(self)

    monkeypatch.setattr(TimedUpdater, 'update', vanish)
    result = script('n_fold_train', *arguments(tmp_path, tmp_path / 'run'), '--workers', 1)
    assert result.status == 2 and result.err[-1].endswith('.png: no such file')


def test_the_real_program_has_no_traceback(python):
    result = python('n_fold_train.py', '--dataset', 'nowhere')
    assert result.returncode == 2 and result.stdout == ''
    assert len(result.stderr.splitlines()) == 1
