"""Files that are written whole or not at all."""
import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path, sync=True):
    """A binary file to write to; it takes the place of ``path`` when all went well.

    ``sync``: it is on the disk by then, also if the machine should fail.
    """
    part = Path(f'{path}.part')
    try:
        with open(part, 'wb') as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
