"""Peers that nobody can dial: how many there are in a world, and what is judged of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.errors import UsageError
from gossip.machine import Dial
from gossip.messages import Status
from simulations.births import only_dials_out
from simulations.conditions import WAN
from simulations.execution import Execution, Manner, config_of, judge
from simulations.figures import Figures
from simulations.sabotage import SABOTAGE
from simulations.scenario import Expected, Fault, FaultKind, Scenario, load, parse
from simulations.simulated_peer import SimulatedPeer
from simulations.soaking import can_judge, soak_scenario
from simulations.world import Plan, World

HOSTS_LOST = Scenario(
    name="hidden",
    summary="hosts of both kinds are lost, and processes of both kinds stand still",
    peers=24,
    seconds=90.0,
    calm_s=35.0,
    conditions=replace(WAN, loss=0.02),
    dial_out_share=0.5,
    faults=(
        Fault(FaultKind.LOSE_HOST, at_s=10.0, targets=(3, 4)),
        Fault(FaultKind.CRASH, at_s=12.0, targets=(5, 6)),
        Fault(FaultKind.STALL, at_s=30.0, targets=(7, 8, 10), for_s=(15.0, 20.0)),
        Fault(FaultKind.FREEZE, at_s=30.0, targets=(9, 12, 14), for_s=(15.0, 20.0)),
    ),
    expect=Expected(detect_p50_s=11.0, detect_p99_s=14.0, agree_s=20.0),
)


@given(st.integers(0, 500), st.floats(0.0, 1.0))
def test_they_are_spread_evenly_and_the_first_is_none(peers: int, share: float) -> None:
    """The share of any number of peers, to within one; a larger share of each is one of more."""
    hidden = [only_dials_out(number, share) for number in range(peers + 1)]
    assert not hidden[0]
    assert abs(sum(hidden) - share * peers) <= 1


def test_a_half_is_every_other_peer() -> None:
    """So two newcomers are one of each kind."""
    assert [2, 4, 6] == [number for number in range(8) if only_dials_out(number, 0.5)]
    assert [1, 2, 3] == [number for number in range(4) if only_dials_out(number, 1.0)]


@pytest.mark.parametrize("seed", range(1, 5))
def test_those_that_only_dial_out_are_lost_and_held_up_like_others(seed: int) -> None:
    """Known when gone, not buried when held up; and nobody ever dials one."""
    execution = Execution(HOSTS_LOST, seed)
    dialed: list[str] = []
    world_dial = execution.world.dial

    def note(life: SimulatedPeer, effect: Dial) -> None:
        assert effect.control_address
        dialed.append(effect.control_address)
        world_dial(life, effect)

    execution.world.dial = note  # type: ignore[method-assign]  # to see what is asked of the world
    outcome = execution.run()

    assert outcome.ok, outcome.broken
    assert dialed
    assert 12 - 1 == outcome.figures.dial_out
    assert {False: 2, True: 2} == {
        kind: each.count for kind, each in outcome.figures.known_of.items()
    }


@pytest.mark.parametrize("disk", [True, False])
def test_one_comes_back_by_the_addresses_on_its_disk(disk: bool) -> None:
    """M8: the contact that it was given is gone for good, and nobody else could come to it."""
    world = World(Plan(1, config=config_of(), trainers=False, dial_out_share=0.5))
    world.start_together(4)
    world.run(10.0)
    world.crash(0)
    world.crash(2)
    world.run(15.0)
    back = world.start(2, contacts=(0,), disk=disk)
    world.run(60.0)

    assert back.only_dials_out
    assert (2 if disk else 0) == back.core.swim.live_count()
    held = [life.core.swim.record(back.me.peer) for life in world.running if life is not back]
    assert [back.core.swim.me if disk else None] * 2 == [
        each if each is not None and each.status is Status.ALIVE else None for each in held
    ]


def test_a_link_that_it_opened_speaks_for_one_that_only_dials_out() -> None:
    """Else it would be accused while its thread is held."""
    busy = Fault(FaultKind.STALL, at_s=10.0, targets=(2, 4), for_s=(20.0, 20.0))
    scenario = replace(HOSTS_LOST, faults=(busy,), expect=Expected())
    assert Execution(scenario, 1).run().ok
    with SABOTAGE["busy_ignored"].at_work():
        assert "M12" == Execution(scenario, 1).run().rule


def test_the_shipped_scenario_has_some_of_each_kind_lost_held_up_and_new() -> None:
    """It would show nothing else."""
    scenario = load("dial_out")
    assert 0 < scenario.dial_out_share < 1
    targeted = [fault for fault in scenario.faults if fault.targets]
    for fault in targeted:
        kinds = {only_dials_out(number, scenario.dial_out_share) for number in fault.targets}
        assert {True, False} == kinds
    assert {FaultKind.LOSE_HOST, FaultKind.CRASH, FaultKind.REPLACE} == {
        fault.kind for fault in targeted
    }
    assert {FaultKind.STALL, FaultKind.FREEZE} <= {fault.kind for fault in scenario.faults}


def test_one_kind_does_not_hide_behind_the_other() -> None:
    """Both are judged, and both have to be there, where some only dial out."""
    figures = Figures(dial_out=1, idle_bytes_per_s=0.0)
    for hidden, after_s in ((False, 5.0), (True, 20.0)):
        for _ in range(10):
            figures.known_of[hidden].add(after_s)
    expect = Expected(detect_p50_s=9.0)
    (wrong,) = judge(figures, expect, 100, 0.5)
    assert "detect_p50_s of those that only dial out is 20" in str(wrong)
    figures.known_of[False] = figures.known_of[True]
    assert 2 == len(list(judge(figures, expect, 100, 0.5)))
    assert 2 == len(list(judge(Figures(dial_out=1, idle_bytes_per_s=0.0), expect, 100, 0.5)))
    figures.dial_out = 0
    figures.known.add(5.0)
    assert [] == list(judge(figures, expect, 100, 0.5))


def test_a_share_that_gives_none_is_vacuous() -> None:
    """A scenario that declares them has to have some."""
    scenario = replace(HOSTS_LOST, peers=2, dial_out_share=0.1, faults=(), expect=Expected())
    outcome = Execution(scenario, 1).run()
    assert "non-vacuity" == outcome.rule
    assert Execution(replace(scenario, every_fault=False), 1).run().ok


def test_a_wrong_share_is_told() -> None:
    """Where the file is read."""
    text = 'summary = "s"\npeers = 3\nseconds = 40\ndial_out_share = 1.5'
    with pytest.raises(UsageError, match="dial_out_share must be between 0 and 1"):
        parse(text, "mine")


def test_random_scenarios_have_them_now_and_then() -> None:
    """False verdicts are judged where enough can watch; four can outvote one that is wrong."""
    shares = [soak_scenario(seed).dial_out_share for seed in range(1, 60)]
    assert 0 < shares.count(0.5) < shares.count(0.0) < 50
    assert not can_judge(5, 0.5)
    assert can_judge(6, 0.5)
    for seed in range(1, 60):
        scenario = soak_scenario(seed)
        judged = can_judge(scenario.peers, scenario.dial_out_share)
        assert judged is (scenario.expect.false_downs == 0)


@settings(max_examples=6)
@given(st.integers(1, 999), st.sampled_from([0.0, 0.5]))
def test_who_leaves_is_known_to_have_left(seed: int, share: float) -> None:
    """At 5 % loss in a group too large for a link to everybody: its farewell is said once to each
    of those that watch it, and the rest is rumor. Down at one peer of a hundred at most."""
    scenario = Scenario(
        name="leaving",
        summary="ten of 200 leave at once",
        peers=200,
        seconds=20.0,
        calm_s=13.0,
        quiet_s=0.0,
        conditions=replace(WAN, loss=0.05),
        dial_out_share=share,
        faults=(Fault(FaultKind.LEAVE, at_s=5.0, count=10),),
    )
    execution = Execution(scenario, seed, Manner(keep_going=True))
    outcome = execution.run()
    assert outcome.ok, outcome.broken

    gone = [life.me.peer for life in execution.world.lives if life.departed]
    held = [life.core.swim.record(peer) for life in execution.world.running for peer in gone]
    assert 10 == len(gone)
    left = sum(each is not None and each.status is Status.LEFT for each in held)
    assert left >= 0.99 * len(held)
