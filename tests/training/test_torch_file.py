"""PyTorch's files without PyTorch. zip.pth and legacy.pth were written by PyTorch 2.13."""
import io
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import numpy
import pytest

from chainer_abn.errors import InputError
from chainer_abn.training import torch_file
from chainer_abn.training.torch_file import TorchFile

OFFICIAL = Path(__file__).parents[1] / 'official'


@pytest.mark.parametrize('name', ['zip.pth', 'legacy.pth'])
def test_reads_what_pytorch_writes(name):
    with TorchFile(OFFICIAL / name) as file:
        content = file.content
        state = {name: file.array(tensor) for name, tensor in content['state_dict'].items()}
        assert file.array(content['best_acc']) == 71.5
    assert content['epoch'] == 3 and content['size'] == (2, 3, 2, 2)
    expected = {
        'weight': numpy.ones(3, 'f'), 'bias': numpy.zeros(3, 'f'),
        'running_mean': numpy.zeros(3, 'f'), 'running_var': numpy.ones(3, 'f'),
        'num_batches_tracked': numpy.array(0),
        'parameter': numpy.arange(3, dtype='f'), 'transposed': numpy.arange(6, dtype='f').reshape(3, 2).T,
        'channels_last': numpy.arange(24, dtype='f').reshape(2, 3, 2, 2),
        'part': numpy.arange(4, 7, dtype='f'), 'half': numpy.arange(3, dtype='e'),
        'double': numpy.array(2.5), 'bool': numpy.array([True, False]), 'empty': numpy.zeros((0, 3), 'f')}
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].dtype == array.dtype
        numpy.testing.assert_array_equal(state[name], array)


CONTENT = {'epoch': 7, 'accuracy': 0.5, 'big': 2 ** 40, 'words': ['é', True, None], 'size': (2, 3),
           'state_dict': {'a': numpy.arange(6, dtype='f').reshape(2, 3), 'n': numpy.array(3),
                          'empty': numpy.zeros((2, 0), 'd'), 'strided': numpy.arange(6.).reshape(2, 3).T}}


def test_round_trip(tmp_path):
    torch_file.write(tmp_path / 'x.pth', CONTENT)
    with TorchFile(tmp_path / 'x.pth') as file:
        for name, array in CONTENT['state_dict'].items():
            found = file.array(file.content['state_dict'][name])
            assert found.dtype == array.dtype
            numpy.testing.assert_array_equal(found, array)
        assert {**file.content, 'state_dict': 0} == {**CONTENT, 'state_dict': 0}
    torch_file.write(tmp_path / 'y.pth', CONTENT)
    assert (tmp_path / 'x.pth').read_bytes() == (tmp_path / 'y.pth').read_bytes()
    assert sorted(os.listdir(tmp_path)) == ['x.pth', 'y.pth']


def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip('torch', reason='needs PyTorch: pip install .[torch]')
    torch_file.write(tmp_path / 'x.pth', CONTENT)
    found = torch.load(tmp_path / 'x.pth', weights_only=True)
    assert found['epoch'] == 7 and found['words'] == ['é', True, None]
    for name, array in CONTENT['state_dict'].items():
        numpy.testing.assert_array_equal(found['state_dict'][name].numpy(), array)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(pickled, compression=zipfile.ZIP_STORED, **parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', pickled)
        for name, data in parts.items():
            archive.writestr(f'archive/{name.replace("__", "/")}', data)
    return file.getvalue()


def after_the_legacy_head(pickled):
    head = (torch_file.LEGACY_MAGIC, 1001, {'little_endian': True})
    return b''.join(pickle.dumps(value, 2) for value in head) + pickled


@pytest.mark.parametrize('wrap', [zipped, bytes, after_the_legacy_head])
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, wrap, protocol):
    path, victim = tmp_path / 'hostile.pth', tmp_path / 'written'
    for call in (Call(os.system, f'touch {victim}'), Call(open, str(victim), 'w'),
                 Call(eval, f'open({str(victim)!r}, "w")')):
        path.write_bytes(wrap(pickle.dumps({'state_dict': {'conv1.weight': call}}, protocol)))
        # protocol 0 is none that PyTorch writes
        message = 'hostile.pth: refused.* it names' if protocol else 'hostile.pth: not a PyTorch'
        with pytest.raises(InputError, match=message):
            TorchFile(path)
        assert not victim.exists()


def test_state_of_an_object_is_not_set(tmp_path):
    # (function, (None, {'__defaults__': (1,)})) BUILD would change the function of this program
    build = (b'\x80\x02ctorch._utils\n_rebuild_parameter\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b.')
    function = torch_file._Unpickler.NAMES['torch._utils', '_rebuild_parameter']
    before = function.__defaults__
    (tmp_path / 'x.pth').write_bytes(zipped(build))
    TorchFile(tmp_path / 'x.pth')
    assert function.__defaults__ is before


