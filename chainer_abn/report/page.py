"""The page, from top to bottom."""
from chainer_abn.report.confusions import confusions
from chainer_abn.report.folds import curves, folds, spread
from chainer_abn.report.found import Found
from chainer_abn.report.images import held_out
from chainer_abn.report.markup import Html, tag
from chainer_abn.report.settings import settings
from chainer_abn.report.style import STYLE
from chainer_abn.version import __version__

AGAIN = 60                      # seconds after which the page of a run that is going on is loaded again
POLICY = 'default-src \'none\'; img-src data:; style-src \'unsafe-inline\''


def page_of(run, config, dataset, without=None):
    """The whole page; sections of which there is nothing yet are left out.

    Args:
        run (RunFolder)
        config (dict): of the run.
        dataset: of the run, or None.
        without (str): why there is no data set.

    Returns:
        Html

    Raises:
        InputError: ``summary.json`` is damaged.
    """
    found = Found(run, config)
    sections = {
        'Folds': folds(found), 'Curves': curves(found),
        'Tasks' if found.multitask else 'Confusions': confusions(found),
        'Held-out images': held_out(found, dataset, without), 'Settings': settings(found)}
    sections = [(heading, heading.lower().replace(' ', '-'), content)
                for heading, content in sections.items() if content is not None]
    heading = title(found)
    head = tag(
        'head', tag('meta', charset='utf-8'),
        tag('meta', http_equiv='Content-Security-Policy', content=POLICY),
        tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
        tag('meta', http_equiv='refresh', content=AGAIN) if found.unfinished else '',
        tag('title', heading), tag('style', Html(STYLE)))
    links = tag('nav', tag('ul', [tag('li', tag('a', text, href=f'#{name}')) for text, name, _ in sections]),
                aria_label='On this page')
    body = tag(
        'body', tag('header', tag('h1', heading), status(found), figures(found), links),
        tag('main', [tag('section', tag('h2', text, id=name), content, aria_labelledby=name)
                     for text, name, content in sections]),
        tag('footer', f'Written by chainer_abn {__version__}. This page needs no other file.', class_='soft'))
    return Html(f'<!DOCTYPE html>\n{tag("html", head, body, lang="en")}\n')


def title(found):
    config = found.config
    mechanism = f' ({config["attention"]})' if config['variant'] == 'abn' else ''
    return f'{config["arch"]} {config["variant"]}{mechanism} on {found.arguments["dataset"]}'


def status(found):
    """Whether the run is finished, and what to do where it is not."""
    asked = len(found.folds)
    done = f'{asked - len(found.unfinished)} of {asked} fold{"s" * (asked > 1)} finished'
    if found.unfinished:
        lines = [tag('p', done, '; still going, or cut: go on with ', tag('code', found.go_on),
                     class_='status')]
    else:
        of = f' (of the {found.run.kfold} that there are)' if asked < found.run.kfold else ''
        lines = [tag('p', done, of, '.', class_='status')]
    lines += [tag('p', f'Fold {fold} failed; why is told in ', tag('code', path), class_='status')
              for fold, path in found.failed.items()]
    return lines + [tag('p', f'Missing: {line}.', class_='soft') for line in found.missing]


def figures(found):
    """The few numbers that matter most."""
    if not found.finished:
        return ''
    judged = sum(int(counts.sum()) for counts in found.counts.values())
    best = [row['best_accuracy'] for row in found.summary['folds']]
    told = {'mean best accuracy': spread(best, '{:.2%}'),
            'held-out images judged': f'{judged // (len(found.classes) if found.multitask else 1):,}',
            'tasks' if found.multitask else 'classes': len(found.classes)}
    return tag('dl', [tag('div', tag('dt', name), tag('dd', value)) for name, value in told.items()],
               class_='figures')
