"""MATLAB 5 files: the arrays of the names asked for.

They are read here and not by ``scipy.io``, which ends the whole process (segmentation fault) where a type is
damaged. The format: MAT-File Format, MathWorks,
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""
import contextlib
import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy

from chainer_abn.errors import InputError
from chainer_abn.progress import Progress

# types of data, and of characters; an array's own class does not say how its values are stored
NUMBERS = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
TEXT = {1: 'latin1', 2: 'latin1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16', 18: 'utf-32'}
MATRIX, COMPRESSED = 14, 15
# classes of arrays
CELL, STRUCT, CHAR, SPARSE, NUMERIC, OPAQUE = 1, 2, 4, 5, range(6, 16), 17
COMPLEX = 0x800                 # a flag beside the class

MAX_RATIO = 100                 # pictures and tables shrink by less, a bomb by up to 1032
MAX_AXES = 64                   # of NumPy
EMPTY = numpy.zeros((0, 0))     # what nothing at all in a cell stands for
CHUNK = 1 << 18


def read_mat(path, names):
    """Read variables of a MATLAB 5 .mat file: arrays of real numbers, strings, cells and structs.

    Args:
        path: of the file.
        names (list of str): of the variables; no other is read.

    Returns:
        dict: name -> array as ``scipy.io.loadmat`` gives it: of at least two axes, in Fortran order, with the
        type its values are stored in (an array of doubles may be uint8); strings without the last axis, which
        is their length; cells as objects, structs as records of objects.

    Raises:
        InputError: see :func:`shapes`; or a variable is damaged, or of another kind.
    """
    with _opened(path, names) as found:
        return {name: matrix.whole() for name, matrix in found.items()}


def shapes(path, names):
    """What the file says of its variables, without reading them.

    Returns:
        dict: name -> shape, of the variables asked for.

    Raises:
        InputError: the file is missing, of another version, damaged or cut short; a variable is not in it, or
            larger than a file of this size can hold.
    """
    with _opened(path, names) as found:
        return {name: matrix.shape for name, matrix in found.items()}


@contextlib.contextmanager
def _opened(path, names):
    """The variables of these names, name -> _Matrix, while the file is open."""
    try:
        with _Watched(path) as file:
            found, there = {}, set()
            for matrix in _variables(file):
                there.add(matrix.name)
                if matrix.name in names:
                    found[matrix.name] = matrix
            for name in names:
                if name not in found:
                    there = ', '.join(sorted(there)) or 'none'
                    raise InputError(f'{path}: no variable {name!r} in it, only {there}; cut short, or '
                                     'another file than the one meant')
            yield {name: found[name] for name in names}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None
    except (EOFError, ValueError, struct.error, zlib.error, RecursionError, MemoryError) as error:
        raise InputError(f'{path}: unreadable .mat file; cut short? ({error})') from None


def _variables(file):
    """The variables of a file, of which the names and shapes are read."""
    order = _byte_order(file.read(128), file.name)
    end = os.path.getsize(file.name)
    place = 128
    while place < end:
        file.seek(place)
        kind, size = struct.unpack(f'{order}II', file.read(8))
        place += 8 + size
        if place > end:
            raise EOFError(f'the file ends {place - end} bytes too early')
        source, left = _Plain(file, size), size
        if kind == COMPRESSED:
            # buffered, since zlib copies what it has not used yet at every call
            source = io.BufferedReader(_Deflated(source), CHUNK)
            kind, left = struct.unpack(f'{order}II', source.read(8))
        if kind != MATRIX or left > MAX_RATIO * size:
            raise ValueError(f'type {kind} of {left} bytes where a variable should be')
        matrix = _Matrix(_Elements(source, left, order))
        if matrix.kind != OPAQUE:       # an object, which has no shape
            yield matrix


def _byte_order(header, path):
    order = {b'IM': '<', b'MI': '>'}.get(header[126:])
    version = order and struct.unpack(f'{order}H', header[124:126])[0]
    if version == 0x200 or header.startswith(b'\x89HDF'):
        raise InputError(f'{path}: a MATLAB 7.3 (HDF5) file, which is not read; save it with -v7')
    if version != 0x100:
        raise InputError(f'{path}: no MATLAB 5 file; cut short?')
    return order


class _Matrix:
    """A variable, or a part of one, whose content comes next in ``elements``."""

    def __init__(self, elements):
        self.elements = elements
        flags, = struct.unpack(f'{elements.order}I4x', elements.next()[1])
        self.kind, self.is_complex = flags & 0xff, flags & COMPLEX
        self.name = ''
        if self.kind == OPAQUE:
            return
        sizes = elements.next()[1]
        if len(sizes) > 4 * MAX_AXES:
            raise ValueError(f'an array of {len(sizes) // 4} axes')
        self.shape = struct.unpack(f'{elements.order}{len(sizes) // 4}i', sizes)
        self.name = elements.next()[1].decode('latin1')
        self.n = math.prod(self.shape)
        # each takes a byte at least, the zeros of a sparse matrix none
        too_many = self.n > elements.left and self.kind != SPARSE
        if len(self.shape) < 2 or min(self.shape) < 0 or too_many:
            raise ValueError(f'{self.name!r} is said to be of {self.shape} in {elements.left} bytes')

    def whole(self):
        """The value of a variable, which is read to its end, where zlib compares a checksum."""
        value = self.value()
        if self.elements.source.read(1):
            raise ValueError(f'{self.name!r} does not end where it should')
        return value

    def value(self):
        if self.kind == CELL:
            value = self._objects(self.n).reshape(self.shape, order='F')
        elif self.kind == STRUCT:
            value = self._records()
        elif self.kind == CHAR:
            value = self._strings()
        elif self.kind in NUMERIC and not self.is_complex:
            value = self._numbers()
        else:
            raise ValueError(f'{self.name!r} is no array of real numbers, strings, cells or structs')
        self.elements.take(self.elements.left)
        return value

    def _numbers(self):
        kind, data = self.elements.next()
        if kind not in NUMBERS:
            raise ValueError(f'numbers of type {kind}')
        dtype = numpy.dtype(self.elements.order + NUMBERS[kind])
        if len(data) != self.n * dtype.itemsize:
            raise ValueError(f'{len(data)} bytes for {self.shape} numbers')
        return numpy.ndarray(self.shape, dtype, data, order='F')

    def _strings(self):
        kind, data = self.elements.next()
        if kind not in TEXT:
            raise ValueError(f'characters of type {kind}')
        codec = TEXT[kind]
        if codec in ('utf-16', 'utf-32'):
            codec += '-le' if self.elements.order == '<' else '-be'
        text = data.decode(codec)
        if len(text) != self.n:
            raise ValueError(f'{len(text)} characters for {self.shape}')
        if not text:
            return numpy.empty(0, 'U1')
        letters = numpy.array([text]).view('U1').reshape(self.shape, order='F')
        return numpy.ascontiguousarray(letters).view(f'U{self.shape[-1]}')[..., 0]

    def _records(self):
        width, names = (self.elements.next()[1] for _ in range(2))
        width, = struct.unpack(f'{self.elements.order}i', width)
        if width < 1 or not names or len(names) % width:
            raise ValueError(f'{len(names)} bytes of field names of {width}')
        names = [bytes(names[i:i + width]).partition(b'\0')[0].decode('latin1')
                 for i in range(0, len(names), width)]
        values = self._objects(self.n * len(names)).reshape(self.n, len(names))
        records = numpy.empty(self.n, [(name, object) for name in names])
        for i, name in enumerate(names):
            records[name] = values[:, i]
        return records.reshape(self.shape, order='F')

    def _objects(self, n):
        # no place is taken for parts before they have been read: each may claim to hold the rest of the file
        parts = [self._part() for _ in range(n)]
        values = numpy.empty(n, object)
        for i, part in enumerate(parts):
            values[i] = part
        return values

    def _part(self):
        inner = self.elements.inner()
        return _Matrix(inner).value() if inner.left else EMPTY


class _Elements:
    """The data elements in the next ``left`` bytes of a source."""

    def __init__(self, source, left, order):
        self.source, self.left, self.order = source, left, order

    def take(self, n):
        if n > self.left:
            raise EOFError(f'{n} bytes where {self.left} are left')
        self.left -= n
        data = bytearray(n)
        if self.source.readinto(data) != n:
            raise EOFError('the data end too early')
        return data

    def next(self):
        """Type and data (bytearray)."""
        head = self.take(8)
        kind, size = struct.unpack(f'{self.order}II', head)
        if kind >> 16:                  # up to four bytes lie in the head
            return kind & 0xffff, head[4:4 + (kind >> 16)]
        data = self.take(size)
        self.take(min(-size % 8, self.left))
        return kind, data

    def inner(self):
        """The elements of the matrix that comes next."""
        kind, size = struct.unpack(f'{self.order}II', self.take(8))
        if kind != MATRIX or size > self.left:
            raise ValueError(f'type {kind} of {size} bytes where an array should be')
        self.left -= size
        return _Elements(self.source, size, self.order)


class _Plain(io.RawIOBase):
    """The next ``size`` bytes of a file, whoever reads in it meanwhile."""

    def __init__(self, file, size):
        self.file, self.place, self.left = file, file.tell(), size

    def readable(self):
        return True

    def readinto(self, buffer):
        self.file.seek(self.place)
        n = self.file.readinto(memoryview(buffer)[:self.left])
        self.place += n
        self.left -= n
        return n


class _Deflated(io.RawIOBase):
    """What the bytes of another source are inflated to."""

    def __init__(self, source):
        self.source, self.zlib = source, zlib.decompressobj()

    def readable(self):
        return True

    def readinto(self, buffer):
        block = b''
        while not block and not self.zlib.eof:
            compressed = self.zlib.unconsumed_tail or self.source.read(CHUNK)
            block = self.zlib.decompress(compressed, min(len(buffer), CHUNK))
            if not block and not compressed:
                raise EOFError('the compressed data have no end')
        buffer[:len(block)] = block
        return len(block)


class _Watched(io.BufferedReader):
    """A file whose reading shows progress."""

    def __init__(self, path):
        super().__init__(io.FileIO(path))
        self.progress = Progress(f'reading {Path(path).name}', os.path.getsize(path), 'MB', 1e-6)

    def read(self, size=-1):
        self.progress.update(self.tell())
        return super().read(size)

    def close(self):
        self.progress.clear()
        super().close()
