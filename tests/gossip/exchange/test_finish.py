"""When finalise() ends: enough swaps, or out of time; then lingering for the others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import Config, ExchangeConfig, FinishConfig
from gossip.exchange.finish import Finishing, swaps_to_agree
from gossip.messages import Phase

CONFIG = Config(exchange=ExchangeConfig(fragments=2), finish=FinishConfig())


@pytest.mark.parametrize("peers, swaps", [(1, 0), (2, 4), (3, 5), (4, 5), (5, 6), (8, 6), (9, 7)])
def test_the_swaps_to_agree_are_the_logarithm_and_three(peers: int, swaps: int) -> None:
    """Rule 9: ceil(log2 N) + 3; alone there is nobody to agree with."""
    assert swaps == swaps_to_agree(peers, 3)


@given(peers=st.integers(2, 5000), extra=st.integers(0, 9))
def test_more_peers_never_need_fewer_swaps(peers: int, extra: int) -> None:
    """And twice as many need one more."""
    assert swaps_to_agree(peers, extra) <= swaps_to_agree(peers + 1, extra)
    assert swaps_to_agree(2 * peers, extra) == swaps_to_agree(peers, extra) + 1


def test_every_fragment_must_have_had_enough() -> None:
    """The slowest fragment decides."""
    finishing = Finishing(CONFIG, together=False, now=100.0)
    for _ in range(9):
        finishing.settled(0)
    for _ in range(3):
        finishing.settled(1)
    assert 3 == finishing.swaps
    assert not finishing.has_enough(2, 100.0)

    finishing.settled(1)
    assert finishing.has_enough(2, 100.0)
    assert not finishing.has_enough(3, 100.0)
    assert not finishing.timed_out


def test_time_ends_it_and_says_so() -> None:
    """The deadline holds even with no swap at all; enough swaps in time are no time-out."""
    finishing = Finishing(CONFIG, together=False, now=100.0)
    limit = 100.0 + CONFIG.finish.deadline_s

    assert limit == finishing.deadline
    assert not finishing.has_enough(4, math.nextafter(limit, 0))
    assert not finishing.timed_out
    assert finishing.has_enough(4, limit)
    assert finishing.timed_out


def test_alone_it_is_over_at_once() -> None:
    """One peer agrees with itself."""
    finishing = Finishing(CONFIG, together=True, now=0.0)

    assert finishing.has_enough(1, 0.0)
    finishing.stop_mixing(0.0)
    assert finishing.may_go([], 0.0)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("together", [False, True])
def test_who_is_waited_for_depends_on_whether_the_run_ends(phase: Phase, together: bool) -> None:
    """Together: also for those who still train. Never for newcomers or those who are done."""
    finishing = Finishing(CONFIG, together, now=0.0)
    finishing.stop_mixing(50.0)

    waits = phase is Phase.FINISHING or (together and phase is Phase.TRAINING)
    assert waits != finishing.may_go([Phase.FINISHED, phase], 50.0)


def test_lingering_ends_by_the_clock() -> None:
    """A peer that never finishes holds nobody for longer than linger_s."""
    finishing = Finishing(CONFIG, together=True, now=0.0)
    finishing.stop_mixing(50.0)
    assert not finishing.is_mixing

    limit = 50.0 + CONFIG.finish.linger_s
    assert not finishing.may_go([Phase.FINISHING], math.nextafter(limit, 0))
    assert finishing.may_go([Phase.FINISHING], limit)
