import json
import zipfile

import numpy
import pytest

import chainer_abn
from chainer_abn.errors import InputError
from chainer_abn.training import checkpoint

import chainer

CONFIG = {'arch': 'resnet8', 'variant': 'abn', 'attention': 'multiply', 'in_channels': 3,
          'classes': ['ant', 'bee', 'cat'], 'image_size': [16, 16], 'resize': [18, 18],
          'mean': [0.1, 0.2, 1 / 3], 'std': [1, 1, 1]}


def trained_network():
    """Weights and running statistics that are not at rest."""
    numpy.random.seed(3)
    net = chainer_abn.build('resnet8', 3, attention='multiply')
    optimizer = chainer.optimizers.MomentumSGD(0.1).setup(net)
    x = numpy.random.standard_normal((4, 3, 16, 16)).astype('f')
    for _ in range(2):
        optimizer.update(lambda: chainer.functions.sum(net(x).logits ** 2))
    return net


@pytest.fixture
def saved(tmp_path):
    net = trained_network()
    checkpoint.save(tmp_path / 'net.npz', net, CONFIG)
    return net, tmp_path / 'net.npz'


def test_a_fresh_interpreter_gives_bit_identical_outputs(saved, tmp_path, python):
    net, path = saved
    x = numpy.random.standard_normal((2, 3, 20, 24)).astype('f')
    numpy.save(tmp_path / 'x.npy', x)
    result = python('-c', f'''
import chainer_abn, chainer, numpy
net, config = chainer_abn.load({str(path)!r})
x = numpy.load({str(tmp_path / "x.npy")!r})
for train in 0, 1:
    with chainer.using_config("train", bool(train)):
        numpy.savez({str(tmp_path)!r} + f"/y{{train}}.npz", *[v.array for v in net(x)])
print(config["classes"], config["mean"][2])
''')
    assert result.stdout == f"['ant', 'bee', 'cat'] {1 / 3}\n", result.stderr
    for train in 0, 1:
        with chainer.using_config('train', bool(train)):
            expected = [v.array for v in net(x)]
        with numpy.load(tmp_path / f'y{train}.npz') as got:
            for i, array in enumerate(expected):
                numpy.testing.assert_array_equal(array, got[f'arr_{i}'])


def test_no_pickled_object_and_the_same_bytes_each_time(saved, tmp_path):
    net, path = saved
    with numpy.load(path, allow_pickle=False) as npz:
        arrays = {name: npz[name] for name in npz.files}
    assert json.loads(str(arrays.pop('config'))) == CONFIG
    expected = {name.lstrip('/') for name, _ in net.namedparams()}
    assert expected < set(arrays)
    checkpoint.save(tmp_path / 'again.npz', net, CONFIG)
    assert path.read_bytes() == (tmp_path / 'again.npz').read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['again.npz', 'net.npz']


def test_objects_are_not_written(tmp_path):
    with pytest.raises(TypeError, match='a is no plain array'):
        checkpoint.write_npz(tmp_path / 'x.npz', {'a': None})
    assert list(tmp_path.iterdir()) == []


WRONG = [{'fit': 'keep'}, {'fit': ['x']}, {'classes': [1, 2, 3]}, {'resize': [0, 0]}, {'image_size': [32]},
         {'resize': [10 ** 9, 32]}, {'resize': '32'}, {'mean': [0, 0]}, {'std': [1, 0, 1]},
         {'mean': [float('nan')] * 3}, {'std': None}, {'resize': [5000, 5000]}, {'classes': []}, {'arch': 3},
         {'in_channels': True}, {'dropout': 1}, {'multitask': 1}, {'channel_order': 'RBG'}]


@pytest.mark.parametrize('entry', WRONG, ids=str)
def test_what_cannot_be_said_of_images_and_classes_is_refused(saved, entry):
    rewrite(saved[1], lambda arrays: arrays.update(config=json.dumps({**CONFIG, **entry})))
    with pytest.raises(InputError, match='no complete config'):
        chainer_abn.load(saved[1])


def test_a_config_is_not_made_that_would_not_be_believed():
    options = {**CONFIG, 'dropout': None}
    assert checkpoint.make_config(**{**options, 'resize': [4096, 4096]})['resize'] == [4096, 4096]
    for name, flag in ('resize', '--resize'), ('image_size', '--image-size'):
        with pytest.raises(InputError, match=f'{flag} 4096x4097: more than 4096 px a side'):
            checkpoint.make_config(**{**options, name: [4096, 4097]})


