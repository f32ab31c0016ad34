"""The arrays of a network by the names that the official PyTorch networks give them."""
from chainer_abn.links.blocks import batch_norm
from chainer_abn.links.build import architecture

import chainer.links as L

HEAD = {'bn': 'bn_att', 'conv_class': 'att_conv', 'bn_class': 'bn_att2', 'conv_score': 'att_conv2',
        'conv_map': 'att_conv3', 'bn_map': 'bn_att3'}


def official_layers(net):
    """Name -> layer, for every convolution, normalization and linear layer of a network.

    Args:
        net: made by :func:`chainer_abn.build`.
    """
    layers = dict(architecture(net.arch).official_layers(net))
    branch = getattr(net, 'attention_branch', None)
    for ours, official in HEAD.items():
        layer = getattr(branch, ours, None)
        if isinstance(layer, (L.Convolution2D, L.BatchNormalization)):
            layers[official] = layer
    return layers


def official_arrays(net):
    """Name, such as ``layer1.0.bn1.running_mean``, -> the array itself; writing to it sets it."""
    return _arrays(official_layers(net))


def _arrays(layers):
    arrays = {}
    for name, layer in layers.items():
        if isinstance(layer, L.BatchNormalization):
            arrays[f'{name}.weight'] = layer.gamma.array
            arrays[f'{name}.bias'] = layer.beta.array
            arrays[f'{name}.running_mean'] = layer.avg_mean
            arrays[f'{name}.running_var'] = layer.avg_var
        else:
            arrays[f'{name}.weight'] = layer.W.array
            if layer.b is not None:
                arrays[f'{name}.bias'] = layer.b.array
    return arrays


def unused_arrays(net):
    """What the official network declares and never applies: ResNeXt's BN after the attention stage."""
    branch = getattr(net, 'attention_branch', None)
    if branch is None or isinstance(branch.bn, L.BatchNormalization):
        return {}
    return _arrays({HEAD['bn']: batch_norm(branch.conv_class.W.shape[1])})
