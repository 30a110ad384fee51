"""Who is left alone comes to know it, whether it can be dialed or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.messages import Seconds
from simulations.conditions import LAN, WAN
from simulations.execution import Execution, Outcome
from simulations.scenario import Expected, Fault, FaultKind, Scenario
from simulations.simulated_peer import SimulatedPeer
from simulations.soaking import soak_scenario

END_S = 10.0

KNOWN_AFTER_S = 75.0
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


def ran(scenario: Scenario, seed: int, until_s: Seconds | None = None) -> tuple[Execution, Outcome]:
    """A scenario, as far as asked, under all rules."""
    execution = Execution(scenario if until_s is None else replace(scenario, seconds=until_s), seed)
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
    seed: int, peers: int, survivor: int, share: float, kind: FaultKind, conditions: object
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
