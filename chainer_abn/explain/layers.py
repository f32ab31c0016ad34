"""The layers of a network, by name, and what comes out of them."""
import difflib
import itertools

from chainer_abn.errors import InputError

import chainer

_names = map('tap-{}'.format, itertools.count())


class Tap(chainer.LinkHook):
    """Within, keeps what comes out of a link, and lets Chainer's graph begin there.

    Use it in a pass with ``chainer.config.enable_backprop`` off, which it switches on behind the link. The
    hook is taken off again whatever happens.

    Args:
        link (chainer.Link)

    Attributes:
        out (chainer.Variable): what the link gave, (B, C, h, w); None before it was called.
    """

    def __init__(self, link):
        self.link, self.name, self.out = link, next(_names), None

    def forward_postprocess(self, args):
        self.out = args.out
        chainer.config.enable_backprop = True

    def __enter__(self):
        self.link.add_hook(self)
        return self

    def __exit__(self, *exception):
        self.link.delete_hook(self.name)


class _Recorder(chainer.LinkHook):
    """The sizes of the maps that links give, in the order of the calls."""

    name = 'recorder'

    def __init__(self):
        self.shapes = {}

    def forward_postprocess(self, args):
        # what stands behind an average over the pixels, such as a classifier of several tasks, gives no map
        if getattr(args.out, 'ndim', None) == 4 and max(args.args[0].shape[2:]) > 1:
            self.shapes.setdefault(id(args.link), args.out.shape[1:])


def pooled_layer(net):
    """The link behind which the classifier averages the pixels: the end of the perception branch."""
    branch = net.perception_branch
    return branch.tail if isinstance(branch.tail, chainer.Link) else branch.stage


def layers_of(net, x):
    """The layers that maps can be made at, in the order in which a pass comes by.

    These are the links that are called and make maps of maps of more than one pixel: convolutions,
    normalizations, blocks, stages.

    Args:
        net: of :func:`chainer_abn.build`.
        x: (1, in_channels, H, W) float32, an image to send through.

    Returns:
        dict: name, such as ``perception_branch/stage/1``, -> shape (C, h, w) of what comes out.
    """
    recorder = _Recorder()
    with chainer.using_config('train', False), chainer.no_backprop_mode(), recorder:
        net(x)
    names = {id(link): name[1:] for name, link in net.namedlinks(skipself=True)}
    return {names[key]: shape for key, shape in recorder.shapes.items() if key in names}


def layer_of(net, name):
    """The link of a name, None where there is none; the name None is for what the classifier averages."""
    if name is None:
        return pooled_layer(net)
    return dict(net.namedlinks(skipself=True)).get(f'/{name}')


def no_such_layer(net, x, name):
    """The error for a layer that there is not, or that gives no maps; its message lists names."""
    layers = list(layers_of(net, x))
    near = difflib.get_close_matches(name, layers, n=3, cutoff=0)
    blocks = [layer for layer in layers if layer.count('/') < 3 and layer not in near]
    return InputError(f'--layer {name}: the network has no such layer; nearest are {", ".join(near)}; others '
                      f'are {", ".join(blocks)} and what is in these (visualize.py --layer list prints all)')
