"""The tables with the real n_fold_train.py, on a few images."""
import csv
import json

TINY = '--', '--n-images', '24', '--batchsize', '6', '--gpu', '-1'


def test_a_mechanism_of_table_1_on_other_data(python, tmp_path):
    command = ('-m', 'chainer_abn.tables', 'run', 'table1', '--rows', 'resnet20/[bm]*', '--dataset', 'shapes',
               '--epochs-scale', '0.001', '--out', tmp_path, *TINY)
    result = python(*command)
    assert result.returncode == 0, result.stderr
    assert "epochs: 1 instead of the recipe's 300" in result.stdout
    run = tmp_path / 'resnet20/multiply/seed-402'
    fold, = json.loads((run / 'summary.json').read_text())['folds']
    arguments = json.loads((run / 'config.json').read_text())['arguments']
    assert (arguments['attention'], arguments['lr'], arguments['kfold']) == ('multiply', 0.1, 0)
    with open(tmp_path / 'table1.csv', newline='') as file:
        shown = {row['cell']: row for row in csv.DictReader(file)}
    assert float(shown['resnet20/multiply']['best_mean']) == 100 - 100 * fold['best_accuracy']
    assert shown['resnet20/residual']['state'] == 'not run'
    again = python(*command)
    assert again.returncode == 0 and again.stdout.count('finished, left alone') == 2
