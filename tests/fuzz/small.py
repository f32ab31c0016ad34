"""A network, a data set and a training as small as can be."""
import contextlib
import functools
import os
import random

import numpy

from chainer_abn import build
from chainer_abn.datasets.examples import Examples, Store
from chainer_abn.datasets.transforms import normalize_of
from chainer_abn.training import runner
from chainer_abn.training.arguments import make_parser
from chainer_abn.training.classifier import make_classifier
from chainer_abn.training.options import resolve
from chainer_abn.training.run_folder import RunFolder
from chainer_abn.training.trainer import make_iterator, make_trainer

import chainer

ARCH = 'densenet-bc-10-1'       # the smallest network that there is
LOG = {'epoch': 1, 'iteration': 4, 'lr': 0.1, 'main/loss': 0.7, 'main/accuracy': 0.5,
       'validation/main/loss': 0.75, 'validation/main/accuracy': 0.5}


class SomeImages:
    classes, labels, split = ('ant', 'bee'), numpy.arange(12) % 2, (numpy.arange(8), numpy.arange(8, 12))

    def __len__(self):
        return len(self.labels)

    def name(self, i):
        return f'image {i}'

    def image(self, i, cover=None):
        return numpy.zeros((4, 6, 3), 'u1')


@functools.cache
def training():
    """The trainer of a small training, in the middle of its second epoch."""
    options = make_parser('').parse_args(
        f'--dataset shapes --arch {ARCH} --image-size 16 --batchsize 3 --epoch 4 --kfold 2'.split())
    resolve(options, {})
    config = {'classes': ['ant', 'bee'], 'multitask': False}
    random.seed(0)
    numpy.random.seed(0)
    device = chainer.get_device('@numpy')
    examples = Examples(Store(SomeImages(), (16, 16)), range(12), runner.transforms_of(options)[0])
    # reports would be printed
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        trainer = make_trainer(
            make_classifier(build(ARCH, 2)),
            [make_iterator(examples, options.batchsize, 0, train) for train in (True, False)],
            normalize_of({'mean': [0.5] * 3, 'std': [0.25] * 3}, 'f'), device, options,
            RunFolder('run', 2), 1, config, SomeImages())
    trainer._done, trainer._final_elapsed_time = True, 1.0
    for _ in range(6):
        trainer.updater.update()
    trainer.updater.seconds, trainer.updater.waiting = 1.5, 0.5         # the corpus is the same every time
    trainer.get_extension('LogReport')._log.append(LOG)
    for name in 'loss', 'accuracy':
        trainer.get_extension(f'plot_{name}')._data[f'main/{name}'].append([1, LOG[f'main/{name}']])
    best = trainer.get_extension('KeepBest')
    best.accuracy, best.epoch = 0.5, 1
    return trainer


@functools.cache
def state():
    """What a snapshot of that training holds: name -> array."""
    arrays = chainer.serializers.DictionarySerializer()
    training().serialize(arrays)
    return {name: numpy.array(array) for name, array in arrays.target.items()}
