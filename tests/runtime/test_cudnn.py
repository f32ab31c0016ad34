"""cuDNN behind Chainer without a GPU: the headers, the library or none, and the checks of the fake one."""
import contextlib
import ctypes
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from helpers import ROOT

from chainer_abn.runtime.cudnn import api, constants

pytestmark = pytest.mark.cuda
FAKE = ROOT / 'tests' / 'emulator' / 'cudnn.c'
NEEDS_GCC = pytest.mark.skipif(not shutil.which('gcc'), reason='needs gcc')


def headers():
    """The folder of cuDNN's headers in NVIDIA's wheel for either CUDA."""
    for name in ('nvidia-cudnn-cu13', 'nvidia-cudnn-cu12'):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return Path(importlib.metadata.distribution(name).locate_file('nvidia/cudnn/include'))
    return Path('missing')


INCLUDE = headers()
NEEDS_HEADERS = pytest.mark.skipif(not (INCLUDE / 'cudnn.h').is_file(),
                                   reason="needs cuDNN's headers (pip install nvidia-cudnn-cu13)")


# What is written down, against the headers

def header(name):
    return re.sub(r'/\*.*?\*/|//[^\n]*', ' ', (INCLUDE / name).read_text(), flags=re.DOTALL)


@NEEDS_HEADERS
def test_constants_are_those_of_the_headers():
    text = ''.join(header(f'cudnn_{part}.h') for part in ('graph', 'ops', 'cnn', 'adv'))
    told = dict(re.findall(r'\b(CUDNN_\w+)(?:\s+CUDNN_DEPRECATED_ENUM)?\s*=\s*(\d+)', text))
    told |= re.findall(r'#define\s+(CUDNN_BN_MIN_EPSILON)\s+([\d.]+)', text)
    ours = {name: value for name, value in vars(constants).items() if name.startswith('CUDNN_')}
    assert len(ours) > 40
    assert ours == {name: float(told[name]) for name in ours}


def kind(declaration):
    """What a C parameter is to ctypes; pointers that receive or give numbers by what they point to."""
    stars = declaration.count('*') + declaration.count('[')
    first = re.sub(r'\b(const|unsigned long long)\b', lambda m: 'ull' if 'long' in m[0] else '', declaration)
    name = re.match(r'\s*(\w+)', first)[1]
    value = {'size_t': ctypes.c_size_t, 'float': ctypes.c_float, 'double': ctypes.c_double,
             'ull': ctypes.c_ulonglong}.get(name, ctypes.c_int)         # int, or an enumeration
    if name.endswith('Perf_t'):
        value = api.Algorithm
    if re.fullmatch(r'cudnn\w+(Descriptor|Handle)_t|cudnnHandle_t|cudaStream_t', name):
        value = ctypes.c_void_p
    if name in ('void', 'cudnnRuntimeTag_t'):
        value, stars = ctypes.c_void_p, stars - 1
    return ctypes.POINTER(value) if stars else value


@NEEDS_HEADERS
def test_signatures_are_those_of_the_headers():
    text = ''.join(header(f'cudnn_{part}.h') for part in ('graph', 'ops', 'cnn'))
    told = {name: [kind(p) for p in parameters.split(',')]
            for name, parameters in re.findall(r'\bcudnn(\w+)\(([^()]*)\);', text)}
    assert len(api.SIGNATURES) > 50
    for name, arguments in api.SIGNATURES.items():
        assert list(arguments) == told[name], name


@NEEDS_HEADERS
def test_results_of_a_search_are_laid_out_as_in_the_header():
    for direction in ('Fwd', 'BwdData', 'BwdFilter'):
        struct = re.search(rf'typedef struct cudnnConvolution{direction}AlgoPerfStruct \{{(.*?)\}}',
                           header('cudnn_cnn.h'), re.DOTALL)[1]
        told = [(name, kind(type_) * int(n) if n else kind(type_))
                for type_, name, n in re.findall(r'(\w+) (\w+)(?:\[(\d+)\])?;', struct)]
        assert told == api.Algorithm._fields_


