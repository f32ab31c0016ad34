"""What a side of ``grad_cam.py`` answers.

A side is an object with

    build(arch, variant, x, path)   a network and its data; ours draws the weights and writes the file,
                                    the others read it
    maps(kind)                      Grad-CAM maps of the predicted classes, a sequence of float32 arrays:
                                    as large as the 'image', from 0 to 1, or as the 'layer' gives them
    about()                         versions, a text by name
"""
import time

import numpy
import worker


def serve(side):
    def start(arch, variant, batch, image_size, path):
        x, _ = worker.data(batch, image_size)
        side.build(arch, variant, x, path)
        return {'versions': side.about()}

    def save(kind, path):
        """Write the maps (B, h, w)."""
        numpy.save(path, numpy.asarray(side.maps(kind), 'f'))

    def burst(kind, steps):
        """Seconds of each step."""
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            side.maps(kind)
            seconds.append(time.perf_counter() - started)
        return seconds

    worker.serve({'start': start, 'save': save, 'burst': burst})