def tensor(size, shape, strides, offset=0, key='0'):
    """The pickle of one tensor."""
    storage = (b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\n' + pickle.dumps(key, 2)[2:-1]
               + b'X\x03\x00\x00\x00cpu' + pickle.dumps(size, 2)[2:-1] + b'tQ')
    rest = b''.join(pickle.dumps(v, 2)[2:-1] for v in (offset, shape, strides, False, None))
    return b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(' + storage + rest + b'tR.'


@pytest.mark.parametrize('arguments', [
    (4, (2, 3), (3, 1)),                        # more elements than there are
    (4, (2, 2), (2, 1), 1),                     # beyond the end
    (4, (2, 2), (2, 1), -1),
    (4, (2,), (-1,), 3),
    (10 ** 12, (2,), (1,)),                     # a storage larger than the file
    (4, (10 ** 6, 10 ** 6), (0, 0)),            # one number as a terabyte
    (4, (2, 2), (1,)),
    (4, (2,), (1,), 0, '1'),                    # no such storage
    (4, (1,), (2 ** 70,)),
    (4, (0, 2 ** 70), (1, 1)),
    (4, (1,) * 65, (1,) * 65),
    (4, (2,), (1,), 'x'),
])
def test_a_tensor_that_lies_is_refused(tmp_path, arguments):
    (tmp_path / 'x.pth').write_bytes(zipped(tensor(*arguments), data__0=b'\0' * 16))
    with pytest.raises(InputError, match='x.pth: (damaged|not a PyTorch checkpoint).*'):
        with TorchFile(tmp_path / 'x.pth') as file:
            file.array(file.content)


def test_an_honest_tensor_is_read(tmp_path):
    data = numpy.arange(4, dtype='f').tobytes()
    (tmp_path / 'x.pth').write_bytes(zipped(tensor(4, (2, 2), (1, 2)), data__0=data))
    with TorchFile(tmp_path / 'x.pth') as file:
        numpy.testing.assert_array_equal(file.array(file.content), [[0, 2], [1, 3]])


@pytest.mark.parametrize('data, message', [
    (b'', 'not a PyTorch checkpoint'),
    (b'hello', 'not a PyTorch checkpoint'),
    (pickle.dumps(1), 'not a PyTorch checkpoint'),
    (zipped(b'\x80\x02N.', zipfile.ZIP_DEFLATED), 'is compressed'),
    (zipped(b'\x80\x02N.', byteorder=b'big'), 'big-endian'),
    (zipped(b'\x80\x02})' + b'\x85' * 10 ** 6 + b'Ns.'), 'a key that is no name'),    # hash() would crash
    (zipped(b'\x80\x02})' + b'2\x86' * 60 + b'Ns.'), 'not a PyTorch checkpoint'),   # hash() would not end
    # a bytearray of 4 GB
    (zipped(b'\x80\x05\x96' + b'\xff' * 4 + b'\0' * 4 + b'.'), 'not a PyTorch checkpoint'),
    (zipped(b'\x80\x04' + b'\x8f' * 10 ** 6 + b'.'), 'not a PyTorch checkpoint'),      # a million sets
    (zipped(b'\x80\x02' + b'}' * (1 << 22) + b'.'), 'too large a pickle'),
    (zipped(b'\x80\x02r\xff\xff\xff\x7f.'), 'not a PyTorch checkpoint'),       # memo of 2^31 entries
])
def test_other_files_are_refused(tmp_path, data, message):
    (tmp_path / 'x.pth').write_bytes(data)
    with pytest.raises(InputError, match=f'x.pth: .*{message}'):
        TorchFile(tmp_path / 'x.pth')


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='limits memory as Linux does')
def test_sizes_that_a_small_file_claims_take_no_memory(tmp_path):
    huge = struct.pack('<Q', 1 << 40)
    claims = zipped(tensor(4, (2, 2), (2, 1)), data__0=b'\0' * 16)
    at = claims.rindex(b'PK\x01\x02') + 20                        # compressed and plain size of data/0
    claims = claims[:at] + struct.pack('<LL', 1 << 31, 1 << 31) + claims[at + 8:]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), hard))
    try:
        for wrap in after_the_legacy_head, zipped:
            data = wrap(b'\x80\x04\x8e' + huge + b'.')              # a string of a terabyte
            (tmp_path / 'x.pth').write_bytes(data)
            with pytest.raises(InputError, match='not a PyTorch checkpoint'):
                TorchFile(tmp_path / 'x.pth')
        (tmp_path / 'x.pth').write_bytes(claims)
        with TorchFile(tmp_path / 'x.pth') as file, pytest.raises(InputError, match='larger than the file'):
            file.array(file.content)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize('name', ['zip.pth', 'legacy.pth'])
def test_a_file_cut_short_is_refused(tmp_path, name):
    data = (OFFICIAL / name).read_bytes()
    for share in 0.1, 0.5, 0.9, 0.999:
        (tmp_path / name).write_bytes(data[:int(share * len(data))])
        with pytest.raises(InputError, match=name), TorchFile(tmp_path / name) as file:
            for tensor in file.content['state_dict'].values():
                file.array(tensor)
            file.array(file.content['best_acc'])


def test_a_tensor_of_old_and_a_parameter_are_read(tmp_path):
    old = tensor(4, (2, 2), (2, 1)).replace(b'_rebuild_tensor_v2', b'_rebuild_tensor')
    parameter = b'\x80\x02ctorch.nn.parameter\nParameter\n(' + old[2:-1] + b'\x88tR.'
    for pickled in old, parameter:
        (tmp_path / 'x.pth').write_bytes(zipped(pickled, data__0=numpy.arange(4, dtype='f').tobytes()))
        with TorchFile(tmp_path / 'x.pth') as file:
            numpy.testing.assert_array_equal(file.array(file.content), [[0, 1], [2, 3]])


@pytest.mark.parametrize('name', ['zip.pth', 'legacy.pth'])
def test_flipped_bytes_end_in_the_readers_own_error(tmp_path, name):
    data, rng = (OFFICIAL / name).read_bytes(), numpy.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            with TorchFile(tmp_path / name) as file:
                for value in file.content['state_dict'].values():
                    if isinstance(value, torch_file.Tensor):
                        file.array(value)
        except InputError:
            continue
        except (KeyError, TypeError, AttributeError):       # of this test: another content, yet a sound one
            assert not isinstance(file.content, dict) or 'state_dict' not in file.content


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match='gone.pth: No such file'):
        TorchFile(tmp_path / 'gone.pth')
