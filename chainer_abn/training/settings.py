"""Default settings per data set (the papers' and the original port's), one row each."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What is used where the command line says nothing.

    ``milestones`` are epochs of a run of ``epoch`` epochs; a run of another length scales them.
    ``image_size`` is the side in pixels, None: the architecture's. ``mean`` and ``std`` are per channel in
    [0, 1], None: measured on each training fold.
    """
    arch: str
    batchsize: int
    epoch: int
    lr: float
    weight_decay: float
    schedule: str
    milestones: tuple = ()
    pad: int = 0
    positive_map: bool = True
    image_size: int | None = None
    mean: tuple | None = None
    std: tuple | None = None


# what the official networks take, by the side of their usual images: mean and std for red, green, blue
NORMALISATION = {
    32: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    224: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# Official code: CIFAR recipe with the ResNet batch size, mean and std for both sets.
CIFAR = Settings('resnet110', 128, 300, 0.1, 1e-4, 'multistep', (150, 225), pad=4, positive_map=False,
                 image_size=32, mean=NORMALISATION[32][0], std=NORMALISATION[32][1])

SETTINGS = {
    'cifar10': CIFAR,
    'cifar100': CIFAR,
    'shapes': Settings('resnet8', 32, 20, 0.05, 1e-4, 'cosine', pad=4, image_size=32),
}

# The original port, but for its learning rate: 5e-5 fine-tunes ImageNet weights and learns nothing
# from scratch. This is the official 0.1 at batch 128, scaled to its batch of 32.
FOLDER = Settings('resnet50', 32, 200, 0.025, 1e-4, 'cosine')


def settings_of(dataset):
    """The row of a data set's name; anything that has none is a folder."""
    return SETTINGS.get(dataset, FOLDER)
