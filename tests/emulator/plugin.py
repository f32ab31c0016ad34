"""python -m pytest -p emulator.plugin: tests run on the emulated GPU."""
import os

import pytest

import emulator

try:
    emulator.start()
except RuntimeError as error:
    raise pytest.UsageError(str(error)) from None
os.environ['EMULATED_GPU'] = '1'
