"""Files that are written whole or not at all."""
import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """A binary file to write to; it is flushed and takes the place of ``path`` when all went well."""
    part = Path(f'{path}.part')
    try:
        with open(part, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
