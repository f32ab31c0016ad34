"""What TensorBoard shows of a fold: each epoch's log entry, and where the network looks by then.

Of tensorboardX, which writes the event files, an installation may have none: import this where it is used.
"""
import time

import numpy
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import image, scalar, text

from chainer_abn.explain import usual_method
from chainer_abn.explain.inputs import to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.sheet import Sheet

from chainer.training import extension

IMAGES = 8
TASKS = 4                       # of a multi-task network, whose maps are drawn
NO_SCALARS = 'epoch', 'iteration', 'elapsed_time'       # of a log entry: TensorBoard has its own axes


def spread(indices):
    """A few of a fold's validation images: evenly spaced, since the images of a class often lie together."""
    return indices[numpy.linspace(0, len(indices) - 1, min(IMAGES, len(indices))).round().astype(int)]


class TensorBoard(extension.Extension):
    """Writes scalars and a sheet of maps at every epoch, and the settings once.

    Steps are epochs. A resumed run goes on in a file of its own, which begins by telling readers to forget
    what was written of the epochs that it does again. The extension has no state.

    Args:
        folder (Path): of the event files.
        examples (Examples): the images of the sheet.
        config (dict): of the fold's network files.
        settings (dict): what is told as text.
    """

    trigger = 1, 'epoch'
    # after LogReport and before Snapshot: what the snapshot has seen is in the file
    priority = -50
    name = 'TensorBoard'

    def __init__(self, folder, examples, config, settings):
        self.folder, self.examples, self.config, self.settings = folder, examples, config, settings
        self.writer = None

    def initialize(self, trainer):
        epoch = trainer.updater.epoch
        self.images, self.labels = self.examples.batch(numpy.arange(len(self.examples)))
        self.folder.mkdir(parents=True, exist_ok=True)
        # SummaryWriter has a thread and a queue: what is in it is lost if the process is killed, and
        # workers are forked beside it. A file is named by the second; the epoch keeps two of one apart.
        self.writer = EventsWriter(str(self.folder / 'events'), f'.{epoch:06}')
        self.write(epoch + 1 if epoch else 0, session_log=SessionLog(status=SessionLog.START))
        if epoch == 0:
            # indented: Markdown's way to leave it as it is
            lines = (f'    {name}: {value}' for name, value in self.settings.items())
            self.write(0, summary=text('settings', '\n'.join(lines)))
        self.writer.flush()

    def __call__(self, trainer):
        epoch = trainer.updater.epoch
        for name, value in trainer.get_extension('LogReport').log[-1].items():
            if name not in NO_SCALARS:
                self.write(epoch, summary=scalar(name, value))
        sheet = self.sheet(trainer.updater.get_optimizer('main').target.network)
        self.write(epoch, summary=image('maps', numpy.asarray(sheet), dataformats='HWC'))
        self.writer.flush()

    def finalize(self):
        if self.writer:
            self.writer.close()

    def write(self, step, **content):
        self.writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def sheet(self, network):
        """The images, each beside its map by the usual method, as a PIL image."""
        method, classes = usual_method(network), self.config['classes']
        seen = look(network, network.device.send(to_batch(self.images, self.config)), [method])
        maps = seen.maps[method]
        maps, titles = (maps[:, :TASKS], classes[:TASKS]) if network.multitask else (maps[:, None], [method])
        sheet = Sheet(['image', *titles])
        for picture, row, truth, answer in zip(self.images, maps, self.labels, seen.logits.argmax(axis=-1),
                                             strict=True):
            sheet.add([picture, *(overlay(picture, values) for values in row)],
                      f'{in_words(truth, classes)}, seen as {in_words(answer, classes)}')
        return sheet.draw()


def in_words(label, classes):
    """The name of a class; of several tasks, (T,) int, those that are present."""
    if label.ndim == 0:
        return classes[label]
    return ' '.join(classes[i] for i in numpy.flatnonzero(label)) or 'none'
