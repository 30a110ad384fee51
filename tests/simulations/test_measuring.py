"""How soon lost hosts are known, measured host by host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.messages import Status
from simulations.execution import Execution
from simulations.scenario import Expected, Fault, FaultKind
from simulations.small_scenarios import SHORT
from tests.simulations.scenes import Scene, fresh, guard_subject, heard


@pytest.fixture
def scene() -> Scene:
    """Fresh."""
    return fresh()


def test_detection_is_measured_from_the_end_of_a_process(scene: Scene) -> None:
    """First doubt and verdicts; those who were there when it ended, once each."""
    scene.world.crash(1)
    scene.world.run(3.0)
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.run(9.0)
    for who in (0, 2, 0):
        scene.tell(who, scene.of(1, Status.DOWN), heard(scene, 3))

    figures = scene.guard.figures
    assert 2 == figures.detection.count
    assert figures.detection.quantile_s(0.5) == pytest.approx(8.0, abs=0.1)
    assert figures.first_doubt.quantile_s(0.5) == pytest.approx(2.0, abs=0.1)


def test_a_host_that_is_known_late_does_not_hide_among_the_others(scene: Scene) -> None:
    """Known to 99 % of those that were there, host by host: the one peer that learns of the second
    late is lost among all pairs."""
    figures = scene.guard.figures
    for number in range(4, 64):
        scene.world.start(number, (0,))
    scene.world.run(2.0)
    scene.world.crash(1)
    scene.world.run(10.0)
    for who in (0, *range(2, 64)):
        scene.tell(who, scene.of(1, Status.DOWN), heard(scene, 3))
    assert 1 == figures.known.count
    scene.world.crash(2)
    guard_subject(scene, 2).doubted_at_s[(1, 0)] = -10.0
    scene.world.run(18.0)
    for who in (0, *range(3, 63)):
        scene.tell(who, scene.of(2, Status.DOWN), heard(scene, 3))
    assert (1, 1) == (figures.known.count, figures.not_known)
    scene.world.run(40.0)
    scene.tell(63, scene.of(2, Status.DOWN), heard(scene, 3))

    assert (2, 0) == (figures.known.count, figures.not_known)
    assert figures.known.quantile_s(0.5) == pytest.approx(8.0, abs=0.1)
    assert figures.known.quantile_s(0.99) == pytest.approx(30.0, abs=0.1)
    assert figures.detection.quantile_s(0.99) < 9.0  # one late pair among 122


def test_who_ends_meanwhile_is_not_waited_for(scene: Scene) -> None:
    """Nor is one that comes back before it is known lost."""
    scene.world.crash(1)
    scene.world.run(9.0)
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 3))
    scene.tell(2, scene.of(1, Status.DOWN), heard(scene, 3))
    figures = scene.guard.figures
    assert (0, 1) == (figures.known.count, figures.not_known)
    scene.world.crash(3)
    assert 1 == figures.known.count
    assert figures.known.largest_s == pytest.approx(8.0, abs=0.1)
    assert figures.first_verdict.largest_s == pytest.approx(8.0, abs=0.1)

    scene.world.start(3, (0,))
    assert (1, 0) == (figures.known.count, figures.not_known)


@pytest.mark.parametrize("peers, lost", [(24, 4), (100, 8)])
def test_a_few_hosts_lost_at_once_are_not_taken_for_a_split(peers: int, lost: int) -> None:
    """A rack is the commonest loss of many; the doubt that a split deserves would cost 7 s more."""
    at_once = Fault(FaultKind.LOSE_HOST, at_s=20.0, count=lost)
    scenario = replace(SHORT, peers=peers, seconds=75.0, faults=(at_once,), expect=Expected())
    half_s = [Execution(scenario, seed).run().figures.known.quantile_s(0.5) for seed in (1, 2, 3)]
    assert sorted(half_s)[1] < 11.0
