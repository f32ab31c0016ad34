"""Networks from the files of other programs, and back."""
import os

import numpy

from chainer_abn.datasets.archives import open_zip
from chainer_abn.errors import InputError
from chainer_abn.files import open_file
from chainer_abn.links import build
from chainer_abn.links.build import architecture
from chainer_abn.links.official import HEAD, official_arrays, official_layers, unused_arrays
from chainer_abn.training import checkpoint, torch_file
from chainer_abn.training.npz_file import LARGEST_DIRECTORY, Npz
from chainer_abn.training.settings import NORMALISATION

import chainer

PREFIX = 'module.'              # of the official state_dict, saved out of torch.nn.DataParallel
SHOWN = 5                       # names of each kind in a message
CAFFE = 'resnet50_fine'
CAFFE_BYTES = 1 << 28           # of its arrays: with a thousand classes they have 102 MB
# Chainer's ResNet50Layers subtracts this mean (blue, green, red) from images of 0 to 255
CAFFE_MEAN = (103.063, 115.903, 123.152)


def read_network(path, arch=None, **options):
    """A network from a file of this program, of PyTorch or of Chainer's ResNet50Layers.

    Args:
        path: an .npz or .pth file.
        arch (str): None only for a file of this program, which tells its own.
        options: for :func:`from_torch`.

    Returns:
        (chainer.Chain, dict): the network and its config.

    Raises:
        InputError: no such file, damaged, or not of that architecture.
    """
    names = _names_in_zip(path)
    if not str(path).endswith('.npz') and not any(name.endswith('.npy') for name in names):
        if arch is None:
            raise InputError(f'{path}: --arch is missing, a PyTorch file does not tell its own')
        return from_torch(path, arch, **options)
    if told := [f'--{name}' for name, value in options.items() if value is not None]:
        raise InputError(f'{path}: {", ".join(told)} can be told of a PyTorch file only')
    if 'res2/a/conv1/W.npy' in names:
        if arch != CAFFE:
            raise InputError(f'{path}: weights of Chainer\'s ResNet50Layers; they fit --arch {CAFFE}')
        return from_caffe(path)
    net, config = checkpoint.load(path)
    if arch is not None and config['arch'] != arch:
        with chainer.using_config('fresh_weights', False):
            other = build(arch, len(config['classes']), config['variant'], config['attention'],
                          config['in_channels'], multitask=net.multitask)
        raise InputError(f'{path}: a {config["arch"]}, not a {arch}: '
                         + differences(official_arrays(other), official_arrays(net)))
    return net, config


def _names_in_zip(path):
    """The names in a zip archive; none where the file is something else."""
    try:
        with open_file(path) as file, open_zip(file, LARGEST_DIRECTORY) as archive:
            return archive.namelist()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from None
    except Exception:                   # damaged: what reads it will say so
        return []


