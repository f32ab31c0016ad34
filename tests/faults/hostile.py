"""Files made to do harm, and what the program's readers make of them.

    python tests/faults/hostile.py FOLDER

writes each of them to FOLDER/in, reads it there, and prints a line of JSON: its kind, what came of it, and
how many bytes of memory the process has taken at most so far, beyond what it had at first.
"""
import functools
import io
import json
import lzma
import os
import pickle
import resource
import struct
import sys
import tarfile
import traceback
import zlib
from pathlib import Path

import numpy

from chainer_abn import build, load
from chainer_abn.datasets.archives import unpack
from chainer_abn.datasets.boxes import read_boxes
from chainer_abn.datasets.images import is_image, read_image, set_limit
from chainer_abn.datasets.masks import Masks
from chainer_abn.datasets.mat import read_mat
from chainer_abn.errors import InputError
from chainer_abn.training.checkpoint import read_npz
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.torch_file import LEGACY_MAGIC, TorchFile
from chainer_abn.training.weights import read_network

import chainer

CASES = []                      # (kind, function that makes the file, reader, words of the error)
HUGE = 100_000_000_000
CONFIG = {'arch': 'resnet8', 'variant': 'abn', 'attention': 'residual', 'in_channels': 3,
          'classes': ['a', 'b'], 'image_size': [32, 32], 'resize': [32, 32], 'mean': [0] * 3, 'std': [1] * 3}


def case(kind, reader, words):
    """For a function that returns the bytes of a file; the reader's error must have the words."""
    def add(make):
        CASES.append((kind, make, reader, words))
        return make
    return add


class Bomb:
    """A pickle that, where it is believed, makes a folder."""

    def __reduce__(self):
        return os.system, ('mkdir code-was-run',)


