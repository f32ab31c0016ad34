"""The attention mechanism on the GPU against a copy of as many bytes, and against PyTorch's g * (1 + M).

    python benchmarks/gpu_attend.py [--repeat N] [--json FILE]

Forward moves g, M and y; backward g, gy, M and both gradients. The copy, from device to device, reads and
writes as many bytes in all. The calls of a side are captured in a CUDA graph, so that the GPU is measured
and not Python; the graphs take turns, timed by events, and the medians per call are printed. A side's calls
go round arrays that make four times the L2 cache, so that nothing is left there from the round before.
PyTorch is measured where the same environment has it.
"""
import argparse
import itertools
import json
import math
import statistics

import numpy

from chainer_abn import runtime
from chainer_abn.errors import InputError, run_program
from chainer_abn.functions import kernels
from chainer_abn.runtime import devices

from chainer.backends.cuda import cupy

PROGRAM = 'gpu_attend.py'
SHAPES = (256, 1024, 14, 14), (128, 64, 16, 16)
DTYPES = 'float32', 'float16'
LAYOUTS = 'NCHW', 'NHWC'
DIRECTIONS = 'forward', 'backward'
CACHES = 4                      # the arrays of a side, in L2 caches
BYTES = 2 << 30                 # moved by one graph, at least
WARM_UP = 3                     # turns
COLUMNS = {'shape': 19, 'dtype': 8, 'layout': 6, 'direction': 9, 'us': 8, 'GB/s': 6, 'copy GB/s': 9,
           'of copy': 7, 'torch us': 9, 'torch/ours': 10}


class CupyGraph:
    """Rounds of the calls that ``make()`` gives, each on arrays of its own, captured one after the other."""

    def __init__(self, make, n_calls, rounds):
        self.n = n_calls * rounds
        self.start, self.stop = cupy.cuda.Event(), cupy.cuda.Event()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        with self.stream:
            self.calls, self.results = [make() for _ in range(n_calls)], [None] * n_calls
            self.run(2)                 # loads the kernels and fills the stream's pool of memory
            self.stream.begin_capture()
            self.run(rounds)
            self.graph = self.stream.end_capture()

    def run(self, rounds):
        for _ in range(rounds):
            for i, call in enumerate(self.calls):
                self.results[i] = call()        # kept until the next round: every call writes elsewhere

    def microseconds(self):
        """Per call."""
        self.start.record(self.stream)
        self.graph.launch(self.stream)
        self.stop.record(self.stream)
        self.stop.synchronize()
        return 1000 * cupy.cuda.get_elapsed_time(self.start, self.stop) / self.n


class TorchGraph(CupyGraph):
    """The same with PyTorch, which runs a backward pass on the stream of its forward pass."""

    def __init__(self, torch, make, n_calls, rounds):
        self.n = n_calls * rounds
        self.start, self.stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            self.calls, self.results = [make() for _ in range(n_calls)], [None] * n_calls
            self.run(1)
        torch.cuda.synchronize()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.run(rounds)

    def microseconds(self):
        self.start.record()
        self.graph.replay()
        self.stop.record()
        self.stop.synchronize()
        return 1000 * self.start.elapsed_time(self.stop) / self.n


def ours(shape, dtype, layout, direction):
    b, c, h, w = shape
    memory = (b, h, w, c) if layout == 'NHWC' else shape
    g, gy = (cupy.random.standard_normal(memory, 'f').astype(dtype) for _ in range(2))
    if layout == 'NHWC':
        g, gy = (a.transpose(0, 3, 1, 2) for a in (g, gy))
    attention = cupy.random.uniform(0, 1, (b, 1, h, w), 'f').astype(dtype)
    if direction == 'forward':
        return lambda: kernels.weigh(g, attention, True)
    return lambda: kernels.weigh_grad(g, attention, gy, True)


