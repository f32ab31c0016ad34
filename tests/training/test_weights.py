"""Networks from other programs compute what those compute (see tests/official/make.py)."""
import json
from pathlib import Path

import numpy
import pytest
from official.draw import batch, weights

from chainer_abn.datasets.transforms import normalize_of
from chainer_abn.errors import InputError
from chainer_abn.links import build
from chainer_abn.links.official import official_arrays
from chainer_abn.training import checkpoint, torch_file
from chainer_abn.training.checkpoint import arrays_of
from chainer_abn.training.weights import from_torch, read_network, to_torch

import chainer
import chainer.functions as F
from chainer.links.model.vision import resnet as chainers_resnet

OFFICIAL = numpy.load(Path(__file__).parents[1] / 'official/networks.npz')
NAMES = sorted({name.split('/')[0] for name in OFFICIAL.files})


def official_checkpoint(arch, path):
    """Write an official checkpoint with the drawn weights -> name -> shape."""
    shapes = json.loads(str(OFFICIAL[f'{arch}/names']))
    state = {f'module.{name}': weights(name, shape) for name, shape in shapes.items()}
    torch_file.write(path, {'epoch': 1, 'state_dict': state})
    return shapes


@pytest.mark.parametrize('arch', NAMES)
def test_equal_to_the_official_network_in_evaluation_and_training(tmp_path, arch):
    official_checkpoint(arch, tmp_path / 'net.pth')
    with chainer.using_config('dtype', numpy.float64):
        net, config = from_torch(tmp_path / 'net.pth', arch)
    n, _, size, _ = OFFICIAL[f'{arch}/x']
    x, t = batch(arch, size, n, len(config['classes']))

    def evaluate(expected, tolerance):
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            output = net(x)
        for name in expected:
            wanted = OFFICIAL[f'{arch}/{name}']
            found = getattr(output, name.removeprefix('after_')).array
            assert found.dtype == numpy.float64
            numpy.testing.assert_allclose(found, wanted, atol=tolerance * abs(wanted).max())

    evaluate(['attention_logits', 'logits', 'attention'], 1e-9)
    optimizer = chainer.optimizers.MomentumSGD(1e-3, 0.9).setup(net)
    for wanted in OFFICIAL[f'{arch}/losses']:
        attention_logits, logits, _ = net(x)
        terms = [F.softmax_cross_entropy(y, t.astype('i')) for y in (attention_logits, logits)]
        net.cleargrads()
        sum(terms).backward()
        if not optimizer.t:
            grad_sq = sum(float((p.grad ** 2).sum()) for p in net.params())
            assert grad_sq == pytest.approx(float(OFFICIAL[f'{arch}/grad_sq']), rel=1e-9)
            optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
        optimizer.update()
        numpy.testing.assert_allclose([float(term.array) for term in terms], wanted, rtol=1e-8)
    evaluate(['after_attention_logits', 'after_logits'], 1e-6)   # rounding grows with the steps


@pytest.mark.parametrize('arch', NAMES)
def test_written_names_and_shapes_are_those_of_the_official_network(tmp_path, arch):
    shapes = official_checkpoint(arch, tmp_path / 'net.pth')
    net, _ = from_torch(tmp_path / 'net.pth', arch)
    to_torch(tmp_path / 'back.pth', net)
    with torch_file.TorchFile(tmp_path / 'back.pth') as file:
        found = {name.removeprefix('module.'): list(tensor.shape)
                 for name, tensor in file.content['state_dict'].items()}
        assert all(name.startswith('module.') for name in file.content['state_dict'])
        assert set(file.content) == {'epoch', 'state_dict', 'acc', 'best_acc', 'optimizer'}
        group, = file.content['optimizer']['param_groups']
    assert found == {name: list(shape) for name, shape in shapes.items()}
    parameters = [name for name in shapes if name.rpartition('.')[2] in ('weight', 'bias')]
    assert group['params'] == list(range(len(parameters)))


