"""MATLAB files, right ones and broken ones."""
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy
import pytest
import scipy.io
import scipy.sparse

from chainer_abn.datasets.mat import read_mat, shapes
from chainer_abn.errors import InputError

VARIABLES = {
    'a': numpy.arange(24, dtype='u1').reshape(2, 3, 4),
    'b': numpy.array([[1.5], [numpy.nan]]),
    'cells': numpy.array([['one', numpy.zeros((0, 0))], ['Citro\xebn', numpy.array(['ab', 'cd'])]], object),
    's': numpy.array([[(1, 'x'), (2, 'y')]], [('ID', object), ('WNID', object)])}


@pytest.fixture(params=[True, False], ids=['compressed', 'plain'])
def mat(request, tmp_path):
    path = tmp_path / 'file.mat'
    scipy.io.savemat(path, VARIABLES, do_compression=request.param)
    return path


def test_variables_come_as_they_are(mat):
    assert shapes(mat, ['b', 'a']) == {'b': (2, 1), 'a': (2, 3, 4)}
    found = read_mat(mat, ['a', 'b', 'cells', 's'])
    assert list(found) == ['a', 'b', 'cells', 's']
    numpy.testing.assert_array_equal(found['a'], VARIABLES['a'])
    assert found['a'].dtype == 'u1'
    numpy.testing.assert_array_equal(found['b'], VARIABLES['b'])
    assert found['cells'][0, 0].tolist() == ['one'] and found['cells'][0, 1].size == 0
    assert found['cells'][1, 0].tolist() == ['Citro\xebn'] and found['cells'][1, 1].tolist() == ['ab', 'cd']
    assert found['s']['ID'].shape == (1, 2) and found['s'][0, 1]['WNID'].tolist() == ['y']


def test_it_is_what_scipy_reads(mat):
    for name, value in read_mat(mat, list(VARIABLES)).items():
        same(value, scipy.io.loadmat(mat)[name])


def same(a, b):
    assert a.dtype.newbyteorder('=') == b.dtype.newbyteorder('=') and a.shape == b.shape
    if a.dtype.names:
        for name in a.dtype.names:
            same(a[name], b[name])
    elif a.dtype == object:
        for x, y in zip(a.ravel(), b.ravel(), strict=True):
            same(x, y)
    else:
        numpy.testing.assert_array_equal(a, b)


def test_matlab_s_own_files_are_read_as_scipy_reads_them():
    """The files of SciPy's tests: MATLAB 6 to 7.4, little- and big-endian machines."""
    files = sorted(Path(scipy.io.__file__).parent.glob('matlab/tests/data/test*_[67].*.mat'))
    if not files:
        pytest.skip('this SciPy comes without its tests')
    n_read = 0
    for path in files:
        if 'hdf5' in path.name:
            with pytest.raises(InputError, match='a MATLAB 7.3'):
                read_mat(path, [])
            continue
        # complex numbers, sparse matrices, functions, objects, which are also inside of one struct
        is_other = any(part in path.name for part in ('complex', 'sparse', 'func', 'object', 'struct_'))
        for name, *_ in scipy.io.whosmat(path):
            if is_other:
                with pytest.raises(InputError, match='is no array of real numbers|no variable'):
                    read_mat(path, [name])
            else:
                same(read_mat(path, [name])[name], scipy.io.loadmat(path)[name])
                n_read += 1
    assert n_read > 40


def test_missing_variable_is_named(mat):
    with pytest.raises(InputError, match=r"file.mat: no variable 'X' in it, only a, b, cells, s; cut short"):
        read_mat(mat, ['a', 'X'])


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match='gone.mat: No such file'):
        read_mat(tmp_path / 'gone.mat', ['X'])


def test_suffix_is_not_added(mat):
    mat.rename(mat.with_suffix(''))
    assert read_mat(mat.with_suffix(''), ['a'])['a'].shape == (2, 3, 4)


def test_cut_at_any_place(mat):
    whole = mat.read_bytes()
    for cut in range(len(whole)):
        mat.write_bytes(whole[:cut])
        with pytest.raises(InputError, match='file.mat: .*cut short'):
            read_mat(mat, ['a', 'b', 'cells', 's'])


