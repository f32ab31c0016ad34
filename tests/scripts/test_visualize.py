import csv
import errno
import os

import numpy
import pytest
from helpers import write_class_folders
from PIL import Image

import chainer_abn
from chainer_abn.explain.inputs import softmax, to_batch
from chainer_abn.explain.look import look
from chainer_abn.explain.overlay import overlay
from chainer_abn.explain.pictures import Painter
from chainer_abn.files import only_writer
from chainer_abn.interrupt import Terminated
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
    assert {p.name for p in out.iterdir()} == {'predictions.csv', 'settings.json', 'grid.png'} | {
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


def test_a_name_may_be_as_long_as_a_file_system_takes(model, script, tmp_path):
    paths = [photo(tmp_path / f'{letters}{end}.png', (20, 20), i) for i, (letters, end) in enumerate(
        [('x' * 240, 'a'), ('x' * 240, 'b'), ('\u732b' * 80, '')])]
    assert all(len(bytes(path.name, 'utf-8')) > 240 for path in paths)
    out = tmp_path / 'maps'
    assert script('visualize', '--model', model, *paths, '--out', out, '--npy').status == 0
    rows = table(out)
    assert [row['stem'] for row in rows] == ['x' * 120, 'x' * 120 + '-2', '\u732b' * 40]
    assert [row['file'] for row in rows] == list(map(str, paths))
    assert all((out / f'{row["stem"]}_attention.npy').exists() for row in rows)


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
    pipe = tmp_path / 'pipe.png'
    os.mkfifo(pipe)
    video = tmp_path / 'text.mp4'
    video.write_text('hello')
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
        'no attention': (['--model', baseline, good, '--method', 'attention'],
                         'no attention branch (it is a baseline or CAM variant); use grad-cam or cam'),
        'input missing': ([*m, tmp_path / 'gone.png'], 'gone.png: no such file or folder'),
        'input is text': ([*m, good, text], 'text.png: not an image'),
        'a pipe': ([*m, pipe], 'pipe.png: neither a file nor a folder'),
        'video is text': ([*m, good, video], 'text.mp4: not a video'),
        'empty folder': ([*m, tmp_path / 'empty'], 'empty: no image in this folder'),
        'method': ([*m, good, '--method', 'attention,magic'], '--method magic: unknown; use attention'),
        'colormap': ([*m, good, '--colormap', 'jett'], '--colormap jett'),
        'alpha': ([*m, good, '--alpha', '2'], '--alpha 2.0'),
        'interpolation': ([*m, good, '--interpolation', 'cubic'], '--interpolation'),
        'gpu': ([*m, good, '--gpu', '99'], '--gpu 99: no such GPU'),
        'unknown flag': ([*m, good, '--bogus'], '--bogus'),
        'cam of no GAP network': ([*m, good, '--method', 'cam,magic'], '--method magic'),
        'class': ([*m, good, '--class', 'clas 9'],
                  '--class clas 9: the network has no such class; nearest of its 7'),
        'class number': ([*m, good, '--class', '7'], '--class 7: the network has no such class'),
        'layer': ([*m, good, '--method', 'grad-cam', '--layer', 'stage'],
                  '--layer stage: the network has no such layer; nearest are '),
        'layer of attention': ([*m, good, '--layer', 'feature_extractor'],
                               '--layer feature_extractor: is for'),
        'edit of a baseline': (['--model', baseline, good, '--edit', 'centre', '--out', tmp_path / 'maps'],
                               '--edit: the network has no attention branch'),
        'edit with methods': ([*m, good, '--edit', 'centre', '--method', 'cam'], '--method cam: --edit'),
        'edit file': ([*m, good, '--edit', 'gone.png'], 'gone.png: no such file'),
        'edit box': ([*m, good, '--edit', 'box:1,2,3'], '--edit box:1,2,3: not box:x0,y0,x1,y1'),
        'mode': ([*m, good, '--mode', 'add'], '--mode add: is for --edit'),
        'nothing to resume': ([*m, good, '--resume'], '--resume: '),
    }


@pytest.mark.parametrize('case', [
    'no input', 'no model', 'model missing', 'model is text', 'model of another program',
    'model cut short', 'no attention', 'input missing', 'input is text', 'a pipe', 'video is text',
    'empty folder', 'method', 'colormap', 'alpha', 'interpolation', 'gpu', 'unknown flag',
    'cam of no GAP network', 'class',
    'class number', 'layer', 'layer of attention', 'edit of a baseline', 'edit with methods', 'edit file',
    'edit box', 'mode', 'nothing to resume'])
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


