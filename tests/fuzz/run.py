"""Fuzz the readers of files: python tests/fuzz/run.py [READER ...] --minutes M

Each reader has M minutes of processor time in a process of its own, which is guided by what the bytes make
the readers run (atheris), and starts from tests/fuzz/corpus. What it finds lies in tests/fuzz/found/READER:
inputs that raise anything but the reader's own refusal, take too long or too much memory, or end the process.
The inputs that it made on the way are kept there too; started again, a run that was stopped goes on. The exit
status is 1 if anything was found.
"""
import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE / 'found'
READERS = sorted(folder.name for folder in (HERE / 'corpus').iterdir())
SECONDS = 10                    # of processor time for one input
MEMORY = 1 << 30                # bytes in use, of the whole process
CLAIMED = 8 << 30               # bytes that may be asked for; beyond is a MemoryError, which the targets see
LARGEST = 1 << 16               # bytes of an input
# what the bytes make run of these guides the choice of inputs
WATCHED = ('chainer_abn.datasets', 'chainer_abn.training', 'chainer_abn.report.found',
           'chainer_abn.links.build', 'PIL', 'numpy.lib', 'zipfile', 'tarfile', 'pickle', 'json')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('readers', nargs='*', metavar='READER', help=f'default all: {", ".join(READERS)}')
    parser.add_argument('--minutes', type=float, default=30, help='of processor time per reader (default 30)')
    parser.add_argument('--jobs', type=int, default=1, help='readers at a time (default 1)')
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.readers).difference(READERS):
        parser.error(f'no reader {", ".join(unknown)}; there are {", ".join(READERS)}')
    if given.here:
        fuzz(*given.readers, given.minutes * 60)
    readers = given.readers or READERS
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda reader: watch(reader, given.minutes * 60), readers))
    print(f'\n{"reader":12}{"inputs":>10}{"minutes":>9}{"corpus":>8}{"findings":>10}')
    for reader in readers:
        state = State(reader)
        print(f'{reader:12}{state.runs:10}{state.seconds / 60:9.1f}{len(list(state.grown.iterdir())):8}'
              f'{len(state.findings()):10}')
    findings = [path for reader in readers for path in State(reader).findings()]
    for path in findings:
        print(path)
    return bool(findings)


class State:
    """What is known of the fuzzing of a reader, in its folder.

    Attributes:
        runs (int), seconds (float): inputs tried so far, and the processor time that they took.
    """

    def __init__(self, reader):
        self.folder, self.grown = FOUND / reader, FOUND / reader / 'corpus'
        self.grown.mkdir(parents=True, exist_ok=True)
        self.file, self.runs, self.seconds = self.folder / 'state.json', 0, 0.0
        if self.file.exists():
            self.runs, self.seconds = json.loads(self.file.read_text())

    def save(self):
        part = self.file.with_suffix('.part')
        part.write_text(json.dumps([self.runs, self.seconds]))
        part.replace(self.file)

    def findings(self):
        return sorted(path for path in self.folder.glob('*-*') if path.suffix != '.txt')


def watch(reader, seconds):
    """Fuzz a reader until its time is used up, in process after process: an input may end one."""
    state = State(reader)
    if state.seconds >= seconds:                # of a run that came to its end
        state.file.unlink()
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
    while (state := State(reader)).seconds < seconds:
        before = state.seconds
        with open(state.folder / 'log.txt', 'a') as log:
            process = subprocess.Popen(
                [sys.executable, __file__, '--here', reader, '--minutes', str(seconds / 60)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **threads})
            told = time.monotonic()
            while process.poll() is None:
                time.sleep(1)
                if time.monotonic() - told > 60:
                    told, state = time.monotonic(), State(reader)
                    print(f'{reader}: {state.seconds / 60:.1f} of {seconds / 60:g} minutes, '
                          f'{state.runs} inputs, {len(state.findings())} findings', flush=True)
        if State(reader).seconds == before and not state.findings():
            sys.exit(f'{reader}: fuzzing does not start; see {state.folder}/log.txt')


def fuzz(reader, seconds):
    """Fuzz a reader in this process, which ends here."""
    import atheris
    with atheris.instrument_imports(include=WATCHED):
        import targets
    state, target = State(reader), targets.TARGETS[reader]
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else tempfile.gettempdir()
    scratch = Path(memory, f'chainer-abn-fuzz-{os.getuid()}-{zlib.crc32(bytes(state.folder)):x}')
    shutil.rmtree(scratch, ignore_errors=True)          # of a process that was ended
    scratch.mkdir()
    resource.setrlimit(resource.RLIMIT_AS, (CLAIMED, CLAIMED))
    before, saved = state.seconds - time.process_time(), state.seconds      # without the start

    def one(data):
        nonlocal saved
        folder = scratch / 'input'
        folder.mkdir()
        started = time.process_time()
        try:
            target(data, folder)
        except Exception as error:
            keep(state, type(error).__name__, data, traceback.format_exc(), places(error))
        took = time.process_time() - started
        if took > SECONDS:
            keep(state, 'slow', data, f'{took:.1f} s', [])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        if peak > MEMORY:
            keep(state, 'memory', data, f'{peak >> 20} MB', [])
        shutil.rmtree(folder)
        state.runs += 1
        state.seconds = before + time.process_time()
        over = peak > MEMORY or state.seconds >= seconds        # a process's peak stays
        if state.seconds - saved > 5 or over:
            saved = state.seconds
            state.save()
        if over:
            shutil.rmtree(scratch)
            os._exit(0)

    corpus = HERE / 'corpus' / reader
    atheris.Setup([sys.argv[0], f'-artifact_prefix={state.folder}/', f'-max_len={LARGEST}', '-timeout=600',
                   '-rss_limit_mb=0', '-print_final_stats=1', f'-dict={HERE / "words.dict"}',
                   str(state.grown), str(corpus)], one)
    atheris.Fuzz()


def places(error):
    """Where an exception came from: the functions of this project on its way."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f'{frame.name} in {Path(frame.filename).name}'
            for frame in frames if 'chainer_abn' in frame.filename]


def keep(state, kind, data, why, places):
    """Keep an input, the shortest of those that fail in the same way at the same place."""
    digest = hashlib.sha256(repr((kind, places)).encode()).hexdigest()[:8]
    path = state.folder / f'{kind}-{digest}'
    if not path.exists() or len(data) < path.stat().st_size:
        path.write_bytes(data)
        path.with_suffix('.txt').write_text(why, errors='backslashreplace')


if __name__ == '__main__':
    sys.exit(main())
