"""A GPU emulator for tests: CuPy itself on a machine without a GPU, its CUDA calls answered in host memory.

What it is: `start()` loads libraries under CUDA's names (the driver, cuBLAS, cuRAND, cuDNN), written here
for the part that CuPy and Chainer use, and puts g++ in the place of NVRTC. Arrays, kernels, streams, events,
captured graphs, pinned memory and the errors of their misuse behave as CUDA's documentation says; sorting is
NumPy's. What is not emulated says so on stderr and fails.

What it is not: a simulator. Nothing here says anything about time. The threads of a kernel take turns, so
races within it do not show. Rounding is the host's. Not there: inline PTX, cooperative groups, textures,
memory pools of the driver, FFT, cuSOLVER, cuSPARSE, NCCL, and what was compiled for a GPU beforehand (CUB,
cupy.random.Generator). Work is done in the order of its submission; with EMULATOR_LAZY=1 as late as the
program's synchronisation allows, so that a missing one shows.

Why it changes functions in memory: CuPy's wheels have the CUDA runtime linked in, out of reach of any library
of the same name, but they still list its functions in their symbol tables. See symbols.py.

Environment: EMULATOR_CACHE (folder of compiled things), EMULATOR_DEVICES (1), EMULATOR_MEMORY (bytes per
device, 8 GiB), EMULATOR_LAZY (0).
"""
import contextlib
import ctypes
import os
import sys

from emulator import build, nvrtc, symbols, thrust

EMULATED = 'cublas', 'cublasLt', 'curand'
_library = None


def start():
    """Makes `import cupy` find an emulated GPU; a second call changes nothing.

    Raises RuntimeError, with one line, where the emulator cannot run or CuPy has been imported already.
    """
    global _library
    if _library:
        return
    build.check()
    if 'cupy' in sys.modules:
        raise RuntimeError('the emulator must start before CuPy is imported')
    compiler = nvrtc.Compiler()
    library, *others = (ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in build.libraries())
    library.emulator_set_folder(os.fsencode(compiler.folder))
    os.environ['CUPY_CACHE_DIR'] = str(compiler.folder / 'kernels')
    os.environ['CUPY_ACCELERATORS'] = ''  # CUB's kernels are precompiled
    os.environ.setdefault('CHAINER_ABN_CUDNN', str(build.cudnn()))
    find_no_others()
    import cupy.cuda
    paths = [getattr(module, '__file__', None) or '' for name, module in list(sys.modules.items())
             if name.startswith(('cupy.', 'cupy_backends.'))]
    if not sum(symbols.divert(path, library) for path in paths if path.endswith('.so')):
        raise RuntimeError('the modules of this CuPy list no functions of the CUDA runtime')
    nvrtc.replace(cupy.cuda.compiler, compiler)
    thrust.replace(cupy.cuda.thrust, cupy.cuda.get_current_stream)
    _library = library


def find_no_others():
    """Keeps CuPy from looking for the libraries that are emulated, which need not be installed."""
    with contextlib.suppress(ImportError):  # CuPy 14 asks this package
        from cuda import pathfinder
        load = pathfinder.load_nvidia_dynamic_lib
        pathfinder.load_nvidia_dynamic_lib = lambda name: None if name in EMULATED else load(name)


def is_running():
    return _library is not None


def pass_on():
    """Lets the Python processes that this one starts have the emulated GPU as well."""
    children = str(build.HERE / 'children')
    paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    if children not in paths:
        os.environ['PYTHONPATH'] = os.pathsep.join([children, *filter(None, paths)])


def set_memory_limit(n_bytes):
    """Of each device; allocations beyond it fail."""
    _library.emulator_set_memory_limit(ctypes.c_size_t(n_bytes))


def set_lazy(lazy):
    """Whether streams other than the default one do their work only when something waits for it."""
    _library.emulator_set_lazy(int(lazy))


def set_skipping(skipping):
    """Whether work on the device is thrown away: what is left is the time that the host takes."""
    _library.emulator_set_skipping(int(skipping))