METHODS = 'attention,cam,grad-cam,grad-cam++'


def test_every_method_has_its_picture_and_raw_map(model, script, tmp_path):
    paths = [photo(tmp_path / name, (40, 32), i) for i, name in enumerate(['x.png', 'y.png'])]
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, *paths, '--out', out, '--method', METHODS, '--npy',
                    '--grid', '--class', 'class 4', '--layer', 'feature_extractor/1')
    assert result.status == 0, result.err
    net, config = chainer_abn.load(model)
    x = to_batch([numpy.asarray(Image.open(path)) for path in paths], config)
    seen = look(net, x, METHODS.split(','), 'feature_extractor/1', 4)
    probability = softmax(seen.logits)
    for i, row in enumerate(table(out)):
        assert row['class'] == 'class 4'
        assert float(row['class_probability']) == pytest.approx(probability[i, 4], abs=1e-4)
        for name in METHODS.split(','):
            raw = numpy.load(out / f'{row["stem"]}_{name}.npy')
            numpy.testing.assert_allclose(raw, seen.maps[name][i], rtol=1e-4, atol=1e-6)
            picture = numpy.asarray(Image.open(out / f'{row["stem"]}_{name}.png'))
            assert abs(picture - overlay(numpy.asarray(Image.open(paths[i])), raw).astype('i')).max() <= 1
    with Image.open(out / 'grid.png') as sheet:
        assert sheet.width == 5 * 150 + 6


def test_layers_are_listed(model, script):
    result = script('visualize', '--model', model, '--layer', 'list')
    assert result.status == 0 and 'perception_branch/stage  64 x 8 x 8' in result.out


def test_empty_maps_are_said(script, tmp_path):
    net = chainer_abn.build('resnet8', 7)
    net.perception_branch.fc.W.array[...] = 0
    checkpoint.save(tmp_path / 'net.npz', net, CONFIG)
    paths = [photo(tmp_path / name, (32, 32)) for name in ('x.png', 'y.png')]
    result = script('visualize', '--model', tmp_path / 'net.npz', *paths, '--out', tmp_path / 'maps',
                    '--method', 'attention,grad-cam')
    assert result.status == 0
    assert result.err == ['grad-cam: 2 maps are empty (one value all over, or not finite) and drawn as '
                          f'nothing, such as of {paths[0]}']
    drawn = Image.open(tmp_path / 'maps/x_grad-cam.png')
    numpy.testing.assert_array_equal(numpy.asarray(drawn), numpy.asarray(Image.open(paths[0])))


def test_a_cut_run_goes_on_and_ends_as_a_whole_one(model, script, tmp_path):
    for i in range(7):
        photo(tmp_path / f'in/{"ab"[i % 2]}/x{i}.png', (32, 32), i)
    (tmp_path / 'in/b/x3.png').write_bytes(b'no image')
    flags = '--model', model, tmp_path / 'in', '--batchsize', 2, '--skip-bad', '--grid', '--method', 'cam'
    assert script('visualize', *flags, '--out', tmp_path / 'whole').status == 0
    cut = tmp_path / 'cut'
    assert script('visualize', *flags, '--out', cut).status == 0
    lines = (cut / 'predictions.csv').read_bytes().splitlines(keepends=True)
    (cut / 'predictions.csv').write_bytes(b''.join(lines[:4]) + lines[4][:9])
    kept = [row['stem'] for row in csv.DictReader(line.decode() for line in lines[:4])]
    for path in cut.glob('*_cam.png'):
        if path.stem.removesuffix('_cam') not in kept:
            path.unlink()
        else:
            path.write_bytes(b'drawn before')
    (cut / 'grid.png').unlink()
    result = script('visualize', *flags, '--out', cut, '--resume')
    assert result.status == 0 and '6 images (3 of them drawn before)' in result.out[-1]
    for path in (tmp_path / 'whole').iterdir():
        before = path.stem.removesuffix('_cam') in kept
        assert (cut / path.name).read_bytes() == (b'drawn before' if before else path.read_bytes()), path.name


