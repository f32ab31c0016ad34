import math

import pytest

from chainer_abn.training.schedule import Schedule
from chainer_abn.training.settings import settings_of


def test_multistep_of_the_official_cifar_recipe():
    row = settings_of('cifar100')
    schedule = Schedule(row.lr, row.epoch, row.schedule, row.milestones)
    rates = [schedule.rate(epoch) for epoch in (0, 149, 149.99, 150, 224, 225, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_by_hand_in_steps_of_an_epoch():
    schedule = Schedule(0.4, 4, 'cosine')
    assert [schedule.rate(e) for e in (0, 1, 2, 3, 4)] == pytest.approx(
        [0.4, 0.2 + 0.2 * math.sqrt(0.5), 0.2, 0.2 - 0.2 * math.sqrt(0.5), 0], abs=1e-12)
    assert schedule.rate(1.99) == schedule.rate(1)


def test_warmup_rises_by_iteration_and_ends_at_the_base_rate():
    schedule = Schedule(0.1, 10, 'constant', warmup=2)
    step = 1 / 4
    rates = [schedule.rate(i * step, step) for i in range(9)]
    assert rates == pytest.approx([0.0125 * (i + 1) for i in range(8)] + [0.1])


def test_constant():
    assert {Schedule(0.1, 10, 'constant').rate(e) for e in (0, 5, 9.5)} == {0.1}
