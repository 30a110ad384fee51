"""Who comes back again and again holds no shards for a while."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.flaps import FORGET_BELOW, Flaps
from tests.gossip.membership.claims import peer


@given(st.lists(st.floats(0.0, 50.0), max_size=12), st.floats(0.0, 100.0))
def test_points_are_the_sum_of_all_returns_each_halved_with_time(
    waits: list[float], later: float
) -> None:
    """One a return; what has become too little may be forgotten."""
    flaps, times = Flaps(10.0, 3.0), list(accumulate(waits))
    for at in times:
        flaps.returned(peer(1), at, 1000)
    now = (times[-1] if times else 0.0) + later

    exact = sum(0.5 ** ((now - at) / 10.0) for at in times)
    assert exact == pytest.approx(flaps.points(peer(1), now), abs=FORGET_BELOW)


def test_too_many_returns_end_the_trust_until_they_fade() -> None:
    """The limit itself is still fine; other peers are not touched."""
    flaps = Flaps(10.0, 3.0)
    for _ in range(3):
        flaps.returned(peer(1), 0.0, 1000)
    assert flaps.is_steady(peer(1), 0.0)

    flaps.returned(peer(1), 0.0, 1000)

    assert not flaps.is_steady(peer(1), 0.0)
    assert flaps.is_steady(peer(2), 0.0)
    assert not flaps.is_steady(peer(1), 4.0)
    assert flaps.is_steady(peer(1), 4.2)


def test_only_those_who_flap_are_remembered() -> None:
    """M27: the number of peers that ever came back does not matter."""
    flaps = Flaps(10.0, 3.0)
    for number in range(1000):
        flaps.returned(peer(number), float(number), 1000)

    assert 200 > len(flaps._points)
    assert 40 > len(flaps._recent)


def test_a_split_that_heals_is_held_against_nobody() -> None:
    """When half of all come back at once, again and again, it was the network."""
    flaps = Flaps(600.0, 3.0)
    for split in range(6):
        for number in range(50):
            flaps.returned(peer(number), 100.0 * split + number / 100, 100)

    assert all(flaps.is_steady(peer(number), 600.0) for number in range(50))


def test_those_that_come_back_at_once_share_one_score() -> None:
    """Half of a large group; what one of them does later is its own."""
    flaps = Flaps(600.0, 3.0)
    for number in range(2, 40):
        flaps.returned(peer(number), 5.0, 60)

    scores = {id(flaps._points[peer(number)]) for number in range(2, 40)}
    assert len(scores) == 1
    flaps.returned(peer(2), 100.0, 60)
    assert 0.0 == flaps.points(peer(3), 100.0)
    assert 1.0 == flaps.points(peer(2), 100.0)
