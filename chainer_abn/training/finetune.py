"""Starting from weights, and training a part of the network only."""
import functools

from chainer_abn.errors import InputError
from chainer_abn.training.checkpoint import arrays_of
from chainer_abn.training.weights import differences

import chainer

# what --freeze takes
PARTS = ('feature_extractor', 'attention_branch', 'attention_branch/stage',
         'perception_branch', 'perception_branch/stage')
CLASSIFIER = 'perception_branch/fc/'


def start_from(net, source):
    """Initialise a network from another of the same architecture.

    The feature extractor and the last stage of each branch are copied, and what belongs to the
    classes where it fits: the attention head whole or not at all, of the classifier each layer of
    the same shape. A source without an attention branch gives its one last stage to both.

    Args:
        net, source: made by :func:`chainer_abn.build`, on the CPU.

    Returns:
        list of str: what stays fresh, ``attention head`` and ``classifier`` or less.

    Raises:
        InputError: another architecture; the first differences are named.
    """
    wanted, found = arrays_of(net), arrays_of(source)
    has_map, had_map = (hasattr(n, 'attention_branch') for n in (net, source))
    # behind the stage of the attention branch; a network of several tasks has none there
    same_bn = all('attention_branch/bn/gamma' in arrays for arrays in (wanted, found))
    if has_map and not had_map:
        found.update({name.replace('perception_branch', 'attention_branch', 1): array
                      for name, array in found.items() if name.startswith('perception_branch/stage/')})

    def of_images(name):
        branch, part, *_ = name.split('/')
        if branch == 'attention_branch':
            return has_map and (part == 'stage' or (part == 'bn' and same_bn))
        return not name.startswith(CLASSIFIER)

    if differ := differences(*({name: array for name, array in arrays.items() if of_images(name)}
                               for arrays in (wanted, found))):
        raise InputError(f'a {source.arch} does not fit a {net.arch}: {differ}')
    unfit = {name for name, array in wanted.items()
             if name not in found or found[name].shape != array.shape}
    head = {name for name in wanted if name.startswith('attention_branch/') and not of_images(name)}
    # a layer's bias would fit where only its weights do not
    layers = {name.rpartition('/')[0] for name in unfit - head}
    fresh = {'attention head': head if head & unfit else set(),
             'classifier': {name for name in wanted.keys() - head if name.rpartition('/')[0] in layers}}
    for name in wanted.keys() - set().union(*fresh.values()):
        wanted[name][...] = found[name]
    return [what for what, names in fresh.items() if names]


def check_parts(parts, variant):
    """Raises InputError unless a network of this variant has the parts, and something beside them."""
    for part in parts:
        if part not in PARTS:
            raise InputError(f'--freeze {part}: use {", ".join(PARTS)}')
        if variant != 'abn' and part.startswith('attention_branch'):
            raise InputError(f'--freeze {part}: a {variant} network has none')
    branches = [part for part in PARTS if '/' not in part and (variant == 'abn' or 'attention' not in part)]
    if set(branches) <= set(parts):
        raise InputError(f'--freeze {",".join(parts)}: nothing is left to train')


def freeze(net, part):
    """Keep a part as it is: no updates, and its batch normalization and dropout as in evaluation.

    Call it when the optimizer is set up. Behind a frozen feature extractor, which nothing that is
    trained comes before, no gradients are computed.
    """
    link = net
    for name in part.split('/'):
        link = link[name]
    link.disable_update()
    # of the link and its class, not a closure: a copy of the network then computes with its own weights
    link.forward = functools.partial(_forward_in_evaluation, link, part == 'feature_extractor')


def _forward_in_evaluation(link, first, *args):
    backprop = chainer.config.enable_backprop and not first
    with chainer.using_config('train', False), chainer.using_config('enable_backprop', backprop):
        return type(link).forward(link, *args)
