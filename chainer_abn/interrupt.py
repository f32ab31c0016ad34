"""Ctrl-C and SIGTERM: at once, or, while worker processes share locks, where it is safe."""
import contextlib
import os
import signal


class Terminated(BaseException):
    """The process received SIGTERM."""


EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}

_deferring = False
_pending = None


def install():
    """Handle both signals in this process from now on."""
    main_process = os.getpid()

    def handle(signum, frame):
        global _pending
        if os.getpid() != main_process:
            # a forked worker, signalled with its whole group: its parent ends it. Dying here it could
            # take along a lock that the others wait for.
            return
        if not _deferring:
            raise EXCEPTIONS[signum]
        if _pending is not None:
            os._exit(128 + signum)
        _pending = signum
        os.write(2, b'\nstopping after this iteration; once more to stop at once\n')

    for signum in EXCEPTIONS:
        signal.signal(signum, handle)


@contextlib.contextmanager
def deferred():
    """Within, a first signal waits for :func:`check` or the end; a second one ends the process."""
    global _deferring, _pending
    _deferring = True
    try:
        yield
        check()
    finally:
        _deferring, _pending = False, None


def check():
    """Raise what a signal that came within :func:`deferred` asks for."""
    if _pending is not None:
        raise EXCEPTIONS[_pending]
