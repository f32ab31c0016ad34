"""n_fold_train.py and visualize.py over small copies of the paper's data sets, on their own splits."""
import csv
import json

import numpy
import pytest
import scipy.io
from PIL import Image

import chainer_abn

SMALL = ('-k', 0, '-e', 1, '-b', 4, '-g', -1, '--image-size', 32)


def save_image(path, colour, size=(40, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = numpy.random.default_rng(len(str(path))).integers(0, 60, (*size, 3))
    Image.fromarray((noise + numpy.array(colour)).astype('u1')).save(path)


def svhn(root):
    rng = numpy.random.default_rng(0)
    for part, n in ('train', 10), ('extra', 10), ('test', 10):
        scipy.io.savemat(root / f'{part}_32x32.mat', {
            'X': rng.integers(0, 256, (32, 32, 3, n), 'u1'),
            'y': numpy.arange(1, n + 1, dtype='u1')[:, None]})
    return 'resnet8', list('0123456789'), 10


def imagenet(root):
    kit = root / 'ILSVRC2012_devkit_t12/data'
    kit.mkdir(parents=True)
    ids = ['n01440764', 'n02012849', 'n03126707']
    # the official numbers are not in the order of the ids
    numbers = {3: 0, 1: 1, 2: 2}
    synsets = numpy.zeros(3, [('ILSVRC2012_ID', 'f8'), ('WNID', 'O'), ('words', 'O'), ('num_children', 'f8')])
    for row, (number, i) in zip(synsets, numbers.items(), strict=True):
        row['ILSVRC2012_ID'], row['WNID'] = number, ids[i]
        row['words'] = ('tench, Tinca tinca', 'crane', 'crane')[i]
    scipy.io.savemat(kit / 'meta.mat', {'synsets': synsets[:, None]})
    truth = [1, 2, 3, 3]
    (kit / 'ILSVRC2012_validation_ground_truth.txt').write_text(''.join(f'{number}\n' for number in truth))
    for i, number in enumerate(truth, 1):
        save_image(root / f'val/ILSVRC2012_val_{i:08}.JPEG', numpy.eye(3)[numbers[number]] * 190)
    for label, name in enumerate(ids):
        for i in range(4):
            save_image(root / f'train/{name}/{name}_{i}.JPEG', numpy.eye(3)[label] * 190)
    return 'resnet18', ['n01440764 tench', 'n02012849 crane', 'n03126707 crane'], 4


def compcars(root):
    rows = {'train': [f'{make}/{model}/2010/{i}.jpg' for make, model in ((78, 3), (78, 12), (9, 30))
                      for i in range(4)],
            'test': ['78/12/2010/a.jpg', '9/30/2011/b.jpg']}
    for part, names in rows.items():
        listed = root / f'data/train_test_split/classification/{part}.txt'
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(''.join(f'{name}\n' for name in names))
        for name in names:
            save_image(root / 'data/image' / name, (int(name.split('/')[1]) * 6, 90, 20))
            label = (root / 'data/label' / name).with_suffix('.txt')
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text('1\n1\n5 6 34 38\n')
    return 'resnet18', ['3', '12', '30'], 2


def celeba(root):
    names = [f'{i:06}.jpg' for i in range(1, 15)]
    lines = [str(len(names)), 'Bald Smiling Young ',
             *(f'{name} {1 - 2 * (i % 2):2} {1 - 2 * (i % 3 > 0):2} -1' for i, name in enumerate(names))]
    (root / 'list_attr_celeba.txt').write_text('\n'.join(lines) + '\n')
    (root / 'list_eval_partition.txt').write_text(
        ''.join(f'{name} {0 if i < 8 else 1 if i < 10 else 2}\n' for i, name in enumerate(names)))
    for i, name in enumerate(names):
        save_image(root / 'img_align_celeba' / name, (190 * (i % 2), 190 * (i % 3 > 0), 0), (218, 178))
    return 'resnet18', ['Bald', 'Smiling', 'Young'], 4


@pytest.fixture(params=[svhn, imagenet, compcars, celeba], ids=lambda write: write.__name__)
def trained(request, tmp_path, script):
    """A run over each of them."""
    root = tmp_path / 'data set'
    root.mkdir()
    arch, classes, n_test = request.param(root)
    name = request.param.__name__
    result = script('n_fold_train', '--dataset', name, '--data-dir', root, '--recipe', 'paper', '-a', arch,
                    *SMALL, '--resize', 36 if name == 'imagenet' else 32, '--out', tmp_path / 'run')
    assert result.status == 0, result
    return name, classes, n_test, tmp_path / 'run', root


def test_a_run_on_the_official_split_and_its_maps(trained, script, tmp_path):
    name, classes, n_test, run, root = trained
    config = json.loads((run / 'config.json').read_text())
    assert config['classes'] == classes
    arguments = config['arguments']
    assert arguments['crop'] == ('resized' if name == 'imagenet' else 'random')
    assert arguments['attention'] == ('multiply' if name == 'celeba' else 'residual')
    assert config['fit'] == ('squeeze' if name == 'celeba' else 'cover')
    row, = json.loads((run / 'summary.json').read_text())['folds']
    assert row['best_epoch'] == 1
    counts = numpy.load(run / 'matrix/1-fold_heatmap.npy')
    net, _ = chainer_abn.load(run / 'snap/0-1_fold_model.npz')
    assert net.multitask == (name == 'celeba')
    if name == 'celeba':
        assert (counts.sum((1, 2)) == n_test).all() and counts.shape == (3, 2, 2)
        assert counts.sum(2)[:, 1].tolist() == [2, 1, 0]        # present in how many test images
        expected = dict(zip(classes, numpy.trace(counts, axis1=1, axis2=2) / n_test, strict=True))
        assert row['attribute_accuracy'] == pytest.approx(expected)
        assert row['best_accuracy'] == pytest.approx(numpy.mean(list(expected.values())))
        more, maps = ['--attributes', 'Smiling,Bald'], ['attention-Bald', 'attention-Smiling']
        images = [root / 'img_align_celeba/000011.jpg']
    elif name == 'svhn':
        assert counts.sum(1).tolist() == [1] * 10
        return
    else:
        assert counts.sum() == n_test == counts.sum(1).sum()
        assert counts.sum(1).tolist() == ([2, 1, 1] if name == 'imagenet' else [0, 1, 1])
        more, maps = [], ['attention']
        images = sorted(path for path in root.rglob('*') if path.suffix in ('.JPEG', '.jpg'))[:1]
    result = script('visualize', '--model', run / 'snap/0-1_fold_model.npz', *images, '--out',
                    tmp_path / 'maps', '--gpu', -1, *more)
    assert result.status == 0, result
    assert sorted(path.name for path in (tmp_path / 'maps').glob('*.png')) == [
        f'{images[0].stem}_{method}.png' for method in maps]
    (line,) = csv.DictReader((tmp_path / 'maps/predictions.csv').open())
    assert line['file'] == str(images[0])


def test_maker_and_boxes(tmp_path, script):
    compcars(tmp_path)
    flags = ('--dataset', 'compcars', '--data-dir', tmp_path, '--task', 'maker', '--boxes', '-a', 'resnet8',
             *SMALL)
    result = script('n_fold_train', *flags, '--out', tmp_path / 'run')
    assert result.status == 0, result
    assert json.loads((tmp_path / 'run/config.json').read_text())['classes'] == ['9', '78']
    (tmp_path / 'data/label/78/12/2010/a.txt').write_text('1\n1\n5 6 340 38\n')
    result = script('n_fold_train', *flags, '--out', tmp_path / 'another')
    assert result.status == 2 and len(result.err) == 1 and 'a.txt' in result.err[0]
    assert not (tmp_path / 'another').exists()


def test_a_run_with_the_recipe_of_the_original_port(class_folders, tmp_path, script):
    result = script('n_fold_train', '--dataset', class_folders, '--recipe', 'original', '-a', 'resnet8',
                    '-k', 2, '-e', 1, '-b', 3, '-g', -1, '--image-size', 32, '--out', tmp_path / 'run')
    assert result.status == 0, result
    config = json.loads((tmp_path / 'run/config.json').read_text())
    assert config['arguments']['lr'] == 5e-5 and config['arguments']['turn'] and config['std'] == [1, 1, 1]


def test_two_runs_with_every_kind_of_change_are_equal(class_folders, tmp_path, script):
    """Random resized crops, turns and rotation depend on the seed alone, not on worker processes."""
    for name, workers in ('one', 0), ('two', 2):
        result = script('n_fold_train', '--dataset', class_folders, '-a', 'resnet8', '-k', 2, '-e', 1,
                        '-b', 3, '-g', -1, '--image-size', 24, '--crop', 'resized', '--turn',
                        '--rotate', 10, '--workers', workers, '--out', tmp_path / name)
        assert result.status == 0, result
    for file in 'snap/2-1_fold_model.npz', 'model/2-2_fold.npz':
        assert (tmp_path / 'one' / file).read_bytes() == (tmp_path / 'two' / file).read_bytes()
