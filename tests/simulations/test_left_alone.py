"""Who is left alone comes to know it, whether it can be dialed or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.messages import Seconds, Status
from simulations.conditions import LAN, WAN, Conditions
from simulations.execution import Execution, Outcome
from simulations.scenario import Expected, Fault, FaultKind, Scenario
from simulations.simulated_peer import SimulatedPeer
from simulations.soaking import soak_scenario

END_S = 10.0

KNOWN_AFTER_S = 90.0
"""The promise: so long after everybody else died at once a survivor holds nobody alive. Twice the
longest suspicion, as those that only dialed out are judged last, and what it takes to be sure."""

ALONE = Scenario(
    name="alone",
    summary="all hosts but one are lost at once",
    peers=2,
    seconds=END_S + KNOWN_AFTER_S,
    calm_s=KNOWN_AFTER_S - 5.0,
    quiet_s=0.0,
    dial_out_share=1.0,
    faults=(Fault(FaultKind.LOSE_HOST, at_s=END_S, targets=(0,)),),
    expect=Expected(false_downs=None, idle_bytes_per_s=None),
)


def ran(scenario: Scenario, seed: int) -> tuple[Execution, Outcome]:
    """A scenario under all rules."""
    execution = Execution(scenario, seed)
    return execution, execution.run()


def held_alive_by(survivor: SimulatedPeer) -> int:
    """How many it still counts on."""
    return survivor.core.swim.live_count()


@pytest.mark.parametrize("kind", [FaultKind.LOSE_HOST, FaultKind.CRASH])
def test_one_that_only_dials_out_comes_to_know_that_it_is_alone(kind: FaultKind) -> None:
    """Nobody watched the lost one but itself, and it watches nobody while others do."""
    fault = Fault(kind, at_s=END_S, targets=(0,))
    execution, outcome = ran(replace(ALONE, faults=(fault,)), 1)
    assert outcome.ok, outcome.broken
    (survivor,) = execution.world.running
    assert survivor.only_dials_out
    assert 0 == held_alive_by(survivor)


def cut_off(lasts_s: Seconds, peers: int, share: float, away: int) -> Scenario:
    """One peer is split from the others, and after that there is calm."""
    split = Fault(FaultKind.SPLIT, at_s=END_S, targets=(away,), for_s=(lasts_s, lasts_s))
    return replace(
        ALONE,
        seconds=END_S + lasts_s + 46.0,
        calm_s=45.0,
        peers=peers,
        dial_out_share=share,
        conditions=WAN,
        faults=(split,),
        expect=Expected(false_downs=0, agree_s=40.0),
    )


@pytest.mark.parametrize(("peers", "share", "away"), [(2, 1.0, 1), (6, 0.25, 4), (24, 0.25, 12)])
def test_across_a_split_it_gives_all_up_and_takes_all_back(
    peers: int, share: float, away: int
) -> None:
    """M24, M23: what it said of the living is refuted when the path heals."""
    execution = Execution(cut_off(70.0, peers, share, away), 1)
    alone = execution.world
    least: list[int] = []
    alone.call(END_S + 69.0, lambda: least.append(held_alive_by(alone.current[away])))
    outcome = execution.run()
    assert outcome.ok, outcome.broken
    assert alone.current[away].only_dials_out
    assert least[0] == 0 if peers < 10 else least[0] < peers - 1


def test_a_short_split_changes_nothing() -> None:
    """The longest suspicion is for those whose judge is alone."""
    execution = Execution(cut_off(25.0, 6, 0.25, 4), 1)
    outcome = execution.run()
    assert outcome.ok, outcome.broken
    away = execution.world.current[4]
    others = [each for each in away.core.swim.records() if each.peer != away.me.peer]
    assert [0] * 5 == [each.incarnation for each in others]


def test_two_that_only_dial_out_find_each_other_once_one_is_back_that_they_can_dial() -> None:
    """Meanwhile each holds the other down: neither can know better."""
    gone = Fault(FaultKind.LOSE_HOST, at_s=END_S, targets=(0,), restart_after_s=(95.0, 95.0))
    scenario = replace(ALONE, peers=3, seconds=145.0, calm_s=39.0, faults=(gone,))
    execution = Execution(scenario, 1)
    held: list[Status] = []

    def look() -> None:
        one, other = (execution.world.current[number] for number in (1, 2))
        for life, about in ((one, other), (other, one)):
            record = life.core.swim.record(about.me.peer)
            assert record is not None
            held.append(record.status)

    execution.world.call(END_S + KNOWN_AFTER_S, look)
    outcome = execution.run()
    assert outcome.ok, outcome.broken
    assert [Status.DOWN, Status.DOWN] == held


def test_two_that_nobody_can_bring_together_are_not_asked_to_agree() -> None:
    """Nor held to be a broken rule (M11, M23)."""
    _, outcome = ran(replace(ALONE, peers=3), 1)
    assert outcome.ok, outcome.broken


@given(
    seed=st.integers(1, 999),
    peers=st.integers(2, 6),
    survivor=st.integers(0, 5),
    share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    kind=st.sampled_from([FaultKind.LOSE_HOST, FaultKind.CRASH]),
    conditions=st.sampled_from([LAN, WAN, replace(WAN, loss=0.05)]),
)
@settings(max_examples=80, deadline=None)
def test_a_survivor_of_either_kind_ends_with_nobody_held_alive(
    seed: int, peers: int, survivor: int, share: float, kind: FaultKind, conditions: Conditions
) -> None:
    """Whatever the mixture was that died."""
    survivor %= peers
    others = tuple(number for number in range(peers) if number != survivor)
    scenario = replace(
        ALONE,
        peers=peers,
        dial_out_share=share,
        conditions=conditions,
        every_fault=False,
        faults=(Fault(kind, at_s=END_S, targets=others),),
    )
    execution, outcome = ran(scenario, seed)
    assert outcome.ok, outcome.broken
    (left,) = execution.world.running
    assert 0 == held_alive_by(left)


@pytest.mark.parametrize("seed", [901083])
def test_random_scenarios_that_left_one_alone(seed: int) -> None:
    """It held the dead alive for ever."""
    outcome = Execution(soak_scenario(seed), seed).run()
    assert outcome.ok, outcome.broken
