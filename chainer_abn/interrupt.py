"""Ctrl-C and SIGTERM: at once, or where nothing is lost by it; and how processes end."""
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
            return              # a forked worker, signalled with its whole group: its parent ends it
        if not _deferring:
            raise EXCEPTIONS[signum]
        if _pending is not None:
            os._exit(128 + signum)
        _pending = signum
        os.write(2, b'\nstopping after this iteration or validation; once more to stop at once\n')

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


def pending():
    """Whether a signal came within :func:`deferred`."""
    return _pending is not None


def check():
    """Raise what a signal that came within :func:`deferred` asks for."""
    if _pending is not None:
        raise EXCEPTIONS[_pending]


def how_it_ended(status):
    """A process, in words.

    Args:
        status (int): as of :func:`os.waitstatus_to_exitcode`; None: not known.
    """
    if status is None:
        return 'has ended'
    if status >= 0:
        return f'ended with status {status}'
    try:
        return f'was killed by {signal.Signals(-status).name}'
    except ValueError:                          # a real-time signal
        return f'was killed by signal {-status}'
