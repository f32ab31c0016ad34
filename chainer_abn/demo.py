"""The end of ``make demo``: where the networks of a run on ``shapes`` or ``faces`` look.

    python -m chainer_abn.demo result/RUN

Every image is judged by the network of the fold that it was held out of.
"""
from pathlib import Path
from typing import NamedTuple

import numpy

from chainer_abn.datasets import GENERATED
from chainer_abn.errors import ArgumentParser, InputError, disk_failure, run_program
from chainer_abn.explain import METHODS
from chainer_abn.explain.answers import Attributes
from chainer_abn.explain.inputs import network_input, to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.scores import centre_map, pointing_hit
from chainer_abn.explain.sheet import Sheet
from chainer_abn.files import replacing
from chainer_abn.training.checkpoint import load
from chainer_abn.training.held_out import held_out
from chainer_abn.training.run_folder import RunFolder

PROGRAM = 'chainer_abn.demo'
SHOWN = 24                      # held-out images per fold on the sheet
BATCH = 100


class Target(NamedTuple):
    """What a map is to point at.

    Attributes:
        maximum (str): what is printed of it: the map's maximum ...
        images (str): ... in a share of these.
        places: (n, H, W) bool, where it is in each image of the data set.
        there: (n,) bool, in which images it is.
    """
    maximum: str
    images: str
    places: numpy.ndarray
    there: numpy.ndarray


def main():
    parser = ArgumentParser(prog=PROGRAM, description='See where a run on shapes or faces looks.')
    parser.add_argument('run', help='folder of the run')
    run, config = RunFolder.open(parser.parse_args().run)
    name = config['arguments'].get('dataset', 'what its config does not tell')
    if name not in GENERATED:
        raise InputError(f'{run.root}: a run on {name}; this needs the masks of {" or ".join(GENERATED)}')
    dataset, parts = held_out(run, config)
    targets = targets_of(dataset)
    sheet = Sheet(['held-out image', *(dataset.classes if config.get('multitask') else ['attention'])])
    hits, near, centre, area = ([[] for _ in targets] for _ in range(4))
    for fold, indices in parts.items():
        maps, logits = look_at(run.best_network(fold), dataset, indices)
        for t, target in enumerate(targets):
            pairs = [(m[t], target.places[i]) for m, i in zip(maps, indices, strict=True) if target.there[i]]
            if not pairs:
                continue
            found = [pointing_hit(m, place) for m, place in pairs]
            print(f'fold {fold}: {target.maximum} in {numpy.mean(found):.1%} of {len(found)} {target.images}')
            hits[t] += found
            near[t] += [pointing_hit(m, place, 1) for m, place in pairs]
            centre[t] += [pointing_hit(centre_map(place.shape), place) for _, place in pairs]
            area[t] += [place.mean() for _, place in pairs]
        for m, row, i in list(zip(maps, logits, indices, strict=True))[:SHOWN]:
            image = dataset.image(i)
            sheet.add([image, *(overlay(image, values) for values in m)], caption(dataset, i, row))
    for t, target in enumerate(targets):
        if not hits[t]:
            print(f'no {target.images}')
            continue
        print(f'all folds: {target.maximum} in {numpy.mean(hits[t]):.1%} (or 1 px beside it: '
              f'{numpy.mean(near[t]):.1%}); the middle of the image: {numpy.mean(centre[t]):.1%}; a place by '
              f'chance: {numpy.mean(area[t]):.1%}')
    picture = Path(run.root, 'attention.png')
    try:
        with replacing(picture) as file:
            sheet.draw().save(file, 'PNG')
    except OSError as error:
        raise InputError(disk_failure(error)) from None
    print(f'held-out images with their attention maps: {picture}\n'
          f'the rest: {run.root} (summary.json, snap/ networks, matrix/, loss and accuracy curves)')


def targets_of(dataset):
    """A :class:`Target` for each map of a network."""
    if not hasattr(dataset, 'places'):
        return [Target('the map\'s maximum lies on the object', 'held-out images', dataset.masks,
                       numpy.ones(len(dataset), bool))]
    return [Target(f'the maximum of its map lies where {name} shows', 'held-out images that have it',
                   dataset.places[:, t], dataset.labels[:, t] == 1) for t, name in enumerate(dataset.classes)]


def look_at(path, dataset, indices):
    """Maps (n, T, h, w) and logits of some images by the network of a file; T is 1 where it has one map."""
    net, config = load(path)
    METHODS['attention'].check(net)
    parts = numpy.split(indices, range(BATCH, len(indices), BATCH))
    inputs = (to_batch([network_input(dataset.image(i), config) for i in part], config) for part in parts)
    found = [look(net, x, ['attention']) for x in inputs]
    maps = numpy.concatenate([seen.maps['attention'] for seen in found])
    logits = numpy.concatenate([seen.logits for seen in found])
    return (maps if net.multitask else maps[:, None]), logits


def caption(dataset, i, logits):
    """What the network takes image i for, and what it is where that is something else."""
    if logits.ndim == 2:
        return Attributes(dataset.classes).caption(dataset.name(i), logits)
    guess, truth = dataset.classes[logits.argmax()], dataset.classes[dataset.labels[i]]
    return guess if guess == truth else f'{guess} (is a {truth})'


if __name__ == '__main__':
    run_program(main, PROGRAM)
