"""A suspicion ends once, at its time, and only stall compensation moves it."""

from __future__ import annotations

import math

from gossip.membership.suspicion import Suspicions
from gossip.messages import Status
from tests.gossip.membership.claims import peer, record

SUSPECT = record(2, status=Status.SUSPECT)


def test_a_suspect_is_due_once_its_time_is_up() -> None:
    """Not before, and not twice."""
    doubts = Suspicions(0.5)
    doubts.start(SUSPECT, 0.0, 5.0)

    assert [] == doubts.due(4.9)
    assert [SUSPECT] == doubts.due(5.0)
    assert [] == doubts.due(9.0)
    assert [] == doubts.to_ask(9.0)
    assert math.inf == doubts.deadline()


def test_hearing_the_same_suspicion_again_does_not_move_its_end() -> None:
    """Else a rumor going round would keep a suspect in doubt for ever."""
    doubts = Suspicions(0.5)
    doubts.start(SUSPECT, 0.0, 5.0)
    doubts.start(SUSPECT, 1.0, 8.0)

    assert [SUSPECT] == doubts.due(5.0)


def test_the_suspect_is_asked_whenever_half_of_its_time_left_has_passed() -> None:
    """As long as an answer can still come in time."""
    doubts = Suspicions(0.5)
    doubts.start(SUSPECT, 0.0, 4.0)
    asked: list[float] = []
    while doubts.deadline() < 4.0:
        asked.append(doubts.deadline())
        assert [peer(2)] == doubts.to_ask(doubts.deadline())

    assert [2.0, 3.0, 3.5] == asked


def test_a_later_claim_starts_a_new_doubt() -> None:
    """The refutation of the older one bought the suspect its full time again."""
    doubts = Suspicions(0.5)
    later = record(2, incarnation=1, status=Status.SUSPECT)
    doubts.start(SUSPECT, 0.0, 5.0)
    doubts.start(later, 1.0, 8.0)

    assert [] == doubts.due(5.0)
    assert [later] == doubts.due(9.0)


def test_a_settled_doubt_is_never_due() -> None:
    """Clearing an unknown peer is allowed."""
    doubts = Suspicions(0.5)
    doubts.start(SUSPECT, 0.0, 5.0)
    doubts.clear(peer(2))
    doubts.clear(peer(3))

    assert [] == doubts.due(9.0)
    assert [] == doubts.to_ask(9.0)


def test_a_starved_peer_gives_every_suspect_more_time() -> None:
    """By as much as it was starved."""
    doubts = Suspicions(0.5)
    doubts.start(SUSPECT, 0.0, 5.0)
    doubts.extend(3.0)
    doubts.extend(1.0)

    assert [] == doubts.due(8.9)
    assert [SUSPECT] == doubts.due(9.0)
