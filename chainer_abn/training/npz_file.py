"""Files of plain arrays, .npz without any pickled object: networks and snapshots.

Nothing of a file is believed that it could not hold: a header that claims 100 GB takes no memory.
"""
import contextlib
import io
import math
import os
import zipfile
from typing import NamedTuple

import numpy

from chainer_abn.datasets.archives import open_zip
from chainer_abn.errors import InputError
from chainer_abn.files import open_file, replacing

LARGEST_DIRECTORY = 1 << 24     # bytes of the zip archive's list of members: a hundred thousand arrays
LARGEST_HEADER = 1 << 14        # bytes of an array's; NumPy believes none over 10 000
HEADER_READERS = {
    (1, 0): numpy.lib.format.read_array_header_1_0,
    (2, 0): numpy.lib.format.read_array_header_2_0,     # (3, 0) has names of fields, which no array here has
}


def write_npz(path, arrays):
    """Write arrays to an .npz file, whole or not at all.

    Raises:
        TypeError: an array is of objects and would have to be pickled.
    """
    # sorted: Chainer keeps names in sets, whose order differs from process to process
    arrays = {name: numpy.asarray(arrays[name]) for name in sorted(arrays)}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f'{name} is no plain array')
    with replacing(path) as file:
        numpy.savez(file, **arrays)


def read_npz(path):
    """All arrays of an .npz file that :func:`write_npz` wrote, by name; they take no more than the file does.

    Raises:
        InputError: see :class:`Npz`.
    """
    with Npz(path) as file:
        return {name: file[name] for name in file.headers}


class Header(NamedTuple):
    """What an .npz file says of an array."""
    shape: tuple
    dtype: numpy.dtype


class Npz:
    """An open .npz file, whose arrays are read one by one when they are asked for, ``file[name]``.

    The headers are read at once, and refused where they tell of anything but plain arrays of numbers or text
    that are in the file in full.

    Args:
        path: of the file.
        expanded (int): how many bytes arrays that are compressed may take in all. 0: none may be compressed,
            as none are that this program writes, so that a small file cannot tell of large arrays.

    Attributes:
        headers (dict): name -> :class:`Header`.

    Raises:
        InputError: no such file, cut short, damaged, or as above.
    """

    def __init__(self, path, expanded=0):
        self.path, self.headers = path, {}
        with contextlib.ExitStack() as stack, self._told():
            file = stack.enter_context(open_file(path))
            if not zipfile.is_zipfile(file):
                raise InputError(f'{path}: not an .npz file, or cut short')
            self._archive = stack.enter_context(open_zip(file, LARGEST_DIRECTORY))
            _check_sizes(self._archive.infolist(), os.fstat(file.fileno()).st_size, expanded)
            for info in self._archive.infolist():
                name, _, suffix = info.filename.rpartition('.')
                if suffix != 'npy':
                    continue
                if name in self.headers:
                    raise ValueError(f'{info.filename[:80]} comes twice')
                self.headers[name] = self._header(info)
            self._close = stack.pop_all().close

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._close()

    def __getitem__(self, name):
        with self._told(), self._archive.open(f'{name}.npy') as entry:
            return numpy.lib.format.read_array(entry, allow_pickle=False)

    def _header(self, info):
        with self._archive.open(info) as entry:
            start = io.BytesIO(entry.read(LARGEST_HEADER))
        version = numpy.lib.format.read_magic(start)
        if version not in HEADER_READERS:
            raise ValueError(f'{info.filename[:80]} is of version {version}')
        shape, _, dtype = HEADER_READERS[version](start)
        n_bytes = info.file_size - start.tell()
        if dtype.kind not in 'biufSU' or dtype.itemsize == 0:
            raise ValueError(f'{info.filename[:80]} is of type {dtype!s:.80}')
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != n_bytes:
            raise ValueError(f'{info.filename[:80]} claims {str(shape):.80} numbers in {n_bytes} bytes')
        return Header(shape, dtype)

    @contextlib.contextmanager
    def _told(self):
        """What goes wrong is an InputError that names the file."""
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise InputError(f'{self.path}: {error.strerror or error}') from None
        except Exception as error:              # a damaged file can raise anything
            raise InputError(f'{self.path}: unreadable .npz file ({error or type(error).__name__})') from None


def _check_sizes(members, size, expanded):
    """Refuse members of an archive of ``size`` bytes that claim to be larger than they can be or may be."""
    for info in members:
        if info.compress_type == zipfile.ZIP_STORED:
            size -= info.file_size
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            expanded -= info.file_size
        else:
            raise ValueError(f'{info.filename[:80]} is compressed by an unknown method')
    if size < 0:
        raise ValueError('its arrays claim to be larger than the file')
    if expanded < 0:
        raise ValueError('its arrays are compressed, and larger than allowed')
