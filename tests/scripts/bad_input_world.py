"""The folder in which tests/scripts/test_bad_input.py works: good data, and what is wrong in many ways."""
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
from helpers import ROOT, write_class_folders
from PIL import Image

import chainer_abn
from chainer_abn.training import checkpoint
from chainer_abn.training.weights import to_torch

NETWORKS = {'net': {}, 'baseline': {'variant': 'baseline'}, 'tasks': {'multitask': True},
            'mapless': {'attention': 'none'}}
BOX = ('<annotation><object><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>'
       '</object></annotation>')
SLY = os.fsdecode(b'sly\x1b[2J\n\xff.png')


def make_world():
    """Everything, in the current folder, which is empty."""
    make_files()
    make_images()
    make_networks()
    subprocess.run([sys.executable, ROOT / 'n_fold_train.py', *(
        '--dataset shapes --n-images 24 --arch resnet8 --image-size 16 --kfold 2 --epoch 1 --batchsize 3 '
        '--gpu -1 --threads 1 --out run').split()], check=True, capture_output=True)
    make_runs()


def write(path, content=''):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_files():
    """What is nothing that a program wants."""
    write('text', 'hello\n')
    write('empty')
    write('noise', numpy.random.default_rng(0).bytes(5000))
    write('latin', b'caf\xe9\nth\xe9\n')
    write(SLY, 'hello')
    os.mkfifo('pipe')
    os.mkdir('folder')
    os.symlink('nowhere', 'dangling')
    os.symlink('loop', 'loop')
    write('clip.mp4', 'hello')
    write('locked', 'hello')
    os.chmod('locked', 0)
    os.mkdir('closed', 0)
    with open('vast', 'wb') as file:
        file.truncate(17 << 20)             # takes no place on the disk


def make_images():
    """Folders of class folders; photos with boxes and masks."""
    write_class_folders(Path('images'))
    write_class_folders(Path('single'), classes=['ant'])
    for name in 'truncated', 'no-image', 'small', 'none', 'piped', 'gone':
        shutil.copytree('images', name)
    Image.effect_noise((90, 90), 60).save('truncated/bee/photo.jpg')
    os.truncate('truncated/bee/photo.jpg', 900)
    write('no-image/bee/text.png', 'hello')
    os.mkdir('small/cat')
    os.rename('small/ant/0.png', 'small/cat/0.png')
    os.mkdir('none/cat')
    shutil.rmtree('piped/bee')
    os.mkdir('piped/bee')
    os.mkfifo('piped/bee/pipe.png')
    os.symlink('/mnt/nowhere/cat', 'gone/cat')
    for name in 'ant', 'bee':
        write(f'pointers/{name}/0.png', 'version https://git-lfs.github.com/spec/v1\n')
    write('flat/x.png')
    for part, name in ('train', 'ant'), ('train', 'bee'), ('val', 'bee'), ('val', 'cat'):
        shutil.copytree('images/bee', Path('parts', part, name))
    for folder in 'photos', 'boxes', 'masks':
        os.mkdir(folder)
    for i in range(5):
        shutil.copy(f'images/ant/{i}.png', f'photos/p{i}.png')
    write('boxes/p0.xml', BOX.format(12))
    write('boxes/p1.xml', BOX.format(99))
    write('boxes/p2.xml', '<!DOCTYPE a [<!ENTITY b "c">]>' + BOX.format(12))
    write('boxes/p3.xml', 'hello')
    size = 40, 32
    for i, mask in enumerate([numpy.eye(*size), numpy.eye(5, 6), numpy.zeros(size), numpy.ones(size)]):
        Image.fromarray(mask.astype('u1')).save(f'masks/p{i}.png')
    shutil.copy('photos/p0.png', 'masks/p4.png')


