"""Files in parts, so that a changed byte comes through behind checksums and compression.

An input that begins with ``<|>KIND<|>`` is a list of parts with ``<|>`` between; of these a file is put
together that is right in its frame. Any other input is the file itself.
"""
import functools
import gzip
import io
import itertools
import json
import struct
import tarfile
import zipfile
import zlib

import numpy
from small import ARCH

from chainer_abn import build
from chainer_abn.training import checkpoint

import chainer

BETWEEN = b'<|>'
MAT_HEADER = b'MATLAB 5.0 MAT-file'.ljust(124) + b'\0\1IM'


def joined(kind, *parts):
    return BETWEEN.join([b'', kind, *parts])


def whole(data):
    """The file (bytes) that an input stands for."""
    if not data.startswith(BETWEEN):
        return data
    _, kind, *parts = data.split(BETWEEN)
    return KINDS[kind](parts) if kind in KINDS else data


def pairs(parts):
    """(Name, content) of parts that are these in turn."""
    return [(name.decode('latin1'), content) for name, content in zip(parts[::2], parts[1::2], strict=False)]


def zip_of(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or '_'), content, method)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    numpy.lib.format.write_array(file, numpy.asarray(array), allow_pickle=False)
    return file.getvalue()


@functools.cache
def network():
    """A network file's members: name -> content."""
    with chainer.using_config('fresh_weights', False):
        net = build(ARCH, 2)
    arrays = chainer.serializers.DictionarySerializer()
    net.serialize(arrays)
    config = checkpoint.make_config(
        arch=ARCH, variant='abn', attention='residual', dropout=None, in_channels=3, classes=['ant', 'bee'],
        image_size=[32, 32], resize=[32, 32], mean=[0.5] * 3, std=[0.25] * 3)
    return {**{f'{name}.npy': npy(array) for name, array in sorted(arrays.target.items())},
            'config': json.dumps(config).encode()}


def network_with(parts):
    """A network file with other members in place of some of its own; its config is text."""
    members = {**network(), **dict(pairs(parts))}
    members['config.npy'] = npy(members.pop('config').decode('utf-8', 'replace'))
    return zip_of(members.items())


def torch_of(parts):
    """A checkpoint of PyTorch: its pickle, then the storages 0, 1, ..."""
    names = itertools.chain(['a/data.pkl'], (f'a/data/{i}' for i in itertools.count()))
    return zip_of(zip(names, parts, strict=False))


def mat_of(parts):
    """A MATLAB file of compressed variables."""
    deflated = map(zlib.compress, parts)
    return MAT_HEADER + b''.join(struct.pack('<II', 15, len(data)) + data for data in deflated)


def png_of(parts):
    """Chunks: four bytes of their type, then the content, which is compressed if the type is ``idat``."""
    file = b'\x89PNG\r\n\x1a\n'
    for part in parts:
        kind, content = part[:4].ljust(4), part[4:]
        if kind == b'idat':
            kind, content = b'IDAT', zlib.compress(content)
        checked = kind + content
        file += struct.pack('>I', len(content)) + checked + struct.pack('>I', zlib.crc32(checked))
    return file


def tar_of(parts):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for name, content in pairs(parts):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


KINDS = {
    b'zip': lambda parts: zip_of(pairs(parts)),
    b'deflated': lambda parts: zip_of(pairs(parts), zipfile.ZIP_DEFLATED),
    b'network': network_with,
    b'torch': torch_of,
    b'mat': mat_of,
    b'png': png_of,
    b'tar': tar_of,
    b'tar.gz': lambda parts: gzip.compress(tar_of(parts)),
    b'gz': lambda parts: gzip.compress(BETWEEN.join(parts)),
}