def test_a_cut_file_is_refused_for_what_is_whole_too(mat):
    mat.write_bytes(mat.read_bytes()[:-8])
    with pytest.raises(InputError, match='cut short'):
        read_mat(mat, ['a'])


@pytest.mark.parametrize('header', [
    b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + bytes(384) + b'\x89HDF\r\n\x1a\n',
    b'MATLAB 7.3 MAT-file'.ljust(124) + b'\2\0MI' + bytes(384) + b'\x89HDF\r\n\x1a\n',
    b'\x89HDF\r\n\x1a\n' + bytes(200)])
def test_matlab_7_3(tmp_path, header):
    (tmp_path / 'file.mat').write_bytes(header)
    with pytest.raises(InputError, match=r'file.mat: a MATLAB 7.3 \(HDF5\) file, .* -v7'):
        read_mat(tmp_path / 'file.mat', ['X'])


@pytest.mark.parametrize('data', [b'', b'text', b'<html>' * 100, bytes(1000)])
def test_no_mat_file(tmp_path, data):
    (tmp_path / 'file.mat').write_bytes(data)
    with pytest.raises(InputError, match='file.mat: no MATLAB 5 file'):
        read_mat(tmp_path / 'file.mat', ['X'])


def test_matlab_4(tmp_path):
    scipy.io.savemat(tmp_path / 'file.mat', {'X': numpy.ones((2, 2))}, format='4')
    with pytest.raises(InputError, match='file.mat: no MATLAB 5 file'):
        read_mat(tmp_path / 'file.mat', ['X'])


def claiming(*dims, compress=False, end=None, more=b''):
    """A file whose variable X says that it is of this shape, and has 8 bytes.

    Compressed, the content may stop at ``end`` or have ``more`` behind it.
    """
    parts = [struct.pack('<IIII', 6, 8, 9, 0), struct.pack(f'<II{len(dims)}i', 5, 4 * len(dims), *dims),
             b'' if len(dims) % 2 == 0 else bytes(4), struct.pack('<HHI', 1, 1, ord('X')),
             struct.pack('<II8s', 2, 8, bytes(8))]
    body = b''.join(parts)
    element = struct.pack('<II', 14, len(body)) + body
    if compress:
        data = zlib.compress(element[:end] + more)
        element = struct.pack('<II', 15, len(data)) + data
    return b'MATLAB 5.0 MAT-file'.ljust(124) + b'\0\1IM' + element


@pytest.mark.parametrize('compress', [False, True])
@pytest.mark.parametrize('dims', [(1000, 1000), (1 << 30, 1 << 30, 16, 1 << 30), (-1, 8), (-1000, -1000)])
def test_claims_that_cannot_be(tmp_path, dims, compress):
    path = tmp_path / 'file.mat'
    path.write_bytes(claiming(2, 4, compress=compress))
    assert read_mat(path, ['X'])['X'].shape == (2, 4)
    path.write_bytes(claiming(*dims, compress=compress))
    with pytest.raises(InputError, match=r"file.mat: unreadable .mat file; .*'X' is said to be of \(-?1"):
        read_mat(path, ['X'])


def test_shape_that_the_data_have_not(tmp_path):
    (tmp_path / 'file.mat').write_bytes(claiming(2, 5))
    with pytest.raises(InputError, match='file.mat: unreadable .mat file; cut short'):
        read_mat(tmp_path / 'file.mat', ['X'])


@pytest.mark.parametrize('changes', [{'end': -8}, {'end': -1}, {'more': b'1'}])
def test_compressed_data_of_another_length(tmp_path, changes):
    (tmp_path / 'file.mat').write_bytes(claiming(2, 4, compress=True, **changes))
    with pytest.raises(InputError, match='file.mat: unreadable .mat file; cut short'):
        read_mat(tmp_path / 'file.mat', ['X'])


