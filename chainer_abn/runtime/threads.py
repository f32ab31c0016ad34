"""How many threads compute, and how big memory is handed out, on the CPU."""
import ctypes
import os
import sys

from threadpoolctl import threadpool_info, threadpool_limits

_wanted = None                  # what set_threads was told
_openmp = None                  # GNU OpenMP, whose threads oneDNN's are, once it is loaded


def set_threads(n=None):
    """Compute with ``n`` threads; None: as many as there are processors for this process.

    They are oneDNN's where it is in use, else those of NumPy's BLAS.

    Raises:
        ValueError: ``n`` is below 1.
    """
    global _wanted
    if n is not None and n < 1:
        raise ValueError(f'{n} threads: at least 1')
    _wanted = n
    if _openmp is None:
        threadpool_limits(count(), user_api='blas')
    else:
        _openmp.omp_set_num_threads(count())


def count():
    """The number of threads that compute."""
    return _wanted or processors()


def processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def hand_over_to_openmp():
    """Called when oneDNN has been loaded: from now on its threads compute, and BLAS has one.

    OpenBLAS's threads go on spinning after a product and take the processors from oneDNN's.
    """
    global _openmp
    if _openmp is None:
        _openmp = ctypes.CDLL('libgomp.so.1')
        # GNU OpenMP hangs in a forked child that wants its parent's threads; alone it needs none
        os.register_at_fork(after_in_child=lambda: _openmp.omp_set_num_threads(1))
        keep_memory()
    _openmp.omp_set_num_threads(count())
    threadpool_limits(1, user_api='blas')


def hand_back_to_blas():
    """Called when oneDNN is switched off."""
    threadpool_limits(count(), user_api='blas')


def blas():
    """Names and threads of the BLAS libraries that are loaded, such as ``openblas 0.3.29, 1 thread``."""
    found = {(pool['internal_api'], pool['version'], pool['num_threads']) for pool in threadpool_info()
             if pool['user_api'] == 'blas'}
    return '; '.join(f'{api} {version}, {n} thread{"s" * (n > 1)}' for api, version, n in sorted(found))


def keep_memory():
    """Let glibc keep the memory of large arrays for the next ones.

    By default it gives each back to the system, which then clears new pages for the next step.
    """
    if sys.platform == 'linux':
        mmap_threshold, trim_threshold = -3, -1         # malloc.h
        libc = ctypes.CDLL(None)
        if hasattr(libc, 'mallopt'):
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, 2 ** 31 - 1)
