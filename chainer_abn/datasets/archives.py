"""Archives of images, unpacked so that nothing is written outside of one folder.

Every member is looked at before anything is written, and an archive with one that is no plain file or folder
below the folder it is unpacked to is refused whole.
"""
import io
import lzma
import os
import secrets
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from chainer_abn.errors import InputError
from chainer_abn.files import open_file
from chainer_abn.progress import Progress

# Images hardly compress, and lists of text by less than 10. A member counts as one block more than its
# content, so that millions of empty files are found out too.
MAX_RATIO = 100
BLOCK = 512
MAX_HEADER = 1 << 16            # bytes of a tar member's long name or attributes
MAX_ATTRIBUTES = 1000           # of all members of a tar archive
MAX_PATH = 4096                 # characters
MAX_DIRECTORY = 3 << 24         # bytes of a zip archive's list of members, ten times as large in memory
MAX_NAMES = 3 << 27             # bytes of memory for the paths of members
MAX_XZ = 1 << 27                # bytes of memory of its decompressor; xz -9 makes files that take half of it
MAX_TRAILER = 16 << 20          # bytes behind the end of a tar archive, whose records may be of any length
HEADER_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                tarfile.GNUTYPE_LONGLINK)

# what tarfile, zipfile and the decompressors raise on broken data; OSError too, without an errno
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
           ValueError, LookupError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members."""
    name: str
    size: int
    wrong: str | None           # why it is neither a plain file nor a folder
    is_folder: bool
    open: Callable              # -> a stream of its content


def unpack(archive, folder, strip=None):
    """Unpack a tar archive (plain, or compressed by gzip, bzip2 or xz) or a zip archive to a new folder.

    Modes, owners and times of the archive are not applied. The archive is unpacked into a temporary folder
    beside ``folder``, which gets its name when all is there; after a failure nothing is left.

    Args:
        archive: path of a file.
        folder: must be missing or empty; the folder that it lies in must be there.
        strip (str): the one folder that all members lie in, whose name is left out of the paths.

    Raises:
        InputError: the archive is missing, cut short or damaged; ``folder`` is there, or cannot be written;
            or a member is refused: its path is absolute, has a drive, a backslash or ``..``, comes twice,
            or is both a file and a folder, or lies outside of ``strip``; it is a link, a device, a fifo, a
            sparse file or encrypted; the members together claim more than 100 times the archive's size, or
            have more names than 400 MB of memory hold.
    """
    _unpack(Path(archive), Path(folder), lambda file: _checked(archive, file, _members(file), strip))


def unpack_nested(archive, folder):
    """Unpack a tar of tars, such as ImageNet's training images: ``n01440764.tar`` to ``folder/n01440764/``.

    The inner archives (not compressed) are read where they lie in the outer one. Everything else is as in
    :func:`unpack`.
    """
    def files(file):
        for name, member in _checked(archive, file, _members(file)):
            stem, _, suffix = name.rpartition('.')
            # '...tar' would be unpacked to '..'
            if member.is_folder or '/' in name or suffix != 'tar' or not stem.strip('.'):
                raise InputError(f'{archive}: refused, because {name!r} in it is no .tar file; '
                                 'nothing was unpacked')
            yield stem, Member(stem, 0, None, True, None)
            with member.open() as inner:
                for path, content in _checked(f'{archive}: {name}', file, _tar_members(inner, 'r:')):
                    yield f'{stem}/{path}', content
    _unpack(Path(archive), Path(folder), files)


def _unpack(archive, folder, files):
    """Unpack what ``files(open file)`` yields, once it has been run to its end for its checks alone."""
    new = folder.with_name(f'.{folder.name}-{secrets.token_hex(4)}')
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f'{folder}: is there already; remove it, or unpack {archive} elsewhere')
        with open_file(archive) as file:
            for _ in _watched(f'checking {archive.name}', file, files):
                pass
            new.mkdir()
            for path, member in _watched(f'unpacking {archive.name}', file, files):
                _write(new / path, member)
            new.rename(folder)
    except InputError:
        raise
    except (OSError, *DAMAGED) as error:
        if getattr(error, 'errno', None):
            raise InputError(f'{archive}: cannot be unpacked to {folder} ({error.strerror})') from None
        reason = str(error).partition('\n')[0]
        raise InputError(f'{archive}: cut short, damaged, or no tar or zip archive ({reason}); nothing was '
                         'unpacked; fetch it again') from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _watched(title, file, files):
    """What ``files(file)`` yields, with progress told by the place in the archive."""
    file.seek(0)
    with Progress(title, os.path.getsize(file.name) or 1, 'MB', 1e-6) as progress:
        for item in files(file):
            yield item
            progress.update(file.tell())


def _write(path, member):
    if member.is_folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # x: on a file system that ignores case two paths may be one
    with member.open() as source, open(path, 'xb') as target:
        shutil.copyfileobj(source, target, 1 << 20)
        if target.tell() != member.size:
            raise EOFError(f'{member.name} is incomplete')


def _checked(archive, file, members, strip=None):
    """(Path below the folder, member) for each member; the first bad one is refused."""
    left, names_left = MAX_RATIO * os.path.getsize(file.name), MAX_NAMES
    kinds = {}                  # path -> whether it is a folder; None: one that files lie in
    for member in members:
        parts = [part for part in member.name.split('/') if part not in ('', '.')]
        left -= BLOCK + member.size
        wrong = _bad_path(member.name) or member.wrong
        if not wrong and strip is not None and parts:
            wrong = parts.pop(0) != strip and f'does not lie in {strip}/'
        path = '/'.join(parts)
        if not wrong and not parts and not member.is_folder:
            wrong = 'has no name'
        if not wrong:
            known = len(kinds)
            wrong = _clash(kinds, parts, path, member.is_folder)
            names_left -= (len(kinds) - known) * (sys.getsizeof(path) + 100)
        if not wrong and names_left < 0:
            wrong = 'and those before it have too many names'
        if not wrong and left < 0:
            wrong = f'and those before it claim more than {MAX_RATIO} times the size of the archive'
        if wrong:
            raise InputError(f'{archive}: refused, because {member.name[:200]!r} in it {wrong}; '
                             'nothing was unpacked')
        if parts:
            yield path, member


def _bad_path(name):
    # as Windows would read it, which has more ways to leave a folder
    if PureWindowsPath(name).anchor:
        return 'is an absolute path or names a drive'
    if '\\' in name or '\0' in name:
        return 'has a backslash or a zero byte in its path'
    if '..' in name.split('/'):
        return 'leaves the folder by ..'
    if len(name) > MAX_PATH:
        return 'has a path of impossible length'


def _clash(kinds, parts, path, is_folder):
    """Enter a path -> what it clashes with, or None."""
    for end in range(1, len(parts)):
        if kinds.setdefault('/'.join(parts[:end])) is False:
            return 'lies in what is a file'
    known = kinds.get(path, 'new')
    kinds[path] = is_folder
    if known == 'new' or known is None and is_folder:
        return None
    return 'comes twice' if known == is_folder else 'is both a file and a folder'


def _members(file):
    """The members of an archive of any kind."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b'PK'):
        return _zip_members(file)
    if magic == b'\xfd7zXZ\0':
        return _tar_members(io.BufferedReader(_Xz(file), 1 << 20), 'r:')
    kinds = {b'\x1f\x8b': 'r:gz', b'BZ': 'r:bz2'}
    return _tar_members(file, kinds.get(magic[:2], 'r:'))


