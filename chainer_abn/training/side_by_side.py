"""Folds on several devices side by side: a process for each device.

The parent hands out the folds, draws their progress and tells what went wrong; the others train. They are
fresh processes, since CUDA does not survive a fork, and each is the leader of a session of its own: Ctrl-C
on the terminal reaches the parent alone, and the workers that read images for a fold end with it.

Down a connection go the :class:`Settings`, the :class:`Task` and then numbers of folds; up come tuples, each
handled by the method of :class:`Parent` that it names:

    ready                                   the device can be used
    progress, text                          the fold's progress line
    printed, text / warned, text            a line of the fold on stdout, on stderr
    finished                                the fold
    failed, status, reason, details         and the process trains no more
"""
import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from chainer_abn import interrupt, progress
from chainer_abn.datasets.images import set_limit
from chainer_abn.errors import DISK, Diverged, InputError, disk_failure, one_line
from chainer_abn.files import replacing
from chainer_abn.runtime import devices, threads
from chainer_abn.training.runner import train_fold

POLL = 0.2                      # seconds until a signal is noticed
PATIENCE = 600                  # seconds for a process to end its iteration or validation and save its state
LAST_WORDS = 2                  # seconds for a process to end that has closed its connection


class Settings(NamedTuple):
    """How a process is to compute."""
    gpu: int                    # -1: the CPU
    accelerator: str | None
    threads: int
    interval: float             # seconds between two progress lines


class Task(NamedTuple):
    """What any of the folds needs; see :func:`chainer_abn.training.runner.train_fold`."""
    run: Any
    store: Any
    folds: dict                 # number -> (train, validation)
    configs: dict               # number -> config
    options: Any
    start: Any = None

    def heading(self, fold, where=''):
        """What is printed when a fold begins."""
        train, validation = self.folds[fold]
        return (f'fold {fold} of {len(self.folds)}{where}: {len(train)} training and {len(validation)} '
                'validation images')

    def train(self, fold, device):
        train_fold(self.run, fold, self.store, self.folds[fold], self.configs[fold], self.options, device,
                   self.start)


class Failure(NamedTuple):
    fold: int | None            # None: the device cannot be used
    device: str                 # such as 'gpu 1'
    status: int                 # that the program ends with for it: 2 for what a person gave, 3, 1
    reason: str

    def __str__(self):
        if self.fold is None:
            return one_line(f'{self.device} is given up: {self.reason}')
        return one_line(f'fold {self.fold} failed on {self.device}: {self.reason}')


def train_side_by_side(task, todo, gpus, rows=None, after_fold=None):
    """Train folds, one at a time on each device; a device that is free takes the next one.

    A fold that fails is told and leaves the others alone. The next one on its device gets a fresh process;
    where none can be made ready the device is given up. Every process computes with as many threads as are
    set in this one.

    Args:
        task (Task)
        todo: numbers of the folds to train, in order.
        gpus: numbers of the GPUs; -1: the CPU.
        rows (chainer_abn.progress.Rows): where progress is drawn.
        after_fold: function that is called in this process whenever a fold has ended, well or not; it gets
            ``warn``, a function that tells a line on stderr.

    Returns:
        list of Failure: what went wrong.
    """
    parent = Parent(task, todo, gpus, rows or progress.Rows(), after_fold)
    with interrupt.deferred():
        try:
            parent.run()
        finally:
            parent.stop()
    return parent.failures


class Parent:
    """The process that hands out the folds."""

    def __init__(self, task, todo, gpus, rows, after_fold=None):
        self.task, self.waiting, self.idle, self.rows = task, list(todo), list(gpus), rows
        self.after_fold = after_fold
        self.children, self.failures = [], []
        self.has_head = False

    def run(self):
        while True:
            while self.idle and sum(child.fold is None for child in self.children) < len(self.waiting):
                self.children.append(Child(Settings(
                    self.idle.pop(0), self.task.options.accelerator, threads.count(), self.rows.interval)))
            if not self.children:
                return
            interrupt.check()
            by_connection = {child.connection: child for child in self.children}
            for connection in wait(by_connection, POLL):
                child = by_connection[connection]
                what, *more = child.hear()
                getattr(self, what)(child, *more)

    def stop(self):
        """End all processes; those that train may end their iteration."""
        self.rows.leave()
        for child in self.children:
            child.process.terminate()
        deadline = time.monotonic() + PATIENCE
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0, deadline - time.monotonic()))
            child.end()

    def ready(self, child):
        child.tell(self.task)
        self.hand_out(child)

    def progress(self, child, text):
        self.rows.draw(child, text)

    def printed(self, child, text):
        """A row of the fold's table gets a column with its number."""
        if not text.startswith('epoch '):
            self.rows.print(f'{child.fold or child.device:<4}  {text}')
        elif not self.has_head:             # the folds share one
            self.has_head = True
            self.rows.print(f'fold  {text}')

    def warned(self, child, text):
        self.warn(f'{child.what}: {text}')

    def warn(self, line):
        self.rows.print(line, sys.stderr)

    def follow_up(self):
        if self.after_fold:
            self.after_fold(warn=self.warn)

    def finished(self, child):
        self.rows.drop(child)
        self.hand_out(child)
        self.follow_up()

    def failed(self, child, status, reason, details):
        self.children.remove(child)
        self.rows.drop(child)
        child.end()
        if details.strip():
            file = self.task.run.error(child.what)
            with contextlib.suppress(OSError):          # such as a full disk, which may be the reason
                with replacing(file) as content:
                    content.write(details.encode(errors='surrogateescape'))
                reason = f'{reason}; more in {file}'
        self.failures.append(Failure(child.fold, child.device, status, reason))
        self.warn(self.failures[-1])
        if child.fold is not None:
            self.idle.append(child.settings.gpu)
            self.follow_up()

    def hand_out(self, child):
        """Give the next fold to a process, or end it where there is none."""
        if not self.waiting:
            self.children.remove(child)
            child.end()
            return
        child.fold = self.waiting.pop(0)
        self.rows.print(self.task.heading(child.fold, f' on {child.device}'))
        child.tell(child.fold)


