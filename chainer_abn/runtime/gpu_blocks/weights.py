"""The weights of a block's convolutions, where they are float32 and the maps are float16.

One kernel casts them all, and one their gradients, since a launch takes longer than the work. float16
filters have their channels last, as the maps do.
"""
import weakref

import cupy
import numpy

import chainer.links as L

_ALIGNED = 64               # elements; a multiple of what any kernel wants, and of one filter only
_FIELDS = 5                 # of the table's rows
_SINGLE = cupy.dtype('f')

# element i of one order -> of the other; both arrays keep a filter in the same place
_FIND = f'''
    const long long* row = &table[{_FIELDS} * owner[i / {_ALIGNED}]];
    const long long start = row[1], size = row[2];
    const int channels = row[3], area = row[4], j = i - start;
    const int k = j / (channels * area), rest = j % (channels * area);
    if (j < size)
'''
_TO_HALF = cupy.ElementwiseKernel(
    'raw int32 owner, raw int64 table', 'float16 half', f'''{_FIND}
        half = float16(((const float*)row[0])[(k * channels + rest % channels) * area + rest / channels]);
    ''', 'abn_weights_to_half')
_TO_SINGLE = cupy.ElementwiseKernel(
    'raw int32 owner, raw int64 table, raw float16 half', 'float32 single', f'''{_FIND}
        single = half[start + (k * area + rest % area) * channels + rest / area];
    ''', 'abn_gradients_to_single')
_tables = weakref.WeakKeyDictionary()       # by block, of which they are a part


class SingleWeights:
    """float32 filters for float32 maps: the parameters themselves."""

    def __init__(self):
        self._gradients = {}

    def address(self, parameter):
        return parameter.array.data.ptr

    def gradient(self, parameter, write):
        """Let ``write`` write a gradient to an address; gradients of one parameter are added."""
        gradient = cupy.ndarray(parameter.array.shape, _SINGLE)
        write(gradient.data.ptr)
        collect(self._gradients, parameter, gradient)

    def collect(self, gradients):
        """Hand over, by id of the parameter, what came of it; float32."""
        gradients.update(self._gradients)


class HalfWeights:
    """float16 copies of the filters of a block, which are made here and now, and float16 gradients."""

    def __init__(self, block):
        self._table = table_of(block)
        self._half, self._gradients, self._written = cupy.empty(self._table.size, 'e'), None, set()
        if self._table.size:
            _TO_HALF(self._table.owner, self._table.rows, self._half)

    def address(self, parameter):
        return self._half.data.ptr + 2 * self._table.starts[id(parameter)]

    def gradient(self, parameter, write):
        if self._gradients is None:
            self._gradients = cupy.empty_like(self._half)
        at = self._table.starts[id(parameter)]
        if id(parameter) not in self._written:
            self._written.add(id(parameter))
            write(self._gradients.data.ptr + 2 * at)
            return
        before = self._gradients[at:at + parameter.size]
        other = cupy.empty_like(before)
        write(other.data.ptr)
        before += other

    def collect(self, gradients):
        if not self._written:
            return
        table, single = self._table, cupy.empty(self._table.size, 'f')
        _TO_SINGLE(table.owner, table.rows, self._gradients, single)
        for key in self._written:
            gradients[key] = cupy.ndarray(table.shapes[key], _SINGLE, single.data + 4 * table.starts[key])


def collect(gradients, parameter, gradient):
    """Add to the gradient of a parameter, which several layers may share."""
    before = gradients.get(id(parameter))
    gradients[id(parameter)] = gradient if before is None else before + gradient


class Table:
    """Where the filters are. It is on the GPU and stays there, for the graphs that read it."""

    def __init__(self, parameters):
        self.starts, self.shapes = {}, {}
        rows, owner, at = [], [], 0
        for index, p in enumerate(parameters):
            self.starts[id(p)], self.shapes[id(p)] = at, p.shape
            rows.append((p.array.data.ptr, at, p.size, p.shape[1], p.shape[2] * p.shape[3]))
            n = -(-p.size // _ALIGNED)
            owner += [index] * n
            at += n * _ALIGNED
        self.size = at
        self.owner = cupy.asarray(numpy.array(owner, 'i4'))
        self.rows = cupy.asarray(numpy.array(rows, 'i8').reshape(-1))


def table_of(block):
    """The block's :class:`Table`, a new one where parameters have moved."""
    parameters = list({id(link.W): link.W for layer in block.layers() for link in layer.links()
                       if isinstance(link, L.Convolution2D)}.values())
    key = [(id(p), p.array.data.ptr, p.shape) for p in parameters]
    known = _tables.get(block)
    if known is None or known[0] != key:
        known = _tables[block] = key, Table(parameters)
    return known[1]
