"""A time-out follows what was measured, within its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.roundtrip import INITIAL_S, RoundTrips
from tests.gossip.membership.claims import peer

LEAST_S, MOST_S = 0.2, 3.0
TRIPS = st.lists(st.floats(0.0, 100.0), max_size=20)


@given(TRIPS)
def test_a_time_out_never_leaves_its_limits(trips: list[float]) -> None:
    """Whatever was measured."""
    times = RoundTrips(LEAST_S, MOST_S)
    for took_s in trips:
        times.measured(peer(1), took_s)
        assert LEAST_S <= times.timeout_s(peer(1)) <= MOST_S


@given(st.floats(0.3, 1.0), TRIPS)
def test_a_steady_round_trip_is_learned_whatever_came_before(
    steady_s: float, before: list[float]
) -> None:
    """The deviation fades, and the time-out ends just above the round trip."""
    times = RoundTrips(LEAST_S, MOST_S)
    for took_s in [*before, *[steady_s] * 200]:
        times.measured(peer(1), took_s)

    assert steady_s == pytest.approx(times.timeout_s(peer(1)), rel=0.01)


def test_the_first_measurements_count_as_in_rfc_6298() -> None:
    """Smoothed r, deviation r / 2; then 1/8 and 1/4 of the difference."""
    times = RoundTrips(0.1, MOST_S)
    times.measured(peer(1), 0.4)
    assert 0.4 + 4 * 0.2 == pytest.approx(times.timeout_s(peer(1)))

    times.measured(peer(1), 0.8)
    assert 0.45 + 4 * (0.75 * 0.2 + 0.25 * 0.4) == pytest.approx(times.timeout_s(peer(1)))


def test_nothing_measured_or_all_forgotten_is_a_guess() -> None:
    """One second, within the limits; peers do not share what was measured."""
    times = RoundTrips(LEAST_S, MOST_S)
    times.measured(peer(1), 3.0)
    assert INITIAL_S == times.timeout_s(peer(2))

    times.forget(peer(1))
    times.forget(peer(3))

    assert INITIAL_S == times.timeout_s(peer(1))
    assert 2.0 == RoundTrips(2.0, MOST_S).timeout_s(peer(1))
    assert 0.5 == RoundTrips(LEAST_S, 0.5).timeout_s(peer(1))
