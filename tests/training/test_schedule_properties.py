"""What holds for any schedule."""
import math
from types import SimpleNamespace

import pytest
from helpers import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from chainer_abn.training.schedule import SCHEDULES, Schedule

RATES, EPOCHS = st.floats(1e-6, 10), st.integers(1, 100)
SCHEDULED = st.builds(Schedule, RATES, EPOCHS, st.sampled_from(SCHEDULES), st.lists(EPOCHS, max_size=4),
                      st.floats(0, 1), st.floats(0, 20))


class Updater:
    """Where a training is: so many images of an epoch's done."""

    def __init__(self, batchsize, n):
        self.iteration, self.optimizer = 0, SimpleNamespace(lr=None)
        self.iterator = SimpleNamespace(batch_size=batchsize, dataset=range(n))

    @property
    def epoch_detail(self):
        return self.iteration * self.iterator.batch_size / len(self.iterator.dataset)

    def get_iterator(self, name):
        return self.iterator

    def get_optimizer(self, name):
        return self.optimizer


def rates(schedule, updater, begin, end):
    """As a trainer sets them: when it begins, and after each iteration for the next."""
    trainer, found = SimpleNamespace(updater=updater), []
    updater.iteration = begin
    schedule.initialize(trainer)
    for updater.iteration in range(begin + 1, end + 1):
        found.append(updater.optimizer.lr)
        schedule(trainer)
    return found


@PROPERTY
@given(SCHEDULED, st.integers(1, 8), st.integers(8, 50), st.data())
def test_a_resumed_training_has_the_rates_of_an_uninterrupted_one(schedule, batchsize, n, data):
    end = data.draw(st.integers(1, 60))
    cut = data.draw(st.integers(0, end))
    again = Schedule(schedule.lr, schedule.epochs, schedule.kind, schedule.milestones, schedule.gamma,
                     schedule.warmup)
    whole = rates(schedule, Updater(batchsize, n), 0, end)
    assert whole[:cut] + rates(again, Updater(batchsize, n), cut, end) == whole


@PROPERTY
@given(SCHEDULED, st.floats(0, 1), st.lists(st.floats(0, 110), min_size=1, max_size=20))
def test_no_rate_is_negative_or_above_the_base(schedule, step, places):
    for place in places:
        assert 0 <= schedule.rate(place, step) <= schedule.lr


@PROPERTY
@given(RATES, EPOCHS, st.lists(EPOCHS, max_size=4), st.floats(0, 1))
def test_multistep_multiplies_once_at_each_milestone(lr, epochs, milestones, gamma):
    schedule = Schedule(lr, epochs, 'multistep', milestones, gamma)
    wanted = lr
    for epoch in range(epochs + 1):
        wanted *= gamma ** milestones.count(epoch)
        assert schedule.rate(epoch) == schedule.rate(epoch + 0.99) == pytest.approx(wanted, rel=1e-9)


@PROPERTY
@given(RATES, EPOCHS)
def test_cosine_falls_from_the_base_rate_to_nothing(lr, epochs):
    found = [Schedule(lr, epochs, 'cosine').rate(epoch) for epoch in range(epochs + 1)]
    assert found[0] == lr and found[-1] == 0
    assert all(after < before for before, after in zip(found, found[1:], strict=False))
    # as much above the half before the middle as below behind it
    for a, b in zip(found, found[::-1], strict=True):
        assert math.isclose(a + b, lr)


@PROPERTY
@given(SCHEDULED, st.integers(1, 8), st.integers(8, 50))
def test_warmup_is_a_line_that_ends_at_the_base_rate(schedule, batchsize, n):
    step = batchsize / n
    inside = math.ceil(schedule.warmup / step)
    found = rates(schedule, Updater(batchsize, n), 0, inside)
    for i, rate in enumerate(found, 1):
        assert rate == pytest.approx(schedule.lr * min(i * step / schedule.warmup, 1))
    if inside:
        assert found[-1] == pytest.approx(schedule.lr)
