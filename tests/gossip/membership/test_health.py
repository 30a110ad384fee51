"""How far a peer trusts its own judgement stays within limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.health import SCORE_MAX, Health


@given(st.lists(st.one_of(st.none(), st.integers(1, 9))))
def test_the_score_stays_within_its_limits(signs: list[int | None]) -> None:
    """M20: 0 to 7, one better or so much worse at a time; the factor is one more."""
    health, expected = Health(), 0
    for worse in signs:
        if worse is None:
            health.better()
            expected = max(0, expected - 1)
        else:
            health.worse(worse)
            expected = min(SCORE_MAX, expected + worse)
        assert 0 <= expected == health.score <= 7
        assert 1 + expected == health.factor
