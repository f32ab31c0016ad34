"""The process of one side of ``cpu.py``: takes requests on stdin, answers on stdout, a JSON line each.

A side is an object with

    build(arch, x, t)   a network, its optimizer and their data
    train()             one training step -> loss
    infer()             one forward pass for inference
    about()             {'parameters': count, 'versions': a text by name}
    multiply_adds()     of one image: (all layers, first layer); asked of our side only
"""
import json
import os
import signal
import sys
import time

import numpy

N_CLASS = 10
UNTIMED = 3                     # training steps of the memory measurement, which warm up as well


def serve(side):
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)               # what a library prints must not look like an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C is for cpu.py, which then closes stdin
    for line in sys.stdin:
        request = json.loads(line)
        answer = {'start': start, 'burst': burst, 'cost': cost}[request.pop('do')](side, **request)
        print(json.dumps(answer), file=answers, flush=True)


def start(side, arch, batch, image_size):
    x, t = data(batch, image_size)
    reset_peak()
    base = status('VmRSS')
    side.build(arch, x, t)
    for _ in range(UNTIMED):
        loss = side.train()
    peak = status('VmHWM')
    return {**side.about(), 'loss': loss, 'memory': peak - base if base and peak else None}


def burst(side, kind, steps):
    """Seconds of each step, and the last loss."""
    step = {'train': side.train, 'infer': side.infer}[kind]
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        result = step()
        seconds.append(time.perf_counter() - started)
    return {'seconds': seconds, 'loss': result}


def cost(side):
    total, first = side.multiply_adds()
    return {'total': total, 'first': first}


def data(batch, image_size):
    """Random images (B, 3, H, W) float32 and labels; channels are last in memory, as in our pipeline."""
    rng = numpy.random.default_rng(0)
    x = numpy.empty((batch, image_size, image_size, 3), 'f').transpose(0, 3, 1, 2)
    x[...] = rng.standard_normal(x.shape, 'f')
    return x, rng.integers(N_CLASS, size=batch).astype('i')


def reset_peak():
    try:
        with open('/proc/self/clear_refs', 'w') as f:
            f.write('5')
    except OSError:
        pass                    # no Linux, or not allowed: the peak is then the process's own


def status(name):
    """A size in /proc/self/status in bytes; None where there is none."""
    try:
        with open('/proc/self/status') as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(f'{name}:'))
    except OSError:
        return None
