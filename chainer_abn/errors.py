"""What a person got wrong, and how the programs say it: one line, exit status 2."""
import argparse
import sys

from chainer_abn import interrupt


class InputError(ValueError):
    """Something that a person gave is wrong; the message is one line that names it and what to do."""


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line on stderr (exit status 2); flags are written out."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        raise InputError(f'{message} (see {self.prog} --help)')


def one_line(message):
    """A message without line breaks and what else a terminal would obey, not longer than can be read."""
    line = ' '.join(str(message).split())
    return ''.join(c if c.isprintable() else '?' for c in line[:2000])


def run_program(main, name):
    """Run ``main()`` as a command-line program and exit with its status.

    An :class:`InputError` ends in one line on stderr and status 2; Ctrl-C and
    SIGTERM in 130 and 143. Anything else is a bug and keeps its traceback.
    """
    interrupt.install()
    sys.stdout.reconfigure(errors='backslashreplace')       # a file's name can be any bytes
    try:
        sys.exit(main())
    except InputError as error:
        status, message = 2, error
    except KeyboardInterrupt as stop:
        status, message = 130, f'interrupted{stop}'
    except interrupt.Terminated as stop:
        status, message = 143, f'terminated{stop}'
    sys.stdout.flush()
    print(f'{name}: {one_line(message)}', file=sys.stderr)
    sys.exit(status)
