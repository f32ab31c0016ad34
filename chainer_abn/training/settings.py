"""Recipes: the settings of the papers and of the original port, per data set and family of networks."""
from dataclasses import dataclass, replace

from chainer_abn.links.build import FAMILIES, architecture


@dataclass(frozen=True)
class Settings:
    """What is used where the command line says nothing.

    ``milestones`` are epochs of a run of ``epoch`` epochs; a run of another length scales them.
    ``image_size`` and ``resize`` are sides in pixels; None: the architecture's, and ``image_size`` times
    256/224. ``mean`` and ``std`` are per channel in [0, 1], None: measured on each training fold.
    ``dropout`` None is the architecture's own.
    """
    arch: str
    batchsize: int
    epoch: int
    lr: float
    weight_decay: float
    schedule: str
    milestones: tuple = ()
    gamma: float = 0.1
    pad: int = 0
    crop: str = 'random'
    flip: bool = True
    turn: bool = False
    fit: str = 'cover'
    positive_map: bool = True
    attention: str = 'residual'
    image_size: int | None = None
    resize: int | None = None
    mean: tuple | None = None
    std: tuple | None = None
    dropout: float | None = None


# what the official networks take, by the side of their usual images: mean and std for red, green, blue
NORMALISATION = {
    32: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    224: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# Official code; its mean and std are those of CIFAR-10, for CIFAR-100 too.
CIFAR = Settings('resnet110', 128, 300, 0.1, 1e-4, 'multistep', (150, 225), pad=4, positive_map=False,
                 image_size=32, mean=NORMALISATION[32][0], std=NORMALISATION[32][1])
CIFAR_FAMILIES = {
    'densenet': {'batchsize': 64},
    'resnext': {'weight_decay': 5e-4},
    'wrn': {'weight_decay': 5e-4, 'epoch': 200, 'milestones': (60, 120, 160), 'gamma': 0.2, 'dropout': 0.3},
}

# The paper tells the epochs. Digits are not mirrored, nor shifted, as usual for this data set (Huang et al.
# 2017, section 4.2), whose schedule at 1/2 and 3/4 it is too.
SVHN = replace(CIFAR, epoch=40, milestones=(20, 30), pad=0, flip=False, mean=None, std=None)
SVHN_FAMILIES = {
    family: {name: value for name, value in row.items() if name in ('batchsize', 'weight_decay', 'dropout')}
    for family, row in CIFAR_FAMILIES.items()}

# Official code.
IMAGENET = Settings('resnet50', 256, 90, 0.1, 1e-4, 'multistep', (31, 61), crop='resized', positive_map=False,
                    image_size=224, resize=256, mean=NORMALISATION[224][0], std=NORMALISATION[224][1])
# Neither the paper nor its code tell VGG's; 0.1 is too much for it without normalization. (torchvision's.)
IMAGENET_FAMILIES = {'vgg': {'lr': 0.01}}

# The paper tells epochs and rates; the batch is ours.
COMPCARS = replace(IMAGENET, arch='resnet101', batchsize=32, epoch=50, lr=0.01, milestones=(25, 35),
                   crop='random')

# The authors' program for CelebA: whole images squeezed to 224 px, nothing random.
CELEBA = Settings('resnet101', 8, 10, 0.01, 1e-4, 'multistep', (4, 8), flip=False, fit='squeeze',
                  positive_map=False, attention='multiply', image_size=224, resize=224,
                  mean=NORMALISATION[224][0], std=NORMALISATION[224][1])

PAPER = {
    'cifar10': (CIFAR, CIFAR_FAMILIES),
    'cifar100': (CIFAR, CIFAR_FAMILIES),
    'svhn': (SVHN, SVHN_FAMILIES),
    'imagenet': (IMAGENET, IMAGENET_FAMILIES),
    'compcars': (COMPCARS, {}),
    'celeba': (CELEBA, {}),
}

# The original port: the middle square of 316 px squeezed to 224, mirrored and turned by quarters, less the
# mean of the images.
ORIGINAL = Settings('resnet50', 32, 200, 5e-5, 1e-4, 'cosine', turn=True, positive_map=False,
                    image_size=224, resize=224, std=(1.0, 1.0, 1.0))

OURS = {
    'shapes': Settings('resnet8', 32, 20, 0.05, 1e-4, 'cosine', pad=4, image_size=32),
    'faces': Settings('resnet8', 32, 20, 0.02, 1e-4, 'cosine', pad=4, positive_map=False,
                      attention='multiply', image_size=32),
}

# The original port, but for its learning rate, turns and std: 5e-5 fine-tunes ImageNet weights and learns
# nothing from scratch. This is the official 0.1 at batch 128, scaled to its batch of 32.
FOLDER = Settings('resnet50', 32, 200, 0.025, 1e-4, 'cosine')

RECIPES = 'paper', 'original'


def settings_of(dataset, arch=None, recipe=None):
    """The settings of a data set's name, and of a network's where its family has some of its own.

    Args:
        dataset (str): anything that has no row is a folder.
        arch (str): None: the row's.
        recipe (str): ``paper``: the paper's and the official code's; a data set that is not the paper's takes
            those of CIFAR or ImageNet, by the usual image size of the network, but for mean and std.
            ``original``: the original port's, whatever the data set. None: ``paper`` for the paper's data
            sets, settings of this program for the others.

    Returns:
        Settings

    Raises:
        InputError: an unknown architecture.
    """
    if recipe == 'original':
        return ORIGINAL
    if dataset in PAPER:
        row, families = PAPER[dataset]
    elif recipe == 'paper':
        small = dataset in OURS if arch is None else architecture(arch).image_size == 32
        row, families = (CIFAR, CIFAR_FAMILIES) if small else (IMAGENET, IMAGENET_FAMILIES)
        row = replace(row, mean=None, std=None)
    else:
        row, families = OURS.get(dataset, FOLDER), {}
    return replace(row, **families.get(family_of(arch or row.arch), {}))


def family_of(arch):
    """The name of an architecture's family, such as ``wrn``; None where no family knows it."""
    names = (family.__name__.rpartition('.')[2] for family in FAMILIES if family.parse(arch))
    return next(names, None)
