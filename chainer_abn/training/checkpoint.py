"""Network files: a plain .npz (no pickled object) that carries what rebuilds the network."""
import functools
import json
import math

import numpy

from chainer_abn.errors import InputError
from chainer_abn.links import build
from chainer_abn.links.build import architecture
from chainer_abn.training.npz_file import Npz, write_npz
from chainer_abn.training.npz_file import read_npz as read_npz
from chainer_abn.version import __version__

import chainer

CONFIG = 'config'               # the array of the file that holds the config, as JSON text
NO_NETWORK = 'not a network of chainer_abn, it has no complete config'
REQUIRED = 'image_size', 'resize', 'mean', 'std', 'classes'     # entries of a config
LARGEST_CONFIG = 1 << 24        # bytes, four for each character: names of a hundred thousand classes
LONGEST_SIDE = 1 << 12          # px of an image that a network takes; one that covers it can be a square


def save(path, net, config):
    """Write a network and its config to one .npz file, whole or not at all.

    Args:
        path: of the file.
        net: made by :func:`chainer_abn.build`.
        config (dict): JSON values. ``arch``, ``variant``, ``attention``, ``in_channels`` and
            ``classes`` rebuild the network; ``image_size`` and ``resize`` ([height, width] in
            pixels), ``mean`` and ``std`` (of red, green, blue, in [0, 1]) say what images it
            takes; ``channel_order`` (default RGB) in what order. ``dropout`` (default None) and
            ``multitask`` (default False; the ``classes`` are its tasks) are the arguments of
            :func:`chainer_abn.build`.
    """
    arrays = chainer.serializers.DictionarySerializer()
    net.serialize(arrays)
    write_npz(path, {**arrays.target, CONFIG: json.dumps(config, sort_keys=True)})


def make_config(*, arch, variant, attention, dropout, in_channels, classes, image_size, resize, mean, std,
                multitask=False, **more):
    """The config of a network file; see :func:`save` for what it needs, ``more`` is kept with it.

    Raises:
        InputError: images larger than :func:`load` would believe.
    """
    check_pixels('--image-size', image_size)
    check_pixels('--resize', resize)
    return {
        'program': 'chainer_abn', 'version': __version__,
        'arch': arch, 'variant': variant, 'attention': attention, 'dropout': dropout,
        'multitask': bool(multitask), 'in_channels': in_channels, 'classes': list(classes),
        'image_size': list(image_size), 'resize': list(resize), 'mean': list(mean), 'std': list(std),
        'channel_order': architecture(arch).channel_order, **more,
    }


def check_pixels(flag, size):
    """Raise InputError if an image of [height, width] is larger than :func:`load` would believe."""
    if max(size) > LONGEST_SIDE:
        raise InputError(f'{flag} {"x".join(map(str, size))}: more than {LONGEST_SIDE} px a side')


def load(path):
    """Rebuild a network from its file alone.

    What a file takes in memory goes by its own size, whatever it claims: its config is read first, and of the
    arrays only those that the network has, once their headers fit.

    Args:
        path: of a file that :func:`save` wrote.

    Returns:
        (chainer.Chain, dict): the network, on the CPU, and its config.

    Raises:
        InputError: no such file, cut short, or not a network of this program.
    """
    with Npz(path) as file:
        config = _config_of(file)
        weights = Weights(sum(math.prod(header.shape) for header in file.headers.values()))
        try:
            with chainer.using_config('fresh_weights', False), chainer.using_config('empty_weights', weights):
                net = build(config['arch'], len(config['classes']), config['variant'], config['attention'],
                            config['in_channels'], config.get('dropout'), config.get('multitask', False))
        except InputError as error:
            raise InputError(f'{path}: {error}') from None
        except KeyError as error:
            raise InputError(f'{path}: {NO_NETWORK} ({error} is missing)') from None
        except (MemoryError, ValueError):
            raise InputError(f'{path}: its {config["arch"]} takes more memory than there is') from None
        expected = chainer.serializers.DictionarySerializer()
        net.serialize(expected)
        for name, array in expected.target.items():
            header, array = file.headers.get(name), numpy.asarray(array)
            if header is None or (header.shape, header.dtype.kind) != (array.shape, array.dtype.kind):
                raise InputError(f'{path}: the array {name!r} is missing or of another shape or type than '
                                 f'in {config["arch"]}')
        chainer.serializers.NpzDeserializer(file).load(net)
    return net, config


class Weights(chainer.initializer.Initializer):
    """Zeros, to be filled from a file; no more of them than the file has.

    Args:
        left (int): weights in the file.
    """

    def __init__(self, left):
        super().__init__()
        self.left = left

    def __call__(self, array):
        self.left -= array.size
        if self.left < 0:
            raise InputError('its config is of a network of more weights than are in the file')
        array[...] = 0


def _config_of(file):
    """The config in an :class:`Npz`, as far as it is there without a fault."""
    header = file.headers.get(CONFIG)
    try:
        if header is None or header.shape != () or header.dtype.kind != 'U':
            raise ValueError('there is none')
        if header.dtype.itemsize > LARGEST_CONFIG:
            raise ValueError(f'larger than {LARGEST_CONFIG >> 20} MB')
        config = json.loads(file[CONFIG].item())
        check_config(config)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f'{file.path}: {NO_NETWORK} ({error} is missing)') from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f'{file.path}: {NO_NETWORK} ({error})') from None
    return config


def check_config(config, required=REQUIRED):
    """Raise KeyError, TypeError or ValueError, which names the entry, unless a config can be one.

    What is required must be there; what else there is must be of the right kind.
    """
    if not isinstance(config, dict):
        raise TypeError('it is no dict')
    for name, can_be in ENTRIES.items():
        if (name in required or name in config) and not can_be(config[name]):
            raise ValueError(f'{name} is {config[name]!r:.60}')


def _is_size(value):
    return (isinstance(value, list) and len(value) == 2
            and all(type(side) is int and 0 < side <= LONGEST_SIDE for side in value))


def _are_channels(value, least=-1e9):
    return (isinstance(value, list) and len(value) == 3
            and all(type(x) in (int, float) and least < x < 1e9 for x in value))


def _are_classes(value):
    return isinstance(value, list) and value and all(isinstance(name, str) for name in value)


def _is_name(value):
    return isinstance(value, str) and len(value) < 100


# what the entries of a config must be
ENTRIES = {
    'image_size': _is_size, 'resize': _is_size,
    'mean': _are_channels, 'std': functools.partial(_are_channels, least=0), 'classes': _are_classes,
    'arch': _is_name, 'variant': _is_name, 'attention': _is_name,
    'in_channels': lambda value: type(value) is int and 0 < value < 2 ** 16,
    'dropout': lambda value: value is None or type(value) in (int, float) and 0 <= value < 1,
    'multitask': lambda value: isinstance(value, bool),
    'fit': lambda value: value in ('cover', 'squeeze'),
    'channel_order': lambda value: value in ('RGB', 'BGR'),
}


def arrays_of(link):
    """Name -> array, of parameters and running statistics; the arrays are the link's own."""
    arrays = chainer.serializers.DictionarySerializer()
    link.serialize(arrays)
    return {name: array for name, array in sorted(arrays.target.items()) if getattr(array, 'ndim', 0)}
