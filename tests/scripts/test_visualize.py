import csv

import numpy
import pytest
from helpers import write_class_folders
from PIL import Image

import chainer_abn
from chainer_abn.explain.inputs import to_batch
from chainer_abn.training import checkpoint

import chainer

CONFIG = {'arch': 'resnet8', 'variant': 'abn', 'attention': 'residual', 'in_channels': 3,
          'classes': [f'class {i}' for i in range(7)], 'image_size': [32, 32], 'resize': [32, 32],
          'mean': [0.4, 0.5, 0.6], 'std': [0.2, 0.2, 0.2]}


@pytest.fixture
def model(tmp_path):
    numpy.random.seed(0)
    checkpoint.save(tmp_path / 'net.npz', chainer_abn.build('resnet8', 7), CONFIG)
    return tmp_path / 'net.npz'


def photo(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = numpy.random.default_rng(seed).integers(0, 255, (*size[::-1], 3)).astype('u1')
    Image.fromarray(pixels).save(path)
    return path


def table(out):
    with open(out / 'predictions.csv', newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_maps_lie_over_photos_of_different_shapes(model, script, tmp_path):
    sizes = {'wide': (90, 40), 'tall': (33, 70), 'small': (20, 17), 'same': (32, 32)}
    for name, size in sizes.items():
        photo(tmp_path / f'in/{name}.png', size)
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, tmp_path / 'in', '--out', out, '--npy', '--grid')
    assert result.status == 0, result.err
    for name, size in sizes.items():
        with Image.open(out / f'{name}_attention.png') as image:
            assert image.size == size and image.mode == 'RGB'
        raw = numpy.load(out / f'{name}_attention.npy')
        assert raw.dtype == 'f' and raw.ndim == 2 and 0 <= raw.min() < raw.max() <= 1
    assert numpy.load(out / 'wide_attention.npy').shape == (16, 36)
    assert {p.name for p in out.iterdir()} == {'predictions.csv', 'grid.png'} | {
        f'{name}_attention.{suffix}' for name in sizes for suffix in ('png', 'npy')}


def test_predictions_are_those_of_the_network(model, script, tmp_path):
    path = photo(tmp_path / 'a,b "c".png', (32, 32))
    out = tmp_path / 'maps'
    assert script('visualize', '--model', model, path, '--out', out).status == 0
    net, config = chainer_abn.load(model)
    with chainer.using_config('train', False):
        logits = net(to_batch([numpy.asarray(Image.open(path))], config)).logits
    probability = chainer.functions.softmax(logits).array[0]
    row, = table(out)
    assert row['file'] == str(path) and row['stem'] == path.stem
    assert row['predicted_class'] == f'class {probability.argmax()}'
    assert float(row['probability']) == pytest.approx(probability.max(), abs=1e-4)
    top = [entry.rsplit(' ', 1) for entry in row['top5'].split('; ')]
    assert [name for name, _ in top] == [f'class {i}' for i in numpy.argsort(-probability)[:5]]


def test_equal_stems_do_not_overwrite_each_other(model, script, tmp_path):
    paths = [photo(tmp_path / name, (20, 20), i) for i, name in enumerate(
        ['one/x-2.png', 'one/x.png', 'two/x.png', 'three/x.bmp'])]
    out = tmp_path / 'maps'
    assert script('visualize', '--model', model, *paths, paths[1], '--out', out).status == 0
    rows = table(out)
    assert [row['stem'] for row in rows] == ['x-2', 'x', 'x-3', 'x-4']
    pictures = [(out / f'{row["stem"]}_attention.png').read_bytes() for row in rows]
    assert len(set(pictures)) == 4


def test_two_runs_write_the_same(model, script, tmp_path):
    photo(tmp_path / 'in/x.png', (50, 40))
    photo(tmp_path / 'in/y.png', (40, 50))
    for out in 'one', 'two':
        assert script('visualize', '--model', model, tmp_path / 'in', '--out', tmp_path / out,
                      '--grid', '--npy').status == 0
    for path in (tmp_path / 'one').iterdir():
        assert path.read_bytes() == (tmp_path / 'two' / path.name).read_bytes(), path.name


def test_alpha_and_colormap(model, script, tmp_path):
    path = photo(tmp_path / 'x.png', (32, 32))
    assert script('visualize', '--model', model, path, '--out', tmp_path / 'maps', '--alpha', 0).status == 0
    numpy.testing.assert_array_equal(
        numpy.asarray(Image.open(tmp_path / 'maps/x_attention.png')), numpy.asarray(Image.open(path)))
    assert script('visualize', '--model', model, path, '--out', tmp_path / 'maps', '--alpha', 1,
                  '--colormap', 'gray', '--interpolation', 'nearest').status == 0
    pixels = numpy.asarray(Image.open(tmp_path / 'maps/x_attention.png'))
    assert (pixels[..., 0] == pixels[..., 2]).all() and pixels.min() == 0 and pixels.max() == 255
    assert (pixels[::2, ::2] == pixels[1::2, 1::2]).all()            # 16 x 16 cells of 2 x 2


def bad_cases(tmp_path, model):
    text = tmp_path / 'text.png'
    text.write_text('hello')
    baseline = tmp_path / 'baseline.npz'
    checkpoint.save(baseline, chainer_abn.build('resnet8', 7, 'baseline'), {**CONFIG, 'variant': 'baseline'})
    foreign = tmp_path / 'foreign.npz'
    numpy.savez(foreign, w=numpy.zeros(3))
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(model.read_bytes()[:20_000])
    good = photo(tmp_path / 'good.png', (20, 20))
    (tmp_path / 'empty').mkdir()
    m = ['--model', model]
    return {
        'no input': (m, 'INPUT'),
        'no model': ([good], '--model'),
        'model missing': (['--model', tmp_path / 'gone.npz', good], 'gone.npz: No such file'),
        'model is text': (['--model', text, good], 'text.png: not an .npz file'),
        'model of another program': (['--model', foreign, good], 'foreign.npz: not a network of chainer_abn'),
        'model cut short': (['--model', cut, good], 'cut.npz: not an .npz file, or cut short'),
        'no attention': (['--model', baseline, good], 'no attention branch'),
        'input missing': ([*m, tmp_path / 'gone.png'], 'gone.png: no such file or folder'),
        'input is text': ([*m, good, text], 'text.png: not an image'),
        'empty folder': ([*m, tmp_path / 'empty'], 'empty: no image in this folder'),
        'method': ([*m, good, '--method', 'attention,magic'], '--method magic: unknown; use attention'),
        'colormap': ([*m, good, '--colormap', 'jett'], '--colormap jett'),
        'alpha': ([*m, good, '--alpha', '2'], '--alpha 2.0'),
        'interpolation': ([*m, good, '--interpolation', 'cubic'], '--interpolation'),
        'gpu': ([*m, good, '--gpu', '99'], '--gpu 99: no such GPU'),
        'unknown flag': ([*m, good, '--bogus'], '--bogus'),
    }


@pytest.mark.parametrize('case', [
    'no input', 'no model', 'model missing', 'model is text', 'model of another program',
    'model cut short', 'no attention', 'input missing', 'input is text', 'empty folder', 'method', 'colormap',
    'alpha', 'interpolation', 'gpu', 'unknown flag'])
def test_errors_are_one_line_and_write_nothing(model, script, tmp_path, case):
    arguments, message = bad_cases(tmp_path, model)[case]
    result = script('visualize', *arguments, '--out', tmp_path / 'maps')
    assert result.status == 2 and len(result.err) == 1 and message in result.err[0]
    assert not (tmp_path / 'maps').exists()


def test_out_that_cannot_be_a_folder(model, script, tmp_path):
    (tmp_path / 'file').write_text('kept')
    result = script('visualize', '--model', model, photo(tmp_path / 'x.png', (20, 20)), '--out',
                    tmp_path / 'file/maps')
    assert result.status == 2 and '--out' in result.err[0] and len(result.err) == 1
    assert (tmp_path / 'file').read_text() == 'kept'


def test_skip_bad_names_what_it_left_out(model, script, tmp_path):
    images = write_class_folders(tmp_path / 'images', 2)
    (images / 'ant/0.png').write_bytes(b'nothing')
    result = script('visualize', '--model', model, images, '--out', tmp_path / 'maps', '--skip-bad')
    assert result.status == 0 and 'ant/0.png' in result.err[0] and len(table(tmp_path / 'maps')) == 3
