"""Archives, right ones and hostile ones: what is refused leaves nothing anywhere."""
import io
import itertools
import lzma
import os
import stat
import tarfile
import zipfile

import numpy
import pytest

from chainer_abn.datasets import archives
from chainer_abn.datasets.archives import unpack, unpack_nested
from chainer_abn.errors import InputError

RNG = numpy.random.default_rng(0)
FILES = {'a/1.jpg': RNG.bytes(3000), 'a/b/2.jpg': RNG.bytes(200_000), 'c.txt': b'', 'ü/3.jpg': b'three'}


def tar_bytes(members, mode='w', folders=(), **options):
    """``members``: (name or TarInfo, content)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, **options) as archive:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def zip_bytes(members, method=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', method) as archive:
        for info, content in members:
            archive.writestr(info, content)
    return data.getvalue()


def tree(folder):
    """Relative path -> content, None for a folder, of all that is below ``folder``."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
            for path in folder.rglob('*')}


def is_refused(tmp_path, data, message, unpack=unpack, **options):
    """Unpacking it two folders down raises that, and nothing is written anywhere."""
    here = tmp_path / 'x/y'
    here.mkdir(parents=True)
    (here / 'archive').write_bytes(data)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        unpack(here / 'archive', here / 'new', **options)
    assert str(here / 'archive') in str(error.value) and '\n' not in str(error.value)
    assert tree(tmp_path) == before


def halves(data):
    return data[:700], data[700:]


PACKED = {
    'tar': lambda files: tar_bytes(files),
    'gz': lambda files: tar_bytes(files, 'w:gz'),
    'bz2': lambda files: tar_bytes(files, 'w:bz2'),
    'xz': lambda files: tar_bytes(files, 'w:xz'),
    'two xz': lambda files: b''.join(map(lzma.compress, halves(tar_bytes(files)))),
    'gnu': lambda files: tar_bytes(files, format=tarfile.GNU_FORMAT),
    'zip': lambda files: zip_bytes(files),
    'stored': lambda files: zip_bytes(files, zipfile.ZIP_STORED)}


@pytest.mark.parametrize('kind', PACKED)
@pytest.mark.parametrize('prefix', ['', './'])
def test_every_file_comes_out(tmp_path, kind, prefix):
    files = {**FILES, 'long/' + 'n' * 120 + '.jpg': b'long name'}
    (tmp_path / 'archive').write_bytes(PACKED[kind]([(prefix + name, c) for name, c in files.items()]))
    unpack(tmp_path / 'archive', tmp_path / 'new')
    found = tree(tmp_path / 'new')
    assert {name: content for name, content in found.items() if content is not None} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ['archive', 'new']


def test_folders_and_what_lies_in_them_come_in_any_order(tmp_path):
    (tmp_path / 'archive').write_bytes(tar_bytes([('a/1', b'1'), ('b/2', b'2')], folders=['./', 'a', 'e/']))
    unpack(tmp_path / 'archive', tmp_path / 'new')
    assert tree(tmp_path / 'new') == {'a': None, 'a/1': b'1', 'b': None, 'b/2': b'2', 'e': None}
    folder = tarfile.TarInfo('b')
    folder.type = tarfile.DIRTYPE
    (tmp_path / 'archive').write_bytes(tar_bytes([('b/2', b'2'), (folder, b'')]))
    unpack(tmp_path / 'archive', tmp_path / 'late')
    assert tree(tmp_path / 'late') == {'b': None, 'b/2': b'2'}
    (tmp_path / 'archive').write_bytes(zip_bytes([('a/', b''), ('a/1', b'1')]))
    unpack(tmp_path / 'archive', tmp_path / 'zip')
    assert tree(tmp_path / 'zip') == {'a': None, 'a/1': b'1'}


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_strip(tmp_path, kind):
    (tmp_path / 'archive').write_bytes(PACKED[kind]([('./top/a/1', b'1'), ('top/2', b'2')]))
    unpack(tmp_path / 'archive', tmp_path / 'new', strip='top')
    assert tree(tmp_path / 'new') == {'a': None, 'a/1': b'1', '2': b'2'}


@pytest.mark.parametrize('name, message', [('topping/3', "'topping/3' in it does not lie in top/"),
                                           ('top', "'top' in it has no name")])
def test_strip_refuses_what_lies_elsewhere(tmp_path, name, message):
    is_refused(tmp_path, tar_bytes([(name, b'3')]), message, strip='top')