def copy(n_bytes):
    """Of half as many bytes, each of which is read and written."""
    source = cupy.random.randint(0, 256, n_bytes // 2, 'u1')
    target = cupy.empty_like(source)
    return lambda: cupy.copyto(target, source)


def theirs(torch, shape, dtype, layout, direction):
    b, _, h, w = shape
    memory = torch.channels_last if layout == 'NHWC' else torch.contiguous_format
    kind = {'device': 'cuda', 'dtype': getattr(torch, dtype)}
    g, gy = (torch.randn(shape, **kind).contiguous(memory_format=memory) for _ in range(2))
    attention = torch.rand((b, 1, h, w), **kind)
    if direction == 'forward':
        return lambda: g * (1 + attention)
    inputs = g.requires_grad_(), attention.requires_grad_()
    y = g * (1 + attention)
    return lambda: torch.autograd.grad(y, inputs, gy, retain_graph=True)


def measure(torch, case, cache, repeat):
    """The row of a case: microseconds per call of every side, and what follows from them."""
    shape, dtype, layout, direction = case
    large, small = math.prod(shape), shape[0] * math.prod(shape[2:])
    elements = {'forward': 2 * large + small, 'backward': 3 * large + 2 * small}[direction]
    n_bytes = elements * numpy.dtype(dtype).itemsize
    n_calls = max(2, math.ceil(CACHES * cache / n_bytes))
    rounds = math.ceil(BYTES / (n_calls * n_bytes))
    graphs = {'ours': CupyGraph(lambda: ours(*case), n_calls, rounds),
              'copy': CupyGraph(lambda: copy(n_bytes), n_calls, rounds)}
    if torch:
        graphs['torch'] = TorchGraph(torch, lambda: theirs(torch, *case), n_calls, rounds)
    taken = {name: [] for name in graphs}
    for turn in range(-WARM_UP, repeat):
        for name, graph in graphs.items():
            microseconds = graph.microseconds()
            if turn >= 0:
                taken[name].append(microseconds)
    median = {name: statistics.median(values) for name, values in taken.items()}
    return {'shape': shape, 'dtype': dtype, 'layout': layout, 'direction': direction, 'bytes': n_bytes,
            'calls': n_calls, 'rounds': rounds, 'microseconds': taken, 'median': median,
            'of_copy': median['copy'] / median['ours']}


def cells(row):
    """Text of each of COLUMNS."""
    median = row['median']
    speed = {name: f'{row["bytes"] / median[name] / 1000:.0f}' for name in ('ours', 'copy')}
    torch = median.get('torch')
    return [str(row['shape']), row['dtype'], row['layout'], row['direction'], f'{median["ours"]:.2f}',
            speed['ours'], speed['copy'], f'{row["of_copy"]:.0%}', f'{torch:.2f}' if torch else '-',
            f'{torch / median["ours"]:.2f}' if torch else '-']


def line(texts):
    return ' '.join(text.rjust(width) for text, width in zip(texts, COLUMNS.values(), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=30)
    parser.add_argument('--json', metavar='FILE', help='where all measurements go')
    options = parser.parse_args()
    count, reason = devices.find_gpus()
    if not count:
        raise InputError(f'this needs a GPU: {reason}')
    device = devices.choose_device(0)
    try:
        import torch
    except ImportError:
        torch = None
    cache = cupy.cuda.runtime.getDeviceProperties(device.device.id)['l2CacheSize']
    found = {'device': devices.describe(device), 'l2_bytes': cache,
             'versions': {**runtime.versions(), 'torch': torch and torch.__version__}}
    print(f'{found["device"]}, L2 cache {cache >> 20} MiB, '
          f'PyTorch {found["versions"]["torch"] or "not installed"}')
    print(line(COLUMNS))
    rows = []
    for case in itertools.product(SHAPES, DTYPES, LAYOUTS, DIRECTIONS):
        rows.append(measure(torch, case, cache, options.repeat))
        print(line(cells(rows[-1])), flush=True)
        cupy.get_default_memory_pool().free_all_blocks()
        if torch:
            torch.cuda.empty_cache()
    if options.json:
        with open(options.json, 'w') as file:
            json.dump({**found, 'rows': rows}, file, indent=1)


if __name__ == '__main__':
    run_program(main, PROGRAM)
