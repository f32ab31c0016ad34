"""The sides of a benchmark, each a process of its own: a program asks, they answer, a JSON line each way."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy

N_CLASS = 10
REST = 0.03                     # seconds before a turn: the other side's OpenMP threads spin for a while


class Ended(Exception):
    """The process of a side is gone."""


class Worker:
    """A side's process, as the program that asks sees it."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.process.stdin.close()      # it ends, and ends the processes of its compiler
        except BrokenPipeError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def ask(self, do, **request):
        """The answer of the function ``do`` of :func:`serve` to a request.

        Raises:
            Ended: the process is gone.
        """
        time.sleep(REST)
        try:
            print(json.dumps({'do': do, **request}), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise Ended(f'{self.name} ended with status {self.process.wait()}') from None


def serve(functions):
    """Answer what is asked on stdin, until that is closed.

    Args:
        functions (dict): by name, of the request's values -> a JSON value.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)               # what a library prints must not look like an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C is for the one who asks, who then closes stdin
    for line in sys.stdin:
        request = json.loads(line)
        answer = functions[request.pop('do')](**request)
        print(json.dumps(answer), file=answers, flush=True)


def data(batch, image_size):
    """Random images (B, 3, H, W) float32 and labels; channels are last in memory, as in our pipeline."""
    rng = numpy.random.default_rng(0)
    x = numpy.empty((batch, image_size, image_size, 3), 'f').transpose(0, 3, 1, 2)
    x[...] = rng.standard_normal(x.shape, 'f')
    return x, rng.integers(N_CLASS, size=batch).astype('i')
