"""Going on with a run that was cut: what has to be as it was."""
import argparse
import re
import shlex
import sys

from chainer_abn.datasets import NAMES
from chainer_abn.errors import InputError

# of the command line that goes on, not of the run
NOT_SETTINGS = 'resume', 'force'
# the same results come of another value, or what they are computed on says that it differs
FREE = 'gpu', 'accelerator', 'threads', 'workers', 'max_pixels'
# where files are; whether they are the same is looked at by themselves
PLACES = 'dataset', 'data_dir', 'pretrained'
DATA = {'names': 'other names of images',
        'pixels': 'other pixels in the images', 'folds': 'other labels, or other images in the folds'}


def options_of(run, config, given):
    """The settings of a run, with what the command line that goes on with it changes.

    Args:
        run (RunFolder)
        config (dict): the run's.
        given (argparse.Namespace): the flags of the command line, None where nothing was said.

    Returns:
        argparse.Namespace, and a list of str: what differs from the run's own settings, in words.

    Raises:
        InputError: a flag that does not go with ``--resume``, or settings of another version.
    """
    for name in 'out', 'summary':
        if getattr(given, name) is not None:
            raise InputError(f'--{name}: --resume goes on in {run.root}; leave it out')
    if given.kfold not in (None, run.kfold):
        raise InputError(f'--kfold {given.kfold}: the files of {run.root} are named by its {run.kfold} '
                         'folds; start another run')
    stored, differ = dict(config['arguments']), []
    known = set(vars(given)) - set(NOT_SETTINGS)
    if unknown := sorted(set(stored) - known - set(NOT_SETTINGS)):
        differ.append(f'unknown settings {", ".join(unknown)}, of another version')
    if new := sorted(known - set(stored)):
        differ.append(f'no settings {", ".join(new)}, it is of another version')
    if differ and not given.force:
        raise refused(run, differ)
    options = argparse.Namespace(**{name: stored.get(name) for name in known})
    for name in sorted(known):
        value, before = getattr(given, name), getattr(options, name)
        if value is not None and value != before:
            if name == 'milestones' and stored.get('schedule') != 'multistep':
                raise InputError(f'--milestones: a {stored.get("schedule")} schedule has none')
            # a data set of another name is another one
            moved = name in PLACES and not (name == 'dataset' and {value, before} & set(NAMES))
            if name not in FREE and not moved:
                differ.append(f'--{name.replace("_", "-")} {shown(value)}, not {shown(before)}')
            setattr(options, name, value)
    for name in NOT_SETTINGS:
        setattr(options, name, None)
    return options, differ


def shown(value):
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def differences(old, new):
    """What of two configs makes the results others, beside the settings.

    Args:
        old (dict): of the run.
        new (dict): of the run if it were started now.

    Returns:
        list of str: each what there is now, and what there was.
    """
    versions = [config.get('versions', {}) for config in (old, new)]
    differ = [f'{name} {versions[1].get(name, "is missing")}, not {versions[0].get(name, "without it")}'
              for name in sorted({*versions[0], *versions[1]})
              if versions[0].get(name) != versions[1].get(name)]
    kinds = [{re.sub(r'^gpu \d+', 'gpu', device) for device in config.get('device', '').split('; ')}
             for config in (old, new)]
    if kinds[0] != kinds[1]:
        differ.append(f'it would compute on {new["device"]}, not {old.get("device")}')
    if old.get('pretrained_sha256') != new['pretrained_sha256']:
        differ.append(f'{new["arguments"]["pretrained"]} is another file')
    if old.get('classes') != new['classes']:
        differ.append('other classes in the data')
    if old.get('data') and old['data'].get('images') != new['data']['images']:
        return [*differ, f'{new["data"]["images"]} images, not {old["data"].get("images")}']
    data = [{**config.get('data', {}), 'folds': config.get('folds_digest_now', config.get('folds_digest'))}
            for config in (old, new)]
    return differ + [words for name, words in DATA.items() if data[0].get(name) != data[1].get(name)]


def check(run, old, new, differ, force):
    """Refuse to go on where anything differs; where it is forced, ``config.json`` tells of it.

    It also tells where the files are now.

    Args:
        run (RunFolder)
        old, new (dict): as for :func:`differences`.
        differ (list of str): of the settings.
        force (bool)

    Raises:
        InputError: tells all that differs, or what in the folder is no file.
    """
    check_files(run.root)
    differ = [*differ, *differences(old, new)]
    if not differ:
        arguments = {**old['arguments'], **{name: new['arguments'].get(name) for name in PLACES}}
        if arguments != old['arguments']:
            run.write_config({**old, 'arguments': arguments})
        return
    if not force:
        raise refused(run, differ)
    print(f'--force goes on, although: {"; ".join(differ)}', file=sys.stderr)
    kept = {'command': old.get('command')}
    if run.finished_folds():            # which images these have not seen is told by it
        kept |= {'folds_digest': old.get('folds_digest'), 'folds_digest_now': new['folds_digest']}
    run.write_config({**new, **kept, 'forced': [*old.get('forced', []), differ]})


def check_files(root):
    """Refuse links, by which whoever made a run would say where is written to, and pipes and devices."""
    for path in root.rglob('*'):
        if path.is_symlink():
            raise InputError(f'{path}: a link, and a run is not gone on with where links lead; put in its '
                             'place what it leads to')
        if not (path.is_file() or path.is_dir()):
            raise InputError(f'{path}: neither a file nor a folder')


def refused(run, differ):
    return InputError(f'--resume {shlex.quote(str(run.root))}: not as the run was started: '
                      f'{"; ".join(differ)}; --force goes on all the same')