@pytest.mark.parametrize('change, message', [
    (['--alpha', '0.3'], 'were made with another alpha'),
    (['--method', 'grad-cam'], 'were made with another method'),
    (['--class', '3'], 'were made with another class'),
])
def test_other_settings_are_not_mixed_in(model, script, tmp_path, change, message):
    photo(tmp_path / 'in/x.png', (32, 32))
    flags = '--model', model, tmp_path / 'in', '--out', tmp_path / 'maps'
    assert script('visualize', *flags).status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / 'maps').iterdir()}
    result = script('visualize', *flags, *change, '--resume')
    assert result.status == 2 and message in result.err[0] and len(result.err) == 1
    (tmp_path / 'in/x.png').rename(tmp_path / 'in/z.png')
    result = script('visualize', *flags, '--resume')
    assert result.status == 2 and 'x.png, which is not among the inputs' in result.err[0]
    assert before == {path.name: path.read_bytes() for path in (tmp_path / 'maps').iterdir()}


def test_what_is_written_is_never_read(model, script, tmp_path):
    photo(tmp_path / 'in/x.png', (32, 32))
    flags = '--model', model, tmp_path / 'in', '--out'
    for _ in range(2):
        assert script('visualize', *flags, tmp_path / 'in/maps').status == 0
        assert [row['stem'] for row in table(tmp_path / 'in/maps')] == ['x']
    result = script('visualize', *flags, tmp_path / 'in')
    assert result.status == 2 and 'is one of the folders to read' in result.err[0]
    assert sorted(path.name for path in (tmp_path / 'in').iterdir()) == ['maps', 'x.png']


def animation(path, n=5, size=(40, 32)):
    frames = [Image.fromarray(numpy.random.default_rng(i).integers(0, 255, (*size[::-1], 3)).astype('u1'))
              for i in range(n)]
    path.parent.mkdir(exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[50, 120, 90, 40, 200][:n], loop=0,
                   lossless=True)
    return frames


