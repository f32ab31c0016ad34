"""The figures that are shown, against those worked out by hand."""
import csv
import json
import os
import re

import numpy
import pytest
from fake_program import accuracy
from PIL import Image

from chainer_abn.files import only_writer
from chainer_abn.tables import TABLES, chart
from chainer_abn.tables.results import Difference, collect, comparisons, difference

ONE = 'run', 'table1', '--rows', 'resnet20'


def cells(line):
    """The cells of a line of a Markdown table, without the escapes."""
    assert line.startswith('| ') and line.endswith(' |')
    return [re.sub(r'\\(.)', r'\1', text) for text in re.split(r'(?<!\\) \| ', line[2:-2])]


def read(out, table):
    """Header and rows of the Markdown table, and the rows of the CSV by cell."""
    text = (out / f'{table}.md').read_text()
    lines = [line for line in text.splitlines() if line.startswith('|')]
    assert set(lines[1]) == set('| -:')
    rows = [dict(zip(cells(lines[0]), cells(line), strict=True)) for line in lines[2:]]
    with open(out / f'{table}.csv', newline='') as file:
        by_cell = {row['cell']: row for row in csv.DictReader(file)}
    assert len(rows) == len(by_cell) == len(TABLES[table].cells)
    return rows, by_cell


def test_means_deviations_and_difference(fake, tables):
    """Residual's accuracies at the best epoch are 69, 70, 73 with seeds 1, 2, 3, and 1 less at the last."""
    assert tables(*ONE, '--seeds', '1,2,3', '--out', fake.out).status == 0
    rows, by_cell = read(fake.out, 'table1')
    errors = numpy.array([100 - 69, 100 - 70, 100 - 73])
    found = by_cell['resnet20/residual']
    assert float(found['best_mean']) == pytest.approx(errors.mean())
    assert float(found['best_deviation']) == pytest.approx(numpy.sqrt(((errors - errors.mean()) ** 2).mean()))
    assert float(found['last_mean']) == pytest.approx(errors.mean() + 1)
    assert float(found['difference']) == pytest.approx(errors.mean() - 30.46)
    assert [found[name] for name in ('paper', 'n', 'state', 'measure')] == ['30.46', '3', 'finished', 'error']
    assert rows[2] == {'row': 'ResNet20', 'column': 'g*(1+M)', 'paper': '30.46', 'ours, best': '29.33 ± 1.70',
                       'ours, last': '30.33 ± 1.70', 'n': '3', 'best - paper': '-1.13'}
    assert rows[3]['ours, best'] == rows[3]['ours, last'] == '-' and rows[3]['n'] == ''
    assert by_cell['resnet32/baseline']['best_mean'] == ''
    assert by_cell['resnet32/baseline']['state'] == 'not run'


def test_a_data_set_of_any_name(fake, tables):
    data = fake.out.with_name(os.fsdecode(b'caf\xe9 $x^$'))
    data.mkdir()
    result = tables(*ONE, '--seeds', 1, '--dataset', data, '--out', fake.out)
    assert result.status == 0 and result.out[-1].startswith('written: ')
    assert bytes(data) in (fake.out / 'table1.md').read_bytes().replace(b'\\', b'')


def test_accuracies_of_all_folds(fake, tables):
    arguments = {'variant': 'abn', 'attention': 'residual', 'epoch': 5}
    tables('run', 'demo', '--rows', 'resnet20/residual', '--seeds', '1,2', '--out', fake.out, '--',
           '--kfold', '2')
    values = [100 * accuracy({**arguments, 'seed': seed}, fold, 4) for seed in (1, 2) for fold in (1, 2)]
    found = read(fake.out, 'demo')[1]['resnet20/residual']
    assert float(found['best_mean']) == pytest.approx(numpy.mean(values)) and found['n'] == '4'
    assert float(found['best_deviation']) == pytest.approx(numpy.std(values))


