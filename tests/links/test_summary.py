import numpy

from chainer_abn.links import build, summary


def test_of_a_small_network_by_hand():
    table = summary(build('resnet8', 10, in_channels=1), [16, 24])
    stem = 16 * 9
    assert table.rows[0][1:] == ('0: Stem', (16, 16, 24), stem + 32, stem * 16 * 24)
    block = 16 * 16 * 9
    assert table.rows[1][1:] == ('1: 1 x Residual', (16, 16, 24), 2 * (block + 32), 2 * block * 16 * 24)
    by_name = {row.layer: row for row in table.rows if row.branch == 'attention branch'}
    assert by_name['class maps'][2:] == ((10, 8, 12), 2 * 64 + 64 * 10 + 20, 64 * 10 * 96)
    assert by_name['scores'][2:] == ((10,), 100, 100)               # of the average
    assert by_name['map: 3x3, sigmoid'][2:] == ((1, 8, 12), 90 + 2, 90 * 96)
    assert table.rows[-1] == ('perception branch', 'classifier', (10,), 650, 640)


def test_sums():
    for arch, variant in ('wrn-10-1', 'abn'), ('densenet-bc-10-12', 'cam'), ('resnext-11-2x64d', 'abn'):
        net = build(arch, 4, variant)
        table = summary(net)
        assert table.parameters == sum(p.size for p in net.params())
        assert {row.branch for row in table.rows} == {
            'feature extractor', 'perception branch', *(['attention branch'] if variant == 'abn' else [])}


def test_grouped_convolutions_cost_less():
    block = summary(build('resnext-11-2x64d', 4, 'baseline')).rows[1]
    pixels, inside = 32 * 32, 2 * 64
    assert block.multiply_adds == pixels * (
        64 * inside + inside * inside // 2 * 9 + inside * 256 + 64 * 256)


def test_multiply_adds_of_the_published_baselines():
    # VGG16 15.47 and ResNet-18 1.81 billion at 224 px, as published for torchvision
    for arch, published in ('resnet18', 1.81e9), ('vgg16', 15.47e9):
        total = summary(build(arch, 1000, 'baseline')).multiply_adds
        assert abs(total / published - 1) < 0.003


def test_nothing_is_left_in_the_network():
    net = build('resnet8', 3)
    before = {name: p.array.copy() for name, p in net.namedparams()}
    summary(net)
    assert all((p.array == before[name]).all() for name, p in net.namedparams())
    assert net.feature_extractor[0].bn.avg_mean.any() == numpy.False_


def test_the_printed_table():
    text = str(summary(build('wrn-10-1', 10, attention='log-sum'))).splitlines()
    assert text[0] == 'wrn-10-1, Attention Branch Network, 10 classes, 3 x 32 x 32'
    assert text[2].split() == ['layer', 'output', 'parameters', 'multiply-adds']
    assert [line.split('  ')[0] for line in text[3:] if not line.startswith(' ')] == [
        'feature extractor', 'attention branch', 'perception branch', 'total']
    assert any(line.startswith('  map: log-sum') and line.split()[-2:] == ['0', '0'] for line in text)
    assert len({len(line) for line in text[2:]}) == 1