@pytest.mark.parametrize('arch, variant, attention', [
    ('resnet8', 'abn', 'log-sum'), ('resnet44', 'baseline', 'residual'), ('wrn-10-1', 'abn', 'residual'),
    ('densenet-bc-10-12', 'baseline', 'residual'), ('resnext-11-2x64d', 'abn', 'residual'),
    ('se-resnet18', 'abn', 'log-sum'), ('vgg16-bn', 'cam', 'residual'), ('vgg16', 'cam', 'residual')])
def test_round_trip_is_bit_identical(tmp_path, arch, variant, attention):
    net = build(arch, 5, variant, attention, in_channels=1)
    for link in net.links():
        if isinstance(link, chainer.links.BatchNormalization):
            link.avg_mean[...], link.avg_var[...] = numpy.random.rand(2, *link.avg_mean.shape)
    to_torch(tmp_path / 'net.pth', net)
    again, config = from_torch(tmp_path / 'net.pth', arch, None if variant == 'abn' else variant)
    assert (config['variant'], config['attention'], config['in_channels']) == (variant, attention, 1)
    assert len(config['classes']) == 5
    found, wanted = arrays_of(again), arrays_of(net)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].tobytes() == array.tobytes(), name


def test_every_array_has_an_official_name():
    for arch in NAMES + ['vgg16-bn', 'resnet50_fine']:
        for variant in 'abn', 'baseline', 'cam':
            with chainer.using_config('fresh_weights', False):
                net = build(arch, 3, variant)
            official = {id(array) for array in official_arrays(net).values()}
            assert official == {id(array) for array in arrays_of(net).values()}


def test_a_bare_state_dict_without_prefix_and_without_counters(tmp_path):
    net = build('resnet8', 4, 'baseline')
    torch_file.write(tmp_path / 'net.pth', official_arrays(net))
    again, config = from_torch(tmp_path / 'net.pth', 'resnet8', classes=['a', 'b', 'c', 'd'])
    assert config['variant'] == 'baseline' and config['classes'] == ['a', 'b', 'c', 'd']
    numpy.testing.assert_array_equal(again.perception_branch.fc.W.array, net.perception_branch.fc.W.array)


@pytest.mark.parametrize('change, message', [
    (lambda a: a.pop('layer1.0.conv2.weight'), 'missing: layer1.0.conv2.weight$'),
    (lambda a: a.update(extra=numpy.zeros(2)), 'left over: extra$'),
    (lambda a: a.update({'bn_att.weight': numpy.zeros(3, 'f')}),
     r'of another shape: bn_att.weight \(3,\) for \(64,\)$'),
    (lambda a: a.update({'conv1.weight': a['conv1.weight'].astype('i8')}), 'conv1.weight holds int64'),
    (lambda a: a.update(note='hello'), 'holds no state_dict'),
    (lambda a: a.pop('fc.weight'), 'missing: fc.weight; '),
    (lambda a: a.pop('att_conv2.weight'), 'fc.weight is of 4 classes, att_conv2.weight is not'),
    (lambda a: a.update({'fc.bias': numpy.array([1, 2, 3, 1e300])}), 'fc.bias holds numbers that are not'),
    (lambda a: a.clear(), 'holds no state_dict'),
])
def test_what_does_not_fit_is_named(tmp_path, change, message):
    arrays = official_arrays(build('resnet8', 4))
    change(arrays)
    torch_file.write(tmp_path / 'net.pth', {'state_dict': arrays})
    with pytest.raises(InputError, match=message):
        from_torch(tmp_path / 'net.pth', 'resnet8')


def test_another_architecture_is_told_by_its_first_differences(tmp_path):
    to_torch(tmp_path / 'net.pth', build('resnet20', 4))
    with pytest.raises(InputError, match=r'does not fit resnet32 \(abn\): missing: layer1.3.conv1.weight, '
                                         r'layer1.3.bn1.weight, .* and 75 more$'):
        from_torch(tmp_path / 'net.pth', 'resnet32')


