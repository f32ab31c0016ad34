"""visualize.py with multi-task networks."""
import csv

import numpy
import pytest
from PIL import Image
from test_visualize import CONFIG, photo, table

import chainer_abn
from chainer_abn.explain.answers import LONGEST, Attributes, safe_names
from chainer_abn.explain.inputs import to_batch
from chainer_abn.explain.look import look
from chainer_abn.training import checkpoint

TASKS = ['Smiling', 'Male', 'Wearing_Hat']


def write_model(path, classes=TASKS, **options):
    numpy.random.seed(0)
    net = chainer_abn.build('resnet8', len(classes), multitask=True, **options)
    checkpoint.save(path, net, {**CONFIG, 'classes': classes, 'multitask': True, **options})
    return path


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / 'net.npz', attention='multiply')


def test_a_picture_of_each_named_attribute(model, script, tmp_path):
    photo(tmp_path / 'in/wide.png', (90, 40))
    photo(tmp_path / 'in/small.png', (20, 17))
    out = tmp_path / 'maps'
    result = script('visualize', '--model', model, tmp_path / 'in', '--out', out,
                    '--attributes', 'Wearing_Hat,Smiling,Smiling', '--npy', '--grid')
    assert result.status == 0, result.err
    assert {p.name for p in out.iterdir()} == {'predictions.csv', 'settings.json', 'grid.png'} | {
        f'{stem}_attention-{name}.{suffix}' for stem in ('wide', 'small')
        for name in ('Smiling', 'Wearing_Hat') for suffix in ('png', 'npy')}
    with Image.open(out / 'wide_attention-Smiling.png') as picture:
        assert picture.size == (90, 40) and picture.mode == 'RGB'
    # image, Wearing_Hat and Smiling stand beside each other
    with Image.open(out / 'grid.png') as sheet:
        assert sheet.width == 3 * 150 + 6


def test_maps_and_probabilities_are_those_of_the_network(model, script, tmp_path):
    path = photo(tmp_path / 'x.png', (32, 32))
    out = tmp_path / 'maps'
    assert script('visualize', '--model', model, path, '--out', out, '--npy').status == 0
    net, config = chainer_abn.load(model)
    seen = look(net, to_batch([numpy.asarray(Image.open(path))], config), ['attention'])
    maps, logits = seen.maps['attention'], seen.logits
    assert maps.shape == (1, 3, 16, 16) and logits.shape == (1, 3, 2)
    row, = table(out)
    assert list(row) == ['file', 'stem', *TASKS] and row['file'] == str(path) and row['stem'] == 'x'
    for t, name in enumerate(TASKS):
        numpy.testing.assert_allclose(numpy.load(out / f'x_attention-{name}.npy'), maps[0, t], rtol=1e-5)
        no, yes = numpy.exp(logits[0, t].astype('d'))
        assert float(row[name]) == pytest.approx(yes / (no + yes), abs=1e-4)


def test_the_caption_names_what_is_there():
    answers = Attributes(TASKS)
    logits = numpy.array([[0, 1], [1, 0], [0, 2]])
    assert answers.caption('x', logits) == 'Smiling, Wearing_Hat (x)'
    assert answers.caption('x', logits[:, ::-1] * [[1], [-1], [1]]) == 'none (x)'


def test_names_of_attributes_stay_in_the_folder(script, tmp_path):
    names = ['../../up', '/etc/x', 'a b', 'a/b', 'A_B', '..', 'é', 'x' * 300, 'nul\0']
    found = safe_names(names)
    assert found[2:7] == ['a_b', 'a_b-2', 'A_B-3', '..', 'é'] and len(found[7]) == LONGEST
    assert not any('/' in name or '\0' in name for name in found)
    model = write_model(tmp_path / 'net.npz', names)
    out = tmp_path / 'one/maps'
    path = photo(tmp_path / 'x.png', (20, 20))
    assert script('visualize', '--model', model, path, '--out', out).status == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ['predictions.csv', 'settings.json', *(f'x_attention-{name}.png' for name in found)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['net.npz', 'one', 'x.png']
    with open(out / 'predictions.csv', newline='', encoding='utf-8') as file:
        assert next(csv.reader(file))[2:] == names


@pytest.mark.parametrize('case, message', [
    ('unknown', '--attributes Smilling: the network has no such attribute; nearest are Smiling'),
    ('empty', "--attributes '': empty"),
    ('classes', '--attributes Smiling: the network tells classes, it is no multi-task network'),
    ('baseline', 'cam: a multi-task network has a linear layer for each task; use grad-cam')])
def test_errors_are_one_line_and_write_nothing(model, script, tmp_path, case, message):
    arguments = ['--attributes', {'unknown': 'Male,Smilling', 'empty': ''}.get(case, 'Smiling')]
    if case == 'classes':
        model = tmp_path / 'classes.npz'
        checkpoint.save(model, chainer_abn.build('resnet8', 7), CONFIG)
    elif case == 'baseline':
        model = write_model(tmp_path / 'baseline.npz', variant='baseline')
        arguments += ['--method', 'grad-cam,cam']
    result = script('visualize', '--model', model, photo(tmp_path / 'x.png', (20, 20)), *arguments,
                    '--out', tmp_path / 'maps')
    assert result.status == 2 and len(result.err) == 1 and message in result.err[0]
    assert not (tmp_path / 'maps').exists()
