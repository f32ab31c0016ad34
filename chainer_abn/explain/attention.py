import chainer

from chainer_abn.errors import InputError


def attention(net, x):
    """The attention map of an ABN, as its own forward pass makes it (paper, Figure 2).

    Args:
        net: an ABN.
        x: (B, C, H, W) float32.

    Returns:
        maps (B, h, w) float32 in (0, 1), logits (B, K) float32.

    Raises:
        InputError: the network has no attention branch.
    """
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        output = net(x)
    if output.attention is None:
        raise InputError('the network has no attention map: it is a baseline or CAM variant')
    return (chainer.cuda.to_cpu(output.attention.array)[:, 0],
            chainer.cuda.to_cpu(output.logits.array))
