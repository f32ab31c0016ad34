"""n_fold_train.py --pretrained, --freeze and --summary."""
import json

import numpy
import pytest

import chainer_abn
from chainer_abn.links import build
from chainer_abn.training import checkpoint
from chainer_abn.training.checkpoint import arrays_of
from chainer_abn.training.weights import to_torch

CONFIG = {'arch': 'resnet8', 'variant': 'baseline', 'attention': 'residual', 'in_channels': 3,
          'classes': ['0', '1', '2', '3'], 'image_size': [16, 16], 'resize': [18, 18],
          'mean': [0.1, 0.2, 0.3], 'std': [0.5, 0.6, 0.7]}


@pytest.fixture
def source(tmp_path):
    """A baseline of four classes with statistics away from rest, and its two files."""
    net = build('resnet8', 4, 'baseline')
    for name, array in arrays_of(net).items():
        if name.endswith('avg_var'):
            array[...] = numpy.random.default_rng(0).uniform(0.5, 1.5, array.shape)
    checkpoint.save(tmp_path / 'source.npz', net, CONFIG)
    to_torch(tmp_path / 'source.pth', net)
    return net


def train(script, class_folders, out, *more):
    return script('n_fold_train', '--dataset', class_folders, '--image-size', 16, '-k', 2, '-e', 2, '-b', 3,
                  '--lr', 0.05, '-g', -1, '--out', out, *more)


@pytest.mark.parametrize('name', ['source.npz', 'source.pth'])
def test_frozen_parts_stay_and_the_head_is_new(script, tmp_path, class_folders, source, name):
    more = () if name.endswith('npz') else ('-a', 'resnet8')        # an .npz tells its own
    result = train(script, class_folders, tmp_path / 'run', '--pretrained', tmp_path / name,
                   '--freeze', 'feature_extractor,attention_branch/stage', *more)
    assert result.status == 0, result.err
    assert f'starting from {tmp_path / name}; fresh: attention head and classifier' in result.out
    wanted = arrays_of(source)
    for fold in 1, 2:
        net, config = chainer_abn.load(tmp_path / f'run/model/2-{fold}_fold.npz')
        assert config['arch'] == 'resnet8' and config['classes'] == ['ant', 'bee']
        if name.endswith('npz'):
            assert config['mean'] == CONFIG['mean'] and config['std'] == CONFIG['std']
        else:
            assert config['mean'] == [0.4914, 0.4822, 0.4465]
        for key, array in arrays_of(net).items():
            if key.startswith(('feature_extractor/', 'attention_branch/stage/')):
                assert numpy.array_equal(array, wanted[key.replace('attention_b', 'perception_b')]), key
            elif key.startswith('perception_branch/stage/'):
                assert not numpy.array_equal(array, wanted[key]), key
    config = json.loads((tmp_path / 'run/config.json').read_text())
    assert len(config['pretrained_sha256']) == 64


def test_a_resumed_run_goes_on_as_if_never_cut(script, tmp_path, class_folders, source, monkeypatch):
    from chainer_abn.training.extensions import KeepBest
    flags = ('--pretrained', tmp_path / 'source.npz', '--freeze', 'feature_extractor')
    assert train(script, class_folders, tmp_path / 'whole', *flags).status == 0
    best, calls = KeepBest.__call__, []

    def interrupt(self, trainer):
        best(self, trainer)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeepBest, '__call__', interrupt)
        assert train(script, class_folders, tmp_path / 'cut', *flags).status == 130
    assert script('n_fold_train', '--resume', tmp_path / 'cut').status == 0
    for fold in 1, 2:
        name = f'model/2-{fold}_fold.npz'
        assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'cut' / name).read_bytes()
    data = (tmp_path / 'source.npz').read_bytes()
    checkpoint.save(tmp_path / 'source.npz', build('resnet8', 4, 'baseline'), CONFIG)
    result = script('n_fold_train', '--resume', tmp_path / 'cut')
    assert result.status == 2 and 'source.npz is another file; --force' in result.err[0]
    (tmp_path / 'source.npz').write_bytes(data)


