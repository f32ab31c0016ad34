"""Whether the layers of a block are what an accelerator takes them for."""
import chainer
import chainer.links as L


def plain_layers(block, usable):
    """Whether all layers are as Chainer made them: without hooks or methods of their own.

    The block itself may have hooks, which see what it gives however it is run.

    Args:
        block (chainer_abn.runtime.blocks.Block)
        usable: array -> whether it can be a parameter; they are float32.
    """
    if chainer._get_link_hooks():
        return False
    for layer in block.layers():
        for link in layer.links():
            if link._n_local_link_hooks and link is not block or 'forward' in link.__dict__:
                return False
            kind = type(link)
            if kind in _PLAIN:
                if not _PLAIN[kind](link, usable):
                    return False
            elif kind is not chainer.ChainList and not hasattr(link, 'declare'):
                return False
    return True


def parameters_of(block):
    """Each once, though layers may share it."""
    return list({id(p): p for layer in block.layers() for p in layer.params()}.values())


def _plain_convolution(link, usable):
    return (link.W.array is not None and usable(link.W.array) and not link.cudnn_fast
            and (link.b is None or usable(link.b.array)))


def _plain_batch_norm(link, usable):
    return (link.gamma is not None and link.beta is not None and link.axis is None
            and link.avg_mean is not None
            and all(map(usable, (link.gamma.array, link.beta.array, link.avg_mean, link.avg_var))))


def _plain_linear(link, usable):
    return (link.W.array is not None and link.b is not None
            and usable(link.W.array) and usable(link.b.array))


_PLAIN = {L.Convolution2D: _plain_convolution, L.BatchNormalization: _plain_batch_norm,
          L.Linear: _plain_linear}
