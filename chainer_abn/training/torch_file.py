"""PyTorch checkpoint files, read and written without PyTorch.

A .pth file is a pickle that may name any Python function to be called, so what reads it decides what
may run: here only :class:`Tensor` records and plain containers are made, whatever the file asks for.
Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles and raw
arrays before it. Arrays stay in the file until they are asked for.
"""
import io
import itertools
import math
import mmap
import os
import pickle
import struct
import zipfile
from dataclasses import dataclass

import numpy

from chainer_abn.datasets.archives import open_zip
from chainer_abn.errors import InputError
from chainer_abn.files import open_file, replacing

DTYPES = {
    'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'LongStorage': '<i8',
    'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': 'i1', 'ByteStorage': 'u1', 'BoolStorage': '?',
}
STORAGES = {numpy.dtype(dtype): name for name, dtype in DTYPES.items()}
LEGACY_MAGIC = 0x1950a86a20f9469cfc6c


@dataclass(frozen=True)
class Storage:
    """A flat array in the file."""
    dtype: str
    key: str
    size: int

    @property
    def itemsize(self):
        return numpy.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, not read yet; ``offset`` and ``strides`` count elements."""
    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


class TorchFile:
    """An open checkpoint file.

    Args:
        path: of the file.

    Attributes:
        content: what was saved, with a :class:`Tensor` in place of each tensor.

    Raises:
        InputError: no such file, cut short, another format, or it wants something run.
    """

    def __init__(self, path):
        self.path = path
        try:
            self.file = open_file(path)
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from None
        try:
            self.size = os.fstat(self.file.fileno()).st_size
            if zipfile.is_zipfile(self.file):
                self._open_zip()
            else:
                self._open_legacy()
        except Exception as error:          # a damaged pickle can raise anything
            self.file.close()
            if isinstance(error, InputError):
                raise
            raise InputError(f'{path}: not a PyTorch checkpoint, or cut short '
                             f'({type(error).__name__}: {error})') from None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def _open_zip(self):
        archive = open_zip(self.file, 1 << 24)
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise InputError(f'{self.path}: a zip archive, but not a PyTorch checkpoint')
        root = pickles[0][:-len('data.pkl')]
        if root + 'byteorder' in archive.namelist() and self._part(archive, root + 'byteorder') != b'little':
            raise InputError(f'{self.path}: of a big-endian machine')
        self.content = self._unpickler(io.BytesIO(self._part(archive, pickles[0]))).load()
        self._bytes = lambda storage: self._part(archive, f'{root}data/{storage.key}')

    def _part(self, archive, name):
        info = archive.getinfo(name)
        # PyTorch never compresses; a bomb does, or claims more than there is
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self.size:
            raise InputError(f'{self.path}: {name} is compressed, or claims to be larger than the file')
        return archive.read(info)

    def _open_legacy(self):
        # mapped: whatever sizes the file claims, no more is read than there is
        data = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._unpickler(data).load() != LEGACY_MAGIC:
            raise InputError(f'{self.path}: not a PyTorch checkpoint')
        for _ in 'protocol version', 'byte order and sizes':
            self._unpickler(data).load()
        unpickler = self._unpickler(data)
        self.content = unpickler.load()
        positions = {}
        for key in self._unpickler(data).load():
            size, = struct.unpack('<q', data.read(8))
            start = data.tell()
            data.seek(start + size * unpickler.storages[key].itemsize)
            positions[key] = slice(start, data.tell())
        self._bytes = lambda storage: data[positions[storage.key]]

    def _unpickler(self, file):
        return _Unpickler(_Bounded(file), self.path, self.size)

    def array(self, tensor):
        """Read a tensor -> numpy.ndarray of its own.

        Raises:
            InputError: the file does not hold what the tensor claims.
        """
        storage = tensor.storage
        try:
            values = numpy.frombuffer(self._bytes(storage), storage.dtype)
            last = tensor.offset + sum((n - 1) * step for n, step in
                                       zip(tensor.shape, tensor.strides, strict=True))
            if (len(values) != storage.size or min((tensor.offset, *tensor.strides)) < 0
                    or (math.prod(tensor.shape) and last >= storage.size)):
                raise ValueError('a tensor reaches out of its storage')
            return numpy.lib.stride_tricks.as_strided(
                values[tensor.offset:], tensor.shape,
                [step * values.itemsize for step in tensor.strides]).copy()
        except Exception as error:          # of the zip archive, of numbers beyond all bounds
            raise InputError(f'{self.path}: damaged ({type(error).__name__}: {error})') from None


class _Bounded:
    """A file that pickles are read from, up to more bytes than those of any network.

    An opcode of one byte makes an object of up to a hundred, so this bounds their memory too.
    """

    def __init__(self, file):
        self.file, self.left = file, 1 << 22

    def _counted(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise pickle.UnpicklingError('too large a pickle')
        return data

    def read(self, n):
        return self._counted(self.file.read(n))

    def readline(self):
        return self._counted(self.file.readline())


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        raise pickle.UnpicklingError('a tensor without a storage')
    shape = _numbers(shape)
    if min(shape, default=0) < 0 or math.prod(shape) > storage.size:
        raise pickle.UnpicklingError('a tensor larger than its storage')
    return Tensor(storage, offset, shape, _numbers(strides))


def _numbers(values):
    """A shape or strides; refused where it is no short row of whole numbers of 64 bits."""
    if len(values) > 64 or not all(isinstance(n, int) and abs(n) < 1 << 63 for n in values):
        raise pickle.UnpicklingError('sizes that are none')
    return tuple(values)


class _Unpickler(pickle._Unpickler):
    """Makes plain containers and tensors; any other thing that the pickle names is refused.

    It is the library's unpickler written in Python, with the opcodes that PyTorch writes and no
    others: that in C would take gigabytes of memory for a few bytes that claim a large memo.
    """

    OPCODES = (
        'PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE '
        'BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING '
        'EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS '
        'BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET').split()
    NAMES = {
        ('collections', 'OrderedDict'): lambda: {},
        ('torch', 'Size'): _numbers,
        ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,           # before PyTorch 0.4
        ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
        ('torch._utils', '_rebuild_parameter'): lambda tensor, *_: tensor,
        ('torch.nn.parameter', 'Parameter'): lambda tensor, *_: tensor,
        **{('torch', name): dtype for name, dtype in DTYPES.items()},
    }

    def __init__(self, file, path, limit):
        super().__init__(file, encoding='utf-8')
        self.path, self.limit, self.storages = path, limit, {}

    def find_class(self, module, name):
        try:
            return self.NAMES[module, name]
        except KeyError:
            raise InputError(f'{self.path}: refused, it is not weights only: it names '
                             f'{module[:80]}.{name[:80]}') from None

    def persistent_load(self, pid):
        kind, dtype, key, _, size, *view = pid
        if (kind != 'storage' or dtype not in DTYPES.values() or (view and view[0] is not None)
                or not isinstance(key, str | int) or not isinstance(size, int)):
            raise pickle.UnpicklingError('a storage of an unknown kind')
        storage = Storage(dtype, str(key), size)
        if not 0 <= size * storage.itemsize <= self.limit:
            raise pickle.UnpicklingError('a storage larger than the file')
        self.storages[key] = storage
        return storage

    def load_build(self):
        """State of an object, such as a state_dict's ``_metadata``: left out, it could set anything."""
        self.stack.pop()

    def load_setitem(self):
        self._set([self.stack.pop(-2), self.stack.pop()])

    def load_setitems(self):
        self._set(self.pop_mark())

    def _set(self, items):
        # other keys are no names, and hashing a deeply nested one ends in a crash
        if not all(isinstance(key, str | int) for key in items[::2]):
            raise pickle.UnpicklingError('a key that is no name')
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
                for name in OPCODES}
    dispatch.update({pickle.BUILD[0]: load_build, pickle.SETITEM[0]: load_setitem,
                     pickle.SETITEMS[0]: load_setitems})


