"""How long a pull waits: from what it has seen, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import ExchangeConfig
from gossip.errors import UsageError
from gossip.exchange.patience import STALL_STRETCH_MAX, Patience
from gossip.messages import CHUNK_BYTES_MAX

CONFIG = ExchangeConfig()


def test_silence_doubles_until_something_comes() -> None:
    """Up to half of what the holder waits; anew when a chunk comes that was asked for once."""
    patience, waits = Patience(CONFIG, CHUNK_BYTES_MAX, 0.0), []
    for _ in range(6):
        waits.append(patience.silence_s)
        patience.asked_again()

    assert [0.5, 1.0, 2.0, 4.0, 5.0, 5.0] == waits
    patience.arrived(0.05)
    assert 5.0 == patience.silence_s
    patience.arrived(0.1)
    assert 0.5 == patience.silence_s
    patience.arrived(1.1)
    assert 2.0 == patience.silence_s


def test_a_short_chunk_is_asked_for_again_without_waiting_longer() -> None:
    """Silence about a few bytes is a lost frame; only a pace seen before is allowed for."""
    patience, waits = Patience(CONFIG, CHUNK_BYTES_MAX // 8, 0.0), []
    for _ in range(20):
        patience.asked_again()
        waits.append(patience.silence_s)
    patience.arrived(100.0)
    patience.arrived(101.0)
    patience.asked_again()

    assert {0.625} == set(waits)
    assert 2.0 == patience.silence_s


def test_a_single_long_gap_is_soon_forgotten_but_not_by_the_stall() -> None:
    """Asking again follows the present pace; giving up, the slowest seen."""
    patience, now = Patience(CONFIG, CHUNK_BYTES_MAX, 0.0), 4.0
    patience.arrived(now)
    for _ in range(5):
        now += 0.01
        patience.arrived(now)

    assert 0.5 == patience.silence_s
    assert 16.0 == patience.stall_s


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

    assert CONFIG.retry_s <= patience.silence_s <= CONFIG.withdraw_after_s / 2
    assert 1 <= patience.stall_s / CONFIG.withdraw_after_s <= STALL_STRETCH_MAX


def test_an_upload_limit_no_receiver_has_the_patience_for_is_refused() -> None:
    """The smallest rate that works is named, and works."""
    smallest = 209_716
    with pytest.raises(UsageError, match=r"at least 209,716 .* not 100,000"):
        ExchangeConfig(upload_bytes_per_s=100_000)

    config = ExchangeConfig(upload_bytes_per_s=smallest)
    assert CHUNK_BYTES_MAX / config.upload_bytes_per_s <= config.withdraw_after_s / 2
