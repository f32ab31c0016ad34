"""What a side of ``gpu_steps.py`` answers.

A side is an object with

    build(arch, x, t, mixed)    a network, its optimizer and their data, on the first GPU; mixed: in float16
    train()                     queue one training step on the GPU
    loss()                      of the last step; waits for it
    synchronize()               wait for the GPU
    free()                      give memory that is not in use back to the GPU
    memory()                    sizes in bytes by name, ``reserved`` among them, of what is held on the GPU
    about()                     {'parameters': count, 'versions': a text by name}
    multiply_adds()             of one image: (all layers, first layer); asked of our side only
    functions()                 [what, seconds on the GPU, calls] of one step; asked of our side only
"""
import time

import worker

UNTIMED = 5                     # steps before any is timed; a captured step is recorded in them
QUEUED = 5                      # steps that are timed as they are queued


def serve(side):
    def start(arch, batch, image_size, mixed):
        side.build(arch, *worker.data(batch, image_size), mixed)
        for _ in range(UNTIMED):
            side.train()
        side.synchronize()
        side.free()             # what the choice of algorithms took
        side.train()
        return {**side.about(), 'loss': side.loss(), 'memory': side.memory()}

    def burst(steps):
        """Seconds per step, and the loss of the last."""
        side.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            side.train()
        side.synchronize()
        return {'seconds': (time.perf_counter() - started) / steps, 'loss': side.loss()}

    def queue():
        """Seconds until a step is queued on an idle GPU."""
        seconds = []
        for _ in range(QUEUED):
            side.synchronize()
            started = time.perf_counter()
            side.train()
            seconds.append(time.perf_counter() - started)
        side.synchronize()
        return {'seconds': seconds}

    def cost():
        total, first = side.multiply_adds()
        return {'total': total, 'first': first}

    def functions():
        return {'functions': side.functions()}

    worker.serve({'start': start, 'burst': burst, 'queue': queue, 'cost': cost, 'functions': functions})
