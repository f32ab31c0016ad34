"""What a side of ``cpu.py`` answers.

A side is an object with

    build(arch, x, t)   a network, its optimizer and their data
    train()             one training step -> loss
    infer()             one forward pass for inference
    about()             {'parameters': count, 'versions': a text by name}
    multiply_adds()     of one image: (all layers, first layer); asked of our side only
"""
import time

import worker

UNTIMED = 3                     # training steps of the memory measurement, which warm up as well


def serve(side):
    def start(arch, batch, image_size):
        x, t = worker.data(batch, image_size)
        reset_peak()
        base = status('VmRSS')
        side.build(arch, x, t)
        for _ in range(UNTIMED):
            loss = side.train()
        peak = status('VmHWM')
        return {**side.about(), 'loss': loss, 'memory': peak - base if base and peak else None}

    def burst(kind, steps):
        """Seconds of each step, and the last loss."""
        step = {'train': side.train, 'infer': side.infer}[kind]
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            result = step()
            seconds.append(time.perf_counter() - started)
        return {'seconds': seconds, 'loss': result}

    def cost():
        total, first = side.multiply_adds()
        return {'total': total, 'first': first}

    worker.serve({'start': start, 'burst': burst, 'cost': cost})


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
