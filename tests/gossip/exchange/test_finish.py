"""When finalise() ends: swaps show no difference, or time is up; then lingering for others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import Config, ExchangeConfig, FinishConfig
from gossip.exchange.finish import AGREED, Finishing, Stand, is_exact, swaps_to_agree
from gossip.machine import Finalised
from gossip.messages import Phase

EXACT = Config(
    exchange=ExchangeConfig(codec="wrap4", reply_codec="int4", finish_codec="fp32", fragments=2)
)
COARSE = Config(exchange=ExchangeConfig(codec="int8", reply_codec="int8", fragments=2))
END_S = 100.0 + EXACT.finish.deadline_s
FAR = 2 * AGREED
ALL_MIX = [Phase.FINISHING] * 3
ALL_DONE = [Phase.FINISHED] * 3


def finishing(config: Config = EXACT, together: bool = True) -> Finishing:
    """Begun at 100 s."""
    return Finishing(config, together, now=100.0)


def swapped(one: Finishing, *disagreements: float) -> Finishing:
    """So many swaps of each fragment."""
    for each in disagreements:
        for fragment in range(2):
            one.settled(fragment, each)
    return one


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
    """The slowest fragment decides, and so does the one that is farthest apart."""
    one = swapped(finishing(), 0.0, 0.0, 0.0, 0.0)
    one.settled(0, 0.0)
    assert one.judge(ALL_DONE, 100.0) is Stand.MIXING
    one.settled(1, FAR)
    assert one.swaps == 5
    assert one.judge(ALL_DONE, 100.0) is Stand.MIXING
    for _ in range(3):
        one.settled(1, AGREED)
    assert one.judge(ALL_DONE, 100.0) is Stand.OVER


@given(shown=st.lists(st.sampled_from([0.0, AGREED, FAR, math.inf]), max_size=12))
def test_exact_swaps_end_with_three_that_show_nothing(shown: list[float]) -> None:
    """However many there were, and whatever they showed before."""
    one = swapped(finishing(), *shown)
    enough = len(shown) >= 5 and max(shown[-3:]) <= AGREED
    assert one.judge(ALL_DONE, 100.0) is (Stand.OVER if enough else Stand.MIXING)
    if enough:
        assert one.report() == Finalised(len(shown), True, max(shown[-3:]))


def test_coarse_swaps_end_by_their_number() -> None:
    """They never come so near; and the largest difference is told."""
    one = swapped(finishing(COARSE), 0.5, 0.4, 0.3, 0.2, 0.1)
    assert one.judge(ALL_DONE, 100.0) is Stand.OVER
    assert one.report() == Finalised(5, True, 0.3)


def test_while_others_train_a_number_of_swaps_is_all_there_can_be() -> None:
    """Not together that is what was asked for; together it is no agreement."""
    phases = [Phase.TRAINING, Phase.FINISHED, Phase.FINISHED]
    alone = swapped(finishing(together=False), *[FAR] * 5)
    assert alone.judge(phases, 100.0) is Stand.OVER
    assert alone.report() == Finalised(5, True, FAR)
    one = swapped(finishing(), *[0.0] * 5)
    assert one.judge(phases, 100.0) is Stand.ANSWERING
    assert one.judge(phases, 100.0 + EXACT.finish.linger_s) is Stand.OVER
    assert not one.report().agreed


def test_when_the_last_one_has_ended_its_training_all_mix_again() -> None:
    """What it brought is in no one else's model yet; and a late difference is mixed away too."""
    one = swapped(finishing(), *[FAR] * 5)
    assert one.judge([Phase.TRAINING], 100.0) is Stand.ANSWERING
    assert one.judge([Phase.FINISHING], 101.0) is Stand.MIXING
    assert one.deadline == END_S
    swapped(one, 0.0, 0.0, 0.0)
    assert one.judge([Phase.FINISHING], 102.0) is Stand.ANSWERING
    assert one.deadline == 102.0 + EXACT.finish.linger_s
    swapped(one, FAR)
    assert one.judge([Phase.FINISHING], 103.0) is Stand.MIXING
    swapped(one, 0.0, 0.0, 0.0)
    assert one.judge([Phase.FINISHED], 104.0) is Stand.OVER
    assert one.report().agreed


@pytest.mark.parametrize("shown", [(), (FAR,) * 9])
def test_time_ends_it_and_says_so(shown: tuple[float, ...]) -> None:
    """The deadline holds even with no swap at all, and nobody mixes again after it."""
    one = swapped(finishing(), *shown)
    assert one.deadline == END_S
    assert one.judge(ALL_MIX, math.nextafter(END_S, 0)) is Stand.MIXING
    assert one.judge(ALL_MIX, END_S) is Stand.ANSWERING
    assert one.judge(ALL_MIX, END_S + 1.0) is Stand.ANSWERING
    assert one.judge(ALL_MIX, END_S + EXACT.finish.linger_s) is Stand.OVER
    assert not one.report().agreed
    assert one.report().disagreement == (FAR if shown else math.inf)


def test_alone_it_is_over_at_once() -> None:
    """One peer agrees with itself."""
    one = finishing()
    assert one.judge([], 100.0) is Stand.OVER
    assert one.report() == Finalised(0, True, 0.0)


@pytest.mark.parametrize("shown, agreed", [(FAR, False), (math.nan, False), (0.0, True)])
def test_who_is_left_before_it_came_near_does_not_agree(shown: float, agreed: bool) -> None:
    """All others are gone: there is nobody to mix with, but they are where they were."""
    one = swapped(finishing(), shown, 0.0)
    assert one.judge([], 101.0) is Stand.OVER
    assert one.report().agreed is agreed


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("together", [False, True])
def test_who_is_waited_for_depends_on_whether_the_run_ends(phase: Phase, together: bool) -> None:
    """Together: also for those who still train. Never for newcomers or those who are done."""
    one = swapped(finishing(together=together), *[0.0] * 5)
    waits = phase is Phase.FINISHING or (together and phase is Phase.TRAINING)
    stand = one.judge([Phase.FINISHED, phase], 100.0)
    assert stand is (Stand.ANSWERING if waits else Stand.OVER)


def test_lingering_ends_by_the_clock() -> None:
    """A peer that never finishes holds nobody for longer than linger_s."""
    one = swapped(finishing(), *[0.0] * 5)
    limit = 100.0 + FinishConfig().linger_s
    assert one.judge(ALL_MIX, 100.0) is Stand.ANSWERING
    assert one.judge(ALL_MIX, math.nextafter(limit, 0)) is Stand.ANSWERING
    assert one.judge(ALL_MIX, limit) is Stand.OVER


@pytest.mark.parametrize(
    ("codecs", "exact"),
    [
        (("fp32", "fp32", ""), True),
        (("wrap4", "int4", "fp32"), True),
        (("fp32", "fp32", "int8"), False),
        (("fp32", "int8", ""), False),
        (("wrap4", "int4", ""), False),
    ],
)
def test_what_finishing_swaps_are_coded_in(codecs: tuple[str, str, str], exact: bool) -> None:
    """The finish codec on both legs if there is one, else the run's own."""
    config = ExchangeConfig(codec=codecs[0], reply_codec=codecs[1], finish_codec=codecs[2])
    assert is_exact(config) is exact
