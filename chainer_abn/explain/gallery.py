"""All pictures of a run of ``visualize.py``: written beside its table, and on one sheet."""
import sys

import numpy
from PIL import Image

from chainer_abn.datasets.frames import is_animation
from chainer_abn.datasets.images import read_image
from chainer_abn.errors import InputError
from chainer_abn.explain.inputs import batches, network_input
from chainer_abn.explain.sheet import Sheet
from chainer_abn.files import replacing


class Gallery:
    """Goes over the inputs in order; no more than a batch is in memory.

    Args:
        painter (Painter)
        record (Record): entered where :meth:`hang` is called.
        batchsize (int)
        npy (bool): write the raw maps too.
        skip_bad (bool): leave out unreadable files, and say so.
        grid (bool): make a sheet.

    Attributes:
        n_bad (int): files that were left out.
        changed (int): answers that an edit changed, known at the end; None where nothing is edited.
    """

    def __init__(self, painter, record, batchsize, npy=False, skip_bad=False, grid=False):
        self.painter, self.record, self.batchsize, self.npy = painter, record, batchsize, npy
        self.skip_bad, self.n_bad, self.changed = skip_bad, 0, None
        self._empty = {}                    # name of a map -> how many are empty, the file of the first
        titles = ['before | after'] if painter.edit else painter.methods
        self.sheet = Sheet(['image', *painter.answers.titles(titles)]) if grid else None

    def hang(self, inputs, progress):
        """Draw what is not drawn yet, and what goes on the sheet.

        Args:
            inputs (Inputs)
            progress (Progress): of the inputs.
        """
        n = 0
        for batch in batches(self._read(inputs, progress), self._kind, self.batchsize):
            path, stem, done, *_ = batch[0]
            if not done or self.sheet and not self.sheet.full:
                if is_animation(path):
                    self._animate(path, stem, done, progress, n)
                else:
                    self._draw(batch)
            elif self.sheet:
                self.sheet.left_out += len(batch)
            n += len(batch)
            progress.update(n + self.n_bad)

    def finish(self):
        """Write the sheet, and count; all is drawn."""
        if self.sheet and self.sheet.entries:
            with replacing(self.record.folder / 'grid.png') as file:
                self.sheet.draw().save(file, 'PNG')
        if self.painter.edit:
            self.changed = sum(map(self.painter.answers.changed, self.record.rows()))

    def remarks(self):
        """Lines about what a person should know."""
        for name, (n, path) in sorted(self._empty.items()):
            yield (f'{name}: {n} map{"s are" if n > 1 else " is"} empty (one value all over, or not finite) '
                   f'and drawn as nothing, such as of {path}')
        if self.sheet and self.sheet.left_out:
            yield f'{self.record.folder / "grid.png"} shows the first {len(self.sheet.entries)} images'

    def _read(self, inputs, progress):
        """Yields path, stem, whether it is done, image and the network's input, None where not needed."""
        config = self.painter.config
        for path, stem, done in self.record.beside(inputs):
            if is_animation(path) or done and not (self.sheet and not self.sheet.full):
                yield path, stem, done, None, None
                continue
            try:
                image = read_image(path)
                # the network sees what it saw in training: a JPEG file decoded at a fraction of its size
                # (a larger one there where --crop resized decodes it for its parts)
                fraction = min(image.shape[:2]) >= 2 * max(config['resize'])
                small = network_input(read_image(path, config['resize']) if fraction else image, config)
                self.painter.check_edit(path, image.shape[:2])
            except InputError as error:
                self._leave_out(error, progress)
            else:
                yield path, stem, done, image, small

    @staticmethod
    def _kind(item):
        """What the items of a batch have in common."""
        path, _, done, _, small = item
        return done, path if small is None else small.shape

    def _leave_out(self, error, progress):
        if not self.skip_bad:
            raise InputError(f'{error}; --skip-bad leaves such files out') from None
        self.n_bad += 1
        progress.clear()
        print(f'left out: {error}', file=sys.stderr)

    def _draw(self, batch):
        *_, images, smalls = zip(*batch, strict=True)
        rows = []
        results = self.painter.paint(images, smalls)
        for (path, stem, done, image, _), result in zip(batch, results, strict=True):
            if not done:
                for name, picture in result.pictures.items():
                    out = f'{self.record.folder / stem}_{name}'
                    with replacing(f'{out}.png', sync=False) as file:
                        Image.fromarray(picture).save(file, 'PNG')
                    if self.npy:
                        with replacing(f'{out}.npy', sync=False) as file:
                            numpy.save(file, result.maps[name].astype('f'))
                rows.append(self.painter.row(path, stem, result))
            self._note(path, stem, image, result)
        self.record.add(rows)

    def _animate(self, path, stem, done, progress, n):
        def say(frame, of):
            progress.update(n + self.n_bad, f'  frame {frame}' + (f' of {of}' if of else ''))

        try:
            out = self.record.folder / stem
            image, result = self.painter.animate(path, out, self.batchsize, self.npy, say)
        except InputError as error:
            return self._leave_out(error, progress)
        if not done:
            self.record.add([self.painter.row(path, stem, result)])
        self._note(path, stem, image, result)

    def _note(self, path, stem, image, result):
        """Keep what is said at the end, and the entry of the sheet."""
        for name in result.empty:
            n, first = self._empty.get(name, (0, path))
            self._empty[name] = n + 1, first
        if self.sheet:
            self.sheet.add([image, *result.pictures.values()],
                           self.painter.answers.caption(stem, result.logits))
