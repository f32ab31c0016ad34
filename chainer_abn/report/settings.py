"""The section of settings."""
from chainer_abn.report.markup import scrolling, table, tag

# of the arguments, what is told first
FIRST = ('image_size', 'resize', 'fit', 'crop', 'pad', 'flip', 'turn', 'rotate', 'pretrained', 'freeze',
         'dropout', 'epoch', 'batchsize', 'lr', 'schedule', 'milestones', 'warmup', 'momentum',
         'weight_decay', 'kfold', 'folds', 'seed', 'dtype')


def settings(found):
    """What matters most, and behind it everything."""
    config, arguments = found.config, found.arguments
    first = {'dataset': arguments['dataset'], 'tasks' if found.multitask else 'classes': found.classes,
             'arch': config['arch'], 'variant': config['variant']}
    if config['variant'] == 'abn':
        first['attention'] = config['attention']
    first |= {name: arguments[name] for name in FIRST if arguments.get(name) not in (None, [], False)}
    first['device'] = config.get('device')
    if config.get('forced'):
        first['forced to go on, although'] = config['forced']
    return [
        names_and_values('What matters most', first),
        tag('details', tag('summary', 'Command, all arguments and versions'),
            scrolling('Command', tag('code', written(config.get('command')))),
            names_and_values('Arguments', arguments),
            names_and_values('Versions', config.get('versions', {})))]


def names_and_values(caption, content):
    return table(caption, ['name', 'value'], [[name, written(value)] for name, value in content.items()],
                 n_text=2)


def written(value):
    """A JSON value as a person would write it."""
    if value is None:
        return '–'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list):
        return ', '.join(map(written, value)) or 'none'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