def test_modes_owners_and_times_are_not_applied(tmp_path):
    info = tarfile.TarInfo('a/1')
    info.size, info.mode, info.mtime, info.uid = 1, 0o7777, 0, 12345
    plain = tmp_path / 'plain'
    plain.write_bytes(b'1')
    (tmp_path / 'archive').write_bytes(tar_bytes([(info, b'1')]))
    unpack(tmp_path / 'archive', tmp_path / 'new')
    found, wanted = os.stat(tmp_path / 'new/a/1'), os.stat(plain)
    assert (found.st_mode, found.st_uid) == (wanted.st_mode, wanted.st_uid)
    assert found.st_mtime >= wanted.st_mtime
    (tmp_path / 'folder').mkdir()
    assert os.stat(tmp_path / 'new').st_mode == os.stat(tmp_path / 'folder').st_mode


BAD_PATHS = {
    '/etc/x': 'is an absolute path', '//host/share/x': 'is an absolute path', 'C:/x': 'names a drive',
    'c:x': 'names a drive', '\\x': 'is an absolute path', '..\\x': 'has a backslash',
    'a\\..\\..\\x': 'has a backslash', '../x': 'leaves the folder', 'a/../../x': 'leaves the folder',
    'a/..': 'leaves the folder', './../x': 'leaves the folder', '..': 'leaves the folder',
    '.': 'has no name'}


@pytest.mark.parametrize('kind', ['tar', 'gz', 'zip'])
@pytest.mark.parametrize('name', BAD_PATHS)
def test_paths_out_of_the_folder(tmp_path, kind, name):
    data = PACKED[kind]([('good', b'1'), (name, b'2'), ('also good', b'3')])
    is_refused(tmp_path, data, f'refused, because .* {BAD_PATHS[name]}')


def test_zero_byte_in_a_path(tmp_path):
    is_refused(tmp_path, tar_bytes([('a\0b' + 'n' * 120, b'1')], format=tarfile.PAX_FORMAT), 'a zero byte')


@pytest.mark.parametrize('kind', ['SYMTYPE', 'LNKTYPE', 'CHRTYPE', 'BLKTYPE', 'FIFOTYPE'])
def test_no_plain_file_in_a_tar(tmp_path, kind):
    info = tarfile.TarInfo('thing')
    info.type, info.linkname = getattr(tarfile, kind), '/etc/passwd'
    is_refused(tmp_path, tar_bytes([('good', b'1'), (info, b'')]),
               "'thing' in it is a link, a device or another")


@pytest.mark.parametrize('attributes', [
    None, {'GNU.sparse.map': '0,1'}, {'GNU.sparse.size': '9'},
    {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}], ids=['old', '0.1', '0.0', '1.0'])
def test_a_sparse_file_in_a_tar(tmp_path, attributes):
    info = tarfile.TarInfo('thing')
    if attributes is None:
        info.type = tarfile.GNUTYPE_SPARSE
    else:
        info.pax_headers = attributes
    data = tar_bytes([('good', b'1'), (info, b'1' * 512)], format=tarfile.PAX_FORMAT)
    is_refused(tmp_path, data, 'a sparse file is no plain file')


def test_a_file_through_a_link(tmp_path):
    link = tarfile.TarInfo('way')
    link.type, link.linkname = tarfile.SYMTYPE, '..'
    is_refused(tmp_path, tar_bytes([(link, b''), ('way/x', b'1')]), "'way' in it is a link")


