"""Tables 1 to 4 of Fukui et al., *Attention Branch Network* (CVPR 2019, arXiv 1812.10025), and a small one.

Figures stand as they are printed, a star behind those that the paper's authors re-implemented. What the paper
only quotes, or what is a network that this program does not have, has no training.
"""
from typing import NamedTuple

from chainer_abn.training.settings import settings_of


class Training(NamedTuple):
    """How a cell is trained: flags of ``n_fold_train.py``.

    Attributes:
        dataset, arch, variant (str)
        attention (str): mechanism; None for a network without a map.
        task (str): of a data set that has several; else None.
        settings (dict): further flags with their values.
    """
    dataset: str
    arch: str
    variant: str = 'baseline'
    attention: str | None = None
    task: str | None = None
    settings: dict = {'--recipe': 'paper'}

    def flags(self, dataset=None):
        """The command line, on the table's data set or on another one, which has no tasks."""
        flags = [*(word for item in self.settings.items() for word in item),
                 '--dataset', dataset or self.dataset, '--arch', self.arch, '--variant', self.variant]
        if self.attention:
            flags += ['--attention', self.attention]
        if self.task and dataset in (None, self.dataset):
            flags += ['--task', self.task]
        return flags

    def epochs(self, dataset=None):
        """How long the recipe trains, on the table's data set or on another one."""
        if '--epoch' in self.settings:
            return int(self.settings['--epoch'])
        return settings_of(dataset or self.dataset, self.arch, self.settings['--recipe']).epoch


class Cell(NamedTuple):
    """One figure of a table.

    Attributes:
        name (str): such as ``resnet20/residual``; also the folder of its runs.
        row, column (str): their headings.
        on (str): the data set, in words.
        figure (str): the paper's, in %, as printed; None where it gives none.
        training (Training): None where the paper only quotes it.
    """
    name: str
    row: str
    column: str
    on: str
    figure: str | None
    training: Training | None

    @property
    def paper(self):
        """The paper's figure as a number, in %, or None."""
        return None if self.figure is None else float(self.figure.rstrip('*'))

    @property
    def starred(self):
        """Whether the authors re-implemented it."""
        return self.figure is not None and self.figure.endswith('*')


class Table(NamedTuple):
    """A table.

    Attributes:
        name (str): on the command line.
        title (str)
        measure (str): ``error`` or ``accuracy``, in %.
        cells (list of Cell)
        seeds (tuple of int): that are trained where nothing is said.
    """
    name: str
    title: str
    measure: str
    cells: list
    seeds: tuple = (402,)


# heading -> flags; without the mechanism the network is the plain one, as Table 2's figure tells
MECHANISMS = {
    'baseline': ('g', {}),
    'multiply': ('g*M', {'variant': 'abn', 'attention': 'multiply'}),
    'residual': ('g*(1+M)', {'variant': 'abn', 'attention': 'residual'}),
}


def mechanisms(figures, dataset, on, **training):
    """Cells of one network per row and one mechanism per column."""
    return [Cell(f'{row.lower()}/{key}', row, heading, on, figure,
                 Training(dataset, row.lower(), **flags, **training))
            for row, values in figures.items()
            for (key, (heading, flags)), figure in zip(MECHANISMS.items(), values.split(), strict=True)]


TABLE1 = Table('table1', 'Table 1: attention mechanisms, top-1 error on CIFAR-100', 'error', mechanisms({
    'ResNet20': '31.47 30.61 30.46',
    'ResNet32': '30.13 28.34 27.91',
    'ResNet44': '25.90 24.83 25.59',
    'ResNet56': '25.61 24.22 24.07',
    'ResNet110': '24.14 23.28 22.82',
}, 'cifar100', 'CIFAR-100'))


# on images of 32 px, and on ImageNet
SMALL = {'ResNet': 'resnet110', 'WideResNet': 'wrn-28-10', 'DenseNet': 'densenet-bc-100-12',
         'ResNeXt': 'resnext-29-8x64d'}
LARGE = {'VGGNet': 'vgg16', 'VGGNet+BN': 'vgg16-bn', 'ResNet': 'resnet152', 'SENet': 'se-resnet152'}