def test_quoted_and_starred_figures(fake, tables):
    result = tables('show', 'table2', '--out', fake.out)
    assert result.status == 0
    rows, by_cell = read(fake.out, 'table2')
    found = {(row['row'], row['column']): row for row in rows}
    assert found['ResNeXt', 'ImageNet'] == {'row': 'ResNeXt', 'column': 'ImageNet', 'paper': '22.4',
                                            'ours, best': 'quoted', 'ours, last': 'quoted'}
    assert found['ResNeXt', 'SVHN']['paper'] == '2.16*' and found['ResNeXt', 'SVHN']['ours, best'] == '-'
    assert by_cell['resnext/svhn']['paper'] == '2.16' and by_cell['resnext/svhn']['reimplemented'] == '1'
    assert any('* re-implemented' in line for line in result.out)
    assert not list(fake.out.glob('*.part'))


def test_what_is_not_finished(fake, tables, monkeypatch):
    monkeypatch.setenv('FAKE_EPOCHS', '2')
    monkeypatch.setenv('FAKE_STATUS', '143')
    tables(*ONE, '--out', fake.out, '--', '--epoch', '300')
    tables('show', 'table1', '--out', fake.out)
    assert read(fake.out, 'table1')[0][0]['unfinished'] == 'cut at 2/300 epochs'
    assert read(fake.out, 'table1')[1]['resnet20/baseline']['state'] == 'cut at 2/300 epochs'
    with only_writer(fake.out / 'resnet20/baseline/seed-402'):
        tables('show', 'table1', '--out', fake.out)
    assert read(fake.out, 'table1')[0][0]['unfinished'] == 'running 2/300 epochs'


def test_the_heading_tells_what_the_runs_were_made_with(fake, tables):
    tables('run', 'table1', '--rows', 'resnet20/*e', '--dataset', 'birds', '--epochs-scale', '0.1', '--out',
           fake.out, '--', '--kfold', '2', '--batchsize', '64')
    result = tables('show', 'table1', '--out', fake.out)
    assert result.out[1:4] == [
        'trained on birds, not cifar100: the paper\'s figures are of another data set, no difference is '
        'given',
        'epochs: 30 instead of the recipe\'s 300', 'with --kfold 2 --batchsize 64']
    rows, by_cell = read(fake.out, 'table1')
    assert 'best - paper' not in rows[0] and by_cell['resnet20/baseline']['difference'] == ''
    tables('run', 'table1', '--rows', 'resnet32/baseline', '--out', fake.out, '--', '--epoch', '300')
    result = tables('show', 'table1', '--out', fake.out)
    assert 'epochs: 30 instead of the recipe\'s 300: resnet20/baseline' in '\n'.join(result.out)
    assert read(fake.out, 'table1')[1]['resnet32/baseline']['difference'] != ''


def test_the_paper_s_recipe_needs_no_remark(fake, tables):
    result = tables(*ONE, '--gpu', '0', '--out', fake.out, '--', '--epoch', '300')
    assert not [line for line in result.out if line.startswith(('trained on', 'epochs:', 'with --'))]


def test_an_interval_by_hand():
    """Of 1..5: mean 3, deviation sqrt(2.5), t(0.975, 4) = 2.776445."""
    found = difference([1, 2, 3, 4, 5])
    half = 2.776445 * 2.5 ** 0.5 / 5 ** 0.5
    assert found.mean == 3 and found.interval == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert str(found) == '+3.00 [+1.04, +4.96]'
    assert difference([1, 2]) == Difference(1.5, None)


@pytest.mark.parametrize('low, high, measure, verdict', [
    (0.1, 2, 'accuracy', 'ahead'), (-0.1, 2, 'accuracy', 'not clearly ahead'), (-2, -1, 'accuracy', 'behind'),
    (-2, -1, 'error', 'ahead'), (-2, 0.1, 'error', 'not clearly ahead'), (1, 2, 'error', 'behind')])
def test_verdicts(low, high, measure, verdict):
    assert Difference((low + high) / 2, (low, high)).verdict(measure) == verdict


def test_mechanisms_are_compared_by_seed(fake, tables):
    """g*(1+M) is 5 points over g, and one more with an odd seed."""
    result = tables('run', 'demo', '--rows', 'resnet20/*', '--out', fake.out)
    found = {label: (n, best, last) for label, n, best, last in comparisons(
        TABLES['demo'], collect(TABLES['demo'], fake.out))}
    assert list(found) == ['ResNet20: g*M - g', 'ResNet20: g*(1+M) - g', 'ResNet20: g*(1+M) - g*M']
    n, best, last = found['ResNet20: g*(1+M) - g']
    expected = difference([6, 5, 6, 5, 6])
    assert n == 5 and best.mean == pytest.approx(5.6) and best.interval == pytest.approx(expected.interval)
    assert last.mean == pytest.approx(5.6)
    assert ('ResNet20: g*(1+M) - g = +5.60 [+4.92, +6.28] points at the best epoch: ahead; '
            '+5.60 [+4.92, +6.28] at the last: ahead; 5 paired seeds') in result.out


