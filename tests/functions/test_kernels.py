"""The CUDA kernels without a GPU: as functions of the host, launched by the code that launches them on a GPU;
and compiled by NVRTC for old and new GPUs."""
import ctypes
import importlib.util
import math
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from attention_cases import LAYOUTS, SHAPES, arrays, check, in_memory, random_shapes

from chainer_abn.functions import kernels
from chainer_abn.functions.attention import Attend, AttendGrad

import chainer

HERE = Path(__file__).parent
KERNELS = 'planes_forward', 'planes_backward', 'pixels_forward', 'pixels_backward', 'fold'
VECTORS = [(char, vector) for char in kernels.ELEMENTS
           for vector in (1, kernels.VECTOR // numpy.dtype(char).itemsize)]
NVRTC = {'cuda_nvrtc/lib/libnvrtc.so.12': (70, 80, 90), 'cu13/lib/libnvrtc.so.13': (75, 80, 90, 100, 120)}
WHEELS = dict(zip(NVRTC, ('nvidia-cuda-nvrtc-cu12', 'nvidia-cuda-nvrtc'), strict=True))


class HostModule:
    """In place of cupy.RawModule."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)

    def get_function(self, name):
        def launch(grid, block, arguments):
            assert 0 < math.prod(block) <= kernels.THREADS
            assert 0 < min(grid) and max(grid[1:], default=1) <= kernels.GRID
            # an array goes as its address, a number as itself
            values = [numpy.array(a.ctypes.data if a.ndim else a) for a in arguments]
            pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
            sizes = [(ctypes.c_uint * 3)(*three, *[1] * (3 - len(three))) for three in (grid, block)]
            self.library['launch_' + name](*sizes, pointers)
        return launch


@pytest.fixture(scope='session')
def host_module(tmp_path_factory):
    compiler = shutil.which('g++')
    if not compiler:
        pytest.skip('needs g++')
    folder = tmp_path_factory.mktemp('host')
    (folder / 'attention.cu').write_text(kernels.source())

    @cache
    def build(char, vector):
        library = folder / f'{char}{vector}.so'
        command = [
            compiler, '-O1', '-shared', '-fPIC', '-Wall', '-Wno-unknown-pragmas', '-Werror',
            '-fno-gnu-unique',  # or the libraries would share the kernels' shared memory
            *kernels.options(char, vector), f'-I{folder}', '-o', library, HERE / 'host_cuda.cpp']
        subprocess.run(command, check=True)
        return HostModule(library)
    return build


@pytest.fixture
def on_host(host_module, monkeypatch):
    """NumPy arrays go through what CuPy arrays go through; what is not written stays NaN."""
    def empty_like(x):
        y = numpy.empty_like(x)
        y.fill(numpy.nan)
        return y

    xp = SimpleNamespace(
        empty=lambda shape, dtype: numpy.full(shape, numpy.nan, dtype), empty_like=empty_like,
        ascontiguousarray=numpy.ascontiguousarray, promote_types=numpy.promote_types)
    monkeypatch.setattr(kernels, 'module', host_module)
    monkeypatch.setattr(kernels, 'address', lambda x: x.ctypes.data)
    monkeypatch.setattr(chainer.backend, 'get_array_module', lambda x: xp)


def launched(g, attention, gy, residual):
    return (kernels.weigh(g, attention, residual), *kernels.weigh_grad(g, attention, gy, residual))


@pytest.mark.parametrize('dtype', 'efd')
@pytest.mark.parametrize('layout', LAYOUTS)
def test_on_the_host_they_equal_float64(on_host, dtype, layout):
    for i, shape in enumerate(SHAPES + random_shapes(12, seed=LAYOUTS.index(layout))):
        g, attention, gy = arrays(shape, dtype, seed=i)
        g = in_memory(g, layout)
        for residual, gy_layout in (True, layout), (False, 'nchw'):
            check(g, attention, gy, residual,
                  *launched(g, attention, in_memory(gy, gy_layout), residual))


@pytest.mark.parametrize('shape', [(2, 16, 5, 6), (2, 5, 3, 7)])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('mechanism', ['residual', 'multiply'])
def test_on_the_host_they_equal_the_numpy_path(request, shape, layout, mechanism):
    g, attention, gy = arrays(shape, 'f')
    g = in_memory(g, layout)
    y, = Attend(mechanism).forward((g, attention))
    gg, g_attention = AttendGrad(mechanism).forward((g, attention, gy))
    request.getfixturevalue('on_host')      # from here on
    found = launched(g, attention, gy, mechanism == 'residual')
    numpy.testing.assert_array_equal(found[0], y)
    numpy.testing.assert_array_equal(found[1], gg)
    numpy.testing.assert_allclose(found[2], g_attention, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layout', ['nchw', 'nhwc'])
def test_arrays_off_the_boundaries_of_vectors(on_host, layout):
    shape = 2, 16, 4, 3
    memory = numpy.empty(2 * 16 * 4 * 3 + 1, 'f')[1:]
    g, attention, gy = arrays(shape, 'f')
    odd = memory.reshape(shape) if layout == 'nchw' else memory.reshape(2, 4, 3, 16).transpose(0, 3, 1, 2)
    odd[...] = g
    assert kernels.vector_size(layout == 'nhwc', odd) == 1
    check(g, attention, gy, True, *launched(odd, attention, gy, True))


def test_more_images_than_a_grid_holds(on_host, monkeypatch):
    monkeypatch.setattr(kernels, 'GRID', 4)
    g, attention, gy = arrays((11, 3, 2, 4), 'f')
    check(g, attention, gy, True, *launched(g, attention, gy, True))
    launches, _ = kernels.planes(g.shape, 4, 4, True, 'forward')
    assert [launch.grid for launch in launches] == [(1, 1, 4), (1, 1, 4), (1, 1, 3)]


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)])
def test_nothing_at_all(on_host, shape):
    y, gg, g_attention = launched(*arrays(shape, 'f'), True)
    assert y.shape == gg.shape == shape
    numpy.testing.assert_array_equal(g_attention, numpy.zeros((shape[0], 1, *shape[2:]), 'f'))


def test_the_result_is_in_the_memory_of_g(on_host):
    g, attention, gy = arrays((2, 8, 3, 4), 'f')
    for layout in 'nchw', 'nhwc':
        y, gg, _ = launched(in_memory(g, layout), attention, gy, True)
        assert y.strides == gg.strides == in_memory(g, layout).strides


@pytest.mark.parametrize('shape, dtype, forward, backward', [
    ((256, 1024, 14, 14), 'f', ((1, 26, 256), (49, 10)), ((1, 1, 256), (49, 10))),
    ((256, 1024, 14, 14), 'e', ((1, 13, 256), (49, 10)), ((1, 1, 256), (49, 10))),
    ((128, 64, 16, 16), 'f', ((1, 2, 128), (64, 8)), ((2, 1, 128), (32, 16))),
    ((128, 64, 16, 16), 'e', ((1, 1, 128), (32, 16)), ((2, 1, 128), (16, 32))),
])
def test_launches_of_two_networks(shape, dtype, forward, backward):
    itemsize = numpy.dtype(dtype).itemsize
    for direction, expected in ('forward', forward), ('backward', backward):
        (launch,), partial = kernels.planes(shape, 16 // itemsize, itemsize, True, direction)
        assert (launch.grid, launch.block) == expected
    assert partial == 1


@pytest.mark.parametrize('shape', [(1, 2 ** 16, 256, 256), (3, 8, 2 ** 14, 2 ** 14), (2 ** 17, 64, 8, 8)])
@pytest.mark.parametrize('vector', [1, 4])
@pytest.mark.parametrize('direction', ['forward', 'backward'])
def test_beyond_32_bits(shape, vector, direction):
    """Within a part 32 bits are enough; offsets of images and parts have 64 in the kernel."""
    launches, _ = kernels.planes(shape, vector, 4, True, direction)
    for launch in launches:
        tiles, parts, _ = launch.grid
        _, _, width, rows, length, _ = map(int, launch.sizes)
        assert length * width < 2 ** 31
        assert parts * length >= rows > (parts - 1) * length
        assert tiles * launch.block[0] >= width > (tiles - 1) * launch.block[0]


class Nvrtc:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)

    def __call__(self, name, *arguments):
        status = self.library['nvrtc' + name](*arguments)
        assert status == 0, f'{name}: status {status}\n{self.log() if name == "CompileProgram" else ""}'

    def text(self, what):
        """The answer to ``nvrtcGet<what>``, which ``nvrtcGet<what>Size`` tells the length of."""
        size = ctypes.c_size_t()
        self(f'Get{what}Size', self.program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self(f'Get{what}', self.program, text)
        return text.raw

    def log(self):
        return self.text('ProgramLog').decode()

    def compile(self, source, options):
        self.program = ctypes.c_void_p()
        self('CreateProgram', ctypes.byref(self.program), source.encode(), b'attention.cu', 0, None, None)
        options = [option.encode() for option in options]
        self('CompileProgram', self.program, len(options), (ctypes.c_char_p * len(options))(*options))
        cubin = self.text('CUBIN')
        self('DestroyProgram', ctypes.byref(self.program))
        return cubin


@pytest.mark.cuda
@pytest.mark.parametrize('char, vector', VECTORS)
@pytest.mark.parametrize('library, arch', [(library, arch) for library in NVRTC for arch in NVRTC[library]])
def test_nvrtc_compiles_them(library, arch, char, vector):
    spec = importlib.util.find_spec('nvidia')
    paths = [Path(folder, library) for folder in spec.submodule_search_locations] if spec else []
    found = [path for path in paths if path.exists()]
    if not found:
        pytest.skip(f'needs {WHEELS[library]}')
    cubin = Nvrtc(found[0]).compile(kernels.source(), [*kernels.options(char, vector), f'-arch=sm_{arch}'])
    assert all(f'.text.{name}\0'.encode() in cubin for name in KERNELS)
