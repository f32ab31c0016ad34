"""Progress of long work on stderr: a line, or several one below the other."""
import os
import sys
import time

_line = None                    # where all of this process is drawn, if not on stderr


def draw_on(line):
    """Let every :class:`Progress` made from now on draw on ``line``.

    Args:
        line: with ``interval`` (seconds), ``draw(text)`` and ``clear()``; None: a line of stderr.
    """
    global _line
    _line = line


class Progress:
    """A line that is redrawn on a terminal, and printed now and then where there is none.

    Use it as a context manager and call ``update`` as often as you like; it draws rarely.

    Args:
        title (str): what is being done.
        total (int or float): how much there is to do.
        unit (str): of what the speed is told, such as ``images``.
        scale (float): units per step of ``total``, where they differ.
        stream: where it goes.
    """

    def __init__(self, title, total, unit, scale=1, stream=None):
        self.title, self.total, self.unit, self.scale = title, total, unit, scale
        self.line = _line or Line(stream or sys.stderr)
        self.started = self.drawn = time.monotonic()
        self.first = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.clear()

    def update(self, done, note=''):
        """Say that ``done`` of ``total`` is done."""
        if self.first is None:
            self.first = done           # a resumed run starts in the middle
        now = time.monotonic()
        if now - self.drawn < self.line.interval:
            return
        self.drawn = now
        speed = (done - self.first) / (now - self.started)
        share = min(done / self.total, 1)
        left = clock((self.total - done) / speed) if speed > 0 else '?'
        bar = '#' * int(24 * share)
        self.line.draw(f'{self.title} [{bar:<24}] {share:4.0%}  {speed * self.scale:.4g} {self.unit}/s  '
                       f'{left} left{note}')

    def clear(self):
        """Take the line off the terminal, so that something else can be printed there."""
        self.line.clear()


class Line:
    """One line of a stream."""

    def __init__(self, stream):
        self.stream, self.live = stream, stream.isatty()
        self.interval = interval(stream)

    def draw(self, text):
        # a line that the terminal breaks would stay there
        self.stream.write(f'\r\033[K{text[:columns(self.stream) - 1]}' if self.live else f'{text}\n')
        self.stream.flush()

    def clear(self):
        clear(self.stream)


class Rows:
    """A line for each of several things that go on at the same time.

    On a terminal they are the last rows, redrawn in place; elsewhere each is printed as it comes.

    Args:
        stream: where they go.
    """

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.interval = interval(self.stream)
        self.rows = {}
        self.drawn = 0          # rows that are on the terminal

    def draw(self, name, text):
        """Draw the row of ``name``; a new one comes below the others."""
        if not self.live:
            self.stream.write(f'{text}\n')
            self.stream.flush()
            return
        self.rows[name] = text
        self._redraw()

    def drop(self, name):
        """Take a row away, if it is there."""
        if self.rows.pop(name, None) is not None:
            self._redraw()

    def print(self, text, stream=None):
        """Print a line (to stdout) above the rows."""
        rows, self.rows = self.rows, {}
        self._redraw()
        print(text, file=stream or sys.stdout, flush=True)
        self.rows = rows
        self._redraw()

    def leave(self):
        """Let the rows stand as they are; the next ones come below."""
        if self.drawn:
            self.stream.write('\n')
            self.stream.flush()
        self.rows, self.drawn = {}, 0

    def _redraw(self):
        """Write all rows over those that are there; the cursor stays at the end of the last one."""
        if not self.rows and not self.drawn:
            return
        # a row that the terminal breaks would count as two
        width = columns(self.stream) - 1
        up = f'\033[{self.drawn - 1}A' if self.drawn > 1 else ''
        lines = '\n'.join(f'{text[:width]}\033[K' for text in self.rows.values())
        self.stream.write(f'\r{up}{lines}\033[J')
        self.stream.flush()
        self.drawn = len(self.rows)


def clear(stream):
    """Take a line off a terminal, so that something else can be printed there."""
    if stream.isatty():
        stream.write('\r\033[K')
        stream.flush()


def interval(stream):
    """Seconds between two drawings."""
    return 0.2 if stream.isatty() else 15


def columns(stream):
    """Width of a terminal, 80 where it is not known."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):           # ValueError: the stream is closed, or no file
        return 80


def clock(seconds):
    """75 -> '1:15'."""
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