@functools.cache
def zeros(n):
    """``n`` times 16 MB of zeros, deflated; a thousandth of the size."""
    deflate = zlib.compressobj(9, wbits=-15)
    block = deflate.compress(bytes(1 << 24)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * n + b'\x03\0'


def zip_of(*members):
    """A zip archive of (name, content, claimed size or None, method) whose content is as it comes out."""
    local, directory = b'', b''
    for name, content, size, method in members:
        name = name.encode()
        told = struct.pack('<HHHHHIIIHH', 20, 0x800, method, 0, 33, zlib.crc32(content), len(content),
                           len(content) if size is None else size, len(name), 0)
        directory += b'PK\1\2\x14\3' + told + struct.pack('<HHHII', 0, 0, 0, 0, len(local)) + name
        local += b'PK\3\4' + told + name + content
    end = struct.pack('<HHHHIIH', 0, 0, len(members), len(members), len(directory), len(local), 0)
    return local + directory + b'PK\5\6' + end


def npy(descr="'<f4'", shape='(2,)', data=b'12345678', version=b'\1\0', length=None):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode() + b'\n'
    size = struct.pack('<H' if version == b'\1\0' else '<I', len(header) if length is None else length)
    return b'\x93NUMPY' + version + size + header + data


def npz(*members):
    return zip_of(*((f'{name}.npy', content, None, 0) for name, content in members))


def network(arrays=(), **changes):
    """A network file with another config, of which a small one's arrays are there."""
    net = chainer.serializers.DictionarySerializer()
    build('resnet8', 2).serialize(net)
    file = io.BytesIO()
    numpy.savez(file, **{**net.target, **dict(arrays), 'config': json.dumps({**CONFIG, **changes})})
    return file.getvalue()


case('npz', load, 'claims .100000000000,. numbers')(
    lambda: npz(('config', npy("'<U9'", '()', bytes(36))), ('a', npy(shape=f'({HUGE},)'))))
case('npz', read_npz, 'claims .100000000000,. numbers')(lambda: npz(('a', npy(shape=f'({HUGE},)'))))
case('npz', read_npz, 'numbers in 8 bytes')(lambda: npz(('a', npy(shape='(-2,)'))))
case('npz', read_npz, 'numbers in 8 bytes')(lambda: npz(('a', npy(shape=f'(2, {1 << 62}, {1 << 62})'))))
case('npz', read_npz, 'is of type <U0')(lambda: npz(('a', npy("'<U0'", f'({HUGE},)', b''))))
case('npz', read_npz, 'EOF')(lambda: npz(('a', npy(version=b'\2\0', length=1 << 30))))
case('npz', read_npz, r'version \(9, 9\)')(lambda: npz(('a', npy(version=b'\11\11'))))
case('npz', read_npz, 'is of type object')(lambda: npz(('a', npy("'|O'", '()', pickle.dumps(Bomb())))))
case('npz', load, 'is of type object')(lambda: npz(('config', npy("'|O'", '()', pickle.dumps(Bomb())))))
case('npz', read_npz, 'is of type')(lambda: npz(('a', npy("[('x', '<f4')]"))))
case('npz', read_npz, 'unreadable')(lambda: npz(('a', npy('(' * 4000))))
case('npz', read_npz, 'comes twice')(lambda: npz(('a', npy()), ('a', npy())))
case('npz', read_npz, 'larger than the file')(lambda: overlapping('.npy', npy(data=bytes(1 << 20)), 1000))
case('npz', read_npz, 'a list of members')(lambda: zip_of_many())
for reader in read_npz, load, lambda path: read_network(path, 'resnet50_fine'):
    case('npz', reader, 'compressed, and larger')(
        lambda: zip_of(('res2/a/conv1/W.npy', zeros(64), 1 << 30, 8)))
case('npz', lambda path: read_network(path, 'resnet50_fine'), 'damaged|does not fit|unreadable')(
    lambda: zip_of(('res2/a/conv1/W.npy', zeros(64), 4096, 8)))
case('npz', lambda path: read_network(path, 'resnet50_fine'), 'compressed by an unknown method')(
    lambda: zip_of(('res2/a/conv1/W.npy', zeros(1), 4096, 14)))
case('npz', load, 'no complete config .*maximum recursion')(lambda: deep_config('[' * 1_000_000))
case('npz', load, 'no complete config')(lambda: deep_config('9' * 1_000_000))
case('npz', load, 'larger than 16 MB')(lambda: deep_config(' ' * 5_000_000))
for changes, words in (({'in_channels': 10 ** 9}, 'in_channels is'),
                       ({'arch': 'resnet' * 10 ** 5}, 'arch is'),
                       ({'arch': 'resnet9998'}, 'more than 2000'), ({'mean': [10 ** 400] * 3}, 'mean is'),
                       ({'image_size': [65535, 65535]}, 'image_size is'), ({'classes': [1]}, 'classes is'),
                       ({'dropout': 'x'}, 'dropout is'), ({'multitask': 'x'}, 'multitask is')):
    case('npz', load, f'no complete config.*{words}|{words}')(lambda changes=changes: network(**changes))
case('npz', load, "'perception_branch/fc/W' is missing or of another shape or type")(
    lambda: network({'perception_branch/fc/W': numpy.full((2, 64), 'a' * 99)}))

# what a small file says it is the weights of
for changes in ({'arch': 'resnext-992-999x999d'}, {'arch': 'wrn-994-99'}, {'arch': 'densenet-bc-994-999'},
                {'arch': 'resnet1994'}, {'arch': 'vgg16'}, {'arch': 'resnet50', 'in_channels': 65535},
                {'classes': ['a'] * 100_000}, {'classes': ['a'] * 100_000, 'variant': 'baseline'},
                {'classes': ['a'] * 100_000, 'multitask': True}):
    case('network', load, 'more weights than are in the file')(lambda changes=changes: network(**changes))


def deep_config(text):
    file = io.BytesIO()
    numpy.savez(file, config=text)
    return file.getvalue()


def overlapping(suffix, content, n):
    """A zip archive of many members that are all the same bytes."""
    one = zip_of(('a' + suffix, content, None, 0))
    start = one.index(b'PK\1\2')
    entry = one[start:one.rindex(b'PK\5\6')]
    entries = b''.join(entry[:46] + b'%03d' % i + suffix.encode() for i in range(n))
    entries = entries.replace(entry[:30], entry[:28] + struct.pack('<H', 3 + len(suffix)))
    return one[:start] + entries + b'PK\5\6' + struct.pack('<HHHHIIH', 0, 0, n, n, len(entries), start, 0)


@functools.cache
def zip_of_many():
    """A zip archive that lists more members than a list in memory should have, half a GB in all."""
    one = zip_of(('a', b'', None, 0))
    start = one.index(b'PK\1\2')
    entries = one[start:one.rindex(b'PK\5\6')] * 1_100_000
    end = struct.pack('<HHHHIIH', 0, 0, 65535, 65535, len(entries), start, 0)
    return one[:start] + entries + b'PK\5\6' + end


def pth(pickled, method=0, size=None):
    return zip_of(('x/data.pkl', pickled, size, method))


def legacy(pickled):
    return b''.join(pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {})) + pickled