def test_a_small_file_that_claims_many_classes_takes_no_memory(tmp_path):
    arrays = official_arrays(build('resnet8', 4))
    arrays['fc.weight'] = numpy.zeros((10 ** 5, 64), 'f')                   # 40 GB as classes x classes
    arrays['conv1.weight'] = numpy.zeros((1, 10 ** 6, 1, 1), 'f')
    torch_file.write(tmp_path / 'net.pth', arrays)
    with pytest.raises(InputError, match='fc.weight is of 100000 classes, att_conv2.weight is not'):
        from_torch(tmp_path / 'net.pth', 'resnet8')
    with pytest.raises(InputError, match=r'conv1.weight \(1, 1000000, 1, 1\) for \(16, 3, 3, 3\)'):
        from_torch(tmp_path / 'net.pth', 'resnet8', variant='baseline')


def caffe_file(path):
    """Chainer's own ResNet-50 with weights and statistics drawn, and its file."""
    numpy.random.seed(0)
    theirs = chainers_resnet.ResNet50Layers(None)
    for link in theirs.links():
        if isinstance(link, chainer.links.BatchNormalization):
            link.avg_mean[...] = 0.1 * numpy.random.randn(*link.avg_mean.shape)
            link.avg_var[...] = numpy.random.uniform(0.5, 1.5, link.avg_var.shape)
            link.gamma.array *= 0.5
    theirs.conv1.b.array[...] = numpy.random.randn(64)
    chainer.serializers.save_npz(path, theirs, compression=False)
    return theirs


def test_resnet50_fine_is_chainers_resnet50_with_its_images(tmp_path):
    theirs = caffe_file(tmp_path / 'ResNet-50-model.npz')
    ours, config = read_network(tmp_path / 'ResNet-50-model.npz', 'resnet50_fine')
    image = numpy.random.default_rng(0).integers(0, 256, (64, 80, 3), 'u1')
    x = normalize_of(config).images([image])
    numpy.testing.assert_allclose(x[0], chainers_resnet.prepare(image, size=None), atol=1e-4)
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        wanted = theirs(x, layers=['res4', 'fc6'])
        g = ours.feature_extractor(x)
        numpy.testing.assert_allclose(g.array, wanted['res4'].array, rtol=1e-4, atol=1e-4)
        numpy.testing.assert_allclose(ours(x).logits.array, wanted['fc6'].array, rtol=1e-4, atol=1e-4)
    checkpoint.save(tmp_path / 'ours.npz', ours, config)
    assert checkpoint.load(tmp_path / 'ours.npz')[1]['channel_order'] == 'BGR'


def test_files_that_cannot_start_an_architecture(tmp_path):
    to_torch(tmp_path / 'net.pth', build('resnet8', 4))
    with pytest.raises(InputError, match='--arch is missing'):
        read_network(tmp_path / 'net.pth')
    with pytest.raises(InputError, match='resnet50_fine has no PyTorch weights'):
        read_network(tmp_path / 'net.pth', 'resnet50_fine')
    with pytest.raises(InputError, match='resnet50_fine has no PyTorch network'):
        with chainer.using_config('fresh_weights', False):
            to_torch(tmp_path / 'x.pth', build('resnet50_fine', 2))
    numpy.savez(tmp_path / 'other.npz', a=1)
    with pytest.raises(InputError, match='not a network of chainer_abn'):
        read_network(tmp_path / 'other.npz')
    numpy.savez(tmp_path / 'caffe.npz', **{'res2/a/conv1/W': numpy.zeros((64, 64, 1, 1))})
    with pytest.raises(InputError, match='fit --arch resnet50_fine'):
        read_network(tmp_path / 'caffe.npz', 'resnet50')
    with pytest.raises(InputError, match="does not fit Chainer's ResNet50Layers: missing: conv1/W"):
        read_network(tmp_path / 'caffe.npz', 'resnet50_fine')
    (tmp_path / 'cut.npz').write_bytes(b'PK')
    with pytest.raises(InputError, match='cut.npz'):
        read_network(tmp_path / 'cut.npz')
