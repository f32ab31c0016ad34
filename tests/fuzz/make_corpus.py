"""Make the small files that fuzzing starts from: python tests/fuzz/make_corpus.py

Of generated data; the same bytes every time. Inputs that were found by fuzzing lie beside them and stay.
"""
import io
import itertools
import json
import pickle
import struct
import tempfile
from pathlib import Path

import numpy
import scipy.io
from parts import BETWEEN, MAT_HEADER, joined, network, npy, whole
from PIL import Image
from small import ARCH, SomeImages, state

from chainer_abn import build
from chainer_abn.datasets.folds import digest, folds_of
from chainer_abn.training import predictions, torch_file, weights

import chainer

CORPUS = Path(__file__).parent / 'corpus'


def npz():
    config = network()['config']
    yield 'network.npz', whole(joined(b'network'))
    yield 'network', joined(b'network', b'config', config)
    name = 'perception_branch/fc/b.npy'
    yield 'array', joined(b'network', name.encode(), network()[name])
    yield 'arrays', joined(b'deflated', b'a.npy', npy(numpy.arange(6.)), b'config.npy', npy('{}'))
    yield 'resnet50', joined(b'zip', b'res2/a/conv1/W.npy', npy(numpy.zeros((2, 2), 'f')))
    for change in ({'arch': 'resnet8'}, {'variant': 'cam'}, {'attention': 'log-sum'}, {'multitask': True},
                   {'dropout': 0.5}, {'channel_order': 'BGR', 'fit': 'squeeze'}):
        name, value = next(iter(change.items()))
        yield f'config-{name}', joined(b'network', b'config',
                                       json.dumps({**json.loads(config), **change}).encode())


def snapshot():
    arrays = {name: array for name, array in state().items() if 'network/' not in name}
    for name, array in arrays.items():
        if array.shape or array.dtype.char == 'U':
            yield name.replace('/', '-').replace(':', '-'), BETWEEN.join(
                [name.encode(), npy(array) if array.shape else str(array).encode()])
    numbers = [(name.encode(), b'%g' % array) for name, array in arrays.items()
               if not array.shape and array.dtype.char != 'U']
    yield 'numbers', BETWEEN.join(itertools.chain(*numbers))


def pth():
    with chainer.using_config('fresh_weights', False):
        net = build(ARCH, 2, 'baseline')
    numpy.random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'a.pth')
        weights.to_torch(path, net)
        yield 'network.pth', path.read_bytes()
        array = numpy.arange(6, dtype='f').reshape(2, 3)
        torch_file.write(path, {'fc.weight': array, 'n': 1, 'of': [1.5, None]})
        yield 'small.pth', path.read_bytes()
        content = path.read_bytes()
    start = content.index(b'\x80\x02')
    pickled = content[start:content.index(b'PK', start)]
    yield 'small', joined(b'torch', pickled, array.tobytes())
    magic, version, system, keys = (
        pickle.dumps(value, 2) for value in (torch_file.LEGACY_MAGIC, 1001, {'little_endian': True}, ['0']))
    yield 'legacy', b''.join([magic, version, system, pickled, keys, struct.pack('<q', 6), array.tobytes()])


def mat():
    pixels = numpy.zeros((32, 32, 3, 2), 'u1')
    pixels[:4, :4] = 200
    digits = {'X': pixels, 'y': numpy.array([[1], [10]], 'u1')}
    makers = {'make_names': numpy.array([['Audi', numpy.zeros((0, 0))]], object).T,
              'model_names': numpy.array([['A4L'], ['ab']], object)}
    fields = [(name, object) for name in ('ILSVRC2012_ID', 'WNID', 'words', 'num_children')]
    synsets = {'synsets': numpy.array([[(1, 'n01440764', 'tench, Tinca', 0)], [(2, 'n00000001', 'fish', 1)]],
                                      fields)}
    for name, content in ('svhn', digits), ('compcars', makers), ('imagenet', synsets):
        elements = []
        for variable in content.items():
            data = saved(dict([variable]), False)
            elements.append(data[128:])
        yield f'{name}.mat', saved(content, True)
        yield f'{name}-plain.mat', MAT_HEADER + b''.join(elements)
        yield name, joined(b'mat', *elements)


def saved(content, compressed):
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=compressed)
    # scipy's header has a date
    return MAT_HEADER + file.getvalue()[128:]


def cifar():
    names = b'ant\nbee\nwasp\n'
    ten, hundred = b'\1' + bytes(3072) + b'\2' + bytes(3072), b'\0\2' + bytes(3072)
    yield 'records', BETWEEN.join([names, ten, hundred])
    yield 'names-no-text', BETWEEN.join([b'ant\n\xff', ten, hundred])
    yield 'cut', BETWEEN.join([names, ten[:-1], hundred[1:]])
    folder = b'cifar-10-batches-bin/'
    files = [b'batches.meta.txt', *(b'data_batch_%d.bin' % i for i in range(1, 6)), b'test_batch.bin']
    members = [part for file in files for part in (folder + file, names if file.endswith(b'.txt') else ten)]
    yield 'archive', joined(b'tar.gz', *members)
    yield 'archive-tar', joined(b'tar', *members[:4])


def voc():
    box = '<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>30.6</xmax><ymax>20</ymax></bndbox>'
    part = '<part><name>head</name><bndbox/></part>'
    size = '<size><width>60</width><height>40</height><depth>3</depth></size>'
    content = f'<annotation>{size}<object><name>cat</name>{box}{part}</object></annotation>'
    yield 'one.xml', content.format(3).encode()
    yield 'declared.xml', b'<?xml version="1.0" encoding="latin-1"?>\n' + content.format(-1).encode()
    yield 'utf-16.xml', content.format(3).encode('utf-16')
    yield 'entity.xml', b'<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'