# an index of 4 GB in the memo, a string of 100 GB, a frame of 100 GB, and deep nesting of all kinds
PICKLES = (b'\x80\2]r\xff\xff\xff\xff}.', b'\x80\4\x8d' + struct.pack('<Q', HUGE) + b'a.',
           b'\x80\4\x95' + struct.pack('<Q', HUGE) + b'N.', b'\x80\2' + b'(' * 10 ** 5,
           b'\x80\2' + b']' * 10 ** 5 + b'a' * 10 ** 5 + b'.', b'\x80\2N' + b'\x85' * 10 ** 5 + b'}\x85Rs.',
           b'\x80\2\x8a\xff' + b'\xff' * 255 + b'.')
for wrap in pth, legacy:
    case('pth', TorchFile, 'it names posix.system')(lambda wrap=wrap: wrap(pickle.dumps({'a': Bomb()}, 2)))
    case('pth', TorchFile, 'it names os.system')(
        lambda wrap=wrap: wrap(b'\x80\2cos\nsystem\nX\1\0\0\0a\x85R.'))
    case('pth', TorchFile, 'it names builtins.eval')(
        lambda wrap=wrap: wrap(b'\x80\4\x8c\x08builtins\x8c\x04eval\x93\x8c\1a\x85R.'))
    for opcodes in PICKLES:
        case('pth', lambda path: read_network(path, 'resnet8'), 'x.bin: ')(
            lambda wrap=wrap, opcodes=opcodes: wrap(opcodes))
case('pth', TorchFile, 'too large a pickle')(lambda: pth(b'\x80\2' + b'}' * (1 << 23)))
case('pth', TorchFile, 'is compressed')(lambda: pth(zeros(64), 8, 1 << 30))
case('pth', TorchFile, 'a list of members')(zip_of_many)
case('pth', TorchFile, 'larger than the file')(lambda: pth(
    b'\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpu\x8a\x08'
    + struct.pack('<q', HUGE) + b'tQ.'))


def mat(element):
    return b'MATLAB 5.0 MAT-file'.ljust(124) + b'\0\1IM' + element


def matrix(kind, dims, rest, left=None):
    """The element of a variable X."""
    body = (struct.pack('<IIII', 6, 8, kind, 0) + struct.pack('<IIii', 5, 8, *dims)
            + struct.pack('<HHI', 1, 1, ord('X')) + rest)
    return struct.pack('<II', 14, len(body) if left is None else left) + body


def deflated(content, more=b''):
    deflate = zlib.compressobj(9, wbits=-15)
    data = b'\x78\xda' + deflate.compress(content) + deflate.flush(zlib.Z_FULL_FLUSH) + more
    return struct.pack('<II', 15, len(data)) + data


def nested(n):
    element = matrix(9, (1, 1), struct.pack('<IId', 9, 8, 1))
    head = struct.pack('<IIIIIIiiII', 6, 8, 1, 0, 5, 8, 1, 1, 1, 0)
    for _ in range(n):
        element = struct.pack('<II', 14, len(head) + len(element)) + head + element
    return matrix(1, (1, 1), element)


def read_x(path):
    return read_mat(path, ['X'])


case('mat', read_x, 'X')(lambda: mat(matrix(9, (100_000, 1_000_000), struct.pack('<IId', 9, 8, 1))))
case('mat', read_x, 'unreadable')(
    lambda: mat(matrix(9, (1, 1), struct.pack('<II', 9, 1 << 31), left=1 << 31)))
case('mat', read_x, 'unreadable')(lambda: mat(matrix(1, (30_000, 30_000), b'')))
case('mat', read_x, 'unreadable')(
    lambda: mat(deflated(matrix(9, (1 << 14, 1 << 13), struct.pack('<II', 9, 1 << 30), left=(1 << 30) + 48),
                         zeros(64))))
case('mat', read_x, 'unreadable')(lambda: mat(nested(3_000)))


DOCTYPE = '<?xml version="1.0"?><!DOCTYPE a [{}]><annotation><object>{}</object></annotation>'
LAUGHS = '<!ENTITY e0 "lol">' + ''.join(
    f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12))