def make_networks():
    config = dict(arch='resnet8', variant='abn', attention='residual', dropout=None, in_channels=3,
                  classes=['ant', 'bee'], image_size=[32, 32], resize=[32, 32], mean=[0.5] * 3,
                  std=[0.25] * 3)
    for name, changes in NETWORKS.items():
        told = {**config, **changes}
        net = chainer_abn.build('resnet8', 2, told['variant'], told['attention'],
                                multitask=told.get('multitask', False))
        checkpoint.save(f'{name}.npz', net, checkpoint.make_config(**told))
        if name == 'net':
            to_torch('net.pth', net)
            arrays = checkpoint.arrays_of(net)
    said = checkpoint.make_config(**config)
    for name, wrong in {
            'no-config': None, 'config-list': [], 'config-classes': {**said, 'classes': 5},
            'config-arch': {**said, 'arch': 'resnet9'}, 'config-size': {**said, 'image_size': [10 ** 9, 32]},
            'config-std': {**said, 'std': [0, 1, 1]}, 'config-more': {**said, 'classes': ['a', 'b', 'c']},
            'config-channels': {**said, 'in_channels': 10 ** 9}}.items():
        more = {} if wrong is None else {'config': json.dumps(wrong)}
        numpy.savez(f'{name}.npz', **arrays, **more)
    numpy.savez('pickled.npz', w=numpy.array([{}], object))
    numpy.savez_compressed('bomb.npz', w=numpy.zeros(10 ** 7))
    write('cut.npz', Path('net.npz').read_bytes()[:-5000])
    write('cut.pth', Path('net.pth').read_bytes()[:-5000])
    write('hostile.pth', pickle.dumps({'state_dict': {'module.conv1.weight': Bomb()}}))


class Bomb:
    """An unpickler that believes what it reads makes a folder."""

    def __reduce__(self):
        return os.mkdir, ('bombed',)


def make_runs():
    """Copies of the run, each damaged in one place; the big files are the same."""
    config, summary = (json.loads(Path('run', f'{name}.json').read_text()) for name in ('config', 'summary'))
    row = summary['folds'][0]
    for name, wrong in {
            'cut': '{', 'list': [], 'deep': 100_000 * '[', 'bytes': b'\xff', 'digits': 5000 * '9',
            'no-arguments': {}, 'arguments-list': {**config, 'arguments': []},
            'other-version': {**config, 'arguments': {'kfold': 2}}, 'classes': {**config, 'classes': 5},
            'size': {**config, 'image_size': 'large'}, 'versions': {**config, 'versions': 5},
            'forced': {**config, 'forced': 5},
            'resize': {'arguments': config['arguments'], 'resize': [32]}}.items():
        make_run(f'config-{name}', wrong, summary)
    for name, wrong in {'kfold': 'two', 'folds': 5, 'epoch': [], 'seed': 1.5, 'dataset': 5, 'arch': 3,
                        'lr': 'fast', 'batchsize': {}, 'pad': 10 ** 400}.items():
        make_run(f'argument-{name}', {**config, 'arguments': {**config['arguments'], name: wrong}}, summary)
    for name, wrong in {
            'cut': '{', 'list': [], 'empty': '', 'deep': 100_000 * '[',
            'no-accuracy': {'folds': [{'fold': 1}]}, 'text': {'folds': [{**row, 'loss': 'low'}]},
            'beyond': {'folds': [{**row, 'fold': 7}]}, 'loss': {'folds': [{**row, 'loss': {}}]},
            'huge': {'folds': [{**row, 'best_accuracy': 10 ** 400}]},
            'epoch': {'folds': [{**row, 'best_epoch': None}]}}.items():
        make_run(f'summary-{name}', config, wrong)
    for name, wrong in {'no-seed': None, 'no-dataset': None, 'bad-seed': -3}.items():
        name_of = name.partition('-')[2]
        make_run(name, {**config, 'arguments': {**config['arguments'], name_of: wrong}}, summary)
    os.mkdir('runs/pipe')
    os.mkfifo('runs/pipe/config.json')
    make_run('unfinished', config, None)
    make_run('photos', {**config, 'arguments': {**config['arguments'], 'dataset': 'images'}}, summary)
    make_run('moved', {**config, 'arguments': {**config['arguments'], 'dataset': 'nowhere'}}, summary)
    make_run('changed', {**config, 'arguments': {**config['arguments'], 'n_images': 30}}, summary)
    make_run('linked', config, summary)
    os.symlink('/', 'runs/linked/tensorboard')
    make_run('configless', config, summary)
    os.remove('runs/configless/config.json')
    make_run('report-folder', config, summary)
    os.mkdir('runs/report-folder/report.html')
    make_run('picture-folder', config, summary)
    os.mkdir('runs/picture-folder/attention.png')
    for name in 'config-cut', 'config-list', 'config-other-version', 'summary-cut':
        os.makedirs(f'tables/{name}/resnet20/baseline')
        os.symlink(f'../../../../runs/{name}', f'tables/{name}/resnet20/baseline/seed-1')


def make_run(name, config, summary):
    root = Path('runs', name)
    for file, content in ('config', config), ('summary', summary):
        if content is not None:
            text = content if isinstance(content, (str, bytes)) else json.dumps(content)
            write(root / f'{file}.json', text)
    for part in 'snap', 'model', 'log', 'matrix':
        shutil.copytree(Path('run', part), root / part, copy_function=os.link)
