"""The settings of a run: what is used where nothing is said, and what makes no sense."""
import math

from chainer_abn.datasets import NAMES, is_multitask
from chainer_abn.datasets.transforms import MIN_SIDE
from chainer_abn.errors import InputError
from chainer_abn.links.build import architecture, dropout_of
from chainer_abn.training.checkpoint import check_pixels
from chainer_abn.training.finetune import check_parts
from chainer_abn.training.settings import settings_of

DTYPES = 'float32', 'mixed16'
MOST_FOLDS = 10_000             # each is looked for, also where none is trained
MOST_WORKERS = 128              # processes that read images


def resolve(options, start_config):
    """Fill in the defaults, in place; refuse values that make no sense, and flags that do not go together.

    What is told of a map where there is none is refused here alone: :func:`complete` fills that in too.

    Args:
        options: the flags of ``n_fold_train.py`` as attributes, None where nothing was said.
        start_config (dict): of the pretrained network, {} without one.

    Raises:
        InputError: names the flag.
    """
    check_attention(options)
    if options.milestones and options.schedule not in (None, 'multistep'):
        raise InputError(f'--milestones: a {options.schedule} schedule has none')
    if options.milestones and min(options.milestones) < 1:
        raise InputError(f'--milestones {min(options.milestones)}: must be at least 1')
    complete(options, start_config)


def complete(options, start_config):
    """The same for settings that may be complete already, such as those of a run that goes on."""
    if options.dataset is None:
        raise InputError(f'--dataset is missing: a folder of class folders, or {", ".join(NAMES)}')
    arch = options.arch or start_config.get('arch')
    row = settings_of(options.dataset, arch, options.recipe)
    multitask = is_multitask(options.dataset)
    schedule = options.schedule or ('multistep' if options.milestones else row.schedule)
    epoch = row.epoch if options.epoch is None else options.epoch
    defaults = {
        'skip_bad': False,
        'crop': row.crop, 'flip': row.flip, 'turn': row.turn, 'rotate': 0.0,
        'pad': 0 if options.crop == 'resized' else row.pad,
        'fit': 'cover' if (options.crop or row.crop) == 'resized' else row.fit,
        # a pretrained network goes on with the colours it knows
        'mean': start_config.get('mean', row.mean), 'std': start_config.get('std', row.std),
        'arch': arch or row.arch, 'dropout': row.dropout, 'freeze': [],
        'variant': 'abn', 'attention': known_attention(start_config, multitask) or row.attention,
        'positive_map': row.positive_map,
        'kfold': 4, 'batchsize': row.batchsize, 'lr': row.lr, 'momentum': 0.9, 'nesterov': False,
        'weight_decay': row.weight_decay, 'gamma': row.gamma, 'warmup': 0.0, 'seed': 402,
        'dtype': 'float32', 'capture': False, 'tensorboard': False, 'snapshot_every': 1,
        # a shorter or longer run has its milestones at the same shares of it
        'milestones': [max(1, round(m * epoch / row.epoch)) for m in row.milestones],
    }
    if options.dataset == 'compcars':
        defaults.update(task='model', boxes=False)
    for name in 'task', 'boxes':
        if name not in defaults and getattr(options, name) is not None:
            raise InputError(f'--{name}: is for --dataset compcars')
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.schedule, options.epoch = schedule, epoch

    native = architecture(options.arch).image_size
    options.image_size = options.image_size or [row.image_size or native] * 2
    options.resize = options.resize or resize_of(row, options)
    check_values(options)


def check_values(options):
    """Refuse numbers out of their range and settings that contradict each other; all are filled in."""
    for name, at_least in (('batchsize', 1), ('epoch', 1), ('kfold', 0), ('seed', 0), ('pad', 0),
                           ('momentum', 0), ('weight_decay', 0), ('warmup', 0), ('rotate', 0),
                           ('workers', 0), ('gamma', 0), ('lr', 0), ('snapshot_every', 1),
                           ('max_pixels', 1)):
        value = getattr(options, name)
        if value is not None and not (value >= at_least and math.isfinite(value)):
            raise InputError(f'--{name.replace("_", "-")} {value}: must be at least {at_least}')
    if options.workers and options.workers > MOST_WORKERS:
        raise InputError(f'--workers {options.workers}: more than {MOST_WORKERS}')
    check_pixels('--resize', options.resize)
    if options.kfold > MOST_FOLDS:
        raise InputError(f'--kfold {options.kfold}: more than {MOST_FOLDS}')
    if options.kfold == 1:
        raise InputError('--kfold 1: use at least 2, or 0 for the data set\'s own train / test split')
    if options.lr == 0:
        raise InputError('--lr 0: must be more than 0')
    if options.seed >= 2 ** 32:
        raise InputError(f'--seed {options.seed}: must be below 2^32')
    check_image_size(options.image_size)
    if options.crop == 'resized':
        if options.pad:
            raise InputError(f'--pad {options.pad}: a resized crop needs none')
        if options.fit != 'cover':
            raise InputError(f'--fit {options.fit}: a resized crop is taken from the image as it is; '
                             'leave it out, or give --crop random')
    elif options.turn and options.image_size[0] != options.image_size[1]:
        raise InputError('--turn: needs a square --image-size, or --crop resized')
    if any(r + 2 * options.pad < s for r, s in zip(options.resize, options.image_size, strict=True)):
        raise InputError('--resize: smaller than --image-size')
    if options.std and min(options.std) <= 0:
        raise InputError('--std: must be more than 0')
    if options.folds and max(options.folds) > max(options.kfold, 1):
        raise InputError(f'--folds {max(options.folds)}: there are {max(options.kfold, 1)} folds')
    dropout_of(options.arch, options.dropout)
    check_parts(options.freeze, options.variant)


def resize_of(row, options):
    """[height, width] that images are made to cover where nothing was said."""
    if row.resize and options.image_size == [row.image_size] * 2:
        return [row.resize] * 2
    if row.resize and row.resize == row.image_size:
        return options.image_size
    # small images of one size are cropped as they are; else ImageNet's 256 -> 224
    if options.pad or row.image_size == 32:
        return options.image_size
    return [round(s * 256 / 224) for s in options.image_size]


def known_attention(start_config, multitask=False):
    """The mechanism of the pretrained network if it has one of the same kind, else None."""
    same = start_config.get('variant') == 'abn' and start_config.get('multitask', False) == multitask
    return start_config['attention'] if same else None


def check_attention(options):
    """Refuse what is told of a map where there is none."""
    if options.variant in ('baseline', 'cam'):
        for name in 'attention', 'positive_map':
            if getattr(options, name):
                raise InputError(f'--{name.replace("_", "-")}: a {options.variant} network has no map')
    if options.attention == 'log-sum' and options.positive_map:
        raise InputError('--positive-map: a log-sum map is positive by itself')


def check_multitask(options):
    """Refuse what a network of several tasks does not have."""
    what = f'{options.dataset} is a data set of several tasks, whose networks'
    if options.variant == 'cam':
        raise InputError(f'--variant cam: {what} are abn or baseline')
    if options.attention == 'log-sum':
        raise InputError(f'--attention log-sum: {what} make a map for each task')
    if options.positive_map:
        raise InputError(f'--positive-map: {what} have no weights between the evidence and the map')


def check_image_size(size):
    if size and min(size) < MIN_SIDE:
        raise InputError(f'--image-size {size}: must be at least {MIN_SIDE} px')
    if size:
        check_pixels('--image-size', size)
