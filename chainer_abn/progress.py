"""Progress of long work on one line of stderr."""
import sys
import time


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
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.interval = 0.2 if self.live else 15
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
        if now - self.drawn < self.interval:
            return
        self.drawn = now
        speed = (done - self.first) / (now - self.started)
        share = min(done / self.total, 1)
        left = clock((self.total - done) / speed) if speed > 0 else '?'
        bar = '#' * int(24 * share)
        text = (f'{self.title} [{bar:<24}] {share:4.0%}  {speed * self.scale:.4g} {self.unit}/s  '
                f'{left} left{note}')
        self.stream.write(f'\r\033[K{text}' if self.live else f'{text}\n')
        self.stream.flush()

    def clear(self):
        """Take the line off the terminal, so that something else can be printed there."""
        if self.live:
            self.stream.write('\r\033[K')
            self.stream.flush()


def clock(seconds):
    """75 -> '1:15'."""
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