class Child:
    """A process that trains on one device, as its parent sees it."""

    def __init__(self, settings):
        self.settings, self.fold = settings, None
        self.connection, theirs = multiprocessing.Pipe()
        self.output = tempfile.TemporaryFile()
        program = (f'import sys; sys.path[:] = {sys.path!r}; '
                   f'from {__name__} import serve; serve({theirs.fileno()})')
        # nothing is written to its stdin, which is closed when this process is gone
        self.process = subprocess.Popen(
            [sys.executable, '-c', program], stdin=subprocess.PIPE, stdout=self.output,
            stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self.tell(settings)

    @property
    def device(self):
        return 'cpu' if self.settings.gpu < 0 else f'gpu {self.settings.gpu}'

    @property
    def what(self):
        """What it is busy with, such as 'fold 2'; the device, as long as it has no fold."""
        return self.device if self.fold is None else f'fold {self.fold}'

    def tell(self, message):
        # a process that is gone is noticed by hear
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def hear(self):
        """The next message; of a process that is gone, that it failed."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS)
        self.output.seek(0)
        details = self.output.read().decode(errors='replace')
        return 'failed', 1, how_it_ended(self.process.returncode), details

    def end(self):
        """Kill it, with the workers that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.connection.close()
        self.output.close()


def how_it_ended(status):
    """In words; None is a process that has not ended."""
    if status is None:
        return 'its process does not answer'
    full = '; was the memory full?' if status == -signal.SIGKILL else ''
    return f'its process {interrupt.how_it_ended(status)}{full}'


def serve(number):
    """Train the folds that come down a connection, until one fails or the parent ends this process.

    Args:
        number (int): the connection's file descriptor.
    """
    connection = Connection(number)
    # workers that are forked off must not hold it open
    os.register_at_fork(after_in_child=connection.close)
    threading.Thread(target=end_with_parent, daemon=True).start()
    faulthandler.enable(2)
    interrupt.install()
    send = Sender(connection)
    sys.stdout, sys.stderr = Lines(send, 'printed'), Lines(send, 'warned')
    try:
        settings = connection.recv()
        device = devices.choose_device(settings.gpu, settings.accelerator, settings.threads)
        send('ready')
        task = connection.recv()
        set_limit(task.options.max_pixels)
        while True:
            fold = connection.recv()
            progress.draw_on(FoldLine(send, f'fold {fold}', settings.interval))
            task.train(fold, device)
            send('finished')
    except (InputError, Diverged) as error:
        send('failed', error.status, str(error), '')
    except (KeyboardInterrupt, interrupt.Terminated):
        send('failed', 1, 'its process was told to stop', '')
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            send('failed', InputError.status, disk_failure(error), '')
            return
        send('failed', 1, f'{type(error).__name__}: {error}', traceback.format_exc())


def end_with_parent():
    """Wait until the parent is gone, whatever ended it, and kill this process and its workers."""
    os.read(0, 1)
    os.kill(0, signal.SIGKILL)


class Sender:
    """Sends messages, from any thread."""

    def __init__(self, connection):
        self.connection, self.lock = connection, threading.Lock()

    def __call__(self, *message):
        with self.lock:
            self.connection.send(message)


class Lines(io.TextIOBase):
    """A text stream that sends whole lines."""

    def __init__(self, send, kind):
        self.send, self.kind, self.rest = send, kind, ''

    def writable(self):
        return True

    def write(self, text):
        if self.send.connection.closed:     # a forked worker
            return os.write(2, text.encode(errors='replace'))
        *lines, self.rest = (self.rest + text).split('\n')
        for line in lines:
            if line.strip():
                self.send(self.kind, line)
        return len(text)


class FoldLine:
    """A progress line that the parent draws."""

    def __init__(self, send, name, interval):
        self.send, self.name, self.interval = send, name, interval

    def draw(self, text):
        self.send('progress', text if text.startswith(self.name) else f'{self.name} {text}')

    def clear(self):
        """The last line stays until the next one comes."""
