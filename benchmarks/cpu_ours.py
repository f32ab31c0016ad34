"""Our side of ``cpu.py``, which starts it."""
import argparse

import numpy
from cpu_worker import serve
from worker import N_CLASS

import chainer_abn
from chainer_abn import runtime
from chainer_abn.links import summary
from chainer_abn.training.classifier import ABNClassifier

import chainer


class Ours:
    def build(self, arch, x, t):
        self.x, self.t = x, t
        numpy.random.seed(0)
        self.net = chainer_abn.build(arch, N_CLASS)
        self.classifier = ABNClassifier(self.net)
        self.optimizer = chainer.optimizers.MomentumSGD(lr=0.01, momentum=0.9).setup(self.classifier)
        self.optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
        self.reporter = chainer.Reporter()
        self.reporter.add_observer('main', self.classifier)

    def train(self):
        observation = {}
        with self.reporter.scope(observation):
            self.optimizer.update(self.classifier, self.x, self.t)
        return float(observation['main/loss'].array)

    def infer(self):
        with chainer.using_config('train', False), chainer.no_backprop_mode():
            self.net(self.x)

    def about(self):
        return {'parameters': self.net.count_params(), 'versions': runtime.info()}

    def multiply_adds(self):
        table = summary(self.net, self.x.shape[2:])
        return table.multiply_adds, table.rows[0].multiply_adds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--accelerator', required=True)
    args = parser.parse_args()
    runtime.set_accelerator(args.accelerator)
    runtime.set_threads(args.threads)
    runtime.info()              # loads the library, whose memory is none of the network's
    serve(Ours())


if __name__ == '__main__':
    main()
