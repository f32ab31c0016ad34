"""Python imports this at its start where the folder is on PYTHONPATH: see emulator.pass_on()."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import emulator  # noqa: E402

emulator.start()
