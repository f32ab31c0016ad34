"""The images that a network of a run has not been trained on."""
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.examples import Store
from chainer_abn.datasets.folds import digest, folds_of
from chainer_abn.errors import InputError


def held_out(run, config):
    """The data set of a run, and which of its images each finished fold was held out of.

    Args:
        run (RunFolder)
        config (dict): the run's.

    Returns:
        the data set, and a dict: fold -> indices of its validation images; ``run.best_network(fold)`` is
        the network that is to judge them.

    Raises:
        InputError: no fold is finished; the data set cannot be opened, or does not hold the images any
            more that the run was started with.
    """
    finished = run.finished_folds()
    if not finished:
        raise InputError(f'{run.root}: no fold is finished yet')
    try:
        arguments = config['arguments']
        name, kfold, seed = (arguments[key] for key in ('dataset', 'kfold', 'seed'))
        size, expected = config['resize'], config['folds_digest']
    except (KeyError, TypeError):
        raise InputError(f'{run.config_file}: not a run of this program') from None
    more = {key: arguments[key] for key in ('task', 'boxes') if arguments.get(key) is not None}
    try:
        dataset = open_dataset(name, arguments.get('data_dir'), kfold == 0, arguments.get('n_images'), seed,
                               **more)
        if arguments.get('skip_bad'):
            dataset = Store(dataset, size, skip_bad=True, memory=0, measure=False, fit='keep').dataset
        folds = folds_of(dataset, kfold, seed)
    except InputError as error:
        raise InputError(f'{run.root}: its data set cannot be opened: {error}') from None
    if digest(folds, dataset.labels) != expected:
        limit = arguments.get('skip_bad') and arguments.get('max_pixels')
        raise InputError(f'{run.root}: {name} does not hold the images any more that the run was started '
                         'with' + f'; it was started with --max-pixels {limit}' * bool(limit))
    return dataset, {fold: folds[fold - 1][1] for fold in finished}
