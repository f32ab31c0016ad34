"""Recipes against the figures of the papers and of the programs that they come from."""
import pytest

from chainer_abn.errors import InputError
from chainer_abn.training.schedule import Schedule
from chainer_abn.training.settings import RECIPES, settings_of

# batch, epochs, rate, weight decay, epochs at which the rate falls, by what
OFFICIAL = {
    ('cifar10', 'resnet110'): (128, 300, 0.1, 1e-4, (150, 225), 0.1),
    ('cifar100', 'resnet20'): (128, 300, 0.1, 1e-4, (150, 225), 0.1),
    ('cifar100', 'densenet-bc-100-12'): (64, 300, 0.1, 1e-4, (150, 225), 0.1),
    ('cifar10', 'resnext-29-8x64d'): (128, 300, 0.1, 5e-4, (150, 225), 0.1),
    ('cifar100', 'wrn-28-10'): (128, 200, 0.1, 5e-4, (60, 120, 160), 0.2),
    ('svhn', 'resnet110'): (128, 40, 0.1, 1e-4, (20, 30), 0.1),
    ('svhn', 'wrn-28-10'): (128, 40, 0.1, 5e-4, (20, 30), 0.1),
    ('imagenet', 'resnet152'): (256, 90, 0.1, 1e-4, (31, 61), 0.1),
    ('imagenet', 'vgg16'): (256, 90, 0.01, 1e-4, (31, 61), 0.1),
    ('compcars', 'resnet101'): (32, 50, 0.01, 1e-4, (25, 35), 0.1),
    ('celeba', 'resnet101'): (8, 10, 0.01, 1e-4, (4, 8), 0.1),
}


@pytest.mark.parametrize('recipe', [None, 'paper'])
@pytest.mark.parametrize('dataset, arch', OFFICIAL)
def test_recipes_of_the_paper(dataset, arch, recipe):
    row = settings_of(dataset, arch, recipe)
    assert (row.batchsize, row.epoch, row.lr, row.weight_decay, row.milestones,
            row.gamma) == OFFICIAL[dataset, arch]
    assert row.schedule == 'multistep' and not row.positive_map


def test_the_rate_of_the_wide_network_falls_to_a_fifth():
    row = settings_of('cifar100', 'wrn-28-10')
    schedule = Schedule(row.lr, row.epoch, row.schedule, row.milestones, row.gamma)
    assert [schedule.rate(e) for e in (59, 60, 120, 160)] == pytest.approx([0.1, 0.02, 0.004, 0.0008])
    assert row.dropout == 0.3


def test_images_of_the_recipes():
    cifar, imagenet, celeba, svhn = map(settings_of, ('cifar10', 'imagenet', 'celeba', 'svhn'))
    assert (cifar.image_size, cifar.pad, cifar.flip) == (32, 4, True)
    assert (cifar.mean[0], cifar.std[2]) == (0.4914, 0.2010)
    assert (imagenet.image_size, imagenet.resize, imagenet.crop) == (224, 256, 'resized')
    assert imagenet.mean == (0.485, 0.456, 0.406) and imagenet.std == (0.229, 0.224, 0.225)
    assert (celeba.fit, celeba.image_size, celeba.resize, celeba.flip) == ('squeeze', 224, 224, False)
    assert celeba.attention == 'multiply'
    assert (svhn.flip, svhn.pad, svhn.mean) == (False, 0, None)


def test_the_original_port_whatever_the_data():
    for dataset in 'photos', 'cifar10', 'shapes':
        row = settings_of(dataset, 'resnet18', 'original')
        assert (row.batchsize, row.epoch, row.lr, row.weight_decay) == (32, 200, 5e-5, 1e-4)
        assert row.schedule == 'cosine'
        assert row.turn and row.flip and (row.image_size, row.resize) == (224, 224)
        assert row.mean is None and row.std == (1, 1, 1)


def test_other_data_takes_the_recipe_of_the_networks_usual_size():
    small, large = (settings_of('photos', arch, 'paper') for arch in ('wrn-16-2', 'resnet18'))
    assert small.epoch == 200 and small.image_size == 32 and large.epoch == 90 and large.crop == 'resized'
    # but not another data set's colours
    assert small.mean is small.std is large.mean is None
    assert settings_of('shapes', None, 'paper').image_size == 32
    assert settings_of('photos', None, 'paper').arch == 'resnet50'


def test_without_a_recipe_other_data_has_settings_of_its_own():
    assert settings_of('shapes').schedule == settings_of('photos', 'wrn-16-2').schedule == 'cosine'
    assert RECIPES == ('paper', 'original')


def test_an_unknown_architecture_is_told():
    with pytest.raises(InputError, match='resnet21.*nearest'):
        settings_of('photos', 'resnet21', 'paper')
