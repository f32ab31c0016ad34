"""How many threads compute, and how big memory is handed out, on the CPU."""
import ctypes
import os
import sys
import threading

from threadpoolctl import threadpool_info, threadpool_limits

_wanted = None                  # what set_threads was told
_openmp = None                  # GNU OpenMP, whose threads oneDNN's are, once it is loaded
_openmp_computes = False
_forked = False                 # such a child has none of its parent's threads
_mine = threading.local()       # the number that OpenMP was told in this thread of Python
listeners = []                  # functions to call when the number has changed


def set_threads(n=None):
    """Compute with ``n`` threads; None: as many as there are processors for this process.

    They are oneDNN's where it is in use, else those of NumPy's BLAS. A forked child computes with one.

    Raises:
        ValueError: ``n`` is below 1.
    """
    global _wanted
    if n is not None and n < 1:
        raise ValueError(f'{n} threads: at least 1')
    before, _wanted = count(), n
    threadpool_limits(1 if _openmp_computes else count(), user_api='blas')
    if count() != before:
        for listener in listeners:
            listener()


def count():
    """The number of threads that compute."""
    return 1 if _forked else _wanted or processors()


def processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def tell_openmp():
    """Called before oneDNN prepares or computes: OpenMP keeps a number for each thread of Python."""
    n = count()
    if getattr(_mine, 'number', None) != n:
        _openmp.omp_set_num_threads(n)
        _mine.number = n


def load_openmp():
    """Called when oneDNN has been loaded.

    Raises:
        OSError: it is not the build for GNU OpenMP.
    """
    global _openmp
    _openmp = ctypes.CDLL('libgomp.so.1')
    os.register_at_fork(after_in_child=_alone)
    keep_memory()
    hand_over_to_openmp()


def _alone():
    """GNU OpenMP hangs in a forked child that asks for its parent's threads."""
    global _forked
    _forked = True
    tell_openmp()
    for listener in listeners:
        listener()


def hand_over_to_openmp():
    """From now on its threads compute, and BLAS has one.

    OpenBLAS's threads go on spinning after a product and take the processors from oneDNN's.
    """
    global _openmp_computes
    _openmp_computes = True
    threadpool_limits(1, user_api='blas')


def hand_back_to_blas():
    """Called when oneDNN is switched off."""
    global _openmp_computes
    _openmp_computes = False
    threadpool_limits(count(), user_api='blas')


def blas():
    """Names and threads of the BLAS libraries that are loaded, such as ``openblas 0.3.29, 1 thread``."""
    found = {(pool['internal_api'], pool['version'] or '', pool['num_threads']) for pool in threadpool_info()
             if pool['user_api'] == 'blas'}
    return '; '.join(f'{api} {version}, {n} thread{"s" * (n > 1)}' for api, version, n in sorted(found))


def keep_memory():
    """Let glibc keep the memory of large arrays for the next ones.

    By default it gives each back to the system, which then clears new pages for the next step.
    """
    if sys.platform == 'linux':
        mmap_threshold, trim_threshold = -3, -1         # malloc.h
        libc = ctypes.CDLL(None)
        # older ones refuse more than 32 MiB; a trim threshold alone would do harm
        if hasattr(libc, 'mallopt') and (
                libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 32 << 20)):
            libc.mallopt(trim_threshold, 2 ** 31 - 1)
