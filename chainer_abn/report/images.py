"""The section of held-out images: of each fold the worst errors and some images by chance."""
from chainer_abn.datasets.transforms import CenterCrop
from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import network_input
from chainer_abn.report.cards import Sight, cards
from chainer_abn.report.choose import at_random, most_confident_errors
from chainer_abn.report.markup import tag


class Images:
    """The images of a data set as the networks of a run see them, found by what the predictions tell.

    Args:
        dataset: of the run; images that the run left out may be in it.
        config (dict): of the run.
    """

    def __init__(self, dataset, config):
        self.dataset, self.config, self._numbers = dataset, config, None
        self._crop = CenterCrop(config['image_size'])

    def __call__(self, index, name):
        """The middle of the image, as in validation: (H, W, 3) uint8 RGB.

        Raises:
            InputError: it is not there any more, or cannot be read.
        """
        image = self.dataset.image(self._number(index, name), self.config['resize'])
        return self._crop([network_input(image, self.config)])[0]

    def _number(self, index, name):
        if 0 <= index < len(self.dataset) and self.dataset.name(index) == name:
            return index
        if self._numbers is None:
            self._numbers = {self.dataset.name(i): i for i in range(len(self.dataset))}
        if name not in self._numbers:
            raise InputError('it is not in the data set any more')
        return self._numbers[name]


def held_out(found, dataset, without):
    """The section's content.

    Args:
        found (Found)
        dataset: of the run, or None.
        without (str): why there is no data set.
    """
    if not found.predictions:
        return None
    images = Images(dataset, found.config) if dataset is not None else None
    parts, methods = [], []
    for fold, predictions in found.predictions.items():
        parts.append(tag('h3', f'Fold {fold}'))
        sight = None
        if images:
            try:
                sight = Sight(found.run.best_network(fold))
                methods.append(sight.method)
            except InputError as error:
                parts.append(tag('p', f'Without maps: {error}', class_='soft'))
        errors = most_confident_errors(predictions)
        by_chance = at_random(predictions, (found.arguments['seed'], fold))
        shown = predictions, found.classes, images, sight
        parts += [
            tag('h4', 'Most confident errors'),
            cards(errors, *shown) if errors else tag('p', 'There are none: every answer is right.'),
            tag('h4', 'Chosen at random'), cards(by_chance, *shown)]
    intro = ('Each image was held out of the training of the network that judges it, and is shown as that '
             'network saw it.') if images else f'Without pictures: {without or "there is no data set"}.'
    if methods:
        intro += f' Beside it lies its {methods[0]} map over it, from blue (lowest) to red (highest).'
    intro += ' In brackets is the probability that the network gave.'
    return [tag('p', intro, class_='soft'), parts]
