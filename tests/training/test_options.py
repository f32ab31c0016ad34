"""What a run is made with where little is said."""
import pytest

from chainer_abn.errors import InputError
from chainer_abn.training.arguments import make_parser
from chainer_abn.training.options import resolve


@pytest.fixture(scope='module')
def parser():
    return make_parser('n_fold_train.py')


@pytest.fixture
def resolved(parser):
    """The settings of a command line, with the config of a pretrained network."""
    def make(line, start=None):
        options = parser.parse_args(line.split())
        resolve(options, start or {})
        return options
    return make


def test_steps_of_the_rate_come_at_the_same_shares_and_never_at_once(resolved):
    found = {epoch: resolved(f'--dataset cifar10 --epoch {epoch}').milestones for epoch in (1, 3, 6, 20, 600)}
    assert found == {1: [1, 1], 3: [2, 2], 6: [3, 4], 20: [10, 15], 600: [300, 450]}


def test_whole_images_stay_whole_at_another_size(resolved):
    celeba = resolved('--dataset celeba --image-size 128')
    assert celeba.resize == celeba.image_size == [128, 128] and celeba.fit == 'squeeze'
    assert resolved('--dataset photos --recipe original --image-size 128').resize == [128, 128]
    assert resolved('--dataset imagenet').resize == [256, 256]
    assert resolved('--dataset imagenet --image-size 112').resize == [128, 128]
    assert resolved('--dataset cifar10 --pad 0').resize == [32, 32]


def test_a_pretrained_network_gives_its_colours_and_its_kind_of_map(resolved):
    single = {'arch': 'resnet18', 'variant': 'abn', 'attention': 'multiply', 'fit': 'cover',
              'mean': [0.1] * 3, 'std': [0.2] * 3}
    folder, celeba = (resolved(f'--dataset {name}', single) for name in ('photos', 'celeba'))
    assert folder.attention == 'multiply' and folder.arch == 'resnet18'
    assert folder.mean == celeba.mean == [0.1] * 3
    # one map says nothing of forty, and the recipe tells how images are made ready
    assert resolved('--dataset celeba', {**single, 'attention': 'residual'}).attention == 'multiply'
    assert celeba.fit == 'squeeze'
    several = {**single, 'multitask': True, 'attention': 'residual', 'fit': 'squeeze'}
    assert resolved('--dataset celeba', several).attention == 'residual'
    assert resolved('--dataset imagenet', several).fit == 'cover'


@pytest.mark.parametrize('line, message', [
    ('--dataset photos --turn --image-size 96x128', '--turn: needs a square --image-size'),
    ('--dataset photos --crop resized --fit squeeze', '--fit squeeze: .*--crop random'),
    ('--dataset photos --boxes', '--boxes: is for --dataset compcars')])
def test_what_does_not_go_together(resolved, line, message):
    with pytest.raises(InputError, match=message):
        resolved(line)


def test_flags_are_written_out(parser):
    with pytest.raises(InputError, match='--see'):
        parser.parse_args(['--see', '5'])


def test_a_resized_crop_overrules_squeezing_where_that_was_not_asked_for(resolved):
    assert resolved('--dataset celeba --crop resized').fit == 'cover'
    assert resolved('--dataset photos --turn --crop resized --image-size 96x128').turn