case('xml', read_boxes, 'document type')(lambda: DOCTYPE.format(LAUGHS, '&e12;').encode())
case('xml', read_boxes, 'document type')(
    lambda: DOCTYPE.format('<!ENTITY e SYSTEM "file:///etc/passwd">', '&e;').encode())
case('xml', read_boxes, 'document type')(
    lambda: DOCTYPE.format('<!ENTITY % e SYSTEM "http://localhost:9/x"> %e;', '').encode('utf-16'))
case('xml', read_boxes, 'larger than 1 MB')(lambda: b'<a>' * 10 ** 6 + b'</a>' * 10 ** 6)
case('xml', read_boxes, 'no <object>')(lambda: b'<a>' * 149_000 + b'</a>' * 149_000)
case('xml', read_boxes, 'no <object>')(lambda: b'<a %s/>' % b' '.join(b'a%d=""' % i for i in range(100_000)))


def unpacked(path):
    unpack(path, path.with_name('unpacked'))


def tar(*members, mode='w', **attributes):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **attributes) as archive:
        for name, kind, link in (('good', tarfile.REGTYPE, ''), *members):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    return file.getvalue()


def tar_claiming(kind, size, content):
    """Compressed; behind the header comes what is deflated already."""
    info = tarfile.TarInfo('bomb')
    info.type, info.size = kind, size
    deflate = zlib.compressobj(9, wbits=-15)
    head = deflate.compress(tar()[:512] + info.tobuf(tarfile.GNU_FORMAT)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b'\x1f\x8b\x08\0\0\0\0\0\2\xff' + head + content + bytes(8)


def tar_of_pax(attributes):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz', format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo('good'))
        info = tarfile.TarInfo('a')
        info.pax_headers = attributes
        archive.addfile(info)
    return file.getvalue()


for name, words in (('../out', r'leaves the folder by \.\.'), ('/tmp/out', 'absolute'),
                    ('a\\..\\..\\out', 'backslash')):
    case('archive', unpacked, words)(lambda name=name: tar((name, tarfile.REGTYPE, '')))
    case('archive', unpacked, words)(lambda name=name: zip_of((name, b'1', None, 0)))
for name, kind, link in (('link', tarfile.SYMTYPE, '..'), ('link', tarfile.LNKTYPE, '/etc/passwd'),
                         ('null', tarfile.CHRTYPE, ''), ('pipe', tarfile.FIFOTYPE, '')):
    case('archive', unpacked, f"'{name}' in it is a link, a device")(
        lambda name=name, kind=kind, link=link: tar((name, kind, link), ('link/out', tarfile.REGTYPE, '')))
case('archive', unpacked, '100 times')(lambda: tar_claiming(tarfile.REGTYPE, HUGE, zeros(1)))
case('archive', unpacked, 'impossible size')(lambda: tar_claiming(tarfile.XHDTYPE, 1 << 30, zeros(64)))
case('archive', unpacked, 'impossible size')(
    lambda: tar_claiming(tarfile.GNUTYPE_LONGNAME, 1 << 30, zeros(64)))
case('archive', unpacked, 'a sparse file')(lambda: tar_claiming(tarfile.GNUTYPE_SPARSE, HUGE, zeros(64)))
case('archive', unpacked, 'a sparse file')(lambda: tar_of_pax(
    {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': str(HUGE)}))
case('archive', unpacked, 'impossible length')(lambda: tar_of_pax({'path': 'a/' * 30_000}))
case('archive', unpacked, 'impossible length')(lambda: zip_of(('a/' * 30_000, b'', None, 0)))
case('archive', unpacked, '100 times')(lambda: zip_of(('bomb', zeros(64), 1 << 30, 8)))
case('archive', unpacked, 'damaged')(lambda: zip_of(('bomb', zeros(64), 4096, 8)))
case('archive', unpacked, '100 times|damaged')(lambda: overlapping('.txt', bytes(1 << 20), 1000))
case('archive', unpacked, 'a list of members')(zip_of_many)


@case('archive', unpacked, 'Memory usage limit exceeded')
def xz_with_a_dictionary_of_4_gb():
    data = bytearray(lzma.compress(tar()))
    data[16], length = 40, 4 * data[12]
    data[12 + length:16 + length] = struct.pack('<I', zlib.crc32(data[12:12 + length]))
    return bytes(data)


case('archive', unpacked, 'unknown method')(
    lambda: zip_of(('lzma', b'\x09\x04\5\0\x5d\xff\xff\xff\xff', 9, 14)))


@case('archive', unpacked, 'is a link, a device')
def symlink_in_a_zip():
    data = bytearray(zip_of(('link', b'..', None, 0), ('link/out', b'1', None, 0)))
    at = data.index(b'PK\1\2') + 38
    data[at:at + 4] = struct.pack('<I', 0o120777 << 16)
    return bytes(data)


def png(width, height, depth, colour, *chunks):
    def chunk(name, content):
        content = name + content
        return struct.pack('>I', len(content) - 4) + content + struct.pack('>I', zlib.crc32(content))

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + b''.join(chunk(*one) for one in chunks) + chunk(b'IEND', b'')


def read_as_all(path):
    """By all that read images; the last one's error is told."""
    for name in 'a.png', 'a':
        path.with_name(name).write_bytes(path.read_bytes())
    is_image(path.with_name('a'))
    for read in (lambda: Masks(path.parent).read('a', (9, 9)), lambda: read_image(path, (9, 9)),
                 lambda: read_image(path)):
        try:
            found = read()
        except InputError as error:
            told = error
        else:
            raise AssertionError(f'read {type(found)}')
    raise told


PIXELS = b'IDAT', b'\x78\xda' + zeros(64)
case('image', read_as_all, '100000 x 100000 = 10000000000 pixels|10000000000 pixels')(
    lambda: png(100_000, 100_000, 8, 2, PIXELS))
case('image', read_as_all, '9460 x 9459 = 89482140 pixels.* --max-pixels')(
    lambda: png(9460, 9459, 8, 2, PIXELS))
case('image', read_as_all, 'unreadable')(
    lambda: png(9, 9, 8, 0, (b'iCCP', b'a\0\0\x78\xda' + zeros(64)), (b'IDAT', zlib.compress(bytes(90)))))
case('image', read_as_all, 'unreadable')(
    lambda: png(9, 9, 8, 0, (b'zTXt', b'a\0\0\x78\xda' + zeros(64)), (b'IDAT', zlib.compress(bytes(90)))))
case('image', read_as_all, 'unreadable|not an image')(
    lambda: b'II*\0\x08\0\0\0\1\0' + struct.pack('<HHII', 256, 4, 0xffffffff, 8) + bytes(4))
case('image', read_as_all, 'not an image')(
    lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%mkdir code-was-run)(w)file\n')


def read_largest(path):
    """Of as many pixels as are allowed: read, and then refused, so that its memory is told too."""
    raise InputError(f'{path}: {read_image(path).size} bytes')


case('image', read_largest, ': 268418043 bytes')(lambda: png(9459, 9459, 8, 2, PIXELS))


def open_run(path):
    RunFolder.open(path.rename(path.with_name('config.json')).parent)


case('json', open_run, 'unreadable')(lambda: b'[' * 10 ** 6)
case('json', open_run, 'unreadable')(lambda: b'{"a":' * 10 ** 6)
case('json', open_run, 'unreadable')(lambda: b'9' * 10 ** 6)
case('json', open_run, 'not a run')(lambda: b'[]')


def memory(name):
    """Bytes that this process holds: VmHWM at most so far (what ``resource`` tells begins with its parent's),
    VmRSS now, VmSize with what it has not touched.
    """
    line, = (line for line in open('/proc/self/status') if line.startswith(f'{name}:'))
    return 1024 * int(line.split()[1])


def main(folder):
    before = memory('VmRSS')
    limit = memory('VmSize') + (2 << 30)            # so that a fault harms no one else
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    set_limit()
    inside = Path(folder, 'in')
    for kind, make, reader, words in CASES:
        inside.mkdir()
        path = inside / 'x.bin'
        path.write_bytes(make())
        try:
            reader(path)
            told = 'no error'
        except InputError as error:
            told = f'InputError: {error}'
        except BaseException:
            told = traceback.format_exc()
        print(json.dumps({'kind': kind, 'told': told, 'words': words, 'memory': memory('VmHWM') - before}),
              flush=True)
        for file in inside.iterdir():
            file.unlink()
        inside.rmdir()          # an unpacked folder would be in the way


if __name__ == '__main__':
    main(*sys.argv[1:])
