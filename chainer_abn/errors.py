"""What ends a program, and how it says so: one line, and a status that tells the kind."""
import argparse
import errno
import math
import os
import select
import sys

from chainer_abn import interrupt

# what ends a program that writes files, and a person can mend
DISK = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, \
    errno.EISDIR


class InputError(ValueError):
    """Something that a person gave is wrong; the message is one line that names it and what to do."""
    status = 2


class Diverged(ArithmeticError):
    """A training whose loss is not a finite number any more; the message is one line."""
    status = 3


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line on stderr (exit status 2); flags are written out.

    What no flag can mean is refused for all: empty texts, numbers that are not finite or beyond 32 bits.
    """

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None):
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            for one in value if isinstance(value, list) else [value]:
                if action.option_strings and (wrong := what_is_wrong(one)):
                    self.error(f'--{action.dest.replace("_", "-")} {wrong}')
        return options, rest

    def error(self, message):
        raise InputError(f'{message} (see {self.prog} --help)')


def what_is_wrong(value):
    """With the value of a flag, in words; None where it could mean something."""
    if value == '':
        return "'': empty"
    if isinstance(value, float) and not math.isfinite(value):
        return f'{value}: not a finite number'
    if isinstance(value, int) and abs(value) > 1 << 32:
        return f'{str(value)[:20]}...: beyond 32 bits'
    return None


def one_line(message):
    """A message without line breaks and what else a terminal would obey, not longer than can be read."""
    line = ' '.join(str(message).split())
    if len(line) > 2000:
        line = f'{line[:1000]} ... {line[-1000:]}'
    return ''.join(c if c.isprintable() else '?' for c in line)


def run_program(main, name):
    """Run ``main()`` as a command-line program and exit with its status.

    An :class:`InputError`, full memory and a full or broken disk end in one line on stderr and status 2,
    :class:`Diverged` in status 3, Ctrl-C and SIGTERM in 130 and 143; where nobody reads its output on
    (``| head``) it ends in 141, without a word. Anything else is a bug and keeps its traceback.
    """
    interrupt.install()
    if sys.stdout is None:              # it was closed
        sys.stdout = open(os.devnull, 'w')
    sys.stdout.reconfigure(errors='backslashreplace')       # a file's name can be any bytes
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except (InputError, Diverged) as error:
        status, message = error.status, error
    except OSError as error:
        if error.errno == errno.EPIPE and not stdout_is_read():
            sys.exit(141)
        if error.errno not in DISK:
            raise
        status, message = InputError.status, disk_failure(error)
    except MemoryError as error:
        status, message = InputError.status, f'not enough memory: {error or "nothing is left"}'
    except KeyboardInterrupt as stop:
        status, message = 130, f'interrupted{stop}'
    except interrupt.Terminated as stop:
        status, message = 143, f'terminated{stop}'
    if stdout_is_read():
        sys.stdout.flush()
    print(f'{name}: {one_line(message)}', file=sys.stderr)
    sys.exit(status)


def disk_failure(error):
    """What an OSError of ``DISK`` says, in words."""
    return f'cannot write{f" {error.filename}" * bool(error.filename)}: {error.strerror}'


def stdout_is_read():
    """Whether there is still somebody at the other end; where not, what is left to write is dropped."""
    watch = select.poll()
    watch.register(1, 0)                # an end that is closed is told whatever is asked for
    if not watch.poll(0):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return False
