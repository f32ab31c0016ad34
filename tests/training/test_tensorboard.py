"""What --tensorboard writes, read back from the event files."""
import io
import json
import struct
import subprocess
import sys

import numpy
import pytest
from helpers import ROOT
from PIL import Image
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

import chainer_abn
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import k_folds
from chainer_abn.explain.inputs import to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.sheet import Sheet
from chainer_abn.training.extensions import TimedUpdater
from chainer_abn.training.snapshot import Snapshot
from chainer_abn.training.tensorboard import TensorBoard, spread

TINY = ('--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 2, '-e', 3, '-b', 4, '--threads', 1)


def events_of(file):
    """The events of a file: records of length, checksum of it, content and checksum of that."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        length, = struct.unpack_from('<Q', data, at)
        content = data[at + 12:at + 12 + length]
        for part, checksum in (data[at:at + 8], at + 8), (content, at + 12 + length):
            assert struct.unpack_from('<I', data, checksum)[0] == masked_crc32c(part)
        yield event_pb2.Event.FromString(content)
        at += 16 + length


def written(folder):
    """All values of a folder as (tag, step, value), the files in their order; starts have the tag None."""
    for file in sorted(folder.iterdir()):
        for event in events_of(file):
            if event.session_log.status == event_pb2.SessionLog.START:
                yield None, event.step, None
            for value in event.summary.value:
                yield value.tag, event.step, value


def seen(folder):
    """(tag, step) -> value, as TensorBoard has them: a start drops what there is from its step on."""
    found = {}
    for tag, step, value in written(folder):
        if tag is None:
            found = {key: old for key, old in found.items() if key[1] < step}
        else:
            assert (tag, step) not in found
            found[tag, step] = value
    return found


def log(run, fold):
    entries = json.loads((run / f'log/2-{fold}_fold_log.json').read_text())
    return [{name: value for name, value in entry.items() if name != 'elapsed_time'} for entry in entries]


def results(run):
    files = {p.name: p.read_bytes() for folder in ('snap', 'model') for p in (run / folder).iterdir()}
    return files, log(run, 1)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A finished run, whose folds were trained by two processes."""
    out = tmp_path_factory.mktemp('runs') / 'whole'
    arguments = [sys.executable, ROOT / 'n_fold_train.py', *map(str, TINY), '--gpu', '-1,-1', '--tensorboard',
                 '--out', out]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return out


@pytest.mark.parametrize('fold', [1, 2])
def test_scalars_are_those_of_the_log(whole, fold):
    expected = {(name, entry['epoch']): numpy.float32(value) for entry in log(whole, fold)
                for name, value in entry.items() if name not in ('epoch', 'iteration')}
    found = {key: value.simple_value for key, value in seen(whole / f'tensorboard/fold-{fold}').items()
             if value.HasField('simple_value')}
    assert found == expected
    assert {'lr', 'main/attention_loss', 'validation/main/accuracy'} < {tag for tag, _ in found}


def test_settings_are_there_once(whole):
    (key, value), = ((key, value) for key, value in seen(whole / 'tensorboard/fold-1').items()
                     if value.HasField('tensor'))
    assert key == ('settings/text_summary', 0) and value.metadata.plugin_data.plugin_name == 'text'
    lines = value.tensor.string_val[0].decode().split('\n')
    assert {'    arch: resnet8', '    epoch: 3', '    tensorboard: True'} < set(lines)


@pytest.mark.parametrize('fold', [1, 2])
def test_the_last_sheet_shows_the_maps_of_the_last_network(whole, fold):
    shapes = open_dataset('shapes', n_images=24, seed=402)
    chosen = list(k_folds(shapes.labels, shapes.classes, 2, 402))[fold - 1][1][[0, 2, 3, 5, 6, 8, 9, 11]]
    net, config = chainer_abn.load(whole / f'model/2-{fold}_fold.npz')
    images = shapes.images[chosen]
    logits, maps = look(net, to_batch(images, config), ['attention'])
    sheet = Sheet(['image', 'attention'])
    for i, image in enumerate(images):
        truth, answer = shapes.classes[shapes.labels[chosen][i]], shapes.classes[logits[i].argmax()]
        sheet.add([image, overlay(image, maps['attention'][i])], f'{truth}, seen as {answer}')
    found = seen(whole / f'tensorboard/fold-{fold}')
    pictures = [numpy.asarray(Image.open(io.BytesIO(found['maps', epoch].image.encoded_image_string)))
                for epoch in (1, 2, 3)]
    numpy.testing.assert_array_equal(pictures[2], sheet.draw())
    assert not any(numpy.array_equal(picture, pictures[2]) for picture in pictures[:2])


@pytest.mark.parametrize('flags', [
    ('-a', 'wrn-10-1', '--dropout', 0.3, '--workers', 1),
    ('--dtype', 'mixed16', '--variant', 'baseline', '--image-size', 16, '-e', 2)], ids=['dropout', 'mixed16'])
def test_the_networks_are_the_same_with_it_and_without(script, tmp_path, flags):
    arguments = *TINY, '-g', -1, '--folds', 1, *flags
    assert script('n_fold_train', *arguments, '--out', tmp_path / 'without').status == 0
    assert script('n_fold_train', *arguments, '--tensorboard', '--out', tmp_path / 'with').status == 0
    assert results(tmp_path / 'with') == results(tmp_path / 'without')
    assert not (tmp_path / 'without/tensorboard').exists()
    assert ('maps', 2) in seen(tmp_path / 'with/tensorboard/fold-1')


@pytest.mark.parametrize('kind, method, calls, shown', [
    (TimedUpdater, 'update', 2, 0), (TimedUpdater, 'update', 5, 1), (Snapshot, 'save', 0, 1),
    (Snapshot, 'save', 1, 2)], ids=['epoch 1', 'epoch 2', 'end of epoch 1', 'end of epoch 2'])
def test_a_resumed_run_shows_all_once(whole, script, tmp_path, monkeypatch, kind, method, calls, shown):
    """Also one that was cut after an epoch was written and before the snapshot was."""
    real, counter, run = getattr(kind, method), iter(range(100)), tmp_path / 'run'

    def interrupted(*arguments):
        if next(counter) == calls:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(kind, method, interrupted)
    arguments = *TINY, '-g', -1, '--folds', 1, '--tensorboard'
    assert script('n_fold_train', *arguments, '--out', run).status == 130
    assert max(step for _, step in seen(run / 'tensorboard/fold-1')) == shown
    monkeypatch.setattr(kind, method, real)
    assert script('n_fold_train', '--resume', run).status == 0
    found, expected = (seen(out / 'tensorboard/fold-1') for out in (run, whole))
    # but for the settings, of which --gpu and --folds differ
    text = 'settings/text_summary', 0
    assert found.pop(text).tag == expected.pop(text).tag
    assert found == expected


def test_a_missing_package_is_told_before_anything_is_done(script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)
    result = script('n_fold_train', *TINY, '--tensorboard', '--out', tmp_path / 'run')
    assert result.status == 2 and result.out == []
    assert result.err == ['n_fold_train.py: --tensorboard: needs tensorboardX: pip install tensorboardX']
    assert list(tmp_path.iterdir()) == []


def test_of_several_tasks_the_first_maps_are_drawn():
    classes = ['big', 'red', 'round', 'old', 'wet']
    net = chainer_abn.build('resnet8', 5, attention='multiply', multitask=True)
    config = {'classes': classes, 'mean': [0.5] * 3, 'std': [0.2] * 3}
    board = TensorBoard(None, None, config, {})
    board.images = numpy.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), 'u1')
    board.labels = numpy.array([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    logits, maps = look(net, to_batch(board.images, config), ['attention'])
    sheet = Sheet(['image', *classes[:4]])
    for i, truth in enumerate(['big round wet', 'none']):
        answer = ' '.join(name for name, (no, yes) in zip(classes, logits[i], strict=True) if yes > no)
        image, first = board.images[i], maps['attention'][i, :4]
        sheet.add([image, *(overlay(image, values) for values in first)],
                  f'{truth}, seen as {answer or "none"}')
    numpy.testing.assert_array_equal(board.sheet(net), sheet.draw())


def test_the_images_are_spread_over_the_fold():
    assert spread(numpy.arange(100, 200)).tolist() == [100, 114, 128, 142, 157, 171, 185, 199]
    assert spread(numpy.array([5, 3])).tolist() == [5, 3]