def from_torch(path, arch, variant=None, attention=None, classes=None):
    """A network with the weights of a PyTorch checkpoint.

    The official ABN checkpoints fit, and as baselines those of bearpaw/pytorch-classification (CIFAR)
    and torchvision (ImageNet). The numbers of classes and of the images' channels, and whether
    the map is a log-sum, are read from the tensors.

    Args:
        path: of a checkpoint: a dict with ``state_dict``, or the state_dict alone; its names may
            begin with ``module.``.
        arch (str)
        variant (str): None: ``abn`` where there is an attention branch in it, else ``baseline``.
        attention (str): mechanism of an ABN; None: ``residual``, or ``log-sum`` where the
            checkpoint has no layers for a map.
        classes (sequence of str): names; None: ``0``, ``1``, ...

    Returns:
        (chainer.Chain, dict): the network and its config.

    Raises:
        InputError: no such file, damaged, not weights only, or anything missing, left over or of
            another shape, by name.
    """
    if arch == CAFFE:
        raise InputError(f'{arch} has no PyTorch weights: it takes Chainer\'s ResNet-50 .npz file')
    with torch_file.TorchFile(path) as file:
        tensors = _state_dict(file)
        head = 'att_conv.weight' in tensors
        variant = variant or ('abn' if head else 'baseline')
        if attention is not None and variant != 'abn':
            raise InputError(f'--attention {attention}: a {variant} network has none')
        if attention is None:
            attention = 'log-sum' if head and 'att_conv3.weight' not in tensors else 'residual'
        # tensors tell no dropout; none makes the network compute what they alone say
        dropout = None if architecture(arch).dropout is None else 0.0
        with chainer.using_config('fresh_weights', False):
            n_class, in_channels = _class_and_channel_count(
                build(arch, 1, variant, attention), tensors, f'{path} does not fit {arch} ({variant})')
            if classes is not None and len(classes) != n_class:
                raise InputError(f'{path}: has {n_class} classes, not the {len(classes)} that were named')
            net = build(arch, n_class, variant, attention, in_channels, dropout)
        arrays, unused = official_arrays(net), unused_arrays(net)
        used = {name: tensor for name, tensor in tensors.items()
                if name in arrays or not (name in unused or name.endswith('.num_batches_tracked'))}
        if differ := differences(arrays, used):
            raise InputError(f'{path} does not fit {arch} ({variant}): {differ}')
        for name, array in arrays.items():
            values = file.array(used[name])
            if values.dtype.kind != 'f':
                raise InputError(f'{path}: {name} holds {values.dtype}, not floating-point numbers')
            with numpy.errstate(over='ignore', invalid='ignore'):
                array[...] = values
            if not numpy.isfinite(array).all():
                raise InputError(f'{path}: {name} holds numbers that are not finite')
    side = architecture(arch).image_size
    mean, std = NORMALISATION[side]
    return net, checkpoint.make_config(
        arch=arch, variant=variant, attention=attention, dropout=dropout, in_channels=in_channels,
        classes=classes or numbers(n_class), image_size=[side] * 2,
        resize=[side if side == 32 else 256] * 2, mean=mean, std=std)


def _class_and_channel_count(net, tensors, complaint):
    """Numbers of classes and of image channels, from a checkpoint's classifier and first convolution.

    Where these do not fit the network, 1 and 3: other differences are told then, and no memory is
    taken for what a file claims.

    Args:
        net: of one class and three channels; the other sizes are its.
        tensors (dict): name -> tensor.
        complaint (str): what to say first.
    """
    expected, layers = official_arrays(net), list(official_layers(net).items())
    first = next(name for name, layer in layers if isinstance(layer, chainer.links.Convolution2D))
    last = [name for name, layer in layers if isinstance(layer, chainer.links.Linear)][-1]

    def size(name, axis, otherwise):
        have, want = (list(arrays[name].shape) if name in arrays else [] for arrays in (tensors, expected))
        found = have.pop(axis) if len(have) == len(want) else 0
        del want[axis]
        return found if found > 0 and have == want else otherwise

    n_class = size(f'{last}.weight', 0, otherwise=1)
    # the one layer of classes x classes must be there before its memory is taken
    square = f'{HEAD["conv_score"]}.weight'
    if square in expected and n_class > 1 and (square not in tensors or tensors[square].shape[0] != n_class):
        raise InputError(f'{complaint}: {last}.weight is of {n_class} classes, {square} is not')
    return n_class, size(f'{first}.weight', 1, otherwise=3)


def _state_dict(file):
    """Name -> tensor, without the prefix of DataParallel."""
    content = file.content
    if isinstance(content, dict) and isinstance(content.get('state_dict'), dict):
        content = content['state_dict']
    if not isinstance(content, dict) or not content or not all(
            isinstance(name, str) and isinstance(tensor, torch_file.Tensor)
            for name, tensor in content.items()):
        raise InputError(f'{file.path}: holds no state_dict of tensors')
    if all(name.startswith(PREFIX) for name in content):
        content = {name.removeprefix(PREFIX): tensor for name, tensor in content.items()}
    return content


