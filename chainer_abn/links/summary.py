"""What a network is made of and what it costs."""
from typing import NamedTuple

import numpy

from chainer_abn.links.build import architecture

import chainer
import chainer.links as L


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        branch (str): feature extractor, attention branch or perception branch.
        layer (str): the link's name within the network and what it is.
        output (tuple): shape of what comes out for one image.
        parameters (int): trainable numbers.
        multiply_adds (int): of its convolutions and linear layers for one image.
    """
    branch: str
    layer: str
    output: tuple
    parameters: int
    multiply_adds: int


class Summary(NamedTuple):
    """The table of a network; its str() is what ``n_fold_train.py --summary`` prints.

    Attributes:
        title (str)
        rows (list of Row)
    """
    title: str
    rows: list

    @property
    def parameters(self):
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self):
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self):
        lines, branch = [], None
        for row in self.rows:
            if row.branch != branch:
                branch = row.branch
                inside = [r for r in self.rows if r.branch == branch]
                lines.append([branch, '', *(f'{sum(r[i] for r in inside):,}' for i in (3, 4))])
            lines.append([f'  {row.layer}', ' x '.join(map(str, row.output)), f'{row.parameters:,}',
                          f'{row.multiply_adds:,}'])
        lines.append(['total', '', f'{self.parameters:,}', f'{self.multiply_adds:,}'])
        lines.insert(0, ['layer', 'output', 'parameters', 'multiply-adds'])
        first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
        return '\n'.join([self.title, ''] + [
            '  '.join([line[0].ljust(first)] + [cell.rjust(width) for cell, width
                                                in zip(line[1:], others, strict=True)])
            for line in lines])


class _Costs(chainer.LinkHook):
    """Collects, by the id of each link, the shape of its output and its multiply-adds."""

    name = 'summary'

    def __init__(self):
        self.outputs, self.multiply_adds = {}, {}

    def forward_postprocess(self, args):
        link, out = args.link, args.out
        if not isinstance(out, chainer.Variable):
            return
        self.outputs[id(link)] = out.shape[1:]
        if isinstance(link, (L.Convolution2D, L.Linear)):
            # every output value is a sum over one filter, or one row of the matrix
            self.multiply_adds[id(link)] = out.size * int(numpy.prod(link.W.shape[1:]))


def summary(net, size=None):
    """Sizes and costs of a network, stage by stage.

    Args:
        net: made by :func:`chainer_abn.build`, on the CPU.
        size: [height, width] of the image in pixels; None: the architecture's usual square.

    Returns:
        Summary
    """
    side = architecture(net.arch).image_size
    height, width = size or (side, side)
    in_channels = next(p.shape[1] for name, p in net.feature_extractor[0].namedparams() if p.ndim == 4)
    with chainer.using_config('train', False), chainer.no_backprop_mode(), _Costs() as costs:
        output = net(numpy.zeros((1, in_channels, height, width), 'f'))

    def row(branch, name, links, shape=None):
        inside = [child for link in links for child in link.links()]
        return Row(branch, name, tuple(shape or costs.outputs[id(links[-1])]),
                   sum(p.size for link in links for p in link.params()),
                   sum(costs.multiply_adds.get(id(child), 0) for child in inside))

    rows = [row('feature extractor', f'{i}: {kind(link)}', [link])
            for i, link in enumerate(net.feature_extractor)]
    if output.attention is not None:
        branch = net.attention_branch
        name = 'attention branch'
        rows.append(row(name, f'stage: {kind(branch.stage)}', [branch.stage]))
        rows += [row(name, *parts) for parts in (task_head if net.multitask else class_head)(branch, output)]
    branch, name = net.perception_branch, 'perception branch'
    rows.append(row(name, f'stage: {kind(branch.stage)}', [branch.stage]))
    if isinstance(branch.tail, chainer.Link):
        rows.append(row(name, 'tail: BN, ReLU', [branch.tail]))
    rows.append(row(name, 'classifiers' if net.multitask else 'classifier', [branch.fc],
                    output.logits.shape[1:]))
    variant = {'ABN': 'Attention Branch Network', 'CAM': 'CAM', 'Baseline': 'baseline'}[
        type(net).__name__.removeprefix('MultiTask')]
    what = 'tasks' if net.multitask else 'classes'
    title = f'{net.arch}, {variant}, {output.logits.shape[1]} {what}, {in_channels} x {height} x {width}'
    return Summary(title, rows)


def class_head(branch, output):
    """Name, links and output of each part of an attention branch behind its stage."""
    normalization = [branch.bn] if isinstance(branch.bn, chainer.Link) else []
    yield 'class maps', [*normalization, branch.conv_class, branch.bn_class]
    yield 'scores', [branch.conv_score], output.attention_logits.shape[1:]
    if branch.log_sum:
        yield 'map: log-sum', [], output.attention.shape[1:]
    else:
        yield 'map: 3x3, sigmoid', [branch.conv_map, branch.bn_map], output.attention.shape[1:]


def task_head(branch, output):
    """The same of a multi-task network."""
    yield 'maps: 1x1' + ', sigmoid' * branch.bounded, [branch.conv_map]
    yield f'scores: {"average" if branch.bounded else "maximum"}', [], output.attention_logits.shape[1:]


def kind(link):
    """A link in words: ``3 x Residual`` or ``Stem``."""
    return f'{len(link)} x {type(link[0]).__name__}' if isinstance(link, chainer.ChainList) \
        else type(link).__name__
