"""Our side of ``gpu_steps.py``, which starts it."""
import argparse
import collections
import contextlib

import numpy
from gpu_worker import serve
from worker import N_CLASS

import chainer_abn
from chainer_abn import runtime
from chainer_abn.links import summary
from chainer_abn.runtime import cudnn, devices
from chainer_abn.training.classifier import ABNClassifier
from chainer_abn.training.step import make_step

import chainer


class Ours:
    def __init__(self, capture):
        self.capture = capture

    def build(self, arch, x, t, mixed):
        self.arch, self.size = arch, x.shape[2:]
        self.device = devices.choose_device(0)
        numpy.random.seed(0)
        self.classifier = ABNClassifier(chainer_abn.build(arch, N_CLASS))
        self.classifier.to_device(self.device)
        optimizer = chainer.optimizers.MomentumSGD(lr=0.01, momentum=0.9).setup(self.classifier)
        optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(1e-4))
        self.step = make_step(optimizer, self.device, mixed, self.capture)
        self.x = self.device.send(numpy.ascontiguousarray(x, 'e' if mixed else 'f'))
        self.t = self.device.send(t)
        self.reporter = chainer.Reporter()
        self.reporter.add_observer('main', self.classifier)

    def train(self):
        self.observation = {}
        with self.reporter.scope(self.observation):
            self.step(self.x, self.t)

    def loss(self):
        return float(self.observation['main/loss'].array)

    def synchronize(self):
        self.device.device.synchronize()

    def free(self):
        # not that of a captured step, whose graph uses memory that looks free
        self.device.xp.get_default_memory_pool().free_all_blocks()

    def memory(self):
        pools = [self.device.xp.get_default_memory_pool()]
        if self.capture:
            pools.append(self.step.pool)
        return {'reserved': sum(pool.total_bytes() for pool in pools)}

    def about(self):
        versions = {**runtime.versions(), 'cudnn': cudnn.version() or f'none: {cudnn.why_not()}',
                    'gpu': devices.describe(self.device)}
        return {'parameters': self.classifier.count_params(), 'versions': versions}

    def multiply_adds(self):
        with chainer.using_config('fresh_weights', False):
            table = summary(chainer_abn.build(self.arch, N_CLASS), self.size)
        return table.multiply_adds, table.rows[0].multiply_adds

    def functions(self):
        times = Times(self.device.xp)
        with self.reporter.scope({}):
            with times:
                self.step.backward(self.x, self.t)
            with times.of('update of all parameters'):
                self.step.update()
        return times.result()


class Times(chainer.FunctionHook):
    """Time on the GPU of every function of Chainer; those that compute gradients are functions as well.

    A short pause of the GPU before each lets Python queue the whole of it before it starts: the times are
    then those of the kernels, however long Python takes to launch them. What is computed between the
    functions is not seen.
    """

    name = 'Times'

    def __init__(self, cupy):
        self.cupy, self.events = cupy, []
        self.pause = cupy.ElementwiseKernel(
            'int32 n', 'float32 out',
            # at best 4 cycles each
            'float value = 0; for (int k = 0; k < n; ++k) value = value * 0.999f + 1; out = value',
            'pause', no_return=True)
        self.out = cupy.empty(1, 'f')
        for _ in range(20):                 # the first compiles; events have a length of their own
            with self.of('nothing'):
                pass

    @contextlib.contextmanager
    def of(self, what):
        self.start(what)
        yield
        self.stop()

    def start(self, what):
        self.pause(150_000, self.out)       # about a third of a millisecond
        events = [self.cupy.cuda.Event() for _ in range(2)]
        self.events.append((what, *events))
        events[0].record()

    def stop(self):
        self.events[-1][2].record()

    def forward_preprocess(self, function, in_data):
        self.start(function.label)

    def forward_postprocess(self, function, in_data):
        self.stop()

    def result(self):
        """[what, seconds, calls], the longest first."""
        self.events[-1][2].synchronize()
        taken = collections.defaultdict(list)
        for what, start, stop in self.events:
            taken[what].append(self.cupy.cuda.get_elapsed_time(start, stop) / 1000)
        nothing = numpy.median(taken.pop('nothing'))
        rows = [[what, max(sum(seconds) - len(seconds) * nothing, 0), len(seconds)]
                for what, seconds in taken.items()]
        return sorted(rows, key=lambda row: -row[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--capture', action='store_true')
    parser.add_argument('--autotune', action='store_true', help='algorithms of convolutions by timing')
    parser.add_argument('--any-order', action='store_true', help='those too that are not deterministic')
    args = parser.parse_args()
    chainer.global_config.autotune = args.autotune
    chainer.global_config.cudnn_deterministic = not args.any_order
    serve(Ours(args.capture))


if __name__ == '__main__':
    main()
