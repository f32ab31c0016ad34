"""What happens around the iterations: validation, reports, keeping the best network."""
import json
import time

import numpy

from chainer_abn import interrupt
from chainer_abn.errors import Diverged
from chainer_abn.progress import Progress
from chainer_abn.training import checkpoint, confusion, predictions

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

    def __call__(self, trainer):
        accuracy = float(trainer.observation['validation/main/accuracy'])
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, trainer.updater.epoch
            network = trainer.updater.get_optimizer('main').target.network
            checkpoint.save(self.run.best_network(self.fold), network, self.config)
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


class LookForDivergence(extension.Extension):
    """Ends a training whose loss is not a finite number any more.

    On the CPU that is at the iteration where it happens. On a GPU nothing waits for the losses: they are
    looked at every ``EVERY`` iterations, and before anything is made of an epoch; the iteration that is named
    is the one where it happened.

    Args:
        run (RunFolder)
        fold (int)
    """

    trigger = 1, 'iteration'
    priority = extension.PRIORITY_WRITER + 2    # before validation
    name = 'LookForDivergence'
    EVERY = 50

    def __init__(self, run, fold):
        self.run, self.fold = run, fold
        self.first = None                       # on a GPU: where it happened, 0 as long as it did not
        self.rates = {}                         # of the iterations since it was last looked

    def __call__(self, trainer):
        """Raises Diverged."""
        updater, loss = trainer.updater, trainer.observation['main/loss']
        loss, now = getattr(loss, 'array', loss), updater.iteration
        self.rates[now] = updater.get_optimizer('main').lr
        if isinstance(loss, chainer.backends.cuda.ndarray):
            if self.first is None:
                self.first = chainer.backends.cuda.cupy.zeros((), 'i8')
            _note_divergence()(loss, now, self.first, size=1)
            if now % self.EVERY and not updater.is_new_epoch and not interrupt.pending():
                return
            at = int(self.first)
        else:
            at = 0 if numpy.isfinite(loss) else now
        if at:
            raise Diverged(self.message(updater, at))
        self.rates.clear()

    def message(self, updater, at):
        iterator, snapshots = updater.get_iterator('main'), self.run.snapshots(self.fold)
        epoch = (at - 1) * iterator.batch_size // len(iterator.dataset)
        return (f'fold {self.fold}: the loss is not a finite number any more at iteration {at} (epoch '
                f'{epoch + 1}) with learning rate {self.rates[at]:g}; '
                + (f'the last good snapshot is {snapshots[0]}' if snapshots else
                   'there is no good snapshot yet'))


def _note_divergence():
    return chainer.backends.cuda.elementwise(
        'raw T loss, int64 now', 'raw int64 first',
        'if (first[0] == 0 && !isfinite((float)loss[0])) first[0] = now', 'abn_note_divergence')


class Snapshot(extension.Extension):
    """Saves the state of the training, so that a cut run goes on as if it had not been cut.

    Each ``every`` epochs, after the last one, and when a signal asks the training to end, which it does
    then. The last two are kept.

    Args:
        run (RunFolder)
        fold (int)
        every (int): epochs.
        epochs (int): of the training.
    """

    trigger = 1, 'iteration'
    priority = -100             # after everything that has a state
    name = 'Snapshot'
    KEPT = 2

    def __init__(self, run, fold, every, epochs):
        self.run, self.fold, self.every, self.epochs = run, fold, every, epochs

    def __call__(self, trainer):
        updater = trainer.updater
        due = updater.is_new_epoch and (updater.epoch % self.every == 0 or updater.epoch == self.epochs)
        if due or interrupt.pending():
            self.save(trainer)
        interrupt.check()

    def save(self, trainer):
        state = chainer.serializers.DictionarySerializer()
        trainer.serialize(state)
        checkpoint.write_npz(self.run.snapshot(self.fold, trainer.updater.iteration), state.target)
        for old in self.run.snapshots(self.fold)[self.KEPT:]:
            old.unlink()
