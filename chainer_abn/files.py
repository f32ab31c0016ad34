"""Files that are read as files and written whole or not at all, and folders that one process writes to."""
import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
from pathlib import Path

from chainer_abn.errors import InputError
from chainer_abn.progress import Progress

_held = set()                   # descriptors of the folders that this process keeps to itself


@contextlib.contextmanager
def replacing(path, sync=True):
    """A binary file to write to; it takes the place of ``path`` when all went well.

    Where that is a link, the link is replaced and not what it leads to. ``sync``: it is on the disk by then,
    also if the machine should fail.

    Raises:
        OSError: it cannot be written, such as for a full disk; ``path`` is its ``filename`` then, and what
            was there before is untouched.
    """
    part = Path(f'{path}.part')
    try:
        part.unlink(missing_ok=True)            # of a process that was killed; or a link
        with open(part, 'xb') as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
        if sync:
            sync_folder(part.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def open_file(path):
    """A file to read bytes from. What is none, such as a pipe, could be waited for, or read, without end.

    Raises:
        OSError
    """
    file = open(path, 'rb', opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, 'is no file', str(path))
    return file


def read_file(path):
    """The bytes of a file. Raises OSError, also where it is none."""
    with open_file(path) as file:
        return file.read()


def open_text(path, **options):
    """The same file as text; ``options`` are those of io.TextIOWrapper."""
    return io.TextIOWrapper(open_file(path), **options)


def sha256(path):
    """The SHA-256 digest of a file, 64 hex digits.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with (open_file(path) as file,
              Progress(f'checking {Path(path).name}', os.path.getsize(path) or 1, 'MB', 1e-6) as progress):
            while block := file.read(1 << 20):
                digest.update(block)
                progress.update(file.tell())
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None
    return digest.hexdigest()


def sync_folder(folder):
    """Have the names of a folder's files on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:             # not every file system does that
        pass
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def only_writer(folder):
    """Keep other processes that ask for the same from writing to a folder.

    The lock is the kernel's: it ends with the process, whatever ends it, and leaves nothing in the folder.
    A file system without locks does not keep anyone away.

    Raises:
        InputError: another process writes there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f'{folder}: another process is writing there') from None
        except OSError:
            pass
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go():
    """A forked worker that outlives its parent would hold the lock on."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
