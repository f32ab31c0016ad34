"""What several test files use."""
import json
from pathlib import Path

import numpy
from hypothesis import settings
from PIL import Image

import chainer_abn
from chainer_abn.training import checkpoint

ROOT = Path(__file__).parents[1]
TIMES = 'elapsed_time', 'images_per_second', 'waiting_share'
# of tests with hypothesis: the same examples each time, and nothing kept on the disk
PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def write_class_folders(root, n_per_class=6, classes=('ant', 'bee'), size=(40, 32), seed=0):
    """Class folders of small PNG files whose classes differ in colour."""
    rng = numpy.random.default_rng(seed)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n_per_class):
            pixels = rng.integers(0, 80, (*size, 3))
            pixels[..., label % 3] += 160
            Image.fromarray(pixels.astype('u1')).save(root / name / f'{i}.png')
    return root


def save_network(path, classes=('ant', 'bee'), variant='abn', size=32, multitask=False, seed=0):
    """A network file of a resnet8 that has learnt nothing."""
    numpy.random.seed(seed)
    net = chainer_abn.build('resnet8', len(classes), variant, multitask=multitask)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, net, checkpoint.make_config(
        arch='resnet8', variant=variant, attention='residual', dropout=None, in_channels=3, classes=classes,
        image_size=[size] * 2, resize=[size] * 2, mean=[0.5] * 3, std=[0.25] * 3, multitask=multitask))
    return path


def runs(process):
    """Whether there is a process of this number that has not ended."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def contents(run):
    """Name -> content of the files of a run, without times and what it was called with."""
    files = {}
    for path in run.rglob('*'):
        name = str(path.relative_to(run))
        if path.is_dir() or name == 'report.html':          # tells the times too
            files[name] = None
        elif path.suffix != '.json':
            files[name] = path.read_bytes()
        else:
            files[name] = without_times(json.loads(path.read_text()))
    files['config.json'] = {name: value for name, value in files['config.json'].items()
                            if name not in ('command', 'arguments')}
    return files


def without_times(content):
    rows = content if isinstance(content, list) else content.get('folds', [])
    for row in rows:
        for name in TIMES:
            row.pop(name, None)
    return content
