"""The end of ``make demo``: where the networks of a run on ``shapes`` look.

    python -m chainer_abn.demo result/RUN

Every image is judged by the network of the fold that it was held out of.
"""
from pathlib import Path
from types import SimpleNamespace

import numpy

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import folds_of
from chainer_abn.errors import ArgumentParser, InputError, run_program
from chainer_abn.explain import attention
from chainer_abn.explain.inputs import network_input, to_batch
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.scores import centre_hit, pointing_hit
from chainer_abn.explain.sheet import Sheet
from chainer_abn.training.checkpoint import load
from chainer_abn.training.run_folder import RunFolder

SHOWN = 24                      # held-out images per fold on the sheet
BATCH = 100


def main():
    parser = ArgumentParser(prog='chainer_abn.demo', description='See where a run on shapes looks.')
    parser.add_argument('run', help='folder of the run')
    run, config = RunFolder.open(parser.parse_args().run)
    options = SimpleNamespace(**config['arguments'])
    if options.dataset != 'shapes':
        raise InputError(f'{run.root}: a run on {options.dataset}; this needs the masks of shapes')
    shapes = open_dataset('shapes', None, options.kfold == 0, options.n_images, options.seed)
    folds = folds_of(shapes, options.kfold, options.seed)
    sheet = Sheet(['held-out image', 'attention'])
    hits, centre = [], []
    for fold in run.finished_folds():
        held_out = folds[fold - 1][1]
        net, network_config = load(run.best_network(fold))
        attention.check(net)
        found = [attention.maps(net, to_batch(
            [network_input(shapes.image(i), network_config) for i in part], network_config))
            for part in numpy.split(held_out, range(BATCH, len(held_out), BATCH))]
        maps, logits = (numpy.concatenate(arrays) for arrays in zip(*found, strict=True))
        fold_hits = [pointing_hit(m, shapes.masks[i]) for m, i in zip(maps, held_out, strict=True)]
        hits += fold_hits
        centre += [centre_hit(shapes.masks[i]) for i in held_out]
        print(f'fold {fold}: the map\'s maximum lies on the object in {numpy.mean(fold_hits):.1%} of '
              f'{len(held_out)} held-out images')
        for m, row, i in list(zip(maps, logits, held_out, strict=True))[:SHOWN]:
            image = shapes.image(i)
            guess, truth = shapes.classes[row.argmax()], shapes.classes[shapes.labels[i]]
            sheet.add([image, overlay(image, m)],
                      guess if guess == truth else f'{guess} (is a {truth})')
    print(f'all folds: {numpy.mean(hits):.1%}; the middle of the image: {numpy.mean(centre):.1%}')
    picture = Path(run.root, 'attention.png')
    sheet.draw().save(picture)
    print(f'held-out images with their attention maps: {picture}\n'
          f'the rest: {run.root} (summary.json, snap/ networks, matrix/, loss and accuracy curves)')


if __name__ == '__main__':
    run_program(main, 'chainer_abn.demo')
