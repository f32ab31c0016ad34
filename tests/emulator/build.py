"""Compiles the emulator's libraries with g++, each kept under a hash of what it is made of."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path

from emulator.elf import Elf

HERE = Path(__file__).parent
CUBLAS = 'cupy_backends.cuda.libs.cublas'
CURAND = 'cupy_backends.cuda.libs.curand'
# no fused multiply-add and no -ffast-math: sums round as written. Kernels view memory as other types at will,
# and the static memory of one in a template is not that of another module.
FLAGS = ['-fPIC', '-ffp-contract=off', '-fno-strict-aliasing', '-fno-math-errno', '-fno-gnu-unique']


def root():
    """The folder of everything compiled: EMULATOR_CACHE, or one in the system's temporary folder."""
    default = Path(tempfile.gettempdir()) / f'cuda-emulator-{os.getuid()}'
    return Path(os.environ.get('EMULATOR_CACHE', default))


def package(name):
    """The folder of an installed package, without importing it (None: not installed)."""
    spec = util.find_spec(name)
    return Path(next(iter(spec.submodule_search_locations))) if spec else None


def extension(module):
    """The file of one of CuPy's compiled modules."""
    top, *rest = module.split('.')
    folder = package(top).joinpath(*rest[:-1])
    return next(folder.glob(f'{rest[-1]}.*.so'))


def bundled(name):
    """A part of CCCL, NVIDIA's C++ headers, of which CuPy has a copy."""
    return package('cupy') / '_core' / 'include' / 'cupy' / '_cccl' / name


def cuda_includes():
    """The folders of the headers of the CUDA that this CuPy is made for: NVIDIA's wheels, or CUDA_PATH."""
    cublas, = (name for name in Elf(extension(CUBLAS)).needed if 'cublas' in name)
    major = int(cublas.rpartition('.')[2])
    wheels = package('nvidia') or Path('/nonexistent')
    if major >= 13:
        folders = [wheels / f'cu{major}' / 'include']
    else:
        folders = [wheels / name / 'include' for name in ('cuda_runtime', 'cublas', 'curand')]
    folders = [f for f in folders if f.is_dir()]
    if not folders:
        folders = [Path(os.environ.get('CUDA_PATH', '/usr/local/cuda')) / 'include']
    if not any((f / 'cuda_runtime_api.h').is_file() for f in folders):
        raise RuntimeError(f'the headers of CUDA {major} are missing: pip install "cupy-cuda{major}x[ctk]"')
    return [HERE / 'include', *folders, bundled('libcudacxx')]  # <nv/target>


def cached(ingredients, make):
    """The folder <root>/<hash of the ingredients>, filled by make(folder) if it is not there."""
    texts = [p.read_text() for p in (Path(__file__), *sorted(HERE.glob('include/**/*.h')))]
    digest = hashlib.sha256(repr([compiler_version(), texts, ingredients]).encode())
    folder = root() / digest.hexdigest()[:20]
    if not folder.exists():
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=root()))
        try:
            make(new)
            new.rename(folder)
        except OSError:
            if not folder.exists():  # by another process
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def compiler_version():
    if not shutil.which('g++'):
        raise RuntimeError('the emulator needs g++')
    return subprocess.run(['g++', '-dumpfullversion'], capture_output=True, text=True, check=True).stdout


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{" ".join(map(str, command))}\n{done.stderr}')


def library(name, sources, includes, stubs=(), options=('-O2',)):
    """A shared library of these files, with the name inside that others ask for.

    stubs are names of functions that fail and say so, unless a source defines them.
    """
    sources = [HERE / s for s in sources]
    options = [*options, *(f'-I{i}' for i in includes)]
    stubs = 'int emulator_missing(const char *name);\n' + ''.join(
        f'__attribute__((weak)) int {s}(void) {{ return emulator_missing("{s}"); }}\n' for s in stubs)

    def make(folder):
        (folder / 'stubs.c').write_text(stubs)
        objects = []
        for source in [folder / 'stubs.c', *sources]:
            objects.append(folder / f'{source.stem}.o')
            compiler = ['gcc', '-std=gnu11'] if source.suffix == '.c' else ['g++', '-std=c++17']
            run([*compiler, *FLAGS, *options, '-c', source, '-o', objects[-1]])
        # CuPy's modules ask for symbols of the version that NVIDIA's libraries give theirs: their own name
        (folder / 'version').write_text(f'{name} {{ *; }};')
        run(['g++', '-shared', f'-Wl,-soname,{name},--version-script={folder / "version"}', *objects,
             '-o', folder / name, '-ldl', '-lpthread', '-lm'])

    headers = sorted(HERE.glob('*.h'))
    ingredients = [p.read_text() for p in [*sources, *headers]]
    return cached([name, *ingredients, options, stubs], make) / name


def libraries():
    """Builds the CUDA libraries -> their paths, in the order of loading."""
    includes = cuda_includes()
    paths = [library('libcuda.so.1', ['device.cpp', 'memory.cpp', 'stream.cpp', 'launch.cpp'], includes)]
    for module, source in ((CUBLAS, 'cublas.cpp'), (CURAND, 'curand.cpp')):
        elf = Elf(extension(module))
        soname = next(n for n in elf.needed if source.partition('.')[0] in n)
        names = [n for n in elf.undefined if n.startswith(source.partition('.')[0])]
        paths.append(library(soname, [source], includes, stubs=names, options=['-O3']))
    return paths


def cudnn():
    """The fake cuDNN; it knows NVIDIA's constants by itself."""
    return library('libcudnn.so.9', ['cudnn.c'], [], options=['-O3'])


def check():
    """RuntimeError where the emulator cannot run."""
    if not sys.platform.startswith('linux') or os.uname().machine != 'x86_64':
        raise RuntimeError('the emulator needs Linux on x86-64')
    if not package('cupy'):
        raise RuntimeError('the emulator needs CuPy')
    if not any(d.name.lower().startswith('cupy-cuda') for d in metadata.distributions() if d.name):
        raise RuntimeError('the emulator needs one of the wheels cupy-cuda12x, cupy-cuda13x')
    compiler_version()
