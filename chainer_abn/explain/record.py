"""predictions.csv: the table of a run of ``visualize.py``, and what tells a later one where to go on."""
import contextlib
import csv
import functools
import json
import os
from pathlib import Path

from chainer_abn.errors import InputError
from chainer_abn.files import only_writer, open_file, open_text
from chainer_abn.training.run_folder import read_json

ENCODING = {'encoding': 'utf-8', 'errors': 'surrogateescape'}       # a file's name can be any bytes


class Record:
    """A table that grows with the pictures beside it; a line is there when all of its pictures are.

    Args:
        folder: of the pictures; made when the record is entered.
        columns (list of str): with ``file`` and ``stem``.
        settings (dict): JSON values, all that decides what is drawn.
        resume (bool): go on with the table that is there.

    Raises:
        InputError: there is none to go on with, or it was made with other settings; when entered, another
            process writes to the folder.
    """

    def __init__(self, folder, columns, settings, resume=False):
        self.folder, self.columns, self.settings = Path(folder), columns, settings
        self.path, self.settings_path = self.folder / 'predictions.csv', self.folder / 'settings.json'
        self.resume = resume
        if resume:
            self._check_settings()

    def _check_settings(self):
        try:
            old = read_json(self.settings_path, self.folder)
        except InputError:
            raise InputError(f'--resume: {self.folder} holds no pictures to go on with '
                             f'({self.settings_path} is missing or unreadable)') from None
        for name in sorted({*old, *self.settings} if isinstance(old, dict) else ['settings']):
            if not isinstance(old, dict) or old.get(name) != self.settings.get(name):
                raise InputError(f'--resume: the pictures in {self.folder} were made with another {name}; '
                                 'give the same flags, or another --out')

    def rows(self):
        """The lines of the table as dicts, one after the other."""
        try:
            with open_text(self.path, newline='', **ENCODING) as file:
                lines = csv.reader(file)
                if next(lines, self.columns) != self.columns:
                    raise InputError(f'{self.path}: not a table of these settings')
                for line in lines:
                    if len(line) != len(self.columns):
                        raise InputError(f'{self.path}: a line of {len(line)} columns; there must be '
                                         f'{len(self.columns)}')
                    yield dict(zip(self.columns, line, strict=True))
        except csv.Error as error:
            raise InputError(f'{self.path}: damaged ({error})') from None

    @functools.cached_property
    def _done(self):
        """Hashes of file and stem of what an earlier run has drawn: less memory than the names."""
        if not self.resume or not self.path.exists():
            return frozenset()
        with only_writer(self.folder):
            try:
                length = _length_of_whole_lines(self.path)
            except OSError as error:            # no file, or unreadable
                raise InputError(f'{self.path}: {error.strerror}') from None
            os.truncate(self.path, length)
        return frozenset(hash((row['file'], row['stem'])) for row in self.rows())

    def beside(self, inputs):
        """Yields (path, stem, whether it is done) of the inputs in order.

        Raises:
            InputError: the table has lines of other inputs.
        """
        left = set(self._done)
        for path, stem in inputs:
            done = hash((path, stem)) in self._done
            left.discard(hash((path, stem)))
            yield path, stem, done
        if left:
            other = next(row['file'] for row in self.rows() if hash((row['file'], row['stem'])) in left)
            raise InputError(f'--resume: {self.path} has a line of {other}, which is not among the inputs')

    def __enter__(self):
        """Make the folder, keep others from writing to it, and open the table for more lines."""
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(only_writer(self.folder))
                for path in self.path, self.settings_path:
                    if path.is_symlink():
                        raise InputError(f'--out {path}: a link; nothing is written where it leads')
                goes_on = self.resume and self.path.exists()
                self.file = stack.enter_context(
                    open(self.path, 'a' if goes_on else 'w', newline='', **ENCODING))
                self.settings_path.write_text(json.dumps(self.settings, indent=2) + '\n')
            except OSError as error:
                raise InputError(f'--out {self.folder}: {error.strerror}') from None
            self.table = csv.writer(self.file)
            if not self.file.tell():
                self.table.writerow(self.columns)
            self._close = stack.pop_all().close
        return self

    def __exit__(self, *exception):
        self._close()

    def add(self, rows):
        """Lines whose pictures are written."""
        self.table.writerows(rows)
        self.file.flush()


def _length_of_whole_lines(path):
    """Bytes up to the end of the last whole line."""
    size = os.path.getsize(path)
    with open_file(path) as file:
        while size:
            start = max(0, size - 4096)
            file.seek(start)
            end = file.read(size - start).rfind(b'\n')
            if end >= 0:
                return start + end + 1
            size = start
    return 0
