"""Runs a program on the emulated GPU: python tests/emulator/run.py [-m MODULE | SCRIPT.py] ARGUMENTS..."""
import os
import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

import emulator  # noqa: E402


def main():
    emulator.start()
    emulator.pass_on()
    arguments = sys.argv[1:]
    if not arguments or arguments == ['-m']:
        sys.exit(__doc__)
    if arguments[0] == '-m':
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name='__main__')


if __name__ == '__main__':
    main()
