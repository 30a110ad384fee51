"""The byte budget: never more than a burst and a rate, and never a wait without end."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gossip.exchange.budget import TokenBucket

RATES = st.floats(1.0, 1e9)
BURST_MIN = 1000


@given(
    rate=RATES,
    wishes=st.lists(st.tuples(st.floats(0, 3), st.integers(1, BURST_MIN)), max_size=40),
)
def test_over_any_span_at_most_burst_and_rate_are_taken(
    rate: float, wishes: list[tuple[float, int]]
) -> None:
    """For every pair of moments, not only from the start."""
    bucket = TokenBucket(rate, BURST_MIN, 50.0)
    burst, now = max(rate, BURST_MIN), 50.0
    taken: list[tuple[float, int]] = []
    for pause_s, size in wishes:
        now += pause_s
        while bucket.take(size, now):
            taken.append((now, size))
            if len(taken) > 500:
                break
    for first in range(0, len(taken), 7):
        total = 0
        for at, size in taken[first:]:
            total += size
            assert total <= (burst + rate * (at - taken[first][0])) * (1 + 1e-9)


@given(
    rate=st.floats(1.0, 20_000.0),
    sizes=st.lists(st.integers(100, BURST_MIN), min_size=1, max_size=20),
)
def test_what_is_refused_now_is_granted_when_it_said(rate: float, sizes: list[int]) -> None:
    """No spinning: one wait until ``ready_at`` is enough, and it is not longer than it must be."""
    bucket, now = TokenBucket(rate, BURST_MIN, 0.0), 0.0
    for size in sizes:
        while bucket.take(size, now):
            pass
        ready = bucket.ready_at(size)
        assert now < ready <= now + size / rate + 2e-6
        now = ready
        assert bucket.take(size, now)


def test_a_full_bucket_holds_one_second_or_one_chunk() -> None:
    """A slow link may still send a whole chunk; a fast one saves up a second, not more."""
    slow, fast = TokenBucket(10.0, 1000, 0.0), TokenBucket(5000.0, 1000, 0.0)

    assert slow.take(1000, 500.0)
    assert not slow.take(1, 500.0)
    assert fast.take(5000, 500.0)
    assert not fast.take(1, 500.0)


def test_no_limit_is_no_limit() -> None:
    """An infinite rate always grants and is always ready."""
    bucket = TokenBucket(math.inf, 1000, 3.0)

    assert all(bucket.take(1 << 40, 3.0) for _ in range(3))
    assert bucket.ready_at(1 << 40) <= 3.0