def open_zip(file, largest):
    """A zip archive whose list of members, which is read at once, has at most ``largest`` bytes.

    Raises:
        zipfile.BadZipFile: it has more.
        Exception: what zipfile raises.
    """
    bounded = _Bounded(file, largest)
    archive = zipfile.ZipFile(bounded)
    bounded.largest = sys.maxsize
    return archive


class _Bounded:
    """A file of which at most ``largest`` bytes are read at a time."""

    def __init__(self, file, largest):
        self.file, self.largest = file, largest

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, size=-1):
        if size > self.largest:
            raise zipfile.BadZipFile(f'a list of members of {size} bytes')
        return self.file.read(size)


def _zip_members(file):
    with open_zip(file, MAX_DIRECTORY) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_folder = info.filename.endswith('/')
            wrong = None
            if info.flag_bits & 1:
                wrong = 'is encrypted'
            elif kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                wrong = 'is a link, a device or another thing that is no plain file'
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
                # that of xz takes as much memory as it likes
                wrong = f'is compressed by an unknown method ({info.compress_type})'
            yield Member(info.filename, info.file_size, wrong, is_folder,
                         lambda info=info: archive.open(info))


def _tar_members(file, mode):
    with tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as archive:
        for info in archive:
            wrong = None
            if info.size < 0 or info.issparse() or not (info.isfile() or info.isdir()):
                wrong = 'is a link, a device or another thing that is no plain file'
            yield Member(info.name, info.size, wrong, info.isdir(),
                         lambda info=info: archive.extractfile(info))
            archive.members.clear()         # tarfile keeps them all
        # tarfile takes any end of the data for the end of the archive, which is a block of zeros; the
        # checksum of a compressed one comes behind it
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(BLOCK) != bytes(BLOCK):
            raise EOFError('the end is missing')
        left = MAX_TRAILER
        while more := len(archive.fileobj.read(1 << 20)):
            left -= more
            if left < 0:
                raise tarfile.ReadError('far more behind its end than belongs there')


class _Xz(io.RawIOBase):
    """What an xz file holds, forwards only; ``lzma`` would take up to 4 GB if the file says so."""

    def __init__(self, file):
        self.file, self.place = file, 0
        self.lzma = self._next_stream()

    def _next_stream(self):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ)

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, place, whence=os.SEEK_SET):
        place += self.place if whence == os.SEEK_CUR else 0
        if place < self.place or whence == os.SEEK_END:
            raise io.UnsupportedOperation
        while self.place < place and self.read(min(place - self.place, 1 << 20)):
            pass
        return self.place

    def readinto(self, buffer):
        data = b''
        while not data:
            block = b''
            if self.lzma.eof:
                block = self.lzma.unused_data.lstrip(b'\0') or self.file.read(1 << 16).lstrip(b'\0')
                if not block:
                    return 0
                self.lzma = self._next_stream()
            elif self.lzma.needs_input:
                block = self.file.read(1 << 16)
                if not block:
                    raise EOFError('the end is missing')
            data = self.lzma.decompress(block, len(buffer))
        buffer[:len(data)] = data
        self.place += len(data)
        return len(data)


class _Header(tarfile.TarInfo):
    """Of one member; tarfile would go backwards over a negative size, and read a long name, attributes or the
    map of a sparse file of any size into memory.
    """

    def _proc_member(self, tar):
        if (self.size < 0 or self.type in HEADER_TYPES and self.size > MAX_HEADER
                or len(tar.pax_headers) > MAX_ATTRIBUTES):
            raise tarfile.ReadError('a header of impossible size')
        return super()._proc_member(tar)

    def _sparse(self, *_):
        raise tarfile.ReadError('a sparse file is no plain file')

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse
