"""The report of small runs, read as a page."""
import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys

import numpy
import pytest
from helpers import ROOT, write_class_folders
from page_parser import Page
from PIL import Image

from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.transforms import CenterCrop, resize_to_cover
from chainer_abn.errors import InputError
from chainer_abn.report import refresh, write_report
from chainer_abn.report.__main__ import main
from chainer_abn.training.run_folder import RunFolder

import chainer

CLASSES = '<script>alert(1)<', 'b&amp;ee', 'cat "c"'
TINY = '-a', 'resnet8', '-e', 2, '-b', 4, '-g', -1, '--threads', 1


def train(*arguments):
    result = subprocess.run([sys.executable, ROOT / 'n_fold_train.py', *map(str, [*TINY, *arguments])],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Class folders whose names would be markup."""
    root = write_class_folders(tmp_path_factory.mktemp('data') / 'images', 8, CLASSES)
    (root / 'b&amp;ee/0.png').rename(root / 'b&amp;ee/"><img src=x onerror=y>.png')
    return root


@pytest.fixture(scope='module')
def finished(images, tmp_path_factory):
    """The folder of a finished run of two folds, and what it printed."""
    run = tmp_path_factory.mktemp('runs') / 'finished'
    return run, train('--dataset', images, '--image-size', 32, '-k', 2, '--out', run)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy that may be changed."""
    return RunFolder(shutil.copytree(finished[0], tmp_path / 'copy'), 2)


@pytest.fixture
def program(monkeypatch, capsys):
    """python -m chainer_abn.report -> what it prints."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['report', *map(str, arguments)])
        capsys.readouterr()
        main()
        return capsys.readouterr().out
    return run


def rewritten(run, images):
    write_report(run, None if images is None else open_dataset(str(images)))
    return Page(run.report).check()


def table_of(run, fold):
    with open(run / f'matrix/{fold}-fold_predictions.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_the_page_of_a_finished_run(finished, images):
    run, result = finished
    assert str(run / 'report.html') in result.stdout and 'report' not in result.stderr
    page = Page(run / 'report.html').check()
    assert f'resnet8 abn (residual) on {images}' in page.text
    assert '2 of 2 folds finished' in page.text and 'Missing' not in page.text
    assert not any(meta.get('http-equiv') == 'refresh' for meta in page.all('meta'))
    summary = json.loads((run / 'summary.json').read_text())
    _, *rows, mean = page.tables['Accuracy and loss of held-out images']
    for row, told in zip(summary['folds'], rows, strict=True):
        assert told == [str(row['fold']), str(row['best_epoch']), f'{row["best_accuracy"]:.2%}',
                        f'{row["last_accuracy"]:.2%}', f'{row["loss"]:.4f}',
                        f'{row["images_per_second"]:.1f}']
    best = f'{summary["mean_accuracy"]:.2%} ± {summary["std_accuracy"]:.2%}'
    assert mean[2] == best and best in [text for path, text in page.texts if path.endswith('dd')]
    arguments = dict(page.tables['Arguments'][1:])
    assert arguments['batchsize'] == '4' and arguments['image_size'] == '32, 32'
    # curves, confusion matrices of each and of both folds, image and map of each card
    n_cards = sum(map(len, page.cards.values()))
    assert len(page.pictures('svg+xml')) == 3 and len(page.pictures('png')) == 2 + 2 * n_cards


def test_names_are_text_wherever_they_stand(finished):
    page = Page(finished[0] / 'report.html')
    assert '<script' not in page.source and 'onerror=y>' not in page.source.replace('onerror=y&gt;', '')
    found = [name for name in CLASSES if any(name in text for _, text in page.texts)]
    assert found == list(CLASSES)
    assert 'b&amp;amp;ee' in page.source


def test_confusions_are_those_of_the_matrices(finished):
    page = Page(finished[0] / 'report.html')
    counts = sum(numpy.load(finished[0] / f'matrix/{fold}-fold_heatmap.npy') for fold in (1, 2))
    rows = page.tables['Most frequent confusions'][1:]
    wrong = {(CLASSES[t], CLASSES[p]): counts[t, p] for t in range(3) for p in range(3)
             if t != p and counts[t, p]}
    assert {(truth, taken): int(n) for truth, taken, n, _ in rows} == wrong
    assert [int(n) for *_, n, _ in rows] == sorted(wrong.values(), reverse=True)
    for truth, _, n, share in rows:
        assert share == f'{int(n) / counts[CLASSES.index(truth)].sum():.1%}'
    alt, = (image['alt'] for image in page.all('img') if image['alt'].startswith('Confusion matrix, 2 folds'))
    assert f'{numpy.trace(counts)} of 24 images are right' in alt


def test_the_errors_are_the_most_confident_ones(finished):
    page = Page(finished[0] / 'report.html')
    for fold in 1, 2:
        rows = table_of(finished[0], fold)
        wrong = sorted((row for row in rows if row['true_class'] != row['predicted_class']),
                       key=lambda row: -float(row['probability']))[:9]
        expected = [f'✗ wrong: {row["predicted_class"]} ({float(row["probability"]):.1%})\n'
                    f'truth: {row["true_class"]} ({float(row["true_probability"]):.1%})\n'
                    + '/'.join(row['file'].rsplit('/', 2)[1:]) for row in wrong]
        told = page.cards.get(f'Fold {fold}/Most confident errors', [])
        assert [caption.strip() for caption in told] == expected
        by_chance = page.cards[f'Fold {fold}/Chosen at random']
        shown = [caption.splitlines()[-1] for caption in by_chance]
        assert len(set(shown)) == 9 and set(shown) <= {'/'.join(r['file'].rsplit('/', 2)[1:]) for r in rows}


def test_pictures_are_what_the_network_saw(finished, images):
    """Pixel for pixel, shown five times as large; the map beside it is another picture."""
    page = Page(finished[0] / 'report.html')
    dataset = open_dataset(str(images))
    shown = {image['alt'].removesuffix(', as the network saw it'): (image, picture)
             for image, picture in page.pictures('png') if image['alt'].endswith('as the network saw it')}
    assert shown
    for i in range(len(dataset)):
        name = '/'.join(dataset.name(i).split('/')[-2:])
        if name in shown:
            image, picture = shown[name]
            assert (image['width'], image['height'], image['class']) == ('160', '160', 'enlarged')
            expected = CenterCrop([32, 32])([resize_to_cover(dataset.image(i), [37, 37])])[0]
            numpy.testing.assert_array_equal(numpy.asarray(Image.open(io.BytesIO(picture))), expected)
    maps = [image['alt'] for image in page.all('img') if 'under its attention map' in image['alt']]
    assert len(maps) == sum(map(len, page.cards.values()))
    assert all('highest' in alt for alt in maps)


def test_the_same_page_again_by_the_program_and_the_run_is_left_alone(finished, program):
    run = finished[0]
    before = {path: path.read_bytes() for path in run.rglob('*') if path.is_file()}
    assert program(run) == f'written: {run}/report.html\n'
    assert {path: path.read_bytes() for path in run.rglob('*') if path.is_file()} == before


def test_nothing_global_is_changed(copy, images):
    numpy.random.seed(3)
    random.seed(3)
    before = numpy.random.get_state(), random.getstate(), chainer.config.train, chainer.config.enable_backprop
    rewritten(copy, images)
    after = numpy.random.get_state(), random.getstate(), chainer.config.train, chainer.config.enable_backprop
    assert repr(before) == repr(after)


def unfinish(run, fold):
    """Make a run one that was cut in a fold."""
    summary = json.loads(run.summary_file.read_text())
    summary['folds'] = [row for row in summary['folds'] if row['fold'] != fold]
    run.summary_file.write_text(json.dumps(summary))
    log = json.loads(run.log(fold).read_text())
    run.log(fold).write_text(json.dumps(log[:1]))


def test_a_run_that_is_going_on_says_so_and_is_loaded_again(copy, images):
    unfinish(copy, 2)
    page = rewritten(copy, images)
    assert '1 of 2 folds finished; still going, or cut: go on with' in page.text
    assert f'python n_fold_train.py --resume {copy.root}' in page.text
    assert [meta['content'] for meta in page.all('meta') if meta.get('http-equiv') == 'refresh'] == ['60']
    _, first, second, _ = page.tables['Accuracy and loss of held-out images']
    log, = json.loads(copy.log(2).read_text())
    assert second == ['2', f'epoch 1 of 2; best accuracy so far {log["validation/main/accuracy"]:.2%}']
    assert first[0] == '1' and len(first) == 6
    assert not any('Fold 2/' in heading for heading in page.cards)
    assert 'Fold 2, not finished' in page.text


def test_a_run_without_a_finished_fold(copy, images):
    copy.summary_file.unlink()
    copy.log(2).unlink()
    copy.error('fold 2').write_text('Traceback')
    page = rewritten(copy, images)
    assert '0 of 2 folds finished' in page.text and 'not begun' in page.text
    assert 'Fold 2 failed' in page.text and str(copy.error('fold 2')) in page.text
    assert [a['href'] for a in page.all('a')] == ['#folds', '#curves', '#settings']


def test_what_is_missing_or_damaged_is_told(copy, images):
    copy.predictions(1).unlink()
    (copy.root / 'matrix/2-fold_heatmap.npy').write_bytes(b'nothing')
    copy.log(1).write_text('[')
    copy.best_network(2).unlink()
    page = rewritten(copy, images)
    for path in (copy.predictions(1), copy.root / 'matrix/2-fold_heatmap.npy', copy.log(1),
                 copy.best_network(2)):
        assert str(path) in page.text
    assert 'Without maps' in page.text and {heading[:6] for heading in page.cards} == {'Fold 2'}
    assert not any('attention map' in image['alt'] for image in page.all('img'))
    assert any('as the network saw it' in image['alt'] for image in page.all('img'))


@pytest.mark.parametrize('make', [os.mkfifo, lambda path: os.symlink('/dev/zero', path)])
def test_what_is_no_file_is_not_waited_for(copy, images, make):
    told = [copy.predictions(1), copy.log(1), copy.best_network(2), copy.root / 'matrix/1-fold_heatmap.npy']
    for path in *told, copy.root / 'matrix/1-fold_heatmap.png':
        path.unlink()
        make(path)
    page = rewritten(copy, images)
    assert all(str(path) in page.text for path in told)


def test_an_image_that_has_vanished_costs_its_picture_only(copy, images, tmp_path):
    other = shutil.copytree(images, tmp_path / 'images')
    gone = other / 'cat "c"/3.png'
    gone.unlink()
    for fold in 1, 2:                       # as if the run had been on these
        path = copy.predictions(fold)
        path.write_text(path.read_text().replace(str(images), str(other)))
    page = rewritten(copy, other)
    assert 'it is not in the data set any more' in page.text
    assert len([image for image in page.all('img') if 'attention map' in image['alt']]) \
        == sum(map(len, page.cards.values())) - page.text.count('not in the data set any more')


def test_without_its_data_set(copy, program):
    config = json.loads(copy.config_file.read_text())
    config['arguments']['dataset'] = str(copy.root / 'gone')
    copy.config_file.write_text(json.dumps(config))
    assert program(copy.root).startswith(f'without images: --dataset {copy.root}/gone: no such folder')
    page = Page(copy.report).check()
    assert 'Without pictures: --dataset' in page.text and page.cards
    assert not any('as the network saw it' in image['alt'] for image in page.all('img'))


@pytest.mark.parametrize('log', [[1], [], {}, [{'main/loss': 1}], [{'epoch': 1, 'main/loss': 'low'}]])
def test_a_log_that_is_none_is_told(copy, images, log):
    copy.log(1).write_text(json.dumps(log))
    assert f'Missing: {copy.log(1)}: damaged' in rewritten(copy, images).text


@pytest.mark.parametrize('summary', [[], {}, {'folds': {}}, {'folds': [1]}, {'folds': [{'fold': 1}]},
                                     {'folds': [{'fold': 1, 'best_accuracy': 0.5, 'loss': 'low'}]}])
def test_a_summary_that_is_none_is_refused(copy, program, summary):
    copy.summary_file.write_text(json.dumps(summary))
    with pytest.raises(InputError, match=f'{copy.summary_file}: damaged'):
        program(copy.root)


def test_what_a_config_has_to_tell(copy, program):
    config = json.loads(copy.config_file.read_text())
    for name in 'device', 'command', 'versions':
        del config[name]
    copy.config_file.write_text(json.dumps(config))
    program(copy.root)
    assert Page(copy.report).check().cards
    del config['classes'], config['arguments']['dataset']
    copy.config_file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r'config\.json: damaged \(it does not tell classes, dataset\)'):
        program(copy.root)


@pytest.mark.parametrize('index', [10 ** 6, -10 ** 6])
def test_an_index_beyond_the_data_set_is_found_by_name(copy, images, index):
    n_cards = len(Page(copy.report).pictures('png'))
    path = copy.predictions(1)
    header, *lines = path.read_text().splitlines()
    path.write_text('\n'.join([header, *(f'{index},{line.split(",", 1)[1]}' for line in lines)]) + '\n')
    assert len(rewritten(copy, images).pictures('png')) == n_cards


def test_a_report_that_cannot_be_written_is_one_line(copy, images, capsys):
    copy.report.unlink()
    copy.report.mkdir()
    refresh(copy, open_dataset(str(images)))
    out, err = capsys.readouterr()
    assert out == '' and len(err.splitlines()) == 1
    assert err.startswith(f'{copy.report} is not written: IsADirectoryError: ')
    copy.summary_file.write_text('{')
    lines = []
    refresh(copy, None, lines.append)
    assert len(lines) == 1 and f'{copy.summary_file}: unreadable' in lines[0]
    assert not list(copy.root.glob('*.part'))


@pytest.fixture(scope='module')
def faces(tmp_path_factory):
    run = tmp_path_factory.mktemp('runs') / 'faces'
    train('--dataset', 'faces', '--n-images', 16, '-k', 2, '--folds', 2, '-e', 1, '--out', run)
    return run


def test_several_tasks(faces):
    page = Page(faces / 'report.html').check()
    assert '1 of 1 fold finished (of the 2 that there are)' in page.text
    counts = numpy.load(faces / 'matrix/2-fold_heatmap.npy')
    told = {row[0]: row[1:] for row in page.tables['Hardest tasks'][1:]}
    answers = {}
    for t, name in enumerate(('Eyeglasses', 'Smiling')):
        right = (counts[t, 0, 0] + counts[t, 1, 1]) / 8
        numbers = counts[t, 1].sum(), counts[t, 1, 0], counts[t, 0, 1]
        assert told[name] == [f'{right:.2%}', *map(str, numbers)]
        for row in table_of(faces, 2):
            yes, truth = float(row[f'{name}_probability']), int(row[name])
            if (yes > 0.5) != truth:
                answers[f'✗ wrong: {name}: {"yes" if yes > 0.5 else "no"} ({max(yes, 1 - yes):.1%})\n'
                        f'truth: {"yes" if truth else "no"}\n{row["file"]}'] = max(yes, 1 - yes)
    cards = [caption.strip() for caption in page.cards['Fold 2/Most confident errors']]
    assert cards == sorted(answers, key=answers.get, reverse=True)[:9]
    assert any('under its attention map of Smiling' in image['alt'] for image in page.all('img'))


def test_a_network_without_a_map_and_the_own_split(tmp_path, script):
    run = tmp_path / 'run'
    result = script('n_fold_train', '--dataset', 'shapes', '--n-images', 12, *TINY, '-e', 1, '-k', 0,
                    '--variant', 'baseline', '--out', run)
    assert result.status == 0 and result.err == []
    page = Page(run / 'report.html').check()
    assert '1 of 1 fold finished' in page.text and 'of the' not in page.text.split('finished')[1][:8]
    assert 'grad-cam map' in page.text and 'resnet8 baseline on shapes' in page.text
    assert any('under its grad-cam map' in image['alt'] for image in page.all('img'))
