"""Compiles CuPy's kernels with g++, in the place of NVRTC."""
import re
import struct
import subprocess
import tempfile
from pathlib import Path

from emulator import build

SHIM = build.HERE / 'cuda_shim.h'
# most of CuPy's kernels begin with these, so they are compiled once with the shim
CUPY_HEADERS = ('complex', 'carray', 'atomics', 'float16')

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.DOTALL)
ATTRIBUTE = r'(?:__\w+__\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*)'
KERNEL = re.compile(
    rf'__global__\s+(?:(?:static|inline)\s+|{ATTRIBUTE})*void\s+{ATTRIBUTE}*(\w+)\s*\(', re.DOTALL)
DYNAMIC_SHARED = re.compile(rf'extern\s+__shared__\s+({ATTRIBUTE}*)([^;]*?){ATTRIBUTE}*(\w+)\s*\[\s*\]\s*;')


def kernels(source):
    """The names of the kernels with C linkage, the only ones that CUDA finds by their plain name."""
    source = COMMENT.sub(' ', source)
    block = re.search(r'extern\s+"C"\s*\{', source)
    for match in KERNEL.finditer(source):
        before = source[:match.start()].rstrip()
        if re.search(r'extern\s+"C"(\s+__\w+__(\([^()]*\))?)*$', before) or (
                block and block.start() < match.start() and not before.endswith('>')):
            yield match[1]


def translate(source, name_expressions):
    """CUDA C++ -> C++ for g++ with the shim, {name expression: name of its kernel in the module}."""
    source = DYNAMIC_SHARED.sub(r'auto *const \3 = emulator::dynamic_shared<\2>();', source)
    entry = 'extern "C" emulator::Entry emulator_kernel_%s() { return emulator::entry(%s); }\n'
    names = {expression: f'expression_{i}' for i, expression in enumerate(name_expressions or ())}
    source += '\n' + ''.join(entry % (name, name) for name in dict.fromkeys(kernels(source)))
    source += ''.join(entry % (name, expression) for expression, name in names.items())
    return source, names


class Compiler:
    """folder: of what it compiled ahead, and for CuPy's cache of kernels, whose key knows nothing of it."""

    def __init__(self):
        include = build.package('cupy') / '_core' / 'include'
        folders = [*build.cuda_includes(), include, build.bundled('thrust'), build.bundled('cub')]
        self.command = ['g++', '-std=c++17', *build.FLAGS, '-O1', '-w']
        self.includes = [f'-I{f}' for f in folders]
        self.folder = build.cached(
            [self.command, self.includes, SHIM.read_text(), Path(__file__).read_text()], self._precompile)

    def _precompile(self, folder):
        cupy = ''.join(f'#include <cupy/{name}.cuh>\n' for name in CUPY_HEADERS)
        for name, more in (('shim.h', ''), ('cupy.h', cupy)):
            (folder / name).write_text(f'#include "{SHIM}"\n{more}')
            # g++ takes NAME.gch for NAME
            build.run([*self.command, *self.includes, '-x', 'c++-header', folder / name,
                       '-o', folder / f'{name}.gch'])

    def __call__(self, source, options, name_expressions):
        """-> the module for cuModuleLoadData, {name expression: name in it}. ValueError: g++'s words."""
        source, names = translate(source, name_expressions)
        header = self.folder / ('cupy.h' if '<cupy/' in source else 'shim.h')
        given = [re.sub('^--include-path=', '-I', o) for o in options]
        given = [o for o in given if o.startswith(('-I', '-D', '-U'))]
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, 'kernel.so')
            done = subprocess.run(
                [*self.command, '-shared', '-Wl,-Bsymbolic', *self.includes, *given, '-include', header,
                 '-x', 'c++', '-', '-o', library], input=source, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(done.stderr)
            content = library.read_bytes()
        return b'EMULATED' + struct.pack('<Q', len(content)) + content, names


def replace(compiler_module, compiler):
    """Puts `compiler` in the place of CuPy's class that talks to NVRTC."""

    class Program:
        def __init__(self, src, name='default_program', headers=(), include_names=(), name_expressions=None,
                     method='ptx'):
            self.src, self.name, self.name_expressions = src, name, name_expressions
            if isinstance(src, bytes):
                self.src = src.decode()

        def compile(self, options=(), log_stream=None):
            if not self.src.strip():
                return b'// the emulator', None  # CuPy asks for the compiler's version this way
            try:
                module, names = compiler(self.src, options, self.name_expressions)
            except ValueError as error:
                raise compiler_module.CompileException(str(error), self.src, self.name, options) from None
            return module, names if self.name_expressions else None

    compiler_module._NVRTCProgram = Program