def differences(expected, found):
    """What is missing, left over and of another shape, in words; '' where all fits.

    Args:
        expected, found (dict): name -> anything with a shape.
    """
    kinds = {
        'missing': [name for name in expected if name not in found],
        'left over': [name[:80] for name in found if name not in expected],
        'of another shape': [
            f'{name} {tuple(found[name].shape)} for {tuple(array.shape)}' for name, array in expected.items()
            if name in found and tuple(found[name].shape) != tuple(array.shape)],
    }
    return '; '.join(
        f'{kind}: {", ".join(names[:SHOWN])}' + (f' and {len(names) - SHOWN} more' if names[SHOWN:] else '')
        for kind, names in kinds.items() if names)


def from_caffe(path):
    """``resnet50_fine`` with the weights of Chainer's ``ResNet50Layers`` (an .npz of the caffemodel).

    Returns:
        (chainer.Chain, dict): the baseline and its config, which remembers that images are BGR,
        0 to 255, less the mean.
    """
    with Npz(path, expanded=CAFFE_BYTES) as file:
        found = {name: header for name, header in file.headers.items() if not name.endswith('/N')}
        shape = found['fc6/W'].shape if 'fc6/W' in found else ()
        n_class = shape[0] if len(shape) == 2 and shape[0] and shape[1] == 2048 else 1000
        with chainer.using_config('fresh_weights', False):
            net = build(CAFFE, n_class, 'baseline')
        arrays = {f'{layer.replace(".", "/")}/{name}': array
                  for layer, link in official_layers(net).items()
                  for name, array in checkpoint.arrays_of(link).items()}
        if differ := differences(arrays, found):
            raise InputError(f'{path} does not fit Chainer\'s ResNet50Layers: {differ}')
        for name, array in arrays.items():
            if found[name].dtype.kind != 'f':
                raise InputError(f'{path}: {name} holds {found[name].dtype}, not floating-point numbers')
            array[...] = file[name]
    return net, checkpoint.make_config(
        arch=CAFFE, variant='baseline', attention='residual', dropout=None, in_channels=3,
        classes=numbers(n_class), image_size=[224, 224], resize=[256, 256],
        mean=[value / 255 for value in CAFFE_MEAN[::-1]], std=[1 / 255] * 3)


def default_caffe_file():
    """Where Chainer keeps the weights of its ResNet50Layers."""
    return os.path.join(chainer.dataset.get_dataset_directory('pfnet/chainer/models', False),
                        'ResNet-50-model.npz')


def numbers(n_class):
    """Names for classes that have none: 0, 1, ..."""
    return [str(i) for i in range(n_class)]


def to_torch(path, net):
    """Write a checkpoint that the official network, in DataParallel as there, loads strictly.

    Args:
        path: of the file.
        net: made by :func:`chainer_abn.build`, on the CPU.

    Raises:
        InputError: there is no such network.
    """
    if net.arch == CAFFE:
        raise InputError(f'{net.arch} has no PyTorch network')
    if net.multitask:
        raise InputError(f'a multi-task {net.arch} has no PyTorch network: the official ones are of classes')
    arrays = {**official_arrays(net), **unused_arrays(net)}
    state = {}
    for name, array in arrays.items():
        state[PREFIX + name] = numpy.asarray(array)
        if name.endswith('.running_var'):
            state[PREFIX + name.replace('running_var', 'num_batches_tracked')] = numpy.array(0)
    n_parameter = sum(not name.rpartition('.')[2].startswith('running_') for name in arrays)
    # what the official program reads on --resume: an optimizer that has not moved yet
    group = {'lr': 0.1, 'momentum': 0.9, 'dampening': 0, 'weight_decay': 1e-4, 'nesterov': False,
             'params': list(range(n_parameter))}
    torch_file.write(path, {'epoch': 0, 'state_dict': state, 'acc': 0.0, 'best_acc': 0.0,
                            'optimizer': {'state': {}, 'param_groups': [group]}})
