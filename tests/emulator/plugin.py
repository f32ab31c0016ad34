"""python -m pytest -p emulator.plugin: tests run on emulated GPUs, two unless EMULATOR_DEVICES is set."""
import os

import pytest

import emulator

os.environ.setdefault('EMULATOR_DEVICES', '2')
try:
    emulator.start()
except RuntimeError as error:
    raise pytest.UsageError(str(error)) from None
emulator.pass_on()
