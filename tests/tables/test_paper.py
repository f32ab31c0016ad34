"""The tables as they are printed, and how their cells are trained."""
import pytest

from chainer_abn.links.build import VARIANTS, architecture
from chainer_abn.tables import TABLES, cost
from chainer_abn.tables.paper import Training


def cell(table, name):
    return next(cell for cell in TABLES[table].cells if cell.name == name)


def test_counts_of_figures_and_of_those_that_can_be_trained():
    counts = {name: (len(table.cells), sum(cell.training is not None for cell in table.cells),
                     sum(cell.starred for cell in table.cells)) for name, table in TABLES.items()}
    assert counts == {'table1': (15, 15, 0), 'table2': (41, 34, 11), 'table3': (8, 8, 0), 'table4': (7, 3, 0),
                      'demo': (6, 6, 0)}
    for table in TABLES.values():
        assert len({cell.name for cell in table.cells}) == len(table.cells)


@pytest.mark.parametrize('table, name, figure, training', [
    ('table1', 'resnet20/baseline', '31.47', Training('cifar100', 'resnet20')),
    ('table1', 'resnet44/multiply', '24.83', Training('cifar100', 'resnet44', 'abn', 'multiply')),
    ('table1', 'resnet110/residual', '22.82', Training('cifar100', 'resnet110', 'abn', 'residual')),
    ('table2', 'resnet/cifar10', '6.43', Training('cifar10', 'resnet110')),
    ('table2', 'resnet/imagenet', '22.19*', Training('imagenet', 'resnet152')),
    ('table2', 'resnet+cam/imagenet', '22.11*', Training('imagenet', 'resnet152', 'cam')),
    ('table2', 'vggnet/imagenet', '31.2', Training('imagenet', 'vgg16')),
    ('table2', 'vggnet+bn+cam/imagenet', '27.42*', Training('imagenet', 'vgg16-bn', 'cam')),
    ('table2', 'vggnet+bn+abn/imagenet', '25.55', Training('imagenet', 'vgg16-bn', 'abn', 'residual')),
    ('table2', 'wideresnet+abn/svhn', '2.24', Training('svhn', 'wrn-28-10', 'abn', 'residual')),
    ('table2', 'densenet/cifar100', '22.27', Training('cifar100', 'densenet-bc-100-12')),
    ('table2', 'resnext/svhn', '2.16*', Training('svhn', 'resnext-29-8x64d')),
    ('table2', 'senet+abn/imagenet', '20.77', Training('imagenet', 'se-resnet152', 'abn', 'log-sum')),
    ('table2', 'resnext/imagenet', '22.4', None),
    ('table2', 'residual-attention-network/cifar100', '20.45', None),
    ('table2', 'attentionnext/imagenet', '21.20', None),
    ('table3', 'vgg16/model', '85.9', Training('compcars', 'vgg16', task='model')),
    ('table3', 'resnet101+abn/maker', '98.1', Training('compcars', 'resnet101', 'abn', 'residual', 'maker')),
    ('table4', 'moon/celeba', '90.93', None),
    ('table4', 'resnet101/celeba', '90.69', Training('celeba', 'resnet101')),
    ('table4', 'abn/celeba', '91.07', Training('celeba', 'resnet101', 'abn', 'multiply'))])
def test_figures_and_trainings(table, name, figure, training):
    found = cell(table, name)
    assert (found.figure, found.training) == (figure, training)


def test_the_same_network_has_one_figure():
    """Table 1's ends are Table 2's."""
    assert cell('table1', 'resnet110/baseline').paper == cell('table2', 'resnet/cifar100').paper == 24.14
    assert cell('table1', 'resnet110/residual').paper == cell('table2', 'resnet+abn/cifar100').paper


def test_every_training_is_of_a_network_that_there_is():
    for table in TABLES.values():
        for training in (cell.training for cell in table.cells if cell.training):
            assert architecture(training.arch) and training.variant in VARIANTS
            assert (training.attention is not None) == (training.variant == 'abn')


def test_flags():
    assert cell('table3', 'vgg16+abn/maker').training.flags() == [
        '--recipe', 'paper', '--dataset', 'compcars', '--arch', 'vgg16', '--variant', 'abn',
        '--attention', 'residual', '--task', 'maker']
    assert '--task' not in cell('table3', 'vgg16/model').training.flags('cars')
    assert cell('demo', 'resnet32/baseline').training.flags()[-6:] == [
        '--dataset', 'shapes', '--arch', 'resnet32', '--variant', 'baseline']


@pytest.mark.parametrize('table, name, epochs', [
    ('table1', 'resnet20/residual', 300), ('table2', 'wideresnet/cifar10', 200),
    ('table2', 'resnet/svhn', 40), ('table2', 'senet/imagenet', 90), ('table3', 'vgg16/model', 50),
    ('table4', 'abn/celeba', 10)])
def test_epochs_are_those_of_the_recipe(table, name, epochs):
    assert cell(table, name).training.epochs() == epochs


def test_cost_of_a_training():
    """ResNet-20: stem, three stages of 6 convolutions, a projection where the width changes, classifier."""
    by_hand = (3 * 16 * 9 * 1024 + 6 * 16 * 16 * 9 * 1024 + (16 * 32 * 9 + 5 * 32 * 32 * 9 + 16 * 32) * 256
               + (32 * 64 * 9 + 5 * 64 * 64 * 9 + 32 * 64) * 64 + 64 * 100)
    assert cost.petaflop(Training('cifar100', 'resnet20')) == pytest.approx(
        6 * by_hand * 50_000 * 300 / 1e15)