@pytest.mark.parametrize('kind', [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_no_plain_file_in_a_zip(tmp_path, kind):
    info = zipfile.ZipInfo('thing')
    info.external_attr = (kind | 0o777) << 16
    is_refused(tmp_path, zip_bytes([('good', b'1'), (info, b'/etc/passwd')]), "'thing' in it is a link")


@pytest.mark.parametrize('kind', ['tar', 'zip'])
@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize('names, message', [
    (['a/1', 'b', 'a/1'], "'a/1' in it comes twice"), (['a/1', './a//1'], 'comes twice'),
    (['a', 'a/1'], "'a/1' in it lies in what is a file"), (['a/b/1', 'a'], 'both a file and a folder'),
    (['a/', 'a'], 'both a file and a folder|comes twice'), (['a', 'a/b/c/1'], 'lies in what is a file')])
def test_paths_that_clash(tmp_path, kind, names, message):
    is_refused(tmp_path, PACKED[kind]([(name, b'') for name in names]), message)


@pytest.mark.parametrize('offset, value, message', [(8, 1, "'1' in it is encrypted"),
                                                    (10, 99, 'is compressed by an unknown method')])
def test_zip_members_that_cannot_be_read(tmp_path, offset, value, message):
    data = bytearray(zip_bytes([('1', b'1')]))
    for magic, at in (b'PK\1\2', offset), (b'PK\3\4', offset - 2):
        data[data.index(magic) + at] = value
    is_refused(tmp_path, bytes(data), message)


@pytest.mark.parametrize('kind', ['gz', 'bz2', 'xz', 'zip'])
def test_bombs(tmp_path, kind):
    is_refused(tmp_path, PACKED[kind]([('good', b'1'), ('bomb', bytes(1_000_000))]), "'bomb' .* 100 times")


def test_many_empty_files_are_a_bomb(tmp_path):
    is_refused(tmp_path, tar_bytes([(f'{i:05}', b'') for i in range(4_000)], 'w:xz'), 'more than 100 times')


def with_size(size, **attributes):
    """A tar whose second member claims that size."""
    info = tarfile.TarInfo('second')
    for name, value in attributes.items():
        setattr(info, name, value)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    return tar_bytes([('first', b'1')])[:1024] + header + bytes(10240)


@pytest.mark.parametrize('size', [-512, -1024, -1, 1 << 62])
@pytest.mark.parametrize('kind', [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_impossible_sizes(tmp_path, size, kind):
    is_refused(tmp_path, with_size(size, type=kind), 'impossible size|more than 100 times')


def test_negative_size_among_the_attributes(tmp_path):
    info = tarfile.TarInfo('second')
    info.pax_headers = {'size': '-1536'}
    data = tar_bytes([('first', b'1'), (info, b'')], format=tarfile.PAX_FORMAT)
    is_refused(tmp_path, data, 'damaged|is a link, a device or another')


def cuts(data):
    """Places to cut an archive at; the last 8 bytes of a .gz are its checksum."""
    return [*range(1, len(data), max(len(data) // 23, 1)), len(data) - 1, len(data) - 8]


@pytest.mark.parametrize('kind', ['tar', 'gz', 'bz2', 'xz', 'zip'])
def test_cut_archives(tmp_path, kind):
    data = PACKED[kind](FILES.items())
    if kind == 'tar':
        # what follows the first block of the end may be missing
        data = data.rstrip(b'\0')
        data += bytes(-len(data) % 512)
        assert len(data) % 512 == 0
    for i, cut in enumerate(cuts(data)):
        is_refused(tmp_path / str(i), data[:cut], 'cut short')


def test_tar_that_ends_between_two_members(tmp_path):
    data = tar_bytes([('1', b'1'), ('2', b'2')])
    is_refused(tmp_path, data[:1024], r'cut short, .*the end is missing')


@pytest.mark.parametrize('data', [b'', b'PK', b'no archive', bytes(100), b'\x1f\x8b\x08'])
def test_no_archive(tmp_path, data):
    is_refused(tmp_path, data, 'no tar or zip archive')


@pytest.mark.parametrize('kind', ['gz', 'xz', 'bz2', 'zip'])
def test_a_changed_byte_of_the_content_is_found(tmp_path, kind):
    data = bytearray(PACKED[kind](FILES.items()))
    data[len(data) // 2] ^= 1
    is_refused(tmp_path, bytes(data), 'damaged')


def test_missing_archive(tmp_path):
    with pytest.raises(InputError, match='gone.tar: .*No such file'):
        unpack(tmp_path / 'gone.tar', tmp_path / 'new')
    assert tree(tmp_path) == {}


def test_folder_in_the_way(tmp_path):
    (tmp_path / 'new').mkdir()
    (tmp_path / 'archive').write_bytes(tar_bytes([('1', b'1')]))
    unpack(tmp_path / 'archive', tmp_path / 'new')          # an empty one is taken
    with pytest.raises(InputError, match='new: is there already'):
        unpack(tmp_path / 'archive', tmp_path / 'new')
    with pytest.raises(InputError, match='archive: is there already'):
        unpack(tmp_path / 'archive', tmp_path / 'archive')
    assert tree(tmp_path / 'new') == {'1': b'1'}


def test_name_that_the_disk_cannot_hold(tmp_path):
    is_refused(tmp_path, tar_bytes([('1', b'1'), ('n' * 300, b'2')]), 'cannot be unpacked .*too long')


@pytest.mark.parametrize('unpack', [unpack, unpack_nested])
def test_nothing_stays_when_the_user_stops(tmp_path, monkeypatch, unpack):
    written = []

    def stop(source, target, size):
        target.write(b'half')
        target.flush()
        written.append(os.path.exists(target.name))
        raise KeyboardInterrupt
    inner = tar_bytes([('1', b'123456')])
    (tmp_path / 'archive').write_bytes(tar_bytes([('n1.tar', inner)]))
    before = tree(tmp_path)
    monkeypatch.setattr('shutil.copyfileobj', stop)
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / 'archive', tmp_path / 'new')
    assert written == [True] and tree(tmp_path) == before


def test_nested(tmp_path):
    inner = {'n01440764': FILES, 'n01443537': {'x.JPEG': b'x'}, 'n01484850': {}}
    (tmp_path / 'archive').write_bytes(tar_bytes(
        [(f'{name}.tar', tar_bytes(files.items())) for name, files in inner.items()]))
    unpack_nested(tmp_path / 'archive', tmp_path / 'train')
    found = tree(tmp_path / 'train')
    assert {name: content for name, content in found.items() if content is not None} == {
        f'{name}/{file}': content for name, files in inner.items() for file, content in files.items()}
    assert found['n01484850'] is None


def link_tar():
    link = tarfile.TarInfo('way')
    link.type, link.linkname = tarfile.SYMTYPE, '/'
    return tar_bytes([(link, b'')])


@pytest.mark.parametrize('name, inner, message', [
    ('n2.tar', tar_bytes([('../x', b'1')]), r"archive: n2.tar: refused, because '../x' in it leaves"),
    ('n2.tar', tar_bytes([('/x', b'1')]), 'archive: n2.tar: .*absolute'),
    ('n2.tar', link_tar(), 'archive: n2.tar: .*is a link'),
    ('n2.tar', tar_bytes([('1', b''), ('1', b'')]), 'comes twice'),
    ('n2.tar', tar_bytes([('1', b'1' * 600)])[:1500], 'cut short'),
    ('n2.tar', tar_bytes([('1', b'1' * 600)])[:1024 + 512], 'cut short'),
    ('n2.tar', tar_bytes([('1', b'1')], 'w:gz'), 'damaged'),
    ('../n2.tar', tar_bytes([]), 'leaves the folder'),
    ('a/n2.tar', tar_bytes([]), 'is no .tar file'),
    ('...tar', tar_bytes([('x', b'1')]), 'is no .tar file'),
    ('..tar', tar_bytes([('x', b'1')]), 'is no .tar file'),
    ('.tar', tar_bytes([('x', b'1')]), 'is no .tar file'),
    ('n2.txt', b'text', "'n2.txt' in it is no .tar file"),
    ('n1.tar', tar_bytes([]), "'n1.tar' in it comes twice")], ids=itertools.count())
def test_nested_is_refused_whole(tmp_path, name, inner, message):
    good = tar_bytes([('1.JPEG', b'1')])
    is_refused(tmp_path, tar_bytes([('n1.tar', good), (name, inner)]), message, unpack_nested)


@pytest.mark.parametrize('kind', ['tar', 'xz', 'zip', 'nested'])
def test_the_last_member_is_looked_at_before_the_first_is_written(tmp_path, monkeypatch, kind):
    written = []
    monkeypatch.setattr(archives, '_write', lambda path, member: written.append(path))
    members = [('1.JPEG', b'1'), ('../2.JPEG', b'2')]
    if kind == 'nested':
        data = tar_bytes([('n1.tar', tar_bytes(members[:1])), ('n2.tar', tar_bytes(members))])
        is_refused(tmp_path, data, 'leaves', unpack_nested)
    else:
        is_refused(tmp_path, PACKED[kind](members), 'leaves')
    assert written == []


def test_nested_that_is_cut(tmp_path):
    data = tar_bytes([(f'n{i}.tar', tar_bytes([('1.JPEG', b'1' * 2000)])) for i in range(3)]).rstrip(b'\0')
    for i, cut in enumerate(cuts(data)[1:]):
        is_refused(tmp_path / str(i), data[:cut], 'cut short', unpack_nested)
