"""Downloads from a small server on this machine."""
import fcntl
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest

from chainer_abn.datasets.download import Remote, cache_dir, download
from chainer_abn.errors import InputError
from chainer_abn.files import sha256

CONTENT = numpy.random.default_rng(0).integers(0, 256, 700_001).astype('u1').tobytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /file; tells the Range header and the number of bytes sent of each request."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.ranges = True              # whether parts can be asked for
        self.stop_after = None          # bytes of an answer after which the connection is closed
        self.length = True              # whether the length is told
        self.requests = []
        self.url = f'http://127.0.0.1:{self.server_port}/file'

    def handle_error(self, request, client_address):
        pass                            # a client that stops


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get('Range')
        if self.path != '/file':
            self.send_error(404)
            return
        start = int(asked.removeprefix('bytes=').removesuffix('-')) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.server.requests.append((asked, 0))
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.length:
            self.send_header('Content-Length', len(CONTENT) - start)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}')
        self.end_headers()
        content = CONTENT[start:][:self.server.stop_after]
        self.server.requests.append((asked, len(content)))
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole(server, tmp_path):
    path = tmp_path / 'cache/svhn/file'
    download(server.url, path, DIGEST, len(CONTENT))
    assert path.read_bytes() == CONTENT and names(path.parent) == ['file']
    assert server.requests == [(None, len(CONTENT))]


@pytest.mark.parametrize('length', [True, False])
def test_cut_and_gone_on_with(server, tmp_path, length):
    path = tmp_path / 'file'
    server.stop_after, server.length = 300_000, length
    with pytest.raises(InputError, match=r'broke off after 0.3 of 0.7 MB .* the same command goes on'):
        download(server.url, path, DIGEST, None if length else len(CONTENT))
    assert names(tmp_path) == ['file.part']
    server.stop_after = None
    download(server.url, path, DIGEST, len(CONTENT))
    assert path.read_bytes() == CONTENT and names(tmp_path) == ['file']
    assert server.requests == [(None, 300_000), ('bytes=300000-', len(CONTENT) - 300_000)]


def test_what_came_before_the_user_stopped_is_kept(server, tmp_path, monkeypatch):
    def stop(progress, done, note=''):
        if done > 400_000:
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr('chainer_abn.progress.Progress.update', stop)
        with pytest.raises(KeyboardInterrupt):
            download(server.url, tmp_path / 'file', DIGEST)
    came = (tmp_path / 'file.part').stat().st_size
    assert 400_000 < came < len(CONTENT)
    download(server.url, tmp_path / 'file', DIGEST)
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert server.requests[1] == (f'bytes={came}-', len(CONTENT) - came)


def test_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / 'file.part').write_bytes(b'x' * 1000)
    download(server.url, tmp_path / 'file', DIGEST)
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert server.requests == [('bytes=1000-', len(CONTENT))]


def test_part_that_is_whole(server, tmp_path):
    (tmp_path / 'file.part').write_bytes(CONTENT)
    download(server.url, tmp_path / 'file', DIGEST, len(CONTENT))
    assert (tmp_path / 'file').read_bytes() == CONTENT
    assert server.requests == [(f'bytes={len(CONTENT)}-', 0)]


@pytest.mark.parametrize('part', [b'', b'x' * 1000, b'x' * len(CONTENT)])
def test_wrong_digest_keeps_nothing(server, tmp_path, part):
    if part:
        (tmp_path / 'file.part').write_bytes(part)
    with pytest.raises(InputError, match='digest of the download is wrong; nothing was kept'):
        download(server.url, tmp_path / 'file', DIGEST if part else 'no')
    assert names(tmp_path) == []


def test_another_size_is_told_before_it_is_fetched(server, tmp_path):
    server.ranges = False
    (tmp_path / 'file.part').write_bytes(CONTENT[:1000])
    with pytest.raises(InputError, match=r'the server has 700001 bytes, and the right file 9000000;'):
        download(server.url, tmp_path / 'file', DIGEST, 9_000_000)
    assert (tmp_path / 'file.part').read_bytes() == CONTENT[:1000]


def test_missing_page_leaves_what_there_was(server, tmp_path):
    with pytest.raises(InputError, match='/gone: cannot be downloaded .*404.*--data-dir'):
        download(server.url.replace('file', 'gone'), tmp_path / 'gone', DIGEST)
    assert names(tmp_path) == []
    (tmp_path / 'gone.part').write_bytes(b'some')
    with pytest.raises(InputError, match='404'):
        download(server.url.replace('file', 'gone'), tmp_path / 'gone', DIGEST)
    assert (tmp_path / 'gone.part').read_bytes() == b'some'


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with Server() as server:
        url = server.url
    with pytest.raises(InputError, match='cannot be downloaded .*refused'):
        download(url, tmp_path / 'file', DIGEST)
    assert names(tmp_path) == []


def test_file_url(tmp_path):
    source = tmp_path / 'source'
    source.write_bytes(CONTENT)
    target = tmp_path / 'cache/file'
    download(source.as_uri(), target, DIGEST, len(CONTENT))
    assert target.read_bytes() == CONTENT
    with pytest.raises(InputError, match='cannot be downloaded .*--data-dir'):
        download((tmp_path / 'gone').as_uri(), tmp_path / 'other', DIGEST)


def test_full_disk(server, tmp_path):
    if not os.path.exists('/dev/full'):
        pytest.skip('needs /dev/full')
    (tmp_path / 'file.part').symlink_to('/dev/full')
    with pytest.raises(InputError, match='file.part: No space left'):
        download(server.url, tmp_path / 'file', DIGEST)


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    with pytest.raises(InputError, match='cache.*: (File exists|Not a directory)'):
        download(server.url, tmp_path / 'cache/file', DIGEST)


def test_two_at_once(server, tmp_path):
    with open(tmp_path / 'file.part', 'ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match='file.part: another process is downloading it'):
            download(server.url, tmp_path / 'file', DIGEST)
    assert server.requests == []


def test_remote(server, tmp_path):
    remote = Remote(server.url, DIGEST, len(CONTENT))
    assert remote.name == 'file'
    remote.download(tmp_path / 'a')
    remote.check(tmp_path / 'a')
    (tmp_path / 'a').write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match='/a: the SHA-256 digest is wrong; .*http://127'):
        remote.check(tmp_path / 'a')


def test_sha256_of_a_known_message(tmp_path):
    path = tmp_path / 'abc'
    path.write_bytes(b'abc')
    # FIPS 180-4
    assert sha256(path) == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    with pytest.raises(InputError, match='gone: No such file'):
        sha256(tmp_path / 'gone')


def test_cache_dir_obeys_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache_dir() == tmp_path / 'chainer_abn'
    monkeypatch.setenv('XDG_CACHE_HOME', '')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert cache_dir() == tmp_path / 'home/.cache/chainer_abn'