WRONG = {
    'gone': (['--pretrained', 'gone.npz'], ['--pretrained gone.npz: No such file']),
    'other arch': (['--pretrained', 'NPZ', '-a', 'resnet14'],
                   ['--pretrained ', 'source.npz: a resnet8, not a resnet14: missing: layer1.1.conv1.']),
    'no arch': (['--pretrained', 'PTH'], ['--arch is missing']),
    'pth of another arch': (['--pretrained', 'PTH', '-a', 'wrn-10-1'], ['does not fit wrn-10-1']),
    'freeze': (['--freeze', 'stem', '-a', 'resnet8'], ['--freeze stem: use feature_extractor']),
    'freeze all': (['--freeze', 'feature_extractor,perception_branch', '-a', 'resnet8', '--variant', 'cam'],
                   ['nothing is left to train']),
    'dropout': (['--dropout', '0.5', '-a', 'resnet8'], ['dropout 0.5: resnet8 has none']),
    'dropout 1': (['--dropout', '1', '-a', 'wrn-10-1'], ['dropout 1.0: must be']),
    'caffe': (['-a', 'resnet50_fine'], ['resnet50_fine starts from ImageNet weights: --pretrained']),
    'no map': (['--variant', 'cam', '--attention', 'multiply'], ['--attention: a cam network has no map']),
    'no positive map': (['--variant', 'baseline', '--positive-map'], ['--positive-map: a baseline network']),
    'log-sum': (['--attention', 'log-sum', '--positive-map'], ['--positive-map: a log-sum map']),
    'attention map': (['--attention-map', 'sum'], ['--attention-map', "'sum'", 'log-sum']),
}


@pytest.mark.parametrize('case', WRONG)
def test_one_line_status_2_and_nothing_written(script, tmp_path, class_folders, source, case, monkeypatch):
    monkeypatch.setenv('CHAINER_DATASET_ROOT', str(tmp_path / 'none'))
    arguments, messages = WRONG[case]
    names = {'NPZ': tmp_path / 'source.npz', 'PTH': tmp_path / 'source.pth'}
    before = sorted(tmp_path.iterdir())
    result = train(script, class_folders, tmp_path / 'run', *(names.get(word, word) for word in arguments))
    assert result.status == 2, result
    assert len(result.err) == 1
    for message in messages:
        assert message in result.err[0]
    assert sorted(tmp_path.iterdir()) == before


def test_attention_map_chooses_the_log_sum(script, tmp_path, class_folders):
    result = train(script, class_folders, tmp_path / 'run', '-a', 'resnet8', '--attention-map', 'log-sum')
    assert result.status == 0, result.err
    net, config = chainer_abn.load(tmp_path / 'run/snap/2-1_fold_model.npz')
    assert config['attention'] == 'log-sum' and net.attention_branch.log_sum


def test_summary(script, tmp_path, class_folders):
    result = script('n_fold_train', '--arch', 'resnet8', '--summary')
    assert result.status == 0
    assert result.out[0] == 'resnet8, Attention Branch Network, 10 classes, 3 x 32 x 32'
    assert result.out[-1].split()[0] == 'total'
    result = script('n_fold_train', '-a', 'resnet18', '--summary', '--dataset', class_folders,
                    '--variant', 'cam', '--image-size', '64x96')
    assert result.out[0] == 'resnet18, CAM, 2 classes, 3 x 64 x 96'
    result = script('n_fold_train', '--summary', '--dataset', 'shapes', '-k', 3, '-e', 1, '--lr', 1, '-g', -1)
    assert result.out[0] == 'resnet8, Attention Branch Network, 6 classes, 3 x 32 x 32'


@pytest.mark.parametrize('arguments, message', [
    ([], '--summary: --arch is missing'),
    (['-a', 'resnet8', '--image-size', '8'], '--image-size [8, 8]: must be at least 16 px'),
    (['-a', 'resnet8', '--image-size', '-5'], '--image-size'),
    (['-a', 'wrn-10-1', '--dropout', '7'], 'dropout 7.0: must be'),
    (['-a', 'resnet8', '--variant', 'cam', '--attention', 'none'], '--attention: a cam network has no map'),
    (['--pretrained', 'gone.npz'], '--pretrained gone.npz: No such file'),
    (['-a', 'resnet8', '--dataset', 'gone'], '--dataset gone: no such folder')])
def test_summary_of_nothing(script, arguments, message):
    result = script('n_fold_train', '--summary', *arguments)
    assert result.status == 2 and len(result.err) == 1 and message in result.err[0]


def test_the_mechanism_goes_on_with_the_weights(script, tmp_path, class_folders):
    net = build('resnet8', 2, attention='log-sum')
    to_torch(tmp_path / 'log-sum.pth', net)
    result = train(script, class_folders, tmp_path / 'run', '--pretrained', tmp_path / 'log-sum.pth',
                   '-a', 'resnet8', '--folds', 1, '-e', 1)
    assert result.status == 0, result.err
    assert f'starting from {tmp_path / "log-sum.pth"}; fresh: nothing' in result.out
    result = script('n_fold_train', '--summary', '--pretrained', tmp_path / 'log-sum.pth', '-a', 'resnet8')
    assert any('map: log-sum' in line for line in result.out)
    assert json.loads((tmp_path / 'run/config.json').read_text())['attention'] == 'log-sum'