@NEEDS_GCC
@NEEDS_HEADERS
def test_the_fake_has_the_prototypes_of_the_headers():
    runtime = [path.parent for path in INCLUDE.parents[1].glob('*/include/cuda_runtime_api.h')]
    if not runtime:
        pytest.skip("needs CUDA's headers (pip install cupy-cuda13x[ctk])")
    folders = INCLUDE, FAKE.parent / 'include', *runtime
    done = subprocess.run(
        ['gcc', '-std=gnu11', '-fsyntax-only', '-Wno-deprecated-declarations', '-DCHECK_AGAINST_HEADERS',
         *[f'-I{folder}' for folder in folders], str(FAKE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The library, and where there is none

def test_the_environment_names_the_only_library(monkeypatch):
    monkeypatch.setenv('CHAINER_ABN_CUDNN', '/some/where/libcudnn.so.9')
    assert api.find(13) == ['/some/where/libcudnn.so.9']


def test_the_wheel_of_cupys_cuda_comes_before_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv('CHAINER_ABN_CUDNN', raising=False)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    assert api.find(12) == ['libcudnn.so.9']
    info = tmp_path / 'nvidia_cudnn_cu12-9.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: nvidia-cudnn-cu12\nVersion: 9.1.0\n')
    assert api.find(12) == ['libcudnn.so.9']
    library = tmp_path / 'nvidia' / 'cudnn' / 'lib' / 'libcudnn.so.9'
    library.parent.mkdir(parents=True)
    library.touch()
    assert api.find(12) == [str(library), 'libcudnn.so.9']
    assert api.find(13) == ['libcudnn.so.9']


def compiled(path, source, *options):
    subprocess.run(['gcc', '-std=gnu11', '-O3', '-shared', '-fPIC', '-x', 'c', '-', '-o', str(path), *options,
                    '-lm', '-lpthread'], input=source, text=True, check=True)
    return str(path)


@NEEDS_GCC
def test_another_library_is_refused(tmp_path):
    old = compiled(tmp_path / 'old.so', 'long cudnnGetVersion(void) { return 8907; }')
    with pytest.raises(OSError, match='old.so: cuDNN version 8907, 9 is needed'):
        api.Library([old])
    text = 'long cudnnGetVersion(void) { return 90100; } int cudnnGetErrorString, cudnnGetLastErrorString;'
    with pytest.raises(AttributeError, match='cudnnCreate'):
        api.Library([compiled(tmp_path / 'poor.so', text)])
    with pytest.raises(OSError, match='nowhere.so'):
        api.Library([old + 'x', str(tmp_path / 'nowhere.so')])


ASK = 'import chainer_abn; from chainer_abn.runtime import cudnn; cudnn.install(); print(cudnn.why_not())'


def answer(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_cupy_nothing_happens(python):
    done = python('-c', 'import sys; sys.modules["cupy"] = None; ' + ASK + '; import chainer;'
                  'print([cudnn.version(), cudnn.path(), chainer.backends.cuda.available])')
    assert answer(done).splitlines() == ['CuPy is not installed', '[None, None, False]']
    assert 'cuDNN' not in done.stderr


def test_cupys_own_cudnn_is_left_alone(python, tmp_path):
    for name in ('cupy', 'cupy/cuda'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'cudnn.py').write_text('own = True')
    (tmp_path / 'cupy/__init__.py').write_text('__version__ = "13.6.0"')
    (tmp_path / 'cupy/cuda/__init__.py').touch()
    done = python('-c', ASK + '; import cupy.cudnn; print(cupy.cudnn.own)', PYTHONPATH=str(tmp_path))
    assert answer(done).splitlines() == ['CuPy 13.6.0 brings its own', 'True']


def needs_cupy():
    pytest.importorskip('cupy')


def test_a_missing_library_is_told_in_one_line(python):
    needs_cupy()
    done = python('-c', ASK + '; import chainer; print(chainer.backends.cuda.cudnn_enabled)',
                  CHAINER_ABN_CUDNN='/nowhere/libcudnn.so.9')
    reason, enabled = answer(done).splitlines()
    assert re.fullmatch(r'/nowhere/libcudnn.so.9: .* \(CHAINER_ABN_CUDNN\)', reason)
    assert enabled == 'False'


def test_chainers_switch_keeps_it_off(python):
    needs_cupy()
    assert answer(python('-c', ASK, CHAINER_CUDNN='0')) == 'switched off by CHAINER_CUDNN=0'


@NEEDS_GCC
@pytest.mark.parametrize('early', [True, False])
def test_chainer_is_told_before_and_after_its_import(python, tmp_path, early):
    needs_cupy()
    # the package without its own __init__, which imports chainer
    text = f'''if True:
        import sys, types
        for name in ('chainer_abn', 'chainer_abn.runtime'):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [{str(ROOT)!r} + '/' + name.replace('.', '/')]
        from chainer_abn.runtime import compat, cudnn
        if {early}: cudnn.install()
        compat.apply()
        cudnn.install()
        import chainer
        from chainer.backends import cuda
        from chainer.functions.activation import clipped_relu, relu, softmax
        from chainer.functions.connection import convolution_2d
        from chainer.functions.normalization import batch_normalization
        from chainer.functions.pooling import max_pooling_nd
        from chainer.functions.rnn import n_step_rnn
        print(cudnn.why_not(), cuda.cudnn_enabled, chainer.should_use_cudnn('>=auto'), cuda._cudnn_version,
              relu._mode, clipped_relu._mode, softmax._algorithm, convolution_2d._cudnn_version,
              batch_normalization.libcudnn.CUDNN_BN_MIN_EPSILON, max_pooling_nd._cudnn_version,
              n_step_rnn._rnn_dirs, relu.cudnn.convolution_forward.__module__)
    '''
    library = compiled(tmp_path / 'libcudnn.so.9', FAKE.read_text())
    done = python('-c', text, CHAINER_ABN_CUDNN=library)
    assert answer(done) == ("None True True 90000 1 3 1 90000 0.0 90000 {'uni': 0, 'bi': 1} "
                            'chainer_abn.runtime.cudnn.convolution')
    assert ('cuDNN is not enabled' in done.stderr) == (not early)


@pytest.mark.skipif(not (INCLUDE.parent / 'lib' / api.NAME).is_file(),
                    reason='needs cuDNN (pip install nvidia-cudnn-cu13)')
def test_nvidias_library_understands_the_descriptors(python):
    """It needs no GPU to tell sizes of outputs and dims of statistics, in both memory orders."""
    needs_cupy()
    done = python('-c', """if True:
        import ctypes
        import chainer_abn
        from chainer_abn.runtime.cudnn import api, descriptors as d
        api.load(0)
        def ask(function, arguments):
            dims, strides = (ctypes.c_int * 5)(), (ctypes.c_int * 5)()
            assert getattr(api.library()._lib, function)(*arguments(dims, strides)) == 0
            return dims[:], strides[:]
        def output(n, *args):
            return lambda dims, strides: [*args, n, dims]
        def layout(descriptor):
            n, type_ = ctypes.c_int(), ctypes.c_int()
            return lambda dims, strides: [
                *pointers(descriptor), 5, ctypes.byref(type_), ctypes.byref(n), dims, strides]
        def pointers(*found):
            return [ctypes.c_void_p(f._as_parameter_) for f in found]
        for order in (0, 1):
            x = d.tensor((2, 6, 9, 8), 'e', order)
            window = d.convolution((2, 1), (1, 2), (2, 1), 3, 'e', 1)
            filters = d.weights((9, 2, 3, 3), 'e', order)
            found = output(4, *pointers(window, x, filters))
            print(ask('cudnnGetConvolutionNdForwardOutputDim', found)[0][:4])
            print(*ask('cudnnGetTensorNdDescriptor', layout(x)))
            for mode in (0, 1, 2):
                statistics = d.statistics((2, 6, 9, 8), 'e', order, mode)
                print(ask('cudnnGetTensorNdDescriptor', layout(statistics))[0])
        pool = d.pooling((3, 2, 2), (2, 2, 1), (1, 0, 1), 0)
        volumes = d.tensor((2, 3, 5, 6, 4), 'd')
        print(ask('cudnnGetPoolingNdForwardOutputDim', output(5, *pointers(pool, volumes)))[0])
    """, CHAINER_ABN_CUDNN=str(INCLUDE.parent / 'lib' / api.NAME))
    statistics = ['[1, 6, 9, 8, 0]', '[1, 6, 1, 1, 0]', '[1, 6, 1, 1, 0]']
    assert answer(done).splitlines() == [
        '[2, 9, 9, 4]', '[2, 6, 9, 8, 0] [432, 72, 8, 1, 0]', *statistics,
        '[2, 9, 9, 4]', '[2, 6, 9, 8, 0] [432, 1, 48, 6, 0]', *statistics,
        '[2, 3, 3, 3, 5]']


# The fake refuses what does not fit

@pytest.fixture(scope='module')
def fake(tmp_path_factory):
    """The fake on plain memory, whether or not a GPU is emulated."""
    if not shutil.which('gcc'):
        pytest.skip('needs gcc')
    path = compiled(tmp_path_factory.mktemp('fake') / 'libcudnn.so.9', FAKE.read_text(),
                    '-Demulator_submit=nobody', '-Demulator_on_device=nobody_either')
    return api.Library([path])


def ints(*values):
    return (ctypes.c_int * len(values))(*values)


class Call:
    """A convolution of (2, 4, 5, 5) with (6, 4, 3, 3), right in every argument, for one to be spoiled."""

    def __init__(self, lib):
        self.lib, self.handle = lib, lib.make('')
        self.x, self.w = numpy.ones((2, 4, 5, 5), 'f'), numpy.ones((6, 4, 3, 3), 'f')
        self.y = numpy.empty((2, 6, 5, 5), 'f')
        self.of_x, self.of_y = self.tensor(self.x), self.tensor(self.y)
        self.of_w = lib.make('FilterDescriptor')
        lib.SetFilterNdDescriptor(self.of_w, 0, 0, 4, ints(6, 4, 3, 3))
        self.window = lib.make('ConvolutionDescriptor')
        lib.SetConvolutionNdDescriptor(self.window, 2, ints(1, 1), ints(1, 1), ints(1, 1), 1, 0)
        self.algorithm, self.workspace = 1, numpy.empty(1 << 16, 'b')
        self.one, self.zero = api.ONE['f'], api.ZERO['f']

    def tensor(self, array):
        descriptor = self.lib.make('TensorDescriptor')
        strides = [s // array.itemsize for s in array.strides]
        self.lib.SetTensorNdDescriptor(descriptor, api.DATA_TYPES[array.dtype.char], array.ndim,
                                       ints(*array.shape), ints(*strides))
        return descriptor

    def __call__(self):
        self.lib.ConvolutionForward(
            self.handle, self.one, self.of_x, self.x.ctypes.data, self.of_w, self.w.ctypes.data, self.window,
            self.algorithm, self.workspace.ctypes.data, self.workspace.nbytes, self.zero, self.of_y,
            self.y.ctypes.data)


def test_the_fake_computes_what_fits(fake):
    call = Call(fake)
    call.workspace[:] = 0
    call()
    numpy.testing.assert_array_equal(call.y[0, 0, 0], [16, 24, 24, 24, 16])
    assert (call.workspace == -1).all()


@pytest.mark.parametrize('spoil, complaint', [
    (lambda c: setattr(c, 'handle', c.of_x), 'handle'),
    (lambda c: setattr(c, 'of_x', c.of_w), 'kind'),
    (lambda c: setattr(c, 'of_w', c.of_y), 'kind'),
    (lambda c: setattr(c, 'of_y', c.tensor(numpy.empty((2, 6, 5, 4), 'f'))), 'spatial dim 1: 4, not 5'),
    (lambda c: setattr(c, 'of_y', c.tensor(numpy.empty((2, 3, 5, 5), 'f'))), 'output 2,3,5,5'),
    (lambda c: setattr(c, 'of_y', c.tensor(numpy.empty((2, 6, 5, 5), 'd'))), 'types'),
    (lambda c: setattr(c, 'of_y', c.tensor(numpy.empty((2, 5, 5, 6), 'f').transpose(0, 3, 1, 2))), 'orders'),
    (lambda c: setattr(c, 'of_x', c.tensor(numpy.empty((2, 8, 5, 5), 'f')[:, ::2])), 'unpacked'),
    (lambda c: c.lib.SetConvolutionGroupCount(c.window, 2), '4 channels, 6 x 4 filters, 2 groups'),
    (lambda c: c.lib.SetConvolutionMathType(c.window, constants.CUDNN_TENSOR_OP_MATH), 'math type'),
    (lambda c: setattr(c, 'algorithm', 4), 'algorithm 4'),
    (lambda c: setattr(c, 'workspace', c.workspace[:8]), '8 bytes'),
    (lambda c: setattr(c, 'one', api.ONE['d']), '0 and 0'),
    (lambda c: setattr(c, 'zero', api.ONE['f']), '1 and 1'),
])
def test_the_fake_refuses_what_does_not(fake, spoil, complaint):
    call = Call(fake)
    with pytest.raises(api.Error) as refused:
        spoil(call)
        call()
    assert refused.value.status == 2000
    assert re.match(rf'cudnnConvolutionForward: CUDNN_STATUS_BAD_PARAM \(.*{complaint}', str(refused.value))


def test_the_fake_wants_statistics_of_the_very_tensor(fake):
    call = Call(fake)
    plain, derived = call.tensor(numpy.empty((1, 4, 1, 1), 'f')), fake.make('TensorDescriptor')
    data = [numpy.ones(4, 'f') for _ in range(6)]

    def train(statistics, mode, x=call.x):
        fake.BatchNormalizationForwardTraining(
            call.handle, mode, call.one, call.zero, call.of_x, x.ctypes.data, call.of_x, x.ctypes.data,
            statistics, *[a.ctypes.data for a in data[:2]], 0.1, *[a.ctypes.data for a in data[2:4]], 0.0,
            *[a.ctypes.data for a in data[4:]])

    fake.DeriveBNTensorDescriptor(derived, call.of_x, constants.CUDNN_BATCHNORM_SPATIAL)
    for statistics, mode in ((plain, 1), (derived, 2)):
        with pytest.raises(api.Error, match='of another tensor or mode'):
            train(statistics, mode)
    call.x[:, :, 0] = 3
    train(derived, constants.CUDNN_BATCHNORM_SPATIAL)
    assert data[4] == pytest.approx(1.4)
    assert data[5] == pytest.approx(1 / 0.8)
