"""Maps over images and over the frames of an animation, as ``visualize.py`` draws them."""
import contextlib
import csv
import io
from typing import NamedTuple

import numpy

from chainer_abn.datasets.frames import count, frames
from chainer_abn.errors import InputError
from chainer_abn.explain.animation import GifWriter
from chainer_abn.explain.edit import edited
from chainer_abn.explain.inputs import batches, network_input, softmax, to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import is_empty, overlay
from chainer_abn.explain.record import ENCODING
from chainer_abn.explain.sheet import pair
from chainer_abn.files import replacing


class Result(NamedTuple):
    """What came of an image.

    Attributes:
        logits: (K,) or (T, 2) float32.
        edited: likewise, with the edited map; None where there is none.
        maps (dict): part of a file's name -> (h, w) float32.
        pictures (dict): likewise -> (H, W, 3) uint8.
        empty (list of str): names of maps without a highest place.
    """
    logits: numpy.ndarray
    edited: numpy.ndarray | None
    maps: dict
    pictures: dict
    empty: list


class Painter:
    """Shows images to a network and lays the maps over them.

    Args:
        net, config: of :func:`chainer_abn.load`.
        device (chainer.backend.Device): where the network is.
        answers: of :mod:`chainer_abn.explain.answers`.
        methods (list of str)
        layer (str): see :func:`~chainer_abn.explain.look.look`.
        edit: of :func:`~chainer_abn.explain.edit.read_edit`, or None: the pictures show the network's own
            map and the edited one side by side, and what it says with each.
        mode (str): of the edit.
        style (dict): ``alpha``, ``colormap``, ``interpolation`` of the overlay.
    """

    def __init__(self, net, config, device, answers, methods, *, layer=None, edit=None, mode='replace',
                 style=None):
        self.net, self.config, self.device, self.answers = net, config, device, answers
        self.methods, self.layer, self.edit, self.mode = methods, layer, edit, mode
        self.style = style or {}

    def paint(self, images, inputs):
        """
        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            inputs: their :func:`~chainer_abn.explain.inputs.network_input`, all of one size.

        Returns:
            iterator of Result; it draws each when that is asked for: the pictures are as large as the images
        """
        x = self.device.send(to_batch(inputs, self.config))
        seen = look(self.net, x, self.methods, self.layer, self.answers.target)
        if self.edit is None:
            return (self._result(image, i, seen) for i, image in enumerate(images))

        def given(size):
            return numpy.stack([self.edit(image.shape[:2], size) for image in images])

        logits, maps = edited(self.net, x, given, self.mode)
        return (self._edited_result(image, i, seen, logits, maps) for i, image in enumerate(images))

    def check_edit(self, path, size):
        """Raises InputError if the edit does not fit the image, of ``size`` (H, W), in the file ``path``."""
        if self.edit is not None:
            try:
                self.edit(size, (1, 1))
            except InputError as error:
                raise InputError(f'{path}: {error}') from None

    def _result(self, image, i, seen):
        maps = {}
        for method in self.methods:
            maps |= self.answers.maps(method, seen.maps[method][i])
        return Result(seen.logits[i], None, maps, {name: self._over(image, m) for name, m in maps.items()},
                      [name for name, m in maps.items() if is_empty(m)])

    def _edited_result(self, image, i, seen, logits, used):
        own, used = (self.answers.maps('edit', m[i]) for m in (seen.maps['attention'], used))
        pictures = {}
        for number, name in enumerate(used):
            words = [self.answers.words(row, number) for row in (seen.logits[i], logits[i])]
            pictures[name] = pair([self._over(image, m[name]) for m in (own, used)],
                                  [f'before: {words[0]}', f'after: {words[1]}'])
        return Result(seen.logits[i], logits[i], used, pictures, [n for n, m in used.items() if is_empty(m)])

    def _over(self, image, values):
        return overlay(image, values, **self.style)

    def row(self, path, stem, result):
        """The line of predictions.csv."""
        row = self.answers.row(path, stem, result.logits)
        return row if self.edit is None else row + self.answers.edited_row(result.logits, result.edited)

    def _frames(self, path):
        for image, milliseconds in frames(path):
            self.check_edit(path, image.shape[:2])
            yield image, milliseconds, network_input(image, self.config)

    def animate(self, path, out, batchsize, npy=False, progress=None):
        """Draw an animation or a video: ``<stem>_<name>.gif``, and ``<stem>_frames.csv``, a line per frame.

        Args:
            path: of the file.
            out (pathlib.Path): what the names of its files begin with, stem and all.
            batchsize (int)
            npy (bool): write the raw maps too, (frames, h, w) float32.
            progress: is called with the number of frames done and of all, None where it is not known.

        Returns:
            the first frame (H, W, 3) uint8, and a Result: logits whose probabilities are the averages over
            the frames, maps and pictures of the first frame, and which maps of any are empty.

        Raises:
            InputError: a frame is unreadable; nothing of this file is left behind.
        """
        first, sums, n, raw, empty, total = None, 0, 0, {}, set(), count(path)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(replacing(f'{out}_frames.csv', sync=False))
            text = io.TextIOWrapper(file, newline='', **ENCODING)
            table = csv.writer(text)
            table.writerow(['frame', 'milliseconds', *self.answers.columns[1:]])
            writers = {}
            for batch in batches(self._frames(path), lambda item: item[-1].shape, batchsize):
                images, times, inputs = zip(*batch, strict=True)
                for result, milliseconds in zip(self.paint(images, inputs), times, strict=True):
                    n += 1
                    if first is None:
                        first_image, first = images[0], result
                        writers = {
                            name: stack.enter_context(GifWriter(f'{out}_{name}.gif', picture.shape[:2]))
                            for name, picture in result.pictures.items()}
                    for name, writer in writers.items():
                        writer.add(result.pictures[name], milliseconds)
                        if npy:
                            raw.setdefault(name, []).append(result.maps[name])
                    empty |= set(result.empty)
                    sums = sums + numpy.stack([softmax(logits) for logits in (result.logits, result.edited)
                                               if logits is not None])
                    table.writerow([n, f'{milliseconds:.0f}',
                                    *self.row(path, out.name, result)[1:]])
                if progress:
                    progress(n, total)
            text.detach()                   # flushed; the file is closed behind the pictures
        for name, maps in raw.items():
            with replacing(f'{out}_{name}.npy', sync=False) as file:
                numpy.save(file, numpy.stack(maps).astype('f'))
        means = numpy.log(numpy.maximum(sums / n, 1e-30))
        return first_image, first._replace(logits=means[0], edited=None if self.edit is None else means[1],
                                           empty=sorted(empty))