def rewrite(path, change):
    with numpy.load(path) as npz:
        arrays = {name: npz[name] for name in npz.files}
    change(arrays)
    numpy.savez(path, **arrays)


@pytest.mark.parametrize('change, message', [
    (lambda a: a.pop('config'), 'not a network of chainer_abn'),
    (lambda a: a.update(config='{'), 'not a network of chainer_abn'),
    (lambda a: a.update(config='[]'), 'not a network of chainer_abn'),
    (lambda a: a.update(config=json.dumps({**CONFIG, 'arch': 'resnet9'})), "unknown architecture 'resnet9'"),
    (lambda a: a.update(config=json.dumps({**CONFIG, 'classes': ['a', 'b']})), 'of another shape'),
    (lambda a: a.pop('perception_branch/fc/W'), "'perception_branch/fc/W' is missing"),
    (lambda a: a.update({'perception_branch/fc/W': numpy.zeros((3, 64), int)}), 'another shape or type'),
    (lambda a: a.update(config=json.dumps({**CONFIG, 'arch': 'resnet2006'})), 'no depth or width is more'),
])
def test_wrong_content_is_named(saved, change, message):
    rewrite(saved[1], change)
    with pytest.raises(InputError, match=message) as caught:
        chainer_abn.load(saved[1])
    assert str(saved[1]) in str(caught.value)


def test_a_pickle_is_not_run(saved):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ('code in the file was run',)
    rewrite(saved[1], lambda a: a.update(config=numpy.array(Bomb(), object)))
    with pytest.raises(InputError, match='unreadable .npz'):
        chainer_abn.load(saved[1])


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(saved, share):
    data = saved[1].read_bytes()
    saved[1].write_bytes(data[:int(share * len(data))])
    with pytest.raises(InputError, match='net.npz'):
        chainer_abn.load(saved[1])


def test_a_flipped_byte_is_noticed(saved):
    with zipfile.ZipFile(saved[1]) as archive:
        offset = archive.getinfo('perception_branch/fc/W.npy').header_offset + 300
    data = bytearray(saved[1].read_bytes())
    data[offset] ^= 1
    saved[1].write_bytes(data)
    with pytest.raises(InputError, match='unreadable .npz'):
        chainer_abn.load(saved[1])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match='No such file'):
        chainer_abn.load(tmp_path / 'gone.npz')
    (tmp_path / 'x.npz').write_text('hello')
    with pytest.raises(InputError, match='not an .npz file'):
        chainer_abn.load(tmp_path / 'x.npz')
    with pytest.raises(InputError, match='Is a directory'):
        chainer_abn.load(tmp_path)


def test_claims_beyond_the_file_take_no_memory(tmp_path):
    header = numpy.lib.format.header_data_from_array_1_0(numpy.zeros(1))
    with zipfile.ZipFile(tmp_path / 'claim.npz', 'w') as archive, archive.open('a.npy', 'w') as entry:
        numpy.lib.format.write_array_header_1_0(entry, {**header, 'shape': (10 ** 12,)})
    with pytest.raises(InputError, match='claim.npz: unreadable .npz file .a.npy claims .10+,. numbers in 0'):
        checkpoint.read_npz(tmp_path / 'claim.npz')
    numpy.savez_compressed(tmp_path / 'bomb.npz', a=numpy.zeros(10 ** 7))
    with pytest.raises(InputError, match='bomb.npz: .*its arrays are compressed'):
        checkpoint.read_npz(tmp_path / 'bomb.npz')


def test_flipped_bytes_end_in_the_readers_own_error(saved):
    data, rng = saved[1].read_bytes(), numpy.random.default_rng(0)
    directory = data.rindex(b'PK\x01\x02')
    wanted, refused = checkpoint.arrays_of(saved[0]), 0
    for i in range(150):
        damaged = bytearray(data)
        start = (0, len(data) - 3000, directory)[i % 3]
        damaged[rng.integers(start, min(start + 3000, len(data)))] = rng.integers(256)
        saved[1].write_bytes(damaged)
        try:
            found = checkpoint.arrays_of(chainer_abn.load(saved[1])[0])
        except InputError:
            refused += 1
        else:                                       # a byte that means nothing
            assert all((array == wanted[name]).all() for name, array in found.items())
    assert refused > 75
