"""predictions.csv: the table of a run of ``visualize.py``, and what tells a later one where to go on."""
import csv
import json
import os
from pathlib import Path

from chainer_abn.errors import InputError


class Record:
    """A table that grows with the pictures beside it; a line is there when all of its pictures are.

    Args:
        folder: of the pictures; made by :meth:`open`.
        columns (list of str): with ``file`` and ``stem``.
        settings (dict): JSON values, all that decides what is drawn.
        resume (bool): go on with the table that is there.

    Raises:
        InputError: there is none to go on with, or it was made with other settings.
    """

    def __init__(self, folder, columns, settings, resume=False):
        self.folder, self.columns, self.settings = Path(folder), columns, settings
        self.path, self.settings_path = self.folder / 'predictions.csv', self.folder / 'settings.json'
        self.resume = resume
        if resume:
            self._check_settings()

    def _check_settings(self):
        try:
            old = json.loads(self.settings_path.read_text())
        except (OSError, ValueError):
            raise InputError(f'--resume: {self.folder} holds no pictures to go on with '
                             f'({self.settings_path} is missing or unreadable)') from None
        for name in sorted({*old, *self.settings} if isinstance(old, dict) else ['settings']):
            if not isinstance(old, dict) or old.get(name) != self.settings.get(name):
                raise InputError(f'--resume: the pictures in {self.folder} were made with another {name}; '
                                 'give the same flags, or another --out')

    def rows(self):
        """The whole lines of the table as dicts, one after the other."""
        with open(self.path, newline='', encoding='utf-8') as file:
            lines = csv.reader(_whole_lines(file))
            if next(lines, self.columns) != self.columns:
                raise InputError(f'{self.path}: not a table of these settings')
            for line in lines:
                if len(line) != len(self.columns):
                    raise InputError(f'{self.path}: a line of {len(line)} columns; there must be '
                                     f'{len(self.columns)}')
                yield dict(zip(self.columns, line, strict=True))

    def beside(self, inputs):
        """Yields (path, stem, row) of the inputs in order; the row is None of those that have none yet.

        Raises:
            InputError: the table has lines of other inputs.
        """
        rows = self.rows() if self.resume and self.path.exists() else iter(())
        row = next(rows, None)
        for path, stem in inputs:
            if row is not None and (row['file'], row['stem']) == (path, stem):
                yield path, stem, row
                row = next(rows, None)
            else:
                yield path, stem, None
        if row is not None:
            raise InputError(f'--resume: {self.path} has a line of {row["file"]}, which is not among the '
                             'inputs, or not in that place any more')

    def __enter__(self):
        """Make the folder and open the table for more lines."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            whole = _length_of_whole_lines(self.path) if self.resume and self.path.exists() else 0
            self.file = open(self.path, 'r+' if whole else 'w', newline='', encoding='utf-8')
            self.file.truncate(whole)
            self.file.seek(whole)
            self.settings_path.write_text(json.dumps(self.settings, indent=2) + '\n')
        except OSError as error:
            raise InputError(f'--out {self.folder}: {error.strerror}') from None
        self.table = csv.writer(self.file)
        if not whole:
            self.table.writerow(self.columns)
        return self

    def __exit__(self, *exception):
        self.file.close()

    def add(self, rows):
        """Lines whose pictures are written."""
        self.table.writerows(rows)
        self.file.flush()


def _whole_lines(file):
    """Lines without the last one if it was cut."""
    for line in file:
        if line.endswith('\n'):
            yield line


def _length_of_whole_lines(path):
    """Bytes up to the end of the last whole line."""
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        while size:
            start = max(0, size - 4096)
            file.seek(start)
            end = file.read(size - start).rfind(b'\n')
            if end >= 0:
                return start + end + 1
            size = start
    return 0