def write(path, content):
    """Write a checkpoint in the zip format, whole or not at all; the same bytes for the same content.

    Args:
        path: of the file.
        content: dicts with str keys, lists, str, int, float, bool, None and numpy arrays, nested;
            arrays become tensors.
    """
    storages = []
    pickled = b'\x80\x02' + _pickle(content, storages) + pickle.STOP
    parts = {'data.pkl': pickled, 'byteorder': b'little', 'version': b'3\n'}
    parts.update((f'data/{key}', array.tobytes()) for key, array in enumerate(storages))
    with replacing(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(f'checkpoint/{name}'), data)


def _pickle(value, storages):
    """The opcodes (protocol 2) that make a value. pickle itself would have to import torch."""
    if isinstance(value, (list, tuple, dict)):
        if isinstance(value, dict):
            start = _name('collections', 'OrderedDict') + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.MARK
            items, end = itertools.chain.from_iterable(value.items()), pickle.SETITEMS
        elif isinstance(value, list):
            start, items, end = pickle.EMPTY_LIST + pickle.MARK, value, pickle.APPENDS
        else:
            start, items, end = pickle.MARK, value, pickle.TUPLE
        return start + b''.join(_pickle(item, storages) for item in items) + end
    if not isinstance(value, numpy.ndarray):
        return pickle.dumps(value, 2).removeprefix(b'\x80\x02').removesuffix(pickle.STOP)
    storages.append(value)
    storage = (pickle.MARK + _pickle('storage', storages) + _name('torch', STORAGES[value.dtype])
               + b''.join(_pickle(item, storages) for item in (str(len(storages) - 1), 'cpu', value.size))
               + pickle.TUPLE + pickle.BINPERSID)
    strides = tuple(step // value.itemsize for step in numpy.empty(value.shape, value.dtype).strides)
    rest = (_pickle(item, storages) for item in (0, value.shape, strides, False, {}))
    return (_name('torch._utils', '_rebuild_tensor_v2') + pickle.MARK + storage + b''.join(rest)
            + pickle.TUPLE + pickle.REDUCE)


def _name(module, name):
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()
