"""Published files: fetched over the network, gone on with where that was cut, and checked."""
import fcntl
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from chainer_abn.errors import InputError
from chainer_abn.files import sha256
from chainer_abn.progress import Progress


@dataclass(frozen=True)
class Remote:
    """A file as it is published: its address, SHA-256 digest (hex) and size in bytes."""
    url: str
    sha256: str
    size: int

    @property
    def name(self):
        return self.url.rpartition('/')[2]

    def download(self, path):
        download(self.url, path, self.sha256, self.size)

    def check(self, path):
        """Raise an InputError unless the file at ``path`` is this one."""
        if sha256(path) != self.sha256:
            raise InputError(f'{path}: the SHA-256 digest is wrong; remove the file and download it '
                             f'again from {self.url}')


def cache_dir():
    """Where downloaded data sets are kept (Path); it need not be there yet."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'chainer_abn'


def download(url, path, digest, size=None):
    """Fetch ``url`` to ``path``, with progress; the file appears there only when it is right.

    What has come is kept as ``path.part`` when the connection breaks or the user stops; the next call
    asks the server for the rest alone.

    Args:
        url (str): what urllib can open.
        path (Path): its folder is made if need be.
        digest (str): SHA-256 of the whole file, in hex.
        size (int): of the whole file in bytes, where it is known.

    Raises:
        InputError: it cannot be had, the connection broke, the server's file has another size, what came
            has another digest (then it is removed), it cannot be written, or another process is
            downloading it.
    """
    part = path.with_name(path.name + '.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, 'ab') as file:
            _lock(file, part)
            try:
                _fetch(url, file, size)
                file.flush()
            finally:
                if not file.tell():
                    part.unlink(missing_ok=True)
            if sha256(part) != digest:
                part.unlink()
                raise InputError(f'{url}: the SHA-256 digest of the download is wrong; nothing was kept')
            os.replace(part, path)
    except OSError as error:
        raise InputError(f'{error.filename or part}: {error.strerror}') from None


def _lock(file, part):
    # two processes that append to one file would spoil it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f'{part}: another process is downloading it; wait until it has') from None


def _fetch(url, file, size):
    """Append to ``file`` what it lacks of ``url``; where the server cannot send a part, fetch it all."""
    done = file.tell()
    request = urllib.request.Request(url, headers={'Range': f'bytes={done}-'} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except (OSError, HTTPException) as error:
        if done and getattr(error, 'code', None) == 416:
            return              # there is nothing behind what has come; whether it is right the digest tells
        raise InputError(f'{url}: cannot be downloaded ({error}); fetch it by hand and name its '
                         'folder with --data-dir') from None
    with response:
        resumed = response.status == 206
        length = response.headers.get('Content-Length', '')
        total = resumed * done + int(length) if length.isdigit() else size
        if size and total != size:
            raise InputError(f'{url}: the server has {total} bytes, and the right file {size}; '
                             'fetch it by hand and name its folder with --data-dir')
        if done and not resumed:
            file.truncate(0)
            file.seek(0)
        with Progress(f'downloading {url.rpartition("/")[2]}', total, 'MB', 1e-6) as progress:
            reason = _copy(response, file, progress if total else None)
        if reason or total and file.tell() < total:
            of = f' of {total / 1e6:.1f}' if total else ''
            raise InputError(f'{url}: the connection broke off after {file.tell() / 1e6:.1f}{of} MB '
                             f'({reason or "closed by the server"}); the same command goes on from there')


def _copy(response, file, progress):
    """Copy all of it -> None, or what broke the connection."""
    while True:
        try:
            block = response.read(1 << 18)
        except (OSError, HTTPException) as error:
            return error
        if not block:
            return None
        file.write(block)
        if progress:
            progress.update(file.tell())