@pytest.mark.parametrize('kind', [3, 5, 16, 17, 200])
def test_objects_and_functions_stay_unread(tmp_path, kind):
    """Whether they are variables, or lie in a cell."""
    path = tmp_path / 'file.mat'
    scipy.io.savemat(path, {'X': numpy.array([[numpy.ones((1, 1))]], object), 'y': numpy.ones((1, 1))})
    data = bytearray(path.read_bytes())
    inner = data.index(struct.pack('<II', 6, 8), 128 + 24)         # flags of what is in the cell
    data[inner + 8] = kind
    path.write_bytes(data)
    assert read_mat(path, ['y'])['y'] == 1
    with pytest.raises(InputError, match='is no array of real numbers'):
        read_mat(path, ['X'])
    data[inner + 8] = 6
    data[128 + 16] = kind                                          # flags of the cell
    path.write_bytes(data)
    assert read_mat(path, ['y'])['y'] == 1
    with pytest.raises(InputError, match="is no array of real numbers|no variable 'X'"):
        read_mat(path, ['X'])


def test_checksum_of_compressed_data(tmp_path):
    path = tmp_path / 'file.mat'
    # larger than what is read at a time
    bits = numpy.random.default_rng(0).integers(0, 2, 1 << 20).astype('u1')
    scipy.io.savemat(path, {'X': bits}, do_compression=True)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match='incorrect data check'):
        read_mat(path, ['X'])


def test_changed_bytes_give_one_line_or_an_array(tmp_path):
    path = tmp_path / 'file.mat'
    scipy.io.savemat(path, {'X': VARIABLES['a']}, do_compression=True)
    whole = path.read_bytes()
    for at in range(124, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
        try:
            assert isinstance(read_mat(path, ['X'])['X'], numpy.ndarray)
        except InputError as error:
            assert str(error).startswith(f'{path}: ')


def test_a_sparse_matrix_is_no_array(tmp_path):
    path = tmp_path / 'file.mat'
    scipy.io.savemat(path, {'X': scipy.sparse.eye_array(3000).tocsc(), 'y': numpy.ones((1, 1))})
    assert read_mat(path, ['y'])['y'] == 1
    with pytest.raises(InputError, match="file.mat: .*'X'"):
        read_mat(path, ['X'])


def element(kind, data):
    return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)


def part(kind, shape, *data, name=b''):
    """A matrix of this class, which says that it is of this shape."""
    sizes = struct.pack(f'<{len(shape)}i', *shape)
    return element(14, element(6, struct.pack('<II', kind, 0)) + element(5, sizes) + element(1, name)
                   + b''.join(data))


def cells_in_cells(n):
    """Each says that it has as many parts as could be in the rest of the file."""
    data = bytes(1 << 20)
    for _ in range(n):
        data = part(1, (1, len(data) // 8), data, name=b'X')
    return data


FIELDS = element(5, struct.pack('<i', 8)) + element(1, b''.join(b'%07d\0' % i for i in range(10_000)))


@pytest.mark.parametrize('variable', [
    cells_in_cells(100),
    part(2, (1 << 10, 1 << 10), FIELDS, bytes(1 << 20), name=b'X'),
], ids=['cells', 'fields'])
def test_no_memory_is_taken_for_what_is_not_there(tmp_path, variable):
    path = tmp_path / 'file.mat'
    path.write_bytes(b'MATLAB 5.0 MAT-file'.ljust(124) + b'\0\1IM' + variable)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match='file.mat: unreadable .mat file'):
            read_mat(path, ['X'])
        assert tracemalloc.get_traced_memory()[1] < 20 * len(variable)
    finally:
        tracemalloc.stop()


def test_more_axes_than_arrays_have(tmp_path):
    (tmp_path / 'file.mat').write_bytes(claiming(*[1 << 30] * 65))
    with pytest.raises(InputError, match='file.mat: .*an array of 65 axes'):
        read_mat(tmp_path / 'file.mat', ['X'])


def test_more_than_a_file_holds_cannot_be_inflated_from_it(tmp_path):
    path = tmp_path / 'file.mat'
    scipy.io.savemat(path, {'X': numpy.zeros(1 << 20, 'u1')}, do_compression=True)
    with pytest.raises(InputError, match=r'file.mat: .*type 14 of 1048624 bytes where a variable should be'):
        read_mat(path, ['X'])
