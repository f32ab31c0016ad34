"""What happens around the iterations: validation, reports, keeping the best network."""
import json
import time

import numpy

from chainer_abn.errors import InputError
from chainer_abn.progress import Progress
from chainer_abn.training import checkpoint, confusion, predictions
from chainer_abn.training.run_folder import is_number

import chainer
from chainer.training import extension, extensions


class TimedUpdater(chainer.training.StandardUpdater):
    """Counts the images it trained on and the seconds that took, validation left out.

    Args:
        iterator, converter, device: as Chainer's updater takes them.
        step: of the training, see :func:`chainer_abn.training.step.make_step`.

    Attributes:
        images (int)
        seconds (float): for them.
        waiting (float): seconds of these that passed before the images were there.
    """

    images = 0
    seconds = waiting = 0.0

    def __init__(self, iterator, step, converter, device):
        super().__init__(iterator, step.optimizer, converter, device)
        self.step = step

    def update(self):
        started = time.perf_counter()
        super().update()
        if self.is_new_epoch and self.input_device.xp is not numpy:
            # the steps are queued; what has been measured so far is how long that took
            self.input_device.xp.cuda.Device().synchronize()
        self.seconds += time.perf_counter() - started
        self.images += self.get_iterator('main').batch_size

    def update_core(self):
        started = time.perf_counter()
        iterator, optimizer = self.get_iterator('main'), self.get_optimizer('main')
        x, t = self.converter(iterator.next(), self.input_device)
        self.waiting += time.perf_counter() - started
        self.step(x, t)
        if iterator.is_new_epoch:
            optimizer.new_epoch(auto=True)

    def serialize(self, serializer):
        super().serialize(serializer)
        scale, overflowed = self.step.loss_scaling
        self.step.loss_scaling = (float(serializer('loss_scale', scale)),
                                  bool(serializer('overflowed', overflowed)))
        self.images = int(serializer('images', self.images))
        self.seconds = float(serializer('seconds', self.seconds))
        self.waiting = float(serializer('waiting', self.waiting))


class Validation(extensions.Evaluator):
    """Chainer's evaluator with means over images, not over batches (the last one is smaller).

    Attributes:
        truth, predicted: (n,) int arrays of the last evaluation, of several tasks (n, T).
        probabilities: (n, 2) float32, of the predicted and the true class; of several tasks (n, T), of yes.
    """

    def evaluate(self):
        iterator, classifier = self.get_iterator('main'), self.get_target('main')
        iterator.reset()
        summary = chainer.reporter.DictSummary()
        truth, predicted, probabilities = [], [], []
        with Progress('validation', len(iterator.dataset), 'images') as progress:
            for batch in iterator:
                x, t = self.converter(batch, self.device)
                observation = {}
                with chainer.reporter.report_scope(observation), chainer.no_backprop_mode():
                    classifier(x, t)
                summary.add({name: (value, len(t)) for name, value in observation.items()})
                truth.append(chainer.cuda.to_cpu(t))
                predicted.append(chainer.cuda.to_cpu(classifier.logits.argmax(axis=-1)))
                probabilities.append(predictions.probabilities_of(
                    chainer.cuda.to_cpu(classifier.logits), truth[-1], predicted[-1]))
                progress.update(sum(map(len, truth)))
        self.truth, self.predicted, self.probabilities = map(
            numpy.concatenate, (truth, predicted, probabilities))
        return summary.compute_mean()


class KeepBest(extension.Extension):
    """Saves network, confusion matrix and predictions whenever the validation accuracy is a new best.

    Of equal epochs the first is kept. Its ``attributes`` are the accuracies of each task, where there are
    several.

    Args:
        validation (Validation)
        run (RunFolder)
        fold (int)
        config (dict): for the network's file.
        held_out (Subset): the validation images.
    """

    trigger = 1, 'epoch'
    priority = extension.PRIORITY_READER
    name = 'KeepBest'

    def __init__(self, validation, run, fold, config, held_out):
        self.validation, self.run, self.fold, self.config = validation, run, fold, config
        self.held_out = held_out
        self.accuracy, self.epoch, self.attributes = -1.0, 0, None

    def initialize(self, trainer):
        if self.epoch:
            # of an epoch after the snapshot, perhaps, to which a run with other settings never comes again
            try:
                kept = checkpoint.load(self.run.best_network(self.fold))[1].get('epoch', self.epoch)
            except InputError:          # it was removed
                kept = None
            if kept != self.epoch:
                if trainer.updater.epoch_detail >= trainer.stop_trigger.period:
                    raise InputError(f'fold {self.fold}: the network of its best epoch {self.epoch} is there '
                                     f'no more; remove {self.run.snapshot(self.fold, "*")} to train it anew')
                self.accuracy = -1.0

    def __call__(self, trainer):
        accuracy = float(trainer.observation['validation/main/accuracy'])
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, trainer.updater.epoch
            network = trainer.updater.get_optimizer('main').target.network
            checkpoint.save(self.run.best_network(self.fold), network, {**self.config, 'epoch': self.epoch})
            found, classes = (self.validation.truth, self.validation.predicted), self.config['classes']
            confusion.save(self.run.matrix(self.fold), *found, classes)
            names = [self.held_out.name(i) for i in range(len(self.held_out))]
            predictions.write(self.run.predictions(self.fold), predictions.Predictions(
                self.held_out.indices, names, *found, self.validation.probabilities), classes)
            if self.config['multitask']:
                self.attributes = confusion.attribute_accuracies(*found, classes)

    def serialize(self, serializer):
        self.accuracy = float(serializer('accuracy', self.accuracy))
        self.epoch = int(serializer('epoch', self.epoch))
        self.attributes = json.loads(str(serializer('attributes', json.dumps(self.attributes))))


class ProgressLine(extension.Extension):
    """One line: epoch, share, images per second, time left."""

    trigger = 1, 'iteration'
    # before validation, which has a line of its own
    priority = extension.PRIORITY_WRITER + 1
    name = 'ProgressLine'

    def __init__(self, title, epochs, n_images):
        self.title, self.epochs, self.n_images = title, epochs, n_images
        self.line = None

    def initialize(self, trainer):
        self.line = Progress(self.title, self.epochs, 'images', self.n_images)

    def __call__(self, trainer):
        updater = trainer.updater
        self.line.update(updater.epoch_detail, f'  epoch {updater.epoch + 1}/{self.epochs}')
        if updater.is_new_epoch:
            self.line.clear()

    def finalize(self):
        if self.line:
            self.line.clear()


class WithoutEscapes:
    """A stream for Chainer's PrintReport, which erases the terminal below each line it prints."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        self.stream.write(text.replace('\033[J', ''))

    def flush(self):
        self.stream.flush()


class Plot(extensions.PlotReport):
    """Chainer's, which forgets when it has drawn last, and what it has seen of an epoch that is cut."""

    def serialize(self, serializer):
        super().serialize(serializer)
        self._trigger.serialize(serializer['_trigger'])
        self._summary.serialize(serializer['_summary'])

    def is_sound(self):
        """Whether what is to be drawn are points of the terms' curves."""
        return (isinstance(self._data, dict) and self._data.keys() == set(self._y_keys) and all(
            isinstance(curve, list) and all(isinstance(point, list) and len(point) == 2
                                            and all(map(is_number, point)) for point in curve)
            for curve in self._data.values()))
