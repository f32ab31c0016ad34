"""Our side of ``grad_cam.py``, which starts it."""
import argparse

import numpy
from grad_cam_worker import serve
from worker import N_CLASS

import chainer_abn
from chainer_abn import runtime
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import is_empty, resize_map, scaled
from chainer_abn.training.weights import to_torch

import chainer
import chainer.links as L


class Ours:
    def build(self, arch, variant, x, path):
        self.x = x
        self.net = network(arch, variant, x)
        to_torch(path, self.net)

    def maps(self, kind):
        maps = look(self.net, self.x, ['grad-cam']).maps['grad-cam']
        return maps if kind == 'layer' else [as_image(values, self.x.shape[2:]) for values in maps]

    def about(self):
        # without the paths, which are this machine's
        return {name: text.partition(' (')[0] for name, text in runtime.info().items()}


def network(arch, variant, x):
    """A network as a training might leave it: normalizations do something, activations keep their size."""
    numpy.random.seed(0)
    net = chainer_abn.build(arch, N_CLASS, variant)
    for link in net.links():
        if isinstance(link, L.BatchNormalization):
            link.gamma.array[...] = numpy.random.uniform(0.5, 1.5, link.gamma.shape)
            link.beta.array[...] = numpy.random.uniform(-0.5, 0.5, link.beta.shape)
            link.decay = 0              # one pass sets the averages to those of x
    with chainer.using_config('train', True), chainer.no_backprop_mode():
        net(x)
    return net


def as_image(values, size):
    """A map as a picture wants it, from 0 to 1; an empty one is 0."""
    return resize_map(numpy.zeros_like(values) if is_empty(values) else scaled(values), size)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--accelerator', required=True)
    args = parser.parse_args()
    runtime.set_accelerator(args.accelerator)
    runtime.set_threads(args.threads)
    serve(Ours())


if __name__ == '__main__':
    main()