def test_runs_with_other_settings_are_no_pair(fake, tables):
    tables('run', 'demo', '--rows', 'resnet20/baseline', '--out', fake.out)
    tables('run', 'demo', '--rows', 'resnet20/residual', '--epochs-scale', '2', '--out', fake.out)
    assert list(comparisons(TABLES['demo'], collect(TABLES['demo'], fake.out))) == []


def test_less_error_is_ahead(fake, tables):
    out = tables('run', 'table2', '--rows', 'resnet*/cifar10', '--seeds', '1,2,3', '--out', fake.out).out
    assert any(line.startswith('CIFAR-10: ResNet+ABN - ResNet = -5.67 [-7.10, -4.23] points at the best '
                               'epoch: ahead') for line in out)
    assert 'less error is ahead' in out


def test_an_unreadable_run_is_told(fake, tables):
    tables('run', 'demo', '--rows', 'resnet20/baseline', '--seeds', '1', '--out', fake.out)
    (fake.out / 'resnet20/baseline/seed-1/summary.json').write_text('{')
    result = tables('show', 'demo', '--out', fake.out)
    assert result.status == 2 and 'summary.json: unreadable' in result.err[0] and len(result.err) == 1


@pytest.mark.parametrize('file, content, said', [
    ('summary.json', '{"folds": [{"fold": 1, "best_accuracy": 1}]}', 'a fold without last_accuracy)'),
    ('log/0-1_fold_log.json', '[1]', 'damaged (not the entries of epochs)'),
    ('log/0-1_fold_log.json', '{"epoch": 3}', 'damaged (not the entries of epochs)'),
    ('config.json', None, 'damaged (its command: No closing quotation)')])
def test_damage_is_told(fake, tables, monkeypatch, file, content, said):
    monkeypatch.setenv('FAKE_EPOCHS', '2')
    monkeypatch.setenv('FAKE_STATUS', '1')
    tables(*ONE, '--out', fake.out)
    path = fake.out / 'resnet20/baseline/seed-402' / file
    path.write_text(content or json.dumps({**json.loads(path.read_text()), 'command': 'n_fold_train.py "'}))
    result = tables('show', 'table1', '--out', fake.out)
    assert result.status == 2 and len(result.err) == 1 and said in result.err[0]


@pytest.mark.parametrize('table', TABLES)
def test_the_chart_shows_every_figure(fake, tables, table):
    assert tables('run', table, '--seeds', '1,2', '--out', fake.out).status == 0
    results = collect(TABLES[table], fake.out)
    drawn = chart.draw(TABLES[table], results, [])
    found = {}
    for axes in drawn.axes:
        low, high = axes.get_xlim()
        for container in axes.containers:
            x = container.lines[0].get_xdata()
            assert low < min(x) and max(x) < high
            found.setdefault(container.get_label().partition(' ±')[0], []).extend(x)
        assert re.search(r'the axis shows [\d.]+ to [\d.]+ only', axes.get_xlabel())
    expected = {'paper': [r.cell.paper for r in results if r.cell.paper is not None],
                'ours, best epoch': [r.best.mean for r in results if r.best],
                'ours, last epoch': [r.last.mean for r in results if r.last]}
    assert {name: sorted(x) for name, x in found.items()} == {
        name: sorted(x) for name, x in expected.items() if x}
    with Image.open(fake.out / f'{table}.png') as picture:
        assert min(picture.size) > 300


def test_the_chart_leaves_out_the_paper_where_data_differ(fake, tables):
    tables(*ONE, '--dataset', 'birds', '--out', fake.out)
    axes, = chart.draw(TABLES['table1'], collect(TABLES['table1'], fake.out), []).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        'ResNet20  g', 'ResNet20  g*M', 'ResNet20  g*(1+M)']
    assert 'paper' not in [container.get_label() for container in axes.containers]
    assert axes.get_xlabel().startswith('error on birds instead of CIFAR-100, %')
