"""Small files in the official layout of CompCars, its web-nature part."""
import shutil

import numpy
import pytest
import scipy.io
from PIL import Image

from chainer_abn.datasets.compcars import CompCars
from chainer_abn.errors import InputError

TRAIN = ['9/10/2012/a1.jpg', '9/2/2013/a2.jpg', '1/3/unknown/a3.jpg', '9/10/2013/a4.jpg', '12/4/2010/a5.jpg']
TEST = ['1/3/2011/b1.jpg', '9/10/2012/b2.jpg']
SIZE = 12, 8                                            # width, height


def picture(file):
    """Noise that is another for every image."""
    return numpy.random.default_rng(list(file.encode())).integers(0, 256, (SIZE[1], SIZE[0], 3)).astype('u1')


def write_rows(path, rows, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(''.join(row + end for row in rows).encode())


def write_list(data, part, rows, end='\n'):
    write_rows(data / f'train_test_split/classification/{part}.txt', rows, end)


def write_names(data, makes, models):
    """The two columns of cells; None is an empty cell."""
    def cells(names):
        column = numpy.empty((len(names), 1), 'O')
        column[:, 0] = [numpy.zeros((0, 0)) if name is None else name for name in names]
        return column
    (data / 'misc').mkdir(exist_ok=True)
    scipy.io.savemat(data / 'misc/make_model_name.mat',
                     {'make_names': cells(makes), 'model_names': cells(models)})


@pytest.fixture
def data(tmp_path):
    """Of maker 9 the models 2 and 10, of 1 the model 3, of 12 the model 4."""
    data = tmp_path / 'compcars/data'
    for file in TRAIN + TEST:
        path = data / 'image' / file
        path.parent.mkdir(parents=True, exist_ok=True)
        # lossless, to compare pixels; images are known by their content
        Image.fromarray(picture(file)).save(path, 'PNG')
        write_rows((data / 'label' / file).with_suffix('.txt'), ['-1', '1', '3 2 10 7'])
    write_list(data, 'train', TRAIN)
    write_list(data, 'test', TEST)
    write_names(data, ['Audi', *[None] * 7, 'BMW ', None, None, 'Fiat'],
                [None, 'BMW X5', 'A4L', '500', *[None] * 5, 'Z4'])
    return data


def message(data, **arguments):
    with pytest.raises(InputError) as caught:
        CompCars(data, **{'with_split': True, **arguments})
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_models_are_in_the_order_of_their_numbers(data):
    dataset = CompCars(data)
    assert dataset.classes == ('BMW BMW X5', 'Audi A4L', 'Fiat 500', 'BMW Z4')        # 2, 3, 4, 10
    assert dataset.labels.tolist() == [3, 0, 1, 3, 2] and dataset.labels.dtype == 'i'
    assert dataset.split is None and len(dataset) == 5
    assert [dataset.name(i) for i in range(5)] == [str(data / 'image' / file) for file in TRAIN]
    numpy.testing.assert_array_equal(dataset.image(2), picture(TRAIN[2]))


def test_makers_are_in_the_order_of_their_numbers(data):
    dataset = CompCars(data, task='maker')
    assert dataset.classes == ('Audi', 'BMW', 'Fiat') and dataset.labels.tolist() == [1, 1, 0, 1, 2]


@pytest.mark.parametrize('task, labels', [('model', [1, 3]), ('maker', [0, 1])])
def test_the_folder_above_and_the_split(data, task, labels):
    dataset = CompCars(str(data.parent), with_split=True, task=task)
    train, test = dataset.split
    assert train.tolist() == [0, 1, 2, 3, 4] and dataset.labels[test].tolist() == labels
    assert [dataset.name(i) for i in test] == [str(data / 'image' / file) for file in TEST]
    assert dataset.classes == CompCars(data, task=task).classes


def test_names_that_are_equal_get_their_numbers_and_those_unknown_are_numbers(data):
    write_names(data, ['Audi', *[None] * 10, 'Fiat'], [None, 'Z4', None, '500', *[None] * 5, 'Z4'])
    assert CompCars(data).classes == ('Z4 (2)', '3', 'Fiat 500', 'Z4 (10)')
    assert CompCars(data, task='maker').classes == ('Audi', '9', 'Fiat')
    shutil.rmtree(data / 'misc')
    assert CompCars(data).classes == ('2', '3', '4', '10')
    assert CompCars(data, task='maker').classes == ('1', '9', '12')


def test_boxes_are_cropped_inclusive_from_one(data):
    write_rows(data / 'label/9/2/2013/a2.txt', ['4', '1', '1 1 12 8'])
    write_rows(data / 'label/1/3/unknown/a3.txt', ['4', '1', '12 8 12 8'], end='\r\n')
    dataset = CompCars(data, boxes=True)
    for cover in None, (2, 2):
        numpy.testing.assert_array_equal(dataset.image(0, cover), picture(TRAIN[0])[1:7, 2:10])
        numpy.testing.assert_array_equal(dataset.image(1, cover), picture(TRAIN[1]))
        numpy.testing.assert_array_equal(dataset.image(2, cover), picture(TRAIN[2])[7:, 11:])


@pytest.mark.parametrize('rows, text', [
    (['1', '1', '3 2 13 7'], 'a1.txt, row 3: the box 3 2 13 7 is empty or not inside the image, which has'),
    (['1', '1', '3 2 10 9'], 'a1.txt, row 3: the box 3 2 10 9 is empty or not inside'),
    (['1', '1', '0 2 10 7'], 'a1.txt, row 3: the box 0 2 10 7 is'),
    (['1', '1', '3 0 10 7'], 'a1.txt, row 3: the box 3 0 10 7 is'),
    (['1', '1', '5 2 4 7'], 'a1.txt, row 3: the box 5 2 4 7 is empty'),
    (['1', '1', '5 -2 4 7'], 'a1.txt, row 3: the box 5 -2 4 7 is empty'),
    (['1', '1', '3 2 10'], "a1.txt, row 3: '3 2 10' is no box x1 y1 x2 y2"),
    (['1', '1', '3 2 10 7.5'], "a1.txt, row 3: '3 2 10 7.5' is no box"),
    (['1', '2', '3 2 10 7', '1 1 2 2'], 'a1.txt: not the three rows of one car'),
    (['1', '2', '3 2 10 7'], 'a1.txt: not the three rows of one car'),
    (['1', '0'], 'a1.txt: not the three rows of one car'),
    ([], 'a1.txt: the list is empty'),
    (None, 'a1.txt: no such file; it is had from http')])
def test_a_broken_box_is_named_when_its_image_is_read(data, rows, text):
    path = data / 'label/9/10/2012/a1.txt'
    path.unlink()
    if rows is not None:
        write_rows(path, rows)
    CompCars(data).image(0)
    dataset = CompCars(data, boxes=True)
    with pytest.raises(InputError) as caught:
        dataset.image(0)
    assert str(caught.value).startswith(str(data)) and text in str(caught.value)
    dataset.image(1)


def test_windows_line_ends_and_spaces_are_taken(data):
    wanted = CompCars(data, with_split=True)
    write_list(data, 'train', TRAIN, ' \r\n')
    write_list(data, 'test', [*TEST, ''], '\r\n')
    dataset = CompCars(data, with_split=True)
    assert dataset.labels.tolist() == wanted.labels.tolist() and dataset.name(4) == wanted.name(4)


@pytest.mark.parametrize('row, text', [
    ('9/10/2012/gone.jpg', 'no image {image}/9/10/2012/gone.jpg; it is had from http'),
    ('9/10/1999/a1.jpg', 'no image {image}/9/10/1999/a1.jpg; it is had from http'),
    (TRAIN[1], '9/2/2013/a2.jpg is in row 2 already'),
    ('9/10/a1.jpg', "'9/10/a1.jpg' is not MAKE/MODEL/YEAR/NAME.jpg"),
    ('9/10/2012/more/a1.jpg', "'9/10/2012/more/a1.jpg' is not MAKE/"),
    ('BMW/10/2012/a1.jpg', "'BMW/10/2012/a1.jpg' is not MAKE/"),
    ('', "'' is not MAKE/"),
    ('/9/10/2012/a1.jpg', "'/9/10/2012/a1.jpg' is not MAKE/"),
    ('9/10/../secret.jpg', "'9/10/../secret.jpg' is no path inside {image}"),
    ('9/10/2012/..', "'9/10/2012/..' is no path inside {image}"),
    (r'9/10/2012/..\..\a.jpg', 'is no path inside {image}'),
    ('9/10/2012/a\0.jpg', 'is no path inside {image}'),
    ('13/10/2012/a1.jpg', 'maker 13, but make_model_name.mat has 1 to 12'),
    ('9/0/2012/a1.jpg', 'model 0, but make_model_name.mat has 1 to 10')])
@pytest.mark.parametrize('part', ['train', 'test'])
def test_a_broken_row_is_named(data, part, row, text):
    rows = TRAIN[:4] if part == 'train' else ['9/2/2013/b3.jpg', '9/2/2013/a2.jpg']
    if part == 'test':
        (data / 'image/9/2/2013/b3.jpg').write_bytes(b'')
    write_list(data, part, [*rows, row, '9/2/2013/zz.jpg'])
    said = message(data)
    assert said.startswith(f'{data}/train_test_split/classification/{part}.txt, row {len(rows) + 1}: ')
    assert text.format(image=data / 'image') in said


def test_test_images_need_training_images_of_their_class(data):
    write_list(data, 'train', TRAIN[:2] + TRAIN[3:])
    assert 'test.txt, row 1: 1/3/2011/b1.jpg is of model 3, which has no training image' in message(data)
    assert 'test.txt, row 1: 1/3/2011/b1.jpg is of maker 1, which has no' in message(data, task='maker')
    assert len(CompCars(data)) == 4
    write_list(data, 'train', [*TRAIN, TEST[1]])
    assert 'test.txt, row 2: 9/10/2012/b2.jpg is a training image too' in message(data)


def test_empty_and_missing_lists_are_named(data):
    write_list(data, 'test', [])
    assert 'test.txt: the list is empty; it is had from http' in message(data)
    (data / 'train_test_split/classification/test.txt').unlink()
    assert 'classification/test.txt: no such file; it is had from http' in message(data)
    assert len(CompCars(data)) == 5
    write_list(data, 'train', TRAIN[:1])
    assert 'train.txt: images of only one model; at least two are needed' in message(data)
    (data / 'train_test_split/classification/train.txt').write_bytes(b'9/10/2012/a1.jpg\n\xe4')
    assert 'train.txt, row 2: not UTF-8 text' in message(data)


def test_no_folder_says_what_is_needed_and_where_it_is_had(data, tmp_path):
    url = 'http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/'
    text = message(None)
    assert text.startswith('--dataset compcars: needs --data-dir, a folder with data/image/MAKE/MODEL/YEAR/')
    assert text.endswith(f'it is had from {url}')
    assert f'--data-dir {tmp_path / "nowhere"}: no such folder' in message(tmp_path / 'nowhere')
    assert message(tmp_path) == f'{tmp_path}: neither image/ nor data/image/ in it; it is had from {url}'
    assert message(data, task='wheel') == '--task wheel: not one of maker, model'


def test_a_broken_file_of_names_is_named(data):
    path = data / 'misc/make_model_name.mat'
    path.write_bytes(path.read_bytes()[:200])
    assert str(path) in message(data)
    scipy.io.savemat(path, {'make_names': numpy.array([['a']], 'O')})
    assert str(path) in message(data) and 'model_names' in message(data)
