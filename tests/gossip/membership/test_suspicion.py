"""A trial ends in its time, earlier with more accusers, and only starvation moves it back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.suspicion import Suspicions, Trial
from gossip.messages import PeerId
from tests.gossip.membership.claims import peer, suspect

MIN_S, MAX_S = 5.0, 25.0


def trial(began_at: float = 0.0, enough: int = 3, incarnation: int = 0) -> Trial:
    """One of peer 2."""
    accused = suspect(2, incarnation=incarnation)
    return Trial(accused, began_at, MIN_S, MAX_S, enough, began_at + MAX_S)


@given(st.integers(1, 5), st.lists(st.integers(3, 9).map(peer), min_size=1, max_size=12))
def test_a_deadline_falls_with_independent_accusers_and_never_rises(
    enough: int, accusers: list[PeerId]
) -> None:
    """M15, M16: between min and max, min with enough; who repeats itself does not count, and who
    takes it back does not give the suspect its time again."""
    doubts, ends = Suspicions(), []
    for number, accuser in enumerate(accusers):
        known = dict.fromkeys(accusers[:number])
        assert (accuser not in known) == doubts.accuse(trial(enough=enough), accuser, False)
        ends.append(doubts.deadline())
        different = len(dict.fromkeys(accusers[: number + 1]))
        assert MIN_S <= ends[-1] <= MAX_S
        assert (different >= enough) == (ends[-1] == MIN_S)
        if different == 1 < enough:
            assert MAX_S == ends[-1]

    assert all(after <= before for before, after in pairwise(ends))
    doubts.retract(peer(2), accusers[0])
    doubts.accuse(trial(enough=enough), peer(99), False)
    assert doubts.deadline() <= ends[-1] or 1 == len(dict.fromkeys(accusers))


def test_a_trial_is_due_once_and_stays_until_it_is_cleared() -> None:
    """One without enough accusers may still find them; then it is due at once."""
    doubts = Suspicions()
    doubts.accuse(trial(), peer(3), False)

    assert [] == doubts.due(24.9)
    assert [suspect(2)] == [each.suspect for each in doubts.due(25.0)]
    assert [] == doubts.due(99.0)
    assert math.inf == doubts.deadline()

    doubts.accuse(trial(99.0), peer(4), False)
    assert doubts.deadline() <= 99.0
    assert [[peer(3), peer(4)]] == [list(each.accusers) for each in doubts.due(99.0)]

    doubts.clear(peer(2))
    doubts.clear(peer(9))
    assert {} == doubts.open


def test_a_later_life_starts_a_new_trial() -> None:
    """The refutation of the older one bought the suspect its full time again."""
    doubts = Suspicions()
    doubts.accuse(trial(), peer(3), False)
    doubts.accuse(trial(10.0, incarnation=1), peer(4), False)

    held = doubts.get(peer(2))
    assert held is not None
    assert [peer(4)] == list(held.accusers)
    assert 35.0 == doubts.deadline()


def test_a_trial_without_accusers_is_over() -> None:
    """Taking back what was never said is nothing."""
    doubts = Suspicions()
    doubts.accuse(trial(), peer(3), False)
    doubts.retract(peer(2), peer(4))
    doubts.retract(peer(5), peer(4))
    assert None is not doubts.get(peer(2))

    doubts.retract(peer(2), peer(3))

    assert None is doubts.get(peer(2))
    assert math.inf == doubts.deadline()


def test_a_starved_peer_gives_every_suspect_more_time() -> None:
    """M17: by as much as it was starved; one whose time was up gets some again."""
    doubts = Suspicions()
    doubts.accuse(trial(), peer(3), False)
    doubts.extend(3.0, 0.0)
    doubts.extend(1.0, 0.0)

    assert [] == doubts.due(28.9)
    assert 1 == len(doubts.due(29.0))

    doubts.extend(2.0, 0.0)
    assert 31.0 == doubts.deadline()

    doubts.extend(2.0, 40.0)
    assert 40.0 == doubts.deadline()
    for accuser in range(4, 9):  # what waited in the inbox
        doubts.accuse(trial(), peer(accuser), False)
    assert 40.0 == doubts.deadline()

    doubts.clear_all()
    assert [] == doubts.due(99.0)


def test_two_of_three_accusers_shorten_by_the_logarithm() -> None:
    """Lifeguard's formula, with the first accuser for none."""
    doubts = Suspicions()
    for accuser in (3, 4):
        doubts.accuse(trial(), peer(accuser), False)

    assert pytest.approx(MAX_S - (MAX_S - MIN_S) * math.log(2, 3)) == doubts.deadline()
