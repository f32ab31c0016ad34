"""What a shared library of CuPy's says of itself: the parts of the ELF format that are needed."""
import struct

SYMTAB, DYNAMIC, DYNSYM = 2, 6, 11
NEEDED = 1
FUNCTION = 2


class Elf:
    """needed: sonames; undefined: imported names; functions: {name: (address, size)}, local ones too."""

    def __init__(self, path):
        with open(path, 'rb') as f:
            self._bytes = f.read()
        if self._bytes[:5] != b'\x7fELF\x02':
            raise RuntimeError(f'{path} is no 64-bit ELF file')
        at, = struct.unpack_from('<Q', self._bytes, 0x28)
        size, n = struct.unpack_from('<HH', self._bytes, 0x3A)
        # name, type, flags, address, offset, size, link, info, alignment, entry size
        self._sections = [struct.unpack_from('<IIQQQQIIQQ', self._bytes, at + i * size) for i in range(n)]

    def _section(self, kind):
        """Where each entry of the sections of a kind is, and where its texts begin."""
        for section in self._sections:
            if section[1] == kind:
                offset, size, entry = section[4], section[5], section[9]
                strings = self._sections[section[6]][4]
                for i in range(offset, offset + size, entry):
                    yield i, strings

    def _text(self, at):
        return self._bytes[at:self._bytes.index(b'\0', at)].decode()

    @property
    def needed(self):
        entries = [(*struct.unpack_from('<QQ', self._bytes, at), text) for at, text in self._section(DYNAMIC)]
        return [self._text(text + value) for tag, value, text in entries if tag == NEEDED]

    def _symbols(self, kind):
        for i, strings in self._section(kind):
            name, info, _, section, value, size = struct.unpack_from('<IBBHQQ', self._bytes, i)
            yield self._text(strings + name), info & 15, section, value, size

    @property
    def undefined(self):
        return [name for name, _, section, _, _ in self._symbols(DYNSYM) if section == 0 and name]

    @property
    def functions(self):
        return {name: (value, size) for name, kind, section, value, size in self._symbols(SYMTAB)
                if kind == FUNCTION and section}
