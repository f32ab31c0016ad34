"""What a network says of an image, in a table and a caption, and which maps go with that."""
import difflib
import itertools
import re

import numpy

from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import beginning, softmax

LONGEST = 80                    # bytes of an attribute in the name of a file


class Classes:
    """The answers of a network that tells one of several classes.

    Attributes:
        columns (list of str): of predictions.csv.
        target (int): the class that maps are for; None, the predicted one.

    Args:
        classes (sequence of str)
        attributes (list of str): what ``--attributes`` names; None is what there can be.
        target (str): what ``--class`` names: a class or its number.

    Raises:
        InputError: attributes, or a class that the network does not have.
    """

    def __init__(self, classes, attributes=None, target=None):
        if attributes is not None:
            raise InputError(f'--attributes {",".join(attributes)}: the network tells classes, it is no '
                             'multi-task network')
        self.classes, self.target = classes, None if target is None else class_index(classes, target)
        self.columns = ['file', 'predicted_class', 'probability', 'top5', 'stem']
        if target is not None:
            self.columns += ['class', 'class_probability']
        self.edited_columns = ['edited_class', 'edited_probability', 'predicted_class_edited_probability']

    def titles(self, methods):
        """Of the pictures of an image."""
        return methods

    def maps(self, method, values):
        """Part of a file's name -> map (h, w) for each picture, from a method's map of one image."""
        return {method: values}

    def row(self, path, stem, logits):
        """The line of an image: predicted class, its probability, the five best in words."""
        probability = softmax(logits)
        order = numpy.argsort(-probability, kind='stable')[:5]
        top = '; '.join(f'{self.classes[i]} {probability[i]:.4f}' for i in order)
        row = [path, self.classes[order[0]], f'{probability[order[0]]:.4f}', top, stem]
        if self.target is not None:
            row += [self.classes[self.target], f'{probability[self.target]:.4f}']
        return row

    def edited_row(self, logits, edited):
        """The line's end where the map was edited: what the network says then."""
        probability = softmax(edited)
        best = int(probability.argmax())
        return [self.classes[best], f'{probability[best]:.4f}', f'{probability[logits.argmax()]:.4f}']

    def changed(self, row):
        """Whether an edited map changed the answer, by a line as a dict."""
        return row['predicted_class'] != row['edited_class']

    def caption(self, stem, logits):
        return f'{self.words(logits)} ({stem})'

    def words(self, logits, picture=0):
        """The predicted class and its probability, for each picture the same."""
        probability = softmax(logits)
        best = int(probability.argmax())
        return f'{self.classes[best]} {probability[best]:.0%}'


class Attributes:
    """The answers of a multi-task network: the probability of each attribute, maps of the chosen ones.

    Args:
        classes (sequence of str): T names.
        attributes (list of str): the chosen ones, None: all.
        target: None, there is no class.

    Raises:
        InputError: there is no such attribute, or a class was named.
    """

    target = None

    def __init__(self, classes, attributes=None, target=None):
        if target is not None:
            raise InputError(f'--class {target}: the network is one of several tasks; use --attributes')
        self.classes = classes
        self.columns = ['file', 'stem', *classes]
        self.edited_columns = [f'{name} edited' for name in classes]
        for name in attributes or []:
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=3, cutoff=0.3) or classes[:5]
                raise InputError(f'--attributes {name}: the network has no such attribute; nearest are '
                                 f'{", ".join(near)}')
        self.chosen = list(range(len(classes))) if attributes is None else [
            classes.index(name) for name in dict.fromkeys(attributes)]
        self.file_names = safe_names(classes)

    def titles(self, methods):
        several = len(methods) > 1
        return [f'{self.classes[i]}, {method}' if several else self.classes[i]
                for method in methods for i in self.chosen]

    def maps(self, method, values):
        return {f'{method}-{self.file_names[i]}': values[i] for i in self.chosen}

    def row(self, path, stem, logits):
        return [path, stem, *(f'{yes:.4f}' for yes in softmax(logits)[:, 1])]

    def edited_row(self, logits, edited):
        return [f'{yes:.4f}' for yes in softmax(edited)[:, 1]]

    def changed(self, row):
        return any((float(row[name]) > 0.5) != (float(row[f'{name} edited']) > 0.5) for name in self.classes)

    def caption(self, stem, logits):
        present = [self.classes[i] for i in numpy.flatnonzero(logits.argmax(axis=1))]
        return f'{", ".join(present) or "none"} ({stem})'

    def words(self, logits, picture):
        """The probability of the attribute that is chosen as number ``picture``."""
        i = self.chosen[picture]
        return f'{self.classes[i]} {softmax(logits)[i, 1]:.0%}'


def class_index(classes, name):
    """The number of a class, from 0, by its name or its number.

    Raises:
        InputError: there is none.
    """
    if name in classes:
        return classes.index(name)
    if re.fullmatch(r'\d{1,6}', name) and int(name) < len(classes):
        return int(name)
    near = difflib.get_close_matches(name, classes, n=5, cutoff=0.3) or classes[:5]
    raise InputError(f'--class {name}: the network has no such class; nearest of its {len(classes)} are '
                     f'{", ".join(near)}')


def safe_names(names):
    """Names that can be part of a file's name, whatever is in them, and differ in more than case."""
    found = []
    for name in names:
        base = beginning(re.sub(r'[^\w.+-]', '_', name), LONGEST)
        numbered = (f'{base}-{i}' for i in itertools.count(2))
        taken = {other.lower() for other in found}
        found.append(next(n for n in itertools.chain([base], numbered) if n.lower() not in taken))
    return found
