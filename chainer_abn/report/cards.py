"""Cards: an image beside its map, with what the network says of it."""
import io
from pathlib import PurePath

import numpy
from PIL import Image

from chainer_abn.errors import InputError, one_line
from chainer_abn.explain import usual_method
from chainer_abn.explain.inputs import to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import is_empty, overlay, scaled
from chainer_abn.report.markup import Picture, image, tag
from chainer_abn.training.checkpoint import load

SIDE = 160                      # of a picture at most, CSS pixels
SMALL = 40                      # px up to which a picture is kept to the bit


class Sight:
    """The network of a file, and the method that shows where it looks.

    Raises:
        InputError: there is no such file, or it is damaged.
    """

    def __init__(self, path):
        self.net, self.config = load(path)
        self.method = usual_method(self.net)

    def maps(self, images):
        """Images (H, W, 3) of one size -> map of each, (h, w), of a multi-task network (T, h, w)."""
        return look(self.net, to_batch(numpy.stack(images), self.config), [self.method]).maps[self.method]


def cards(choices, predictions, classes, images, sight):
    """A list of cards.

    Args:
        choices (list of Choice)
        predictions (Predictions): that they are of.
        classes (sequence of str): names of the classes or tasks.
        images: (index, name) -> (H, W, 3) uint8, or InputError; None: the cards are without.
        sight (Sight): None: there are no maps.

    Returns:
        Html
    """
    shown = {choice: seen(choice, predictions, images) for choice in choices} if images else {}
    there = {choice: pixels for choice, pixels in shown.items() if not isinstance(pixels, str)}
    maps = dict(zip(there, sight.maps(list(there.values())), strict=True)) if sight and there else {}
    return tag('ul', [
        tag('li', tag('figure',
                      pair(choice, shown.get(choice), maps.get(choice), sight, predictions, classes),
                      tag('figcaption', caption(choice, predictions, classes))))
        for choice in choices], class_='cards')


def seen(choice, predictions, images):
    """An image, or in words why there is none."""
    try:
        return images(int(predictions.indices[choice.row]), predictions.names[choice.row])
    except InputError as error:
        return one_line(error)


def pair(choice, pixels, values, sight, predictions, classes):
    """Image and map, as far as they are there."""
    if pixels is None:
        return ''
    if isinstance(pixels, str):
        return tag('p', f'No picture: {pixels}', class_='soft')
    name = short(predictions.names[choice.row])
    pictures = [image(thumbnail(pixels), f'{name}, as the network saw it')]
    if values is not None:
        task = '' if choice.task is None else f' of {classes[choice.task]}'
        values = values if choice.task is None else values[choice.task]
        pictures.append(image(thumbnail(overlay(pixels, values)),
                              f'{name} under its {sight.method} map{task}, {where(values)}'))
    return tag('div', pictures, class_='pair')


def where(values):
    """Where a map is highest, in words."""
    if is_empty(values):
        return 'which is empty: it has no highest place'
    row, column = numpy.unravel_index(numpy.argmax(scaled(values)), values.shape)
    across, down = ((i + 0.5) / side for i, side in ((column, values.shape[1]), (row, values.shape[0])))
    return f'highest {across:.0%} from the left and {down:.0%} from the top'


def caption(choice, predictions, classes):
    """What the network says of the image, and the truth where that is something else."""
    row, task = choice
    if task is None:
        truth, answer = (classes[of[row]] for of in (predictions.truth, predictions.predicted))
        p, of_truth = predictions.probabilities[row]
        said, instead = tag('strong', answer), f' ({of_truth:.1%})'
    else:
        truth, answer = ('yes' if of[row, task] else 'no'
                         for of in (predictions.truth, predictions.predicted))
        yes, instead = predictions.probabilities[row, task], ''
        p = yes if answer == 'yes' else 1 - yes
        said = [f'{classes[task]}: ', tag('strong', answer)]
    right = truth == answer
    verdict = tag('span', '✓ right:' if right else '✗ wrong:', class_='right' if right else 'wrong')
    return [tag('div', verdict, ' ', said, f' ({p:.1%})'),
            '' if right else tag('div', 'truth: ', tag('strong', truth), instead),
            tag('div', short(predictions.names[row]), class_='file soft')]


def short(name):
    """The last two parts of a path, which tell the class and the file."""
    return '/'.join(PurePath(name).parts[-2:])


def thumbnail(pixels):
    """(H, W, 3) uint8 -> Picture: small ones are enlarged in whole steps, large ones made smaller."""
    picture = Image.fromarray(pixels)
    side = max(picture.size)
    if side > SIDE:
        picture = picture.resize([max(round(length * SIDE / side), 1) for length in picture.size],
                                 Image.Resampling.LANCZOS)
    step = max(SIDE // side, 1)
    kind, options = ('PNG', {'optimize': True}) if side <= SMALL else (
        'JPEG', {'quality': 80, 'subsampling': 0})
    file = io.BytesIO()
    picture.save(file, kind, **options)
    width, height = (step * length for length in picture.size)
    return Picture(file.getvalue(), f'image/{kind.lower()}', width, height, enlarged=step > 1)
