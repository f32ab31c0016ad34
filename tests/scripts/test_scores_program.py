"""python -m chainer_abn.scores, on runs and networks that have hardly learnt anything."""
import csv
import json
import re
import signal
import sys
from types import SimpleNamespace

import numpy
import pytest
from helpers import save_network, write_class_folders
from PIL import Image

import chainer_abn
from chainer_abn import runtime
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.folds import digest, folds_of
from chainer_abn.errors import run_program
from chainer_abn.explain.inputs import network_input, to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.scores import THRESHOLDS, Found, pointing_hit
from chainer_abn.scores.__main__ import PROGRAM, main
from chainer_abn.scores.tally import Tally
from chainer_abn.training.run_folder import RunFolder

METHODS = ['attention', 'cam', 'grad-cam', 'grad-cam++']
BASELINES = ['centre', 'uniform']


@pytest.fixture
def scores(capsys, monkeypatch):
    """Runs the program -> status, out, err (lists of lines)."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [PROGRAM, *map(str, arguments), '--gpu', '-1'])
        capsys.readouterr()
        handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as stopped:
            run_program(main, PROGRAM)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        runtime.set_threads()
        out, err = capsys.readouterr()
        return SimpleNamespace(status=stopped.value.code or 0, out=out.splitlines(), err=err.splitlines())
    return run


def make_run(root, dataset, n_images=None, finished=(1, 2), skip_bad=None, good=None, **network):
    """A run of two folds as n_fold_train.py leaves it, without the training."""
    images = good or open_dataset(dataset, n_images=n_images, seed=1)
    folds = folds_of(images, 2, 1)
    run = RunFolder.new(root, 2)
    run.begin({
        'arguments': {'dataset': str(dataset), 'data_dir': None, 'n_images': n_images, 'kfold': 2, 'seed': 1,
                      'skip_bad': skip_bad},
        'resize': [32, 32], 'folds_digest': digest(folds, images.labels)})
    for fold in finished:
        save_network(run.best_network(fold), images.classes, seed=fold, **network)
        run.add_summary({'fold': fold, 'best_accuracy': 0.5})
    return run


@pytest.fixture
def photos(tmp_path):
    """Four photos of different sizes with boxes, the fifth without; also masks."""
    rng = numpy.random.default_rng(0)
    for folder in 'photos', 'boxes', 'masks':
        (tmp_path / folder).mkdir()
    for i, (height, width) in enumerate([(40, 32), (32, 48), (32, 48), (36, 36), (30, 30)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), 'u1')).save(tmp_path / f'photos/p{i}.png')
        if i < 4:
            (tmp_path / f'boxes/p{i}.xml').write_text(
                '<annotation><object><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>12</xmax><ymax>20</ymax>'
                '</bndbox></object></annotation>')
            mask = numpy.full((height, width), 2, 'u1')
            mask[3:22, 1:14], mask[4:20, 2:12] = 3, 1
            Image.fromarray(mask).save(tmp_path / f'masks/p{i}.png')
    save_network(tmp_path / 'net.npz')
    return tmp_path


def table(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_each_image_of_a_run_is_judged_by_the_network_that_has_not_seen_it(script, scores, tmp_path):
    run = tmp_path / 'run'
    assert script('n_fold_train', '--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 2, '-e', 1,
                  '-b', 6, '--gpu', -1, '--out', run).status == 0
    result = scores('--run', run, '--out', tmp_path / 'out')
    assert result.status == 0, result.err
    assert result.out[0].startswith('run: 24 images, the class of ')
    assert [line.split()[0] for line in result.out[2:8]] == METHODS + BASELINES
    assert sum('less centre: ' in line for line in result.out) == 4

    rows = table(tmp_path / 'out/images.csv')
    assert [row['method'] for row in rows] == (METHODS + BASELINES) * 24
    found = {(row['file'], row['method']): row for row in rows}
    files = RunFolder(run, 2)
    dataset = open_dataset('shapes', n_images=24, seed=402)
    for fold, (_, held_out) in enumerate(folds_of(dataset, 2, 402), 1):
        net, config = chainer_abn.load(files.best_network(fold))
        x = to_batch([network_input(dataset.image(i), config) for i in held_out], config)
        seen = look(net, x, METHODS)
        for b, i in enumerate(held_out):
            for method in METHODS:
                hit = float(found[dataset.name(i), method]['pointing'])
                assert hit == pointing_hit(seen.maps[method][b], dataset.masks[i], 1)
            share = float(found[dataset.name(i), 'uniform']['iou'])
            assert share == pytest.approx(dataset.masks[i].mean(), abs=1e-6)
    for row in table(tmp_path / 'out/scores.csv'):
        for name in 'pointing', 'energy', 'iou':
            mean = numpy.mean([float(one[name]) for one in rows if one['method'] == row['method']])
            assert float(row[name]) == pytest.approx(mean, abs=2e-6)
            assert float(row[f'{name}_low']) <= float(row[name]) <= float(row[f'{name}_high'])
    for name in 'scores.png', 'examples.png':
        with Image.open(tmp_path / 'out' / name) as picture:
            assert min(picture.size) > 200
    assert not (tmp_path / 'out/curves.png').exists()


def test_two_runs_of_the_program_write_the_same_files(scores, photos):
    for out in 'one', 'two':
        assert scores('--model', photos / 'net.npz', '--images', photos / 'photos', '--missing', 'skip',
                      '--masks', photos / 'masks', '--object', 1, '--void', 3, '--steps', 3, '-b', 2,
                      '--threads', 1, '--out', photos / out).status == 0
    names = sorted(path.name for path in (photos / 'one').iterdir())
    assert names == ['curves.png', 'examples.png', 'images.csv', 'scores.csv', 'scores.png']
    for name in names:
        assert (photos / 'one' / name).read_bytes() == (photos / 'two' / name).read_bytes()


def test_photos_with_boxes_and_a_photo_without(scores, photos):
    result = scores('--model', photos / 'net.npz', '--images', photos / 'photos', '--boxes', photos / 'boxes',
                    '--missing', 'skip', '--method', 'grad-cam,attention', '--steps', 2, '--tolerance', 100,
                    '--out', photos / 'out')
    assert result.status == 0, result.err
    assert result.err == ['net: left out 1 of 5 images without a box or mask, such as '
                          f'{photos}/photos/p4.png']
    assert result.out[0].startswith('net: 4 images; mean')
    rows = {row['method']: row for row in table(photos / 'out/scores.csv')}
    assert list(rows) == ['grad-cam', 'attention', *BASELINES]
    for name, row in rows.items():
        full = row['empty_maps'] == '0'
        assert float(row['pointing']) == 1 or not full              # everything is within 100 px
        assert (row['insertion'] == '') == (row['deletion'] == '') == (name == 'uniform')
    share = numpy.mean([160 / (h * w) for h, w in ((40, 32), (32, 48), (32, 48), (36, 36))])
    assert float(rows['uniform']['energy']) == pytest.approx(share, abs=1e-6)


def test_the_void_region_of_masks_is_left_out(scores, photos):
    scores('--model', photos / 'net.npz', '--images', photos / 'photos/p0.png', '--masks', photos / 'masks',
           '--object', 1, '--void', 3, '--method', 'attention', '--out', photos / 'out')
    row = table(photos / 'out/scores.csv')[-1]
    assert float(row['iou']) == pytest.approx(160 / (40 * 32 - 19 * 13 + 160), abs=1e-6)


def test_methods_are_those_that_apply(scores, photos):
    save_network(photos / 'net.npz', variant='baseline')
    given = '--model', photos / 'net.npz', '--images', photos / 'photos/p1.png', '--boxes', photos / 'boxes'
    result = scores(*given, '--out', photos / 'out')
    assert result.status == 0, result.err
    names = [row['method'] for row in table(photos / 'out/scores.csv')]
    assert 'attention' not in names and {'grad-cam', 'grad-cam++', *BASELINES} <= set(names)
    result = scores(*given, '--method', 'grad-cam,attention', '--out', photos / 'other')
    assert result.status == 2 and 'no attention branch' in result.err[-1]
    assert not (photos / 'other').exists()


def test_several_runs_stand_in_one_table(scores, tmp_path):
    make_run(tmp_path / 'a/run', 'shapes', 18)
    make_run(tmp_path / 'b/run', 'shapes', 18, finished=[2])
    make_run(tmp_path / 'plain', 'shapes', 18, variant='baseline')
    result = scores('--run', tmp_path / 'a/run', tmp_path / 'b/run', tmp_path / 'plain', '--n', 6,
                    '--out', tmp_path / 'out')
    assert result.status == 0, result.err
    assert result.err == [f'{tmp_path}/b/run: 1 of 2 folds are finished; the images of the others are left '
                          'out']
    rows = table(tmp_path / 'out/scores.csv')
    assert {row['run'] for row in rows} == {'run', 'run-2', 'plain'}
    assert {row['images'] for row in rows} == {'6'}
    images = {run: {row['file'] for row in table(tmp_path / 'out/images.csv') if row['run'] == run}
              for run in ('run', 'run-2', 'plain')}
    assert images['run'] == images['plain'] and len(images['run-2']) == 6
    assert {path.name for path in (tmp_path / 'out').glob('examples*')} == {
        'examples-run.png', 'examples-run-2.png', 'examples-plain.png'}


def test_a_run_on_a_folder_leaves_out_what_it_left_out(scores, tmp_path):
    folders = write_class_folders(tmp_path / 'images')
    good = open_dataset(folders)
    (folders / 'ant/cut.png').write_bytes((folders / 'ant/0.png').read_bytes()[:60])
    make_run(tmp_path / 'run', folders, skip_bad=True, good=good)
    (tmp_path / 'masks').mkdir()
    for i, path in enumerate(sorted(folders.glob('*/?.png'))):
        path.rename(path.with_name(f'{i:02}.png'))
        Image.fromarray(numpy.eye(40, 32, dtype='u1')).save(tmp_path / f'masks/{i:02}.png')
    result = scores('--run', tmp_path / 'run', '--masks', tmp_path / 'masks', '--method', 'attention',
                    '--out', tmp_path / 'out')
    assert result.status == 0, result.err
    assert result.out[0].startswith('run: 12 images')


def test_a_data_set_that_changed_is_refused(scores, tmp_path):
    folders = write_class_folders(tmp_path / 'images')
    make_run(tmp_path / 'run', folders)
    (folders / 'ant/0.png').unlink()
    result = scores('--run', tmp_path / 'run', '--masks', tmp_path, '--out', tmp_path / 'out')
    assert result.status == 2
    assert result.err == [f'{PROGRAM}: {tmp_path}/run: {folders} does not hold the images any more that the '
                          'run was started with']


def test_runs_that_cannot_be_judged(scores, tmp_path):
    def refusal(root):
        result = scores('--run', root, '--out', tmp_path / 'out')
        assert result.status == 2 and len(result.err) == 1 and not (tmp_path / 'out').exists()
        return result.err[0]

    assert 'no run there' in refusal(tmp_path / 'none')
    assert 'no fold is finished yet' in refusal(make_run(tmp_path / 'new', 'shapes', 18, finished=[]).root)
    folders = write_class_folders(tmp_path / 'images')
    run = make_run(tmp_path / 'folders', folders)
    assert f'it is not known where the objects of {folders} are; name --boxes' in refusal(run.root)
    folders.rename(tmp_path / 'elsewhere')
    assert 'its data set cannot be opened' in refusal(run.root)
    config = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps({**config, 'multitask': True}))
    assert 'chainer_abn.demo' in refusal(run.root)
    del config['arguments']['seed']
    run.config_file.write_text(json.dumps(config))
    assert 'not a run of this program' in refusal(run.root)


@pytest.mark.parametrize('flags, message', [
    ([], r'p4\.png: has no box or mask \(.*p4\.xml is missing\); --missing skip leaves such images out'),
    (['--images', 'PHOTOS/p4.png', '--missing', 'skip'], 'p4.png: has no box .* and no other image has one'),
    (['--images', 'PHOTOS/p0.png', 'PHOTOS/none.png'], 'none.png: no such file or folder'),
    (['--images', 'PHOTOS/p0.png', '--layer', 'nowhere'], '--layer nowhere: .* no such layer; .*stage'),
    (['--images', 'PHOTOS/p0.png', '--model', 'PHOTOS/p0.png'], 'p0.png: not an .npz file'),
    (['--method', 'attention,cam', '--layer', 'stage2'],
     r'--layer stage2: is for --method grad-cam and grad-cam\+\+'),
    (['--method', 'attention,magic'], '--method magic: unknown; use attention, cam, grad-cam'),
    (['--masks', 'PHOTOS'], '--boxes and --masks: name one of them'),
    (['--void', '3'], '--void: is for --masks'),
    (['--run', 'PHOTOS'], 'name either --run DIR or --model FILE'),
    (['--n', '0'], '--n 0: must be at least 1'),
    (['--steps', '-1'], '--steps -1: must be at least 0'),
    (['--tolerance', 'inf'], '--tolerance inf'),
    (['--seed', '-1'], '--seed -1'),
    (['-b', '0'], '--batchsize 0'),
    (['--boxes', 'PHOTOS/none'], '--boxes .*none: no such folder'),
    (['--out', 'PHOTOS/p0.png'], r'--out .*p0\.png: .* is no folder'),
])
def test_what_is_wrong_is_one_line_and_nothing_is_written(scores, photos, flags, message):
    given = ['--model', photos / 'net.npz', '--images', photos / 'photos', '--boxes', photos / 'boxes',
             '--out', photos / 'out']
    result = scores(*given, *(flag.replace('PHOTOS', str(photos / 'photos')) for flag in flags))
    assert result.status == 2 and len(result.err) == 1
    assert re.search(message, result.err[0])
    assert not (photos / 'out').exists()


def test_a_link_that_leads_nowhere_is_told_before_the_work(scores, photos, monkeypatch):
    (photos / 'link').symlink_to(photos / 'gone')
    monkeypatch.setattr('chainer_abn.scores.__main__.of_model', lambda options: pytest.fail('too late'))
    result = scores('--model', photos / 'net.npz', '--images', photos / 'photos', '--boxes', photos / 'boxes',
                    '--out', photos / 'link/out')
    assert result.status == 2 and result.err == [
        f'{PROGRAM}: --out {photos}/link/out: {photos}/link is no folder that can be written to']


def test_names_that_a_terminal_cannot_print(scores, tmp_path):
    """Bytes that are no text, and what a terminal would obey; in the charts too."""
    runs = [make_run(tmp_path / f'{name}\udcff\x1b[2J', 'shapes', 18).root for name in 'ab']
    result = scores('--run', *runs, '--n', 4, '--method', 'attention', '--steps', 1,
                    '--out', tmp_path / 'o\udcff')
    assert result.status == 0, result.err
    assert [line.split(':')[0] for line in result.out if ' 4 images' in line] == ['a??[2J', 'b??[2J']
    assert len(list((tmp_path / 'o\udcff').iterdir())) == 6 and 'o?/scores.csv' in result.out[-1]


def test_what_is_wrong_with_boxes_and_masks_is_told_before_the_work(scores, photos):
    given = ['--model', photos / 'net.npz', '--images', photos / 'photos', '--missing', 'skip',
             '--out', photos / 'out']

    def refusal(*flags):
        result = scores(*given, *flags)
        assert result.status == 2 and not (photos / 'out').exists()
        return result.err[-1]

    box = photos / 'boxes/p3.xml'
    box.write_text(box.read_text().replace('12<', '99<'))
    told = refusal('--boxes', photos / 'boxes')
    assert f'{box}: the box 3,5,99,20 lies outside its image of 36 x 36 px' in told
    masks = '--masks', photos / 'masks'
    assert '--void 3: is a value of --object too' in refusal(*masks, '--object', '1,3', '--void', '3')
    assert "--object: invalid value_list value: '256'" in refusal(*masks, '--object', '256')
    assert 'p0.png: no pixel of the object in it' in refusal(*masks, '--object', '4')
    assert 'p0.png: no pixel of the background in it; its values are 1, 2, 3 (--object' in refusal(*masks)
    Image.fromarray(numpy.ones((5, 6), 'u1')).save(photos / 'masks/p2.png')
    assert 'p2.png: has 6 x 5 px, but the image p2 has 48 x 32' in refusal(*masks, '--object', '1')
    (photos / 'more').mkdir()
    (photos / 'photos/p1.png').rename(photos / 'more/p2.png')
    result = refusal('--boxes', photos / 'boxes', '--images', photos / 'photos', photos / 'more')
    assert 'photos/p2.png and ' in result and 'would share' in result
    save_network(photos / 'net.npz', multitask=True)
    assert 'a multi-task network' in refusal(*masks, '--images', photos / 'photos/p0.png')


def test_the_best_threshold_is_one_for_all_images(monkeypatch):
    monkeypatch.setattr('chainer_abn.scores.tally.BLOCK', 2)
    rng = numpy.random.default_rng(0)
    ious = rng.random((5, 3, len(THRESHOLDS)))
    tally = Tally(5, ['cam'])
    for i in (3, 0, 4, 1, 2):
        tally.add(i, [Found((1, 2), 1.0, 0.5, one) for one in ious[i]])
    tally.finish()
    best = ious.mean(axis=0).argmax(axis=1)
    assert tally.thresholds.tolist() == THRESHOLDS[best].tolist()
    for row in range(3):
        numpy.testing.assert_allclose(tally.values[:, row, 2], ious[:, row, best[row]], rtol=1e-6)


def test_empty_maps_are_counted_and_curves_averaged():
    tally = Tally(2, ['cam', 'grad-cam'], steps=2)
    flat = numpy.zeros(len(THRESHOLDS))
    for i in range(2):
        curve = numpy.array([0, i, 1])
        tally.add(i, [Found(None if i else (0, 0), 0.0, 0.0, flat), *[Found((0, 0), 1.0, 1.0, flat)] * 2,
                      Found(None, 0.5, 0.5, flat)], [{'insertion': curve, 'deletion': 1 - curve}] * 3)
    tally.finish()
    assert tally.empty.tolist() == [1, 0, 0, 0]
    means, differences = tally.means(0)
    assert means['cam']['insertion'].value == 0.5 and means['uniform']['deletion'] is None
    assert tally.named_curves()['insertion']['centre'].tolist() == [0, 0.5, 1]
    assert differences['cam'] == (-1, -1, -1) and differences['grad-cam'] == (0, 0, 0)
