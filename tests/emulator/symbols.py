"""Diverts the CUDA runtime that is linked into CuPy's modules to the emulator's library.

CuPy's wheels contain cudart as a static library, so no library put before another can take its place; but
its functions are still listed in the symbol tables. Each gets a jump at its start: to the function of the
same name in the emulator, or to one that says that it is missing.
"""
import ctypes
import mmap
import re
import struct

from emulator.elf import Elf

JUMP = b'\x48\xb8%s\xff\xe0'  # movabs $target, %rax; jmp *%rax
FIRST_ARGUMENT = b'\x48\xbf%s'  # movabs $value, %rdi
libc = ctypes.CDLL(None, use_errno=True)
kept = []  # the stubs and the names they point to


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def jump(target):
    return JUMP % struct.pack('<Q', target)


def divert(path, library):
    """Diverts all functions cuda* of the loaded file `path` to `library` (a ctypes.CDLL) -> how many."""
    functions = {n: a for n, a in Elf(path).functions.items() if re.match('cuda[A-Z]', n)}
    if not functions:
        return 0
    base = load_address(path)
    missing = [n for n in functions if not hasattr(library, n)]
    targets = {n: address(getattr(library, n)) for n in functions if n not in missing}
    targets.update(stubs(missing, library))
    page = mmap.PAGESIZE
    first = (base + min(a for a, _ in functions.values())) // page * page
    last = base + max(a + size for a, size in functions.values())
    size = (last - first + page - 1) // page * page
    protect(first, size, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    for name, (offset, length) in functions.items():
        code = jump(targets[name])
        if length < len(code):
            raise RuntimeError(f'{name} in {path} is too short to divert')
        ctypes.memmove(base + offset, code, len(code))
    protect(first, size, mmap.PROT_READ | mmap.PROT_EXEC)
    return len(functions)


def load_address(path):
    with open('/proc/self/maps') as maps:
        for line in maps:
            if line.rstrip().endswith(str(path)):
                return int(line.partition('-')[0], 16)  # the first mapping is the file's start
    raise RuntimeError(f'{path} is not loaded')


def protect(start, size, how):
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), how):
        raise RuntimeError('this system does not let a program change its own code')


def stubs(names, library):
    """Code per name that calls emulator_missing(name)."""
    handler = address(library.emulator_missing)
    texts = [ctypes.create_string_buffer(n.encode()) for n in names]
    codes = [FIRST_ARGUMENT % struct.pack('<Q', ctypes.addressof(t)) + jump(handler) for t in texts]
    memory = mmap.mmap(-1, sum(map(len, codes)), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b''.join(codes))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    kept.extend([memory, texts])
    targets = {}
    for name, code in zip(names, codes, strict=True):
        targets[name] = start
        start += len(code)
    return targets
