"""Network files: a plain .npz (no pickled object) that carries what rebuilds the network."""
import json
import math
import os
import zipfile

import numpy

from chainer_abn.errors import InputError
from chainer_abn.files import replacing
from chainer_abn.links import build
from chainer_abn.links.build import architecture
from chainer_abn.version import __version__

import chainer

CONFIG = 'config'               # the array of the file that holds the config, as JSON text
EXPANSION = 100                 # a compressed file of weights at rest shrinks that far, a bomb farther


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
    """The config of a network file; see :func:`save` for what it needs, ``more`` is kept with it."""
    return {
        'program': 'chainer_abn', 'version': __version__,
        'arch': arch, 'variant': variant, 'attention': attention, 'dropout': dropout,
        'multitask': bool(multitask), 'in_channels': in_channels, 'classes': list(classes),
        'image_size': list(image_size), 'resize': list(resize), 'mean': list(mean), 'std': list(std),
        'channel_order': architecture(arch).channel_order, **more,
    }


def load(path):
    """Rebuild a network from its file alone.

    Args:
        path: of a file that :func:`save` wrote.

    Returns:
        (chainer.Chain, dict): the network, on the CPU, and its config.

    Raises:
        InputError: no such file, cut short, or not a network of this program.
    """
    arrays = read_npz(path)
    try:
        config = json.loads(str(arrays.pop(CONFIG)))
        check_config(config)
        with chainer.using_config('fresh_weights', False):
            net = build(config['arch'], len(config['classes']), config['variant'],
                        config['attention'], config['in_channels'], config.get('dropout'),
                        config.get('multitask', False))
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f'{path}: not a network of chainer_abn (it has no complete config)') from None
    expected = chainer.serializers.DictionarySerializer()
    net.serialize(expected)
    for name, array in expected.target.items():
        if name not in arrays or arrays[name].shape != numpy.shape(array):
            raise InputError(f'{path}: the array {name!r} is missing or of another shape than in '
                             f'{config["arch"]}')
    chainer.serializers.NpzDeserializer(arrays).load(net)
    return net, config


def check_config(config):
    """Raise KeyError, TypeError or ValueError unless what is said of images and classes can be."""
    for name in 'image_size', 'resize':
        sides = config[name]
        if len(sides) != 2 or not all(type(side) is int and 0 < side < 2 ** 16 for side in sides):
            raise ValueError
    for name in 'mean', 'std':
        values = [float(value) for value in config[name]]
        if len(values) != 3 or not all(map(math.isfinite, values)) or name == 'std' and min(values) <= 0:
            raise ValueError
    if config.get('fit', 'cover') not in ('cover', 'squeeze'):
        raise ValueError
    if not all(isinstance(name, str) for name in config['classes']):
        raise TypeError


def arrays_of(link):
    """Name -> array, of parameters and running statistics; the arrays are the link's own."""
    arrays = chainer.serializers.DictionarySerializer()
    link.serialize(arrays)
    return {name: array for name, array in sorted(arrays.target.items()) if getattr(array, 'ndim', 0)}


def write_npz(path, arrays):
    """Write arrays to an .npz file, whole or not at all.

    Raises:
        TypeError: an array is of objects and would have to be pickled.
    """
    # sorted: Chainer keeps names in sets, whose order differs from process to process
    arrays = {name: numpy.asarray(arrays[name]) for name in sorted(arrays)}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f'{name} is no plain array')
    with replacing(path) as file:
        numpy.savez(file, **arrays)


def read_npz(path):
    """All arrays of an .npz file, by name; pickled objects are refused.

    Raises:
        InputError
    """
    try:
        with open(path, 'rb') as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f'{path}: not an .npz file, or cut short')
            check_claims(file, path)
            file.seek(0)
            with numpy.load(file, allow_pickle=False) as npz:
                return {name: npz[name] for name in npz.files}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from None
    except Exception as error:              # a damaged file can raise anything
        raise InputError(f'{path}: unreadable .npz file ({error})') from None


def check_claims(file, path):
    """Refuse an archive that would take far more memory than it is large."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > EXPANSION * size:
            raise InputError(f'{path}: expands to more than {EXPANSION} times its size')
        for info in archive.infolist():
            if info.filename.endswith('.npy'):
                with archive.open(info) as entry:
                    version = numpy.lib.format.read_magic(entry)
                    read_header = (numpy.lib.format.read_array_header_1_0 if version == (1, 0)
                                   else numpy.lib.format.read_array_header_2_0)
                    shape, _, dtype = read_header(entry)
                    if math.prod(shape) * dtype.itemsize > info.file_size:
                        raise InputError(f'{path}: unreadable .npz file ({info.filename} claims more than '
                                         'there is)')
