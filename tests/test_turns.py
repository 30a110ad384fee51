"""Tests that must be alone are, though several processes run tests side by side."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.conftest import TURNS
from tests.lab.turns import Turns

LONG_S = 10.0
"""Far above what a free turn takes."""
SHORT_S = 0.1
"""What shows that a turn is not free: long enough to be given, if it could be."""


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[list[Turns]]:
    """Three processes' turns at one machine."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Turns(tmp_path))) for _ in range(3)]


def beginning(turns: Turns, alone: bool) -> Callable[[float], bool]:
    """Begin in a thread; what is returned waits so long and says whether the turn came."""
    begun = threading.Event()

    def begin() -> None:
        turns.begin(alone)
        begun.set()

    threading.Thread(target=begin, daemon=True).start()
    return begun.wait


def test_most_run_side_by_side(turns: list[Turns]) -> None:
    """As many as there are processes."""
    assert all(beginning(each, alone=False)(LONG_S) for each in turns)


@pytest.mark.parametrize("first", [True, False])
def test_one_that_is_alone_waits_for_others_and_they_for_it(
    turns: list[Turns], first: bool
) -> None:
    """Whichever of them came first."""
    one, two, _ = turns
    one.begin(alone=first)
    second = beginning(two, alone=not first)
    assert not second(SHORT_S)
    one.end(stay=False)
    assert second(LONG_S)


def test_one_that_waits_to_be_alone_is_not_kept_waiting(turns: list[Turns]) -> None:
    """Who comes later runs later, or short tests without end would hold it up."""
    one, two, three = turns
    one.begin(alone=False)
    second = beginning(two, alone=True)
    assert not second(SHORT_S)
    third = beginning(three, alone=False)
    assert not third(SHORT_S)
    one.end(stay=False)
    assert second(LONG_S)
    assert not third(SHORT_S)
    two.end(stay=False)
    assert third(LONG_S)


def test_one_after_the_other_alone_is_one_turn(turns: list[Turns]) -> None:
    """Nobody comes in between; and who is not alone does not stay."""
    one, two, _ = turns
    one.begin(alone=True)
    second = beginning(two, alone=False)
    one.end(stay=True)
    assert not second(SHORT_S)
    one.begin(alone=True)
    one.end(stay=False)
    assert second(LONG_S)
    two.end(stay=True)
    assert beginning(one, alone=True)(LONG_S)


def test_those_that_must_be_alone_are_one_share(turns: list[Turns]) -> None:
    """They go to one process in a row, whichever has said which they are; others one by one."""
    pytest.importorskip("xdist", reason="without it there is one process only")
    from tests.lab.sharing import Sharing

    one, two, _ = turns
    one.note(["a", "c"])
    two.note(["a", "c"])
    sharing = object.__new__(Sharing)
    sharing._turns = two
    assert ["alone", "b", "alone", "d"] == list(map(sharing._split_scope, "abcd"))


def is_open(how: int) -> bool:
    """Whether a test in another process could run now, in this way."""
    with (Path(os.environ[TURNS]) / "room").open("w") as room:
        try:
            fcntl.flock(room, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_noted(name: str) -> bool:
    """Whether the test is one of those that must be alone."""
    with closing(Turns(Path(os.environ[TURNS]))) as turns:
        return name in turns.noted()


@pytest.mark.alone
def test_a_marked_test_is_alone(request: pytest.FixtureRequest) -> None:
    """This one, now."""
    assert is_noted(request.node.nodeid)
    assert not is_open(fcntl.LOCK_SH)


def test_any_other_is_not(request: pytest.FixtureRequest) -> None:
    """This one: others may run, but none that must be alone."""
    assert not is_noted(request.node.nodeid)
    assert is_open(fcntl.LOCK_SH)
    assert not is_open(fcntl.LOCK_EX)