def test_an_animation_is_drawn_frame_by_frame(model, script, tmp_path):
    frames = animation(tmp_path / 'in/clip.webp')
    photo(tmp_path / 'in/photo.png', (40, 32))
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, tmp_path / 'in', '--out', out, '--method',
                    'attention,grad-cam', '--npy', '--batchsize', 2, '--grid')
    assert result.status == 0, result.err
    assert {path.name for path in out.iterdir()} == {
        'predictions.csv', 'settings.json', 'grid.png', 'clip_frames.csv',
        *(f'clip_{m}.{s}' for m in ('attention', 'grad-cam') for s in ('gif', 'npy')),
        *(f'photo_{m}.{s}' for m in ('attention', 'grad-cam') for s in ('png', 'npy'))}
    net, config = chainer_abn.load(model)
    seen = look(net, to_batch([numpy.asarray(frame) for frame in frames], config), ['attention'])
    numpy.testing.assert_allclose(numpy.load(out / 'clip_attention.npy'), seen.maps['attention'], rtol=1e-5)
    with Image.open(out / 'clip_attention.gif') as gif:
        assert gif.n_frames == 5 and gif.size == (40, 32) and gif.info['loop'] == 0
        times = []
        for i in range(5):
            gif.seek(i)
            times.append(gif.info['duration'])
            expected = overlay(numpy.asarray(frames[i]), seen.maps['attention'][i])
            assert abs(numpy.asarray(gif.convert('RGB')).astype('i') - expected).mean() < 20    # 256 colours
        assert times == [50, 120, 90, 40, 200]
    with open(out / 'clip_frames.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['frame'] for row in rows] == list('12345') and rows[1]['milliseconds'] == '120'
    mean = softmax(seen.logits).mean(axis=0)
    assert table(out)[0]['predicted_class'] == f'class {mean.argmax()}'
    assert float(table(out)[0]['probability']) == pytest.approx(mean.max(), abs=2e-4)


def test_an_unreadable_frame_is_named_and_nothing_of_the_file_stays(model, script, tmp_path):
    animation(tmp_path / 'clip.gif')
    whole = (tmp_path / 'clip.gif').read_bytes()
    (tmp_path / 'clip.gif').write_bytes(whole[:len(whole) * 3 // 4])
    good = photo(tmp_path / 'a.png', (32, 32))
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, good, tmp_path / 'clip.gif', '--out', out)
    assert result.status == 2 and len(result.err) == 1 and 'clip.gif, frame 4: unreadable' in result.err[0]
    assert {path.name for path in out.iterdir()} == {'a_attention.png', 'predictions.csv', 'settings.json'}
    result = script('visualize', '--model', model, good, tmp_path / 'clip.gif', '--out', out, '--resume',
                    '--skip-bad')
    assert result.status == 0 and 'frame 4' in result.err[0] and len(table(out)) == 1


def test_an_edited_map_is_shown_with_what_it_does(model, script, tmp_path):
    paths = [photo(tmp_path / f'{name}.png', (40, 32), i) for i, name in enumerate('xyz')]
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, *paths, '--out', out, '--edit', 'box:4,0,20,32', '--mode',
                    'multiply', '--npy', '--grid')
    assert result.status == 0, result.err
    net, config = chainer_abn.load(model)
    x = to_batch([numpy.asarray(Image.open(path)) for path in paths], config)
    inside = numpy.zeros((16, 20), 'f')
    inside[:, 2:10] = 1
    with chainer.using_config('train', False), chainer.no_backprop_mode():
        _, before, own = net(x)
        g = net.feature_extractor(x)
        after = net.perception_branch(g * (1 + own.array * inside))
    n_changed = (before.array.argmax(axis=1) != after.array.argmax(axis=1)).sum()
    assert result.out[0] == f'the edited map changed what is said of {n_changed} of 3 images'
    before, after = softmax(before.array), softmax(after.array)
    for i, row in enumerate(table(out)):
        best = before[i].argmax()
        assert row['predicted_class'] == f'class {best}'
        assert row['edited_class'] == f'class {after[i].argmax()}'
        assert float(row['edited_probability']) == pytest.approx(after[i].max(), abs=1e-4)
        assert float(row['predicted_class_edited_probability']) == pytest.approx(after[i, best], abs=1e-4)
        used = numpy.load(out / f'{row["stem"]}_edit.npy')
        numpy.testing.assert_allclose(used, own.array[i, 0] * inside, rtol=1e-5)
        with Image.open(out / f'{row["stem"]}_edit.png') as picture:
            assert picture.width == 2 * 240 + 6           # six times as large, side by side


def test_a_box_that_is_not_in_an_image_is_told_with_the_image(model, script, tmp_path):
    good, small = photo(tmp_path / 'good.png', (40, 40)), photo(tmp_path / 'small.png', (20, 20))
    flags = '--model', model, good, small, '--out', tmp_path / 'maps', '--edit', 'box:5,5,30,30'
    result = script('visualize', *flags)
    assert result.status == 2 and len(result.err) == 1
    assert 'small.png: --edit box:5,5,30,30: empty, or not inside the image, which has' in result.err[0]
    assert script('visualize', *flags, '--skip-bad').status == 0
    assert [row['stem'] for row in table(tmp_path / 'maps')] == ['good']


def test_a_box_that_is_not_in_an_animation_is_told_with_its_file(model, script, tmp_path):
    frames = [Image.new('RGB', (20, 20), colour) for colour in ('red', 'blue')]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    result = script('visualize', '--model', model, tmp_path / 'moving.gif', '--out', tmp_path / 'maps',
                    '--edit', 'box:5,5,30,30')
    assert result.status == 2 and len(result.err) == 1
    assert 'moving.gif: --edit box:5,5,30,30: empty, or not inside the image' in result.err[0]


def test_a_network_without_attention_shows_grad_cam(script, tmp_path):
    net = chainer_abn.build('resnet8', 7, 'baseline')
    checkpoint.save(tmp_path / 'net.npz', net, {**CONFIG, 'variant': 'baseline'})
    path = photo(tmp_path / 'x.png', (32, 32))
    assert script('visualize', '--model', tmp_path / 'net.npz', path, '--out', tmp_path / 'maps').status == 0
    assert (tmp_path / 'maps/x_grad-cam.png').exists()


@pytest.mark.parametrize('batchsize', [2, 3])
def test_none_is_lost_where_the_sheet_is_full_in_a_batch(model, script, tmp_path, batchsize, monkeypatch):
    monkeypatch.setattr('chainer_abn.explain.sheet.LIMIT', 4)
    for i in range(11):
        photo(tmp_path / f'in/x{i:02d}.png', (32, 32), i)
    flags = '--model', model, tmp_path / 'in', '--out', tmp_path / 'maps', '--grid', '--batchsize'
    assert script('visualize', *flags, 2).status == 0
    table_path = tmp_path / 'maps/predictions.csv'
    whole, sheet = table_path.read_bytes(), (tmp_path / 'maps/grid.png').read_bytes()
    for n in range(11):
        table_path.write_bytes(b''.join(whole.splitlines(keepends=True)[:1 + n]))
        result = script('visualize', *flags, batchsize, '--resume')
        assert result.status == 0 and 'grid.png shows the first 4 images' in result.err[-1]
        assert table_path.read_bytes() == whole and (tmp_path / 'maps/grid.png').read_bytes() == sheet


def test_a_file_that_was_mended_is_drawn_later(model, script, tmp_path):
    for i in range(3):
        photo(tmp_path / f'in/x{i}.png', (32, 32), i)
    (tmp_path / 'in/x1.png').write_bytes(b'no image')
    flags = '--model', model, tmp_path / 'in', '--out', tmp_path / 'maps', '--skip-bad'
    assert script('visualize', *flags).status == 0
    photo(tmp_path / 'in/x1.png', (32, 32), 1)
    for n_before in 2, 3:
        result = script('visualize', *flags, '--resume')
        assert result.status == 0 and f'3 images ({n_before} of them drawn before)' in result.out[-1]
        assert sorted(row['stem'] for row in table(tmp_path / 'maps')) == ['x0', 'x1', 'x2']


def test_another_picture_in_the_file_of_the_edit_is_another_setting(model, script, tmp_path):
    edit = photo(tmp_path / 'edit.png', (8, 8))
    flags = '--model', model, photo(tmp_path / 'x.png', (32, 32)), '--out', tmp_path / 'maps', '--edit', edit
    assert script('visualize', *flags).status == 0
    photo(edit, (8, 8), 1)
    result = script('visualize', *flags, '--resume')
    assert result.status == 2 and 'were made with another edit' in result.err[0]


def test_names_may_hold_what_they_like(model, script, tmp_path):
    names = ['a\nb.png', 'c\rd.png', 'e"f,g.png', '{h}.png', os.fsdecode(b'i\xff.png'), 'é.png']
    for i, name in enumerate(names):
        photo(tmp_path / 'in' / name, (32, 32), i)
    flags = '--model', model, tmp_path / 'in', '--out', tmp_path / 'maps', '--grid', '--edit', 'centre'
    assert script('visualize', *flags).status == 0
    path = tmp_path / 'maps/predictions.csv'
    whole = path.read_bytes()
    for cut in 0, 5, len(whole.rstrip()) - 1, len(whole) - len(whole.splitlines()[-1]) + 60:
        path.write_bytes(whole[:cut])
        assert script('visualize', *flags, '--resume').status == 0
        assert path.read_bytes() == whole
    with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        assert {row['stem'] + '.png' for row in csv.DictReader(file)} == set(names)


def test_a_full_disk_is_told_and_what_is_whole_stays(model, script, tmp_path, monkeypatch):
    paths = [photo(tmp_path / f'{name}.png', (32, 32), i) for i, name in enumerate('abc')]
    flags = '--model', model, *paths, '--out', tmp_path / 'maps', '--batchsize', 1
    save = Image.Image.save

    def fails(image, file, *more, **options):
        file.write(b'half')
        if file.name.endswith('b_attention.png.part'):
            raise OSError(errno.ENOSPC, 'No space left on device')
        file.seek(0)
        save(image, file, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, 'save', fails)
        result = script('visualize', *flags)
    assert result.status == 2 and len(result.err) == 1
    assert f'--out {tmp_path / "maps"}: No space left on device' in result.err[0]
    assert sorted(p.name for p in (tmp_path / 'maps').iterdir()) == [
        'a_attention.png', 'predictions.csv', 'settings.json']
    result = script('visualize', *flags, '--resume')
    assert result.status == 0 and '3 images (1 of them drawn before)' in result.out[-1]


def test_pipes_in_folders_are_no_images_and_bad_files_can_be_named(model, script, tmp_path):
    photo(tmp_path / 'in/x.png', (32, 32))
    os.mkfifo(tmp_path / 'in/p.png')
    (tmp_path / 'bad.png').write_bytes(b'no image')
    result = script('visualize', '--model', model, tmp_path / 'in', f'{tmp_path}/in/', tmp_path / 'bad.png',
                    '--out', tmp_path / 'maps', '--skip-bad')
    assert result.status == 0 and [row['stem'] for row in table(tmp_path / 'maps')] == ['x']
    assert 'left out 1 files that are no images' in result.err[0] and 'bad.png: not an image' in result.err[1]


def test_an_edit_that_is_one_value_is_said(model, script, tmp_path):
    path = photo(tmp_path / 'x.png', (32, 32))
    result = script('visualize', '--model', model, path, '--out', tmp_path / 'maps', '--edit',
                    'box:0,0,32,32')
    assert result.status == 0 and result.err[0].startswith('edit: 1 map is empty')


@pytest.mark.parametrize('stop, status, word', [(KeyboardInterrupt, 130, 'interrupted'),
                                                (Terminated, 143, 'terminated')])
def test_an_interrupted_run_says_how_to_go_on(model, script, tmp_path, monkeypatch, stop, status, word):
    paths = [photo(tmp_path / f'{name}.png', (32, 32), i) for i, name in enumerate('abc')]
    flags = '--model', model, *paths, '--out', tmp_path / 'maps', '--batchsize', 1
    paint = Painter.paint

    def paint_one(painter, *arguments):
        if (tmp_path / 'maps/a_attention.png').exists():
            raise stop
        return paint(painter, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Painter, 'paint', paint_one)
        result = script('visualize', *flags)
    assert result.status == status
    assert result.err == [f'visualize.py: {word}; the same command with --resume goes on']
    assert [row['stem'] for row in table(tmp_path / 'maps')] == ['a']
    assert script('visualize', *flags, '--resume').status == 0
    assert [row['stem'] for row in table(tmp_path / 'maps')] == ['a', 'b', 'c']


def test_images_of_more_pixels_than_allowed(model, script, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
    photo(tmp_path / 'in/large.png', (30, 20))
    photo(tmp_path / 'in/small.png', (20, 20))
    flags = '--model', model, tmp_path / 'in', '--out', tmp_path / 'maps', '--max-pixels'
    result = script('visualize', *flags, 599)
    assert result.status == 2 and len(result.err) == 1
    assert 'large.png: claims to have 30 x 20 = 600 pixels' in result.err[0]
    assert '--max-pixels N' in result.err[0]
    assert script('visualize', *flags, 600).status == 0
    assert (tmp_path / 'maps/large_attention.png').exists()
    assert script('visualize', *flags, 0).err == ['visualize.py: --max-pixels 0: must be at least 1']


@pytest.mark.parametrize('more', [[], ['--resume']])
def test_another_process_that_writes_there_is_not_disturbed(model, script, tmp_path, more):
    flags = '--model', model, photo(tmp_path / 'in.png', (20, 20)), '--out', tmp_path / 'maps'
    assert script('visualize', *flags).status == 0
    with open(tmp_path / 'maps/predictions.csv', 'a') as file:
        file.write('half a li')
    before = {path.name: path.read_bytes() for path in (tmp_path / 'maps').iterdir()}
    with only_writer(tmp_path / 'maps'):
        result = script('visualize', *flags, *more)
    assert result.status == 2 and result.err == [
        f'visualize.py: {tmp_path / "maps"}: another process is writing there']
    assert {path.name: path.read_bytes() for path in (tmp_path / 'maps').iterdir()} == before
    assert script('visualize', *flags, *more).status == 0
    assert len(table(tmp_path / 'maps')) == 1


@pytest.mark.parametrize('name, content', [
    ('predictions.csv', 'file,stem,' + 'x' * 200_000 + '\n'), ('settings.json', '[' * 100_000)])
def test_a_damaged_record_is_told(model, script, tmp_path, name, content):
    flags = '--model', model, photo(tmp_path / 'in.png', (20, 20)), '--out', tmp_path / 'maps'
    assert script('visualize', *flags).status == 0
    (tmp_path / 'maps' / name).write_text(content)
    result = script('visualize', *flags, '--resume')
    assert result.status == 2 and len(result.err) == 1 and name in result.err[0]


@pytest.mark.parametrize('name', ['predictions.csv', 'settings.json'])
def test_no_table_is_written_where_a_link_leads(model, script, tmp_path, name):
    link, kept = tmp_path / 'maps' / name, tmp_path / 'kept'
    kept.write_text('mine')
    link.parent.mkdir()
    link.symlink_to(kept)
    result = script('visualize', '--model', model, photo(tmp_path / 'in.png', (20, 20)), '--out', link.parent)
    assert result.status == 2 and result.err[0].startswith(f'visualize.py: --out {link}: a link')
    assert kept.read_text() == 'mine' and os.listdir(link.parent) == [name]


@pytest.mark.parametrize('make, said', [(os.mkdir, 'Is a directory'), (os.mkfifo, 'is no file')])
def test_a_record_that_is_no_file_is_told(model, script, tmp_path, make, said):
    flags = '--model', model, photo(tmp_path / 'in.png', (20, 20)), '--out', tmp_path / 'maps'
    assert script('visualize', *flags).status == 0
    record = tmp_path / 'maps/predictions.csv'
    record.unlink()
    make(record)
    result = script('visualize', *flags, '--resume')
    assert result.status == 2 and result.err == [f'visualize.py: {record}: {said}']
