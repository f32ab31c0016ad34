"""What the CPU benchmark runs on, and the float32 rate that its matrix products reach.

    python benchmarks/cpu_machine.py [--threads N]
"""
import argparse
import os
import platform
import subprocess
import sys
import time

SIDE = 3072


def machine():
    """Name, number of cores, AVX-512 or not, and how busy it is as the benchmark starts."""
    found = {'processor': platform.processor() or platform.machine(), 'cores': os.cpu_count(), 'avx512': None,
             'system': platform.platform(), 'load': [round(load, 2) for load in os.getloadavg()]}
    try:
        with open('/proc/cpuinfo') as f:
            lines = dict(line.split(':', 1) for line in f if ':' in line)
    except OSError:
        return found
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    found['processor'] = fields.get('model name', found['processor'])
    found['avx512'] = 'avx512f' in fields.get('flags', '').split()
    return found


class OtherLoad:
    """Share of the processor's time that processes other than this one and its ended children took.

    Attributes:
        share (float): once the block has ended; None where the system does not tell.
    """

    def __enter__(self):
        self.started = self.seconds()
        return self

    def __exit__(self, *_):
        wall, busy, own = (b - a for a, b in zip(self.started, self.seconds(), strict=True))
        self.share = max(busy - own, 0) / wall / os.cpu_count() if busy else None

    @staticmethod
    def seconds():
        """By the clock, of all processes, of this one and its children."""
        own = sum(os.times()[:4])
        try:
            with open('/proc/stat') as f:
                user, nice, system, _, _, *interrupts_and_stolen = map(int, f.readline().split()[1:9])
        except OSError:
            return time.monotonic(), 0, own
        busy = user + nice + system + sum(interrupts_and_stolen)
        return time.monotonic(), busy / os.sysconf('SC_CLK_TCK'), own


def gemm_rate(threads):
    """Multiplications and additions per second of NumPy's float32 product, in a process of its own."""
    command = [sys.executable, __file__, '--threads', str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]) * 1e9


def measure():
    import numpy
    a, b = numpy.random.default_rng(0).standard_normal((2, SIDE, SIDE), 'f')
    out = numpy.empty_like(a)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        numpy.matmul(a, b, out=out)
        seconds.append(time.perf_counter() - started)
    return 2 * SIDE ** 3 / min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    threads = str(parser.parse_args().threads)
    # read once, when NumPy is imported
    os.environ.update(OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    print(f'{measure() / 1e9:.1f} GFLOP/s')


if __name__ == '__main__':
    main()
