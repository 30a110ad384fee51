"""Short splits that heal while one peer accuses everybody and others come back or are held up; and
peers that begin while all the others are held up."""

from __future__ import annotations

import pytest

from simulations.conditions import WAN
from simulations.execution import Execution
from simulations.scenario import Expected, Fault, FaultKind, Scenario
from simulations.soaking import soak_scenario

HEALING = Scenario(
    name="healing",
    summary="a peer that hears nothing accuses everybody, and meanwhile the group is split",
    peers=24,
    seconds=80.0,
    calm_s=45.0,
    conditions=WAN,
    every_fault=False,
    faults=(
        Fault(FaultKind.ACCUSE, at_s=5.0, for_s=(15.0, 28.0)),
        Fault(FaultKind.SPLIT, at_s=9.0, for_s=(6.0, 24.0)),
        Fault(FaultKind.CRASH, at_s=3.0, count=2, restart_after_s=(4.0, 20.0)),
        Fault(FaultKind.STALL, per_minute=6.0, for_s=(2.0, 12.0)),
    ),
)


@pytest.mark.parametrize("seed", [6, 16, 23, 51, 73, 122])
def test_nobody_is_down_because_a_short_split_heals(seed: int) -> None:
    """M14, M24, M23: each of these seeds showed a hole once."""
    outcome = Execution(HEALING, seed).run()
    assert outcome.ok, outcome.broken


@pytest.mark.parametrize(
    "peers, for_s, seed", [(24, 8, 1), (60, 7, 4), (60, 6, 4), (60, 8, 2), (100, 6, 3), (100, 8, 2)]
)
def test_nobody_is_down_because_a_split_as_short_as_a_trial_heals(
    peers: int, for_s: float, seed: int
) -> None:
    """M24: verdicts cross the heal before any path of who hears them is open again, or to peers
    that have none across. Each of these showed hundreds of verdicts or one."""
    short = Scenario(
        name="short-split",
        summary="half of the peers are cut off for about as long as a verdict takes",
        peers=peers,
        seconds=80.0,
        calm_s=50.0,
        conditions=WAN,
        faults=(Fault(FaultKind.SPLIT, at_s=20.0, for_s=(for_s, for_s)),),
    )
    outcome = Execution(short, seed).run()
    assert outcome.ok, outcome.broken


@pytest.mark.parametrize(
    "peers, bridge, share, for_s, seed",
    [
        *((60, 6, 0.5, 13, 109), (60, 10, 0.5, 13, 101), (60, 10, 0.5, 13, 102)),
        *((32, 6, 0.0, 60, 1), (32, 6, 0.0, 60, 5)),
    ],
)
def test_a_bridge_believes_neither_side(
    peers: int, bridge: int, share: float, for_s: float, seed: int
) -> None:
    """M11: observers accuse before their links tell them that others are silent too, or long after
    they did; and a bridge that only dials out has no way of its own to the subject."""
    bridged = Scenario(
        name="bridged",
        summary="a split that some see both sides of",
        peers=peers,
        seconds=60.0 + for_s,
        calm_s=35.0,
        dial_out_share=share,
        conditions=WAN,
        faults=(Fault(FaultKind.SPLIT, at_s=20.0, for_s=(for_s, for_s), bridge=bridge),),
        expect=Expected(agree_s=35.0),
    )
    outcome = Execution(bridged, seed).run()
    assert outcome.ok, outcome.broken


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nor_when_the_same_halves_part_again_soon(seed: int) -> None:
    """M24: paths that were silent, and open again, are silent anew."""
    twice = Scenario(
        name="twice",
        summary="the same half of the peers is cut off twice",
        peers=40,
        seconds=110.0,
        calm_s=50.0,
        conditions=WAN,
    )
    execution = Execution(twice, seed)
    for at_s in (20.0, 40.0):
        execution.world.call(at_s, execution.world.split, [range(20), range(20, 40)])
        execution.world.call(at_s + 7.0, execution.world.heal)
    outcome = execution.run()
    assert outcome.ok, outcome.broken
    assert outcome.figures.false_downs == 0


@pytest.mark.parametrize(
    "seed",
    [
        *(710072, 900116, 900377, 900420, 900890, 901084, 901160, 901246, 910234),
        *(910017, 920159, 920781),
        *(920350, 920594, 920671, 930536),
        *(990140, 990966, 999068, 1001567, 1003270, 1003995, 1004005, 1030308),
        *(1060954, 1070538, 1080485, 1080861, 1090290),
    ],
)
def test_random_scenarios_that_broke_a_rule_keep_it(seed: int) -> None:
    """Verdicts across a split that heals, on the word of a bad accuser; news told too often; peers
    told only of one that is gone for good; verdicts that a comparison kept to itself; a verdict
    on a life that was not the last; a newcomer whose welcome was lost, or that a split kept
    waiting; a link that outlasted a verdict."""
    outcome = Execution(soak_scenario(seed), seed).run()
    assert outcome.ok, outcome.broken


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("disk", [True, False])
def test_whoever_begins_is_told_of_somebody_who_stays(share: float, disk: bool) -> None:
    """Even when all are held up: no protocol finds anybody by the address of one that is gone."""
    held_up = Scenario(
        name="held-up",
        summary="one begins, and one begins again, while the others are held up",
        peers=4,
        seconds=110.0,
        calm_s=70.0,
        dial_out_share=share,
        faults=(
            Fault(FaultKind.STALL, at_s=5.0, targets=(1, 3), for_s=(15.0, 15.0)),
            Fault(FaultKind.CRASH, at_s=6.0, targets=(2,), restart_after_s=(4.0, 4.0), disk=disk),
            Fault(FaultKind.REPLACE, at_s=6.0, targets=(0,)),
        ),
        expect=Expected(false_downs=None),
    )
    outcome = Execution(held_up, 1).run()
    assert outcome.ok, outcome.broken
