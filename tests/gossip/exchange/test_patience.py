"""How long a pull waits: from what it has seen, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import ExchangeConfig
from gossip.errors import UsageError
from gossip.exchange.patience import SLOWEST_WAITS, STALL_STRETCH_MAX, Pace, Patience
from gossip.messages import CHUNK_BYTES_MAX

CONFIG = ExchangeConfig()


def test_the_slowest_link_is_assumed_until_something_comes() -> None:
    """A long chunk may be on its way for half a minute; a short one is soon asked for again."""
    assert 30.0 == Patience(CONFIG, CHUNK_BYTES_MAX, 0.0).silence_s
    assert 40.0 == Patience(CONFIG, CHUNK_BYTES_MAX, 0.0).stall_s
    assert 3.75 == Patience(CONFIG, CHUNK_BYTES_MAX // 8, 0.0).silence_s
    assert 0.5 == Patience(CONFIG, 256, 0.0).silence_s


def test_silence_doubles_until_something_comes() -> None:
    """Up to what the slowest link takes; anew when a chunk comes that was asked for once."""
    patience, waits = Patience(CONFIG, CHUNK_BYTES_MAX, 0.0), []
    patience.arrived(1.0)
    for _ in range(5):
        waits.append(patience.silence_s)
        patience.asked_again()

    assert [4.0, 8.0, 16.0, 30.0, 30.0] == waits
    patience.arrived(1.05)
    assert 30.0 == patience.silence_s
    patience.arrived(1.1)
    assert 2.0 == patience.silence_s
    patience.arrived(3.1)
    assert 8.0 == patience.silence_s


def test_a_short_chunk_is_asked_for_again_without_waiting_longer() -> None:
    """Silence about a few bytes is a lost frame; only a pace seen before is allowed for."""
    patience, waits = Patience(CONFIG, CHUNK_BYTES_MAX // 32, 0.0), []
    for _ in range(20):
        patience.asked_again()
        waits.append(patience.silence_s)
    patience.arrived(100.0)
    patience.arrived(101.0)
    patience.asked_again()

    assert {0.9375} == set(waits)
    assert 4.0 == patience.silence_s


@given(st.floats(0.05, 20.0), st.integers(1, 4))
def test_a_chunk_that_keeps_the_pace_is_neither_repeated_nor_given_up(
    gap_s: float, sharers: int
) -> None:
    """Nor when another transfer of the same holder begins and its chunks go between."""
    patience, now = Patience(CONFIG, CHUNK_BYTES_MAX, 0.0), 0.0
    for chunks in (1, 1, 1, min(sharers, 3), sharers, sharers):
        late_s = chunks * gap_s
        assert late_s < patience.silence_s or late_s >= 30.0
        assert late_s < patience.stall_s or late_s >= 40.0
        now += late_s
        patience.arrived(now)


def test_what_was_learned_serves_the_next_transfer() -> None:
    """For asking again, not for giving up; a longer chunk is given more time."""
    first = Patience(CONFIG, 1000, 10.0)
    first.arrived(12.0)
    first.arrived(13.0)
    pace = first.pace(1500)

    assert Pace(2.0, 1000, 500.0) == pace
    assert 8.0 == Patience(CONFIG, CHUNK_BYTES_MAX // 2, 20.0, Pace(2.0, 1 << 19, 1.0)).silence_s
    assert 16.0 == Patience(CONFIG, CHUNK_BYTES_MAX, 20.0, Pace(2.0, 1 << 19, 1.0)).silence_s
    assert 40.0 == Patience(CONFIG, CHUNK_BYTES_MAX, 20.0, pace).stall_s


def test_no_memory_makes_the_first_wait_longer_than_knowing_nothing() -> None:
    """Lost frames look like a slow link; a few bytes are asked for again as soon as ever."""
    for chunk_bytes in (256, 1 << 17, CHUNK_BYTES_MAX):
        fresh = Patience(CONFIG, chunk_bytes, 0.0).silence_s
        assert fresh == Patience(CONFIG, chunk_bytes, 0.0, Pace(1e6, chunk_bytes, 1.0)).silence_s


def test_nothing_is_learned_from_a_first_chunk_that_was_asked_for_twice() -> None:
    """Nobody knows which Want it answered."""
    patience = Patience(CONFIG, 1000, 0.0)
    patience.asked_again()
    patience.arrived(1.0)
    patience.arrived(1.1)

    assert patience.pace(2000) is None


def test_a_single_long_gap_is_soon_forgotten_but_not_by_the_stall() -> None:
    """Asking again follows the present pace; giving up, the slowest seen."""
    patience, now = Patience(CONFIG, CHUNK_BYTES_MAX, 0.0), 4.0
    patience.arrived(now)
    for _ in range(6):
        now += 0.01
        patience.arrived(now)

    assert 0.5 == patience.silence_s
    assert 32.0 == patience.stall_s


@given(
    st.lists(st.floats(0.0, 1e6), max_size=20), st.integers(0, 20), st.integers(1, CHUNK_BYTES_MAX)
)
def test_no_pace_makes_anybody_wait_without_end(
    gaps_s: list[float], repeats: int, chunk_bytes: int
) -> None:
    """Never shorter than configured, never longer than a few times that."""
    patience, now = Patience(CONFIG, chunk_bytes, 0.0), 0.0
    for gap_s in gaps_s:
        now += gap_s
        patience.arrived(now)
    for _ in range(repeats):
        patience.asked_again()

    assert CONFIG.retry_s <= patience.silence_s <= SLOWEST_WAITS * CONFIG.withdraw_after_s
    assert 1 <= patience.stall_s / CONFIG.withdraw_after_s <= STALL_STRETCH_MAX


def test_an_upload_limit_no_receiver_has_the_patience_for_is_refused() -> None:
    """The smallest rate that works is named, and works."""
    smallest = 209_716
    with pytest.raises(UsageError, match=r"at least 209,716 .* not 100,000"):
        ExchangeConfig(upload_bytes_per_s=100_000)

    config = ExchangeConfig(upload_bytes_per_s=smallest)
    assert CHUNK_BYTES_MAX / config.upload_bytes_per_s <= config.withdraw_after_s / 2
