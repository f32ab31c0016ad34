"""Going over the images: what each map scores."""
from pathlib import Path
from typing import NamedTuple

import numpy

from chainer_abn.errors import InputError
from chainer_abn.explain import METHODS
from chainer_abn.explain.faithfulness import deletion, insertion
from chainer_abn.explain.inputs import batches, network_input, softmax, to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.scores import centre_map, score, uniform, usual_tolerance, within
from chainer_abn.explain.sheet import CELL, Sheet
from chainer_abn.scores.marks import crossed, outlined, thumbnail
from chainer_abn.scores.tally import Tally
from chainer_abn.training.checkpoint import load

import chainer

SHOWN = 24                      # images on a sheet


class Judged(NamedTuple):
    """What came of the images of a source.

    Attributes:
        source (Source)
        tally (Tally): finished.
        means: {row: {score: Mean}} and {method: Mean}, see :meth:`Tally.means`.
        predictions: pairs of the predicted class and its probability, for each image.
        sheet (Sheet): some of them.
    """
    source: object
    tally: Tally
    means: tuple
    predictions: list
    sheet: Sheet


def methods_of(source, options, device):
    """The methods to judge; each network makes them of an empty image, as a trial.

    Raises:
        InputError: a network has several tasks, a method does not apply to it, it has no such layer.
    """
    for path, _ in source.parts:
        net, config = load(path)
        if net.multitask:
            raise InputError(f'{path}: a multi-task network has a map for each task')
        methods = options.method or [name for name, method in METHODS.items() if applies(method, net)]
        for name in methods:
            METHODS[name].check(net)
        net.to_device(device)
        look(net, device.send(numpy.zeros((1, 3, *config['image_size']), 'f')), methods, options.layer)
    return methods


def applies(method, net):
    try:
        method.check(net)
    except InputError:
        return False
    return True


def judge(source, methods, sizes, options, device, progress):
    """Score the maps of all images.

    Args:
        source (Source)
        methods (list of str)
        sizes: (n, 2) int, of the images.
        options: of the command line.
        device (chainer.backend.Device)
        progress: called with the number of images that are done.

    Returns:
        Judged
    """
    tally, sheet = Tally(len(sizes), methods, options.steps), Sheet(['image, object', *methods])
    shown = set(numpy.random.default_rng(options.seed).permutation(len(sizes))[:SHOWN].tolist())
    predictions = []
    for path, indices in source.parts:
        net, config = load(path)
        net.to_device(device)
        for batch in batches(prepared(source.images, indices, config), lambda item: item[1].shape,
                             options.batchsize):
            inputs = to_batch([small for _, small in batch], config)
            seen = look(net, device.send(inputs), methods, options.layer)
            for b, (i, _) in enumerate(batch):
                k = len(predictions)
                size = tuple(sizes[k].tolist())
                mask, void = source.truth.read(i, size)
                maps = [*(seen.maps[name][b] for name in methods), centre_map(size)]
                best = int(seen.logits[b].argmax())
                predictions.append((config['classes'][best], float(softmax(seen.logits[b])[best])))
                found = score_all(maps, mask, void, options.tolerance)
                tally.add(k, found, [curves(net, device, best, inputs[b], values, options)
                                     for values in maps if options.steps])
                if k in shown:
                    sheet.add(pictures(source.images.image(i), mask, maps[:-1], found),
                              caption(source, i, *predictions[-1]))
                progress(k + 1)
    tally.finish()
    return Judged(source, tally, tally.means(options.seed), predictions, sheet)


def prepared(images, indices, config):
    """Yield index and the network's input, as in training decoded at a fraction of a file's size."""
    for i in indices:
        yield i, network_input(images.image(i, config['resize']), config)


def score_all(maps, mask, void, tolerance):
    around = within(mask, usual_tolerance(mask.shape) if tolerance is None else tolerance)
    return [*(score(values, mask, void, around) for values in maps), uniform(mask, void, around)]


def curves(net, device, best, pixels, values, options):
    """Insertion and deletion of an image (3, h, w) by a map, for the class ``best``."""
    def probability(x):
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            return softmax(chainer.cuda.to_cpu(net(device.send(x)).logits.array))[:, best]

    return {name: curve(probability, pixels, values, options.steps, options.batchsize)
            for name, curve in (('insertion', insertion), ('deletion', deletion))}


def pictures(image, mask, maps, found):
    """The image with the object's outline, then each map over it with a cross at its maximum."""
    small = thumbnail(image, CELL)
    shown = [outlined(small, thumbnail(mask, CELL))]
    for values, one in zip(maps, found, strict=False):
        picture = overlay(small, values)
        if one.place is not None:
            picture = crossed(picture, (numpy.array(one.place) + 0.5) / mask.shape)
        shown.append(picture)
    return shown


def caption(source, i, guess, probability):
    wrong = f', is {source.class_of(i)}' if source.class_of(i) not in ('', guess) else ''
    return f'{guess} {probability:.0%}{wrong} ({Path(source.images.name(i)).stem})'
