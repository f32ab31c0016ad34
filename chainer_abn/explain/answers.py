"""What a network says of an image, in a table and a caption, and which maps go with that."""
import difflib
import itertools
import re

import numpy

from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import softmax

LONGEST = 80                    # characters of an attribute in the name of a file


class Classes:
    """The answers of a network that tells one of several classes.

    Attributes:
        columns (list of str): of predictions.csv.

    Args:
        classes (sequence of str)
        attributes (list of str): what ``--attributes`` names; None is what there can be.
    """

    columns = ['file', 'predicted_class', 'probability', 'top5', 'stem']

    def __init__(self, classes, attributes=None):
        if attributes is not None:
            raise InputError(f'--attributes {",".join(attributes)}: the network tells classes, it is no '
                             'multi-task network')
        self.classes = classes

    def titles(self, methods):
        """Of the pictures of an image."""
        return methods

    def maps(self, method, values):
        """(part of a file's name, map (h, w)) for each picture, from a method's map of one image."""
        return [(method, values)]

    def row(self, path, stem, logits):
        """The line of an image: predicted class, its probability, the five best in words."""
        probability = softmax(logits)
        order = numpy.argsort(-probability, kind='stable')[:5]
        top = '; '.join(f'{self.classes[i]} {probability[i]:.4f}' for i in order)
        return [path, self.classes[order[0]], f'{probability[order[0]]:.4f}', top, stem]

    def caption(self, stem, logits):
        probability = softmax(logits)
        best = int(probability.argmax())
        return f'{self.classes[best]} {probability[best]:.0%} ({stem})'


class Attributes:
    """The answers of a multi-task network: the probability of each attribute, maps of the chosen ones.

    Args:
        classes (sequence of str): T names.
        attributes (list of str): the chosen ones, None: all.

    Raises:
        InputError: there is no such attribute.
    """

    def __init__(self, classes, attributes=None):
        self.classes = classes
        self.columns = ['file', 'stem', *classes]
        for name in attributes or []:
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=3, cutoff=0.3) or classes[:5]
                raise InputError(f'--attributes {name}: the network has no such attribute; nearest are '
                                 f'{", ".join(near)}')
        self.chosen = list(range(len(classes))) if attributes is None else [
            classes.index(name) for name in dict.fromkeys(attributes)]
        self.file_names = safe_names(classes)

    def titles(self, methods):
        return [self.classes[i] for _ in methods for i in self.chosen]

    def maps(self, method, values):
        return [(f'{method}-{self.file_names[i]}', values[i]) for i in self.chosen]

    def row(self, path, stem, logits):
        return [path, stem, *(f'{yes:.4f}' for yes in softmax(logits)[:, 1])]

    def caption(self, stem, logits):
        present = [self.classes[i] for i in numpy.flatnonzero(logits.argmax(axis=1))]
        return f'{", ".join(present) or "none"} ({stem})'


def safe_names(names):
    """Names that can be part of a file's name, whatever is in them, and differ in more than case."""
    found = []
    for name in names:
        base = re.sub(r'[^\w.+-]', '_', name)[:LONGEST]
        numbered = (f'{base}-{i}' for i in itertools.count(2))
        taken = {other.lower() for other in found}
        found.append(next(n for n in itertools.chain([base], numbered) if n.lower() not in taken))
    return found
