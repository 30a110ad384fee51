"""News is sent freely after a rest, at a steady rate while it never ends, and costs no time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.errors import UsageError
from gossip.membership.pace import Pace
from gossip.messages import Gossip, Phase, Seconds
from tests.gossip.membership.claims import peer, record
from tests.gossip.membership.dialogue import CONFIG, carried, group, run, sent, tell
from tests.gossip.membership.network import Network

UNPACED = replace(CONFIG, gossip_per_s=1e9)
"""A round whenever it is due, as if messages cost nothing."""

ROUNDS_PER_S = 1.0 / CONFIG.gossip_interval_s


# -------------------------------------------------------------------- the pace itself


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.1, 100.0),
    st.integers(4, 64),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 4)), min_size=1, max_size=60),
)
def test_who_waits_as_told_keeps_the_rate_in_every_span(
    per_s: float, burst: int, wishes: list[tuple[float, int]]
) -> None:
    """Whatever is wished for when: never more than the burst and the rate's share of the span."""
    pace, now = Pace(per_s, burst), 0.0
    sends: list[tuple[Seconds, int]] = []
    for pause_s, messages in wishes:
        now = max(now + pause_s, pace.earliest(messages))
        pace.spend(messages, now)
        sends.append((now, messages))

    for first, (began_s, _) in enumerate(sends):
        total = 0
        for at_s, messages in sends[first:]:
            total += messages
            assert total <= burst + per_s * (at_s - began_s) + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 100.0), st.integers(4, 64), st.floats(0.0, 1e6))
def test_a_burst_is_free_after_a_rest_and_no_more(per_s: float, burst: int, now: Seconds) -> None:
    """All of it at once; then one message each 1 / rate; and all again when it has rested."""
    pace = Pace(per_s, burst)
    for _ in range(2):
        for _ in range(burst):
            assert pace.earliest(1) <= now + 1e-6
            pace.spend(1, now)
        assert now + 1 / per_s == pytest.approx(pace.earliest(1), abs=1e-6)
        now += burst / per_s


def test_a_pace_that_cannot_be_kept_is_refused() -> None:
    """A round that costs more than the burst would never go out; no rate, no news."""
    with pytest.raises(UsageError, match="gossip_burst"):
        MembershipConfig(gossip_burst=CONFIG.gossip_fanout - 1)
    with pytest.raises(UsageError, match="gossip_per_s"):
        MembershipConfig(gossip_per_s=0.0)


# -------------------------------------------------------------------- one peer


def rounds_of(config: MembershipConfig, claims_per_s: float, for_s: Seconds) -> list[Seconds]:
    """When one of ten peers sends a message of news, while it hears news all the time."""
    swim, others = group(10, config), tuple(range(2, 11))
    run(swim, 30.0, answering=others)
    times: list[Seconds] = []
    for step in range(int(for_s * claims_per_s)):
        now = 30.0 + step / claims_per_s
        tell(swim, 2, record(2 + step % 9, incarnation=1 + step), now=now)
        heard = run(swim, now + 1 / claims_per_s, answering=others)
        times += [at for at, effect in heard if sent([effect], Gossip)]
    return times


@pytest.mark.parametrize("claims_per_s", [2.0, 5.0, 20.0])
def test_news_without_an_end_costs_a_steady_rate_however_much_there_is(claims_per_s: float) -> None:
    """M26: the rate and the first burst; without a pace a round each interval."""
    for_s = 60.0
    paced = rounds_of(CONFIG, claims_per_s, for_s)
    unpaced = rounds_of(UNPACED, claims_per_s, for_s)

    per_s = CONFIG.gossip_fanout * ROUNDS_PER_S
    assert for_s * per_s == pytest.approx(len(unpaced), rel=0.1)
    most = CONFIG.gossip_per_s * for_s + CONFIG.gossip_burst
    assert 0.8 * CONFIG.gossip_per_s * for_s <= len(paced) <= most


def test_what_comes_while_the_pace_is_slow_still_goes_to_every_neighbor_soon() -> None:
    """M21, M22: claims wait for the next round and ride together; none is dropped for it."""
    swim, others = group(10), tuple(range(2, 11))
    run(swim, 30.0, answering=others)
    claims = [record(2 + step % 9, incarnation=1 + step) for step in range(200)]
    heard_at: dict[int, list[Seconds]] = {each.incarnation: [] for each in claims}
    for step, claim in enumerate(claims):
        now = 30.0 + step / 4
        # The next claim about a subject takes the place of the last 2.25 s later.
        tell(swim, 2, claim, now=now)
        for at, effect in run(swim, now + 1 / 4, answering=others):
            for rumors in carried([effect]):
                for each in rumors.records:
                    if each.incarnation in heard_at:
                        heard_at[each.incarnation].append(at - (29.75 + each.incarnation / 4))

    rounds = math.ceil(len(swim.neighbors()) / CONFIG.gossip_fanout)
    longest_s = rounds * CONFIG.gossip_fanout / CONFIG.gossip_per_s
    for sends in list(heard_at.values())[:-9]:
        assert len(swim.neighbors()) <= len(sends)
        assert max(sends) <= longest_s + 1e-6


# -------------------------------------------------------------------- a group

SIZE = 120


def changing(config: MembershipConfig, every_s: Seconds, for_s: Seconds) -> Network:
    """A group in which one member after another says that it finishes."""
    network = Network(1, config=config)
    network.acquaint(SIZE)
    network.run(5.0)
    network.sent.clear()
    for number in range(math.ceil(for_s / every_s)):
        finish(network, number)
        network.run(every_s)
    return network


def finish(network: Network, number: int) -> None:
    """One member's phase is news."""
    now = network.now
    network._do(peer(number), lambda swim: swim.publish(0, b"L", Phase.FINISHING, now) or [])


def is_known(network: Network, number: int) -> bool:
    """Whether all have heard of the member's new phase."""
    told = [swim.progress_of(peer(number)) for swim in network.swims.values()]
    return all(each is not None and each.phase == Phase.FINISHING for each in told)


def test_one_piece_of_news_in_a_calm_group_spreads_as_if_there_were_no_pace() -> None:
    """M22: all that anybody does is the same, and at the same time."""
    paced, unpaced = (changing(config, 10.0, 20.0) for config in (CONFIG, UNPACED))

    assert is_known(paced, 0)
    assert is_known(paced, 1)
    assert paced.transcript() == unpaced.transcript()


def test_news_without_an_end_costs_a_third_less_and_reaches_all_in_time() -> None:
    """M22, M26: a group of any size hears of a change somewhere all the time."""
    sent_by: list[float] = []
    for config in (CONFIG, UNPACED):
        network = changing(config, 0.2, 12.0)
        network.sent.clear()
        for number in range(60, 110):
            finish(network, number)
            network.run(0.2)
        sent_by.append(network.sent["Gossip"] / SIZE / 10.0)
        finish(network, 110)
        rounds = math.ceil(math.log2(SIZE)) + 1
        assert network.run_until(
            lambda network=network: is_known(network, 110), rounds * CONFIG.gossip_interval_s
        )

    paced, unpaced = sent_by
    assert paced <= 1.02 * CONFIG.gossip_per_s
    assert paced <= 0.7 * unpaced