def table2_training(model, dataset):
    """Of a row such as ``VGGNet+BN+CAM``; None where there is no such network here."""
    plain, _, variant = model.rpartition('+')
    if variant not in ('ABN', 'CAM'):
        plain, variant = model, 'baseline'
    arch = (LARGE if dataset == 'imagenet' else SMALL).get(plain)
    if arch is None:
        return None
    attention = None
    if variant == 'ABN':
        # the official SENet's map
        attention = 'log-sum' if plain == 'SENet' else 'residual'
    return Training(dataset, arch, variant.lower(), attention)


def table2(figures):
    columns = {'cifar10': 'CIFAR-10', 'cifar100': 'CIFAR-100', 'svhn': 'SVHN', 'imagenet': 'ImageNet'}
    return [Cell(f'{row.lower().replace(" ", "-")}/{dataset}', row, on, on, figure,
                 table2_training(row, dataset))
            for row, values in figures.items()
            for (dataset, on), figure in zip(columns.items(), values.split(), strict=True) if figure != '-']


TABLE2 = Table('table2', 'Table 2: image classification, top-1 error', 'error', table2({
    'VGGNet': '- - - 31.2',
    'VGGNet+BN': '- - - 26.24*',
    'ResNet': '6.43 24.14* 2.18* 22.19*',
    'VGGNet+CAM': '- - - 33.4',
    'VGGNet+BN+CAM': '- - - 27.42*',
    'ResNet+CAM': '- - - 22.11*',
    'WideResNet': '4.00 19.25 2.42* 21.9',
    'DenseNet': '4.51 22.27 2.07* 22.2',
    'ResNeXt': '3.84* 18.32* 2.16* 22.4',
    'Residual Attention Network': '3.90 20.45 - 21.76',
    'AttentionNeXt': '- - - 21.20',
    'SENet': '- - - 21.57',
    'VGGNet+BN+ABN': '- - - 25.55',
    'ResNet+ABN': '4.91 22.82 1.86 21.37',
    'WideResNet+ABN': '3.78 18.12 2.24 -',
    'DenseNet+ABN': '4.17 21.63 2.01 -',
    'ResNeXt+ABN': '3.80 17.70 2.01 -',
    'SENet+ABN': '- - - 20.77',
}))

TABLE3 = Table('table3', 'Table 3: accuracy on CompCars', 'accuracy', [
    Cell(f'{row.lower()}/{task}', row, task, f'CompCars, {task}', figure, Training(
        'compcars', row.lower().removesuffix('+abn'), task=task,
        **({'variant': 'abn', 'attention': 'residual'} if row.endswith('+ABN') else {})))
    for row, values in {
        'VGG16': '85.9 90.4',
        'ResNet101': '90.2 90.1',
        'VGG16+ABN': '90.7 92.9',
        'ResNet101+ABN': '97.1 98.1',
    }.items() for task, figure in zip(('model', 'maker'), values.split(), strict=True)])

TABLE4 = Table('table4', 'Table 4: mean accuracy of the 40 attributes of CelebA', 'accuracy', [
    Cell(f'{row.lower().replace(" ", "-")}/celeba', row, 'mean accuracy', 'CelebA', figure, training)
    for row, figure, training in (
        ('FaceTracer', '81.13', None),
        ('PANDA-1', '85.43', None),
        ('LNet+ANet', '87.30', None),
        ('MOON', '90.93', None),
        ('ResNet101', '90.69', Training('celeba', 'resnet101')),
        # the authors' program for this table takes the map alone
        ('ABN', '91.07', Training('celeba', 'resnet101', 'abn', 'multiply')),
        # g(1+M), as in the paper's other tables; it gives no figure of this one
        ('ABN residual', None, Training('celeba', 'resnet101', 'abn', 'residual')))])

# Table 1 in small, with figures of its own only
DEMO_SETTINGS = {'--n-images': '800', '--epoch': '5', '--batchsize': '32'}
DEMO = Table('demo', 'demo: the mechanisms of Table 1, accuracy on shapes', 'accuracy', [
    cell._replace(figure=None) for cell in mechanisms(
        {'ResNet20': '- - -', 'ResNet32': '- - -'}, 'shapes', 'shapes', settings=DEMO_SETTINGS)],
    seeds=(1, 2, 3, 4, 5))

TABLES = {table.name: table for table in (TABLE1, TABLE2, TABLE3, TABLE4, DEMO)}