def image():
    rng = numpy.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (4, 6, 3)).astype('u1'))
    for suffix in 'png jpeg gif bmp webp tiff ppm tga jpeg2000 avif ico pcx sgi dds xbm'.split():
        file = io.BytesIO()
        try:
            pixels.convert('1' if suffix == 'xbm' else 'RGB').save(file, suffix)
        except (OSError, KeyError):             # this Pillow has none
            continue
        yield f'rgb.{suffix}', file.getvalue()
    for mode in '1', 'L', 'P', 'LA', 'RGBA', 'I;16':
        file = io.BytesIO()
        (Image.new(mode, (6, 4), 77) if mode == 'I;16' else pixels.convert(mode)).save(file, 'png')
        yield f'{mode.replace(";", "")}.png', file.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    pixels.convert('CMYK').save(file, 'jpeg', exif=exif)
    yield 'turned.jpeg', file.getvalue()
    header = struct.pack('>IIBBBBB', 6, 4, 8, 3, 0, 0, 0)
    yield 'chunks', joined(b'png', b'IHDR' + header, b'PLTE' + bytes(range(6)), b'tRNS\1\2',
                           b'tEXtkey\0value', b'idat' + (b'\0' + b'\1' * 6) * 4, b'IEND')


def folder():
    for name, parts in {
            'two': [b'iant/1.png', b'iant/deep/er/2.png', b'tant/notes.txt', b'ibee/3', b'tbee/4.png'],
            'split': [b'itrain/ant/1.png', b'itrain/bee/1.png', b'ival/ant/1.png', b'ival/bee/1.jpg'],
            'links': [b'iant/1.png', b'lant/loop', b'lbee/a/b/c/up', b'pbee/pipe', b'd.git', b'iwasp/\xff'],
    }.items():
        yield name, BETWEEN.join(parts)


def config():
    arguments = {'dataset': 'shapes', 'data_dir': None, 'n_images': 12, 'kfold': 2, 'folds': None, 'epoch': 1,
                 'seed': 402, 'task': None, 'boxes': None, 'skip_bad': None}
    folds = folds_of(SomeImages(), 2, 402)
    content = {'program': 'chainer_abn', 'arguments': arguments, 'arch': ARCH, 'variant': 'abn',
               'attention': 'residual', 'classes': ['ant', 'bee'], 'image_size': [32, 32], 'resize': [32, 32],
               'multitask': False, 'folds_digest': digest(folds, SomeImages.labels), 'mean': [0.5] * 3,
               'std': [0.25] * 3, 'device': 'cpu', 'versions': {'numpy': '2.0'}, 'data': {'images': '12'},
               'command': 'n'}
    summary = {'folds': [{'fold': 1, 'best_epoch': 1, 'best_accuracy': 0.5, 'last_accuracy': 0.5,
                          'top5_accuracy': None, 'loss': 0.7, 'images_per_second': 10.5}],
               'mean_accuracy': 0.5, 'std_accuracy': 0.0}
    log = [{'epoch': 1, 'iteration': 3, 'lr': 0.1, 'main/loss': 0.7}]
    files = [json.dumps(part).encode() for part in (content, summary, log)]
    yield 'run', BETWEEN.join([*files, npy(numpy.arange(4).reshape(2, 2)), rows()])
    yield 'fresh', files[0]
    yield 'own-split', BETWEEN.join([files[0].replace(b'"kfold": 2', b'"kfold": 0'), files[1]])


def rows(multitask=False):
    truth = numpy.array([0, 1])
    content = predictions.Predictions(
        numpy.arange(2), ['a.png', 'b,"c"'], numpy.stack([truth, truth], 1) if multitask else truth,
        numpy.stack([truth, truth], 1) if multitask else truth, numpy.full((2, 2), 0.75, 'f'))
    with tempfile.TemporaryDirectory() as where:
        path = Path(where, 'a.csv')
        predictions.write(path, content, ('ant', 'bee'))
        return path.read_bytes()


def predicted():
    yield 'classes.csv', rows()
    yield 'tasks.csv', rows(multitask=True)


def lists():
    yield 'celeba', BETWEEN.join([b'2\nBald Young\n1.jpg -1  1\n2.jpg  1 -1\n', b'1.jpg 0\n2.jpg 2\n'])
    yield 'compcars', BETWEEN.join([b'', b'1/2/2013/ab.jpg\n1/3/unknown/cd.jpg\n'])
    yield 'bom', b'\xef\xbb\xbf1\nBald\n1.jpg 1\n'


def archive():
    yield 'tar', joined(b'tar', b'a/1.png', b'1', b'b/2.png', b'2')
    yield 'tar.gz', joined(b'tar.gz', b'./a/1.png', b'1', b'../2.png', b'2')
    yield 'zip', joined(b'deflated', b'a/', b'', b'a/1.png', b'1')
    yield 'plain.tar', whole(joined(b'tar', b'a/1.png', b'1'))
    yield 'plain.zip', whole(joined(b'zip', b'a/1.png', b'1'))
    yield 'nested', joined(b'tar', b'n01440764.tar', whole(joined(b'tar', b'1.png', b'1')))


def main():
    makers = {'npz': npz, 'cifar': cifar, 'mat': mat, 'voc': voc, 'image': image, 'folder': folder,
              'config': config, 'snapshot': snapshot, 'pth': pth, 'predictions': predicted, 'lists': lists,
              'archive': archive}
    for reader, files in makers.items():
        (CORPUS / reader).mkdir(parents=True, exist_ok=True)
        for name, content in files():
            (CORPUS / reader / name).write_bytes(content)


if __name__ == '__main__':
    main()
