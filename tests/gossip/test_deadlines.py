"""Deadlines against the simplest thing that could work: a sorted list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.deadlines import Alarm, Deadlines, ManyDeadlines

KINDS = (Deadlines, ManyDeadlines)
Kind = type[Deadlines[str]] | type[ManyDeadlines[str]]
NAMES = st.sampled_from("abcde")
TIMES = st.integers(0, 20).map(float)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), NAMES, TIMES),
        st.tuples(st.just("clear"), NAMES, TIMES),
        st.tuples(st.just("due"), NAMES, TIMES),
    ),
    max_size=60,
)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=STEPS)
def test_deadlines_are_a_sorted_list_of_names(
    kind: Kind, steps: list[tuple[str, str, float]]
) -> None:
    """Setting moves, clearing forgets, ringing takes out in order; ties in the order set."""
    real = kind()
    model: list[tuple[float, str]] = []  # in the order set
    for step, name, at in steps:
        if step == "due":
            rings = sorted([each for each in model if each[0] <= at], key=lambda each: each[0])
            model = [each for each in model if each[0] > at]
            assert [each for _, each in rings] == real.due(at)
        else:
            model = [each for each in model if each[1] != name]
            if step == "set":
                model.append((at, name))
                real.set(name, at)
            else:
                real.clear(name)
        assert min((each for each, _ in model), default=math.inf) == real.earliest()
        for each in "abcde":
            assert (each in [name for _, name in model]) == (each in real)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_set_is_never_due(kind: Kind) -> None:
    """Infinity, and an empty list at any time."""
    empty = kind()

    assert math.inf == empty.earliest()
    assert [] == empty.due(1e300)


def test_a_deadline_that_moves_often_costs_no_memory() -> None:
    """A busy transfer moves its deadlines at every chunk, long before the old ones come up."""
    real: Deadlines[str] = Deadlines()
    real.set("early", 1.0)
    for step in range(10_000):
        real.set("late", 10.0 + step)
        real.set("cleared", 5.0 + step)
        real.clear("cleared")

    assert len(real._times) == 2
    assert ["early"] == real.due(9_999.0)
    assert 10_009.0 == real.earliest()


def test_names_set_for_one_time_share_it_until_it_is_over() -> None:
    """Thousands of tombstones are set in a few moments, and end or are cleared together."""
    real: ManyDeadlines[int] = ManyDeadlines()
    for name in range(1000):
        real.set(name, float(name // 100))

    assert len(real._order) == 10
    for name in range(100):
        real.clear(name)
    assert len(real._order) == 9
    assert 1.0 == real.earliest()
    assert list(range(100, 700)) == real.due(6.0)
    assert len(real._order) == 3


def test_a_name_that_comes_and_goes_for_years_leaves_no_time_behind() -> None:
    """A member that flaps, beside one that is gone for long."""
    real: ManyDeadlines[str] = ManyDeadlines()
    real.set("gone", 5.0)
    for at in range(10, 10_000):
        real.set("flaps", float(at))
        if at % 2:
            real.clear("flaps")

    assert len(real._order) == 1
    assert 5.0 == real.earliest()


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 3)),
        max_size=60,
    )
)
@settings(deadline=None, max_examples=100)
def test_an_alarm_is_the_earliest_of_what_it_hears(steps: list[tuple[int, str, int, int]]) -> None:
    """However they are set, moved, cleared and rung, and however seldom it is asked."""
    heard: list[Deadlines[str] | ManyDeadlines[str]] = [Deadlines(), ManyDeadlines(), Deadlines()]
    alarm = Alarm(*heard)
    for which, name, at, action in steps:
        if action < 2:
            heard[which].set(name, float(at))
        elif action == 2:
            heard[which].clear(name)
        else:
            heard[which].due(float(at))
        if at % 2:  # it need not be asked after every step
            assert alarm.earliest() == min(each.earliest() for each in heard)
    assert alarm.earliest() == min(each.earliest() for each in heard)
