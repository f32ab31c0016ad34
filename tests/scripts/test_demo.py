"""The end of ``make demo``, on a run of a few images."""
import re

from helpers import ROOT
from PIL import Image

from chainer_abn.datasets import open_dataset


def test_shares_are_told_and_the_sheet_is_drawn(script, python, tmp_path):
    run = tmp_path / 'run'
    assert script('n_fold_train', '--dataset', 'shapes', '--n-images', 24, '-a', 'resnet8', '-k', 2, '-e', 1,
                  '-b', 6, '--out', run).status == 0
    result = python('-m', 'chainer_abn.demo', run, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    told = re.findall(r"fold (\d): the map's maximum lies on the object in [\d.]+% of 12", result.stdout)
    assert told == ['1', '2']
    assert re.search(r"all folds: the map's maximum lies on the object in [\d.]+% "
                     r"\(or 1 px beside it: [\d.]+%\); the middle of the image: "
                     r'[\d.]+%; a place by chance: [\d.]+%', result.stdout)
    with Image.open(run / 'attention.png') as sheet:
        assert min(sheet.size) > 400


def test_each_attribute_has_its_share_of_the_images_that_have_it(script, python, tmp_path):
    run = tmp_path / 'run'
    assert script('n_fold_train', '--dataset', 'faces', '--n-images', 24, '-a', 'resnet8', '-k', 2, '-e', 1,
                  '-b', 6, '--seed', 3, '--out', run).status == 0
    result = python('-m', 'chainer_abn.demo', run, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    labels = open_dataset('faces', n_images=24, seed=3).labels
    for name, count in zip(('Eyeglasses', 'Smiling'), labels.sum(0), strict=True):
        told = re.findall(rf'fold \d: the maximum of its map lies where {name} shows in [\d.]+% of (\d+) '
                          'held-out images that have it', result.stdout)
        assert len(told) == 2 and sum(map(int, told)) == count
        assert f'all folds: the maximum of its map lies where {name} shows' in result.stdout
    with Image.open(run / 'attention.png') as sheet:
        assert min(sheet.size) > 400
