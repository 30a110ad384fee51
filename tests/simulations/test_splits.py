"""Splits with several sides, with a bridge, and those that carry one way only."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from gossip.errors import UsageError
from gossip.messages import PeerId
from simulations.conditions import LAN
from simulations.execution import Execution
from simulations.faults import sides_of
from simulations.network import Network
from simulations.scenario import Expected, Fault, FaultKind, Scenario, parse
from simulations.splits import CROSSING_S, Split, Splits

SMALL = 'summary = "s"\npeers = 9\nseconds = 40\n[[faults]]\nat_s = 1\n'
A, B, C, D, LATE = (PeerId(f"{number:016x}") for number in range(5))


def network_of(sides: list[list[PeerId]], one_way: bool = False) -> Network:
    """Split like this."""
    network = Network(LAN, 1, random.Random(1))
    network.split(sides, one_way)
    return network


def ways(network: Network, asked: str) -> set[str]:
    """Between whom frames pass (``passes``), or links live (``is_open``); by letters."""
    letters = dict(zip("ABCD", (A, B, C, D), strict=True))
    ask: Callable[..., bool] = getattr(network, asked)
    return {
        a + b
        for a, one in letters.items()
        for b, other in letters.items()
        if a < b and ask(network.port(one), network.port(other))
    } | {
        b + a
        for a, one in letters.items()
        for b, other in letters.items()
        if a < b and ask(network.port(other), network.port(one))
    }


def test_nothing_passes_between_any_two_of_three_sides() -> None:
    """And what it took is counted, until it heals."""
    network = network_of([[A], [B], [C, D]])
    assert {"CD", "DC"} == ways(network, "is_open")
    assert {"CD", "DC"} == ways(network, "passes")
    assert 10 == network.split_dropped
    network.heal()
    assert 12 == len(ways(network, "passes"))
    assert 10 == network.split_dropped


def test_a_bridge_stands_on_all_sides() -> None:
    """It hears all, and they do not hear each other."""
    network = network_of([[A, D], [B, D], [C, D]])
    assert {"AD", "BD", "CD", "DA", "DB", "DC"} == ways(network, "passes")
    assert {"AD", "BD", "CD", "DA", "DB", "DC"} == ways(network, "is_open")


def test_frames_pass_one_way_but_no_link_lives() -> None:
    """From earlier sides to later ones."""
    network = network_of([[A], [B], [C, D]], one_way=True)
    assert {"AB", "AC", "AD", "BC", "BD", "CD", "DC"} == ways(network, "passes")
    assert {"CD", "DC"} == ways(network, "is_open")


def test_verdicts_are_excused_between_sides_but_not_on_a_bridge() -> None:
    """Who came later stands with the first."""
    splits = Splits()
    network = network_of([[A, D], [B, D], [C, D]])
    splits.began({peer: port.sides for peer, port in network.ports.items()}, 5.0)
    (split,) = splits.recent(6.0)
    for one, other, apart in (
        (A, B, True),
        (B, C, True),
        (C, A, True),
        (A, D, False),
        (D, B, False),
        (C, D, False),
        (LATE, A, False),
        (LATE, B, True),
        (LATE, D, False),
    ):
        assert apart is split.divides(one, other) is split.divides(other, one)
        assert apart is splits.divided(one, other, 5.5)
        assert apart is split.excuses(one, other, linked=False, now=50.0)
        assert apart is split.excuses(one, other, linked=True, now=6.0)
    splits.healed(6.0)
    assert split.excuses(A, B, linked=True, now=6.0 + CROSSING_S)
    assert not split.excuses(A, B, linked=True, now=6.1 + CROSSING_S)
    assert split.excuses(A, B, linked=False, now=6.1 + CROSSING_S)
    assert Split({}, 0.0).divides(A, B) is False


@pytest.mark.parametrize(
    "fault, peers, sizes, bridge",
    [
        (Fault(FaultKind.SPLIT, at_s=1.0), 9, [5, 4], 0),
        (Fault(FaultKind.SPLIT, at_s=1.0, share=0.2), 10, [8, 2], 0),
        (Fault(FaultKind.SPLIT, at_s=1.0, sides=3), 3, [1, 1, 1], 0),
        (Fault(FaultKind.SPLIT, at_s=1.0, sides=4), 6, [2, 2, 1, 1], 0),
        (Fault(FaultKind.SPLIT, at_s=1.0, sides=3, share=0.1, bridge=10), 30, [16, 2, 2], 10),
        (Fault(FaultKind.SPLIT, at_s=1.0, targets=(1, 2), bridge=3), 9, [4, 2], 3),
    ],
)
def test_everybody_stands_somewhere(
    fault: Fault, peers: int, sizes: list[int], bridge: int
) -> None:
    """Once, but for the bridge."""
    sides, on_all = sides_of(fault, random.Random(1), list(range(peers)))

    assert bridge == len(on_all)
    assert sorted(sizes) == sorted(map(len, sides))
    assert list(range(peers)) == sorted([*on_all, *(each for side in sides for each in side)])


@pytest.mark.parametrize("one_way", [False, True])
@pytest.mark.parametrize("sides", [2, 3])
def test_all_agree_once_it_has_healed(sides: int, one_way: bool) -> None:
    """While it lasts each side holds the others down, and one that carries one way takes less."""
    fault = Fault(FaultKind.SPLIT, at_s=5.0, for_s=(30.0, 30.0), sides=sides, one_way=one_way)
    scenario = Scenario("mine", "", 24, 100.0, 60.0, 5.0, faults=(fault,))
    run = Execution(replace(scenario, expect=Expected(agree_s=40.0)), 3)
    down: list[int] = []

    def look() -> None:
        down.append(max(23 - life.core.swim.live_count() for life in run.world.running))

    run.world.call(34.0, look)
    outcome = run.run()

    assert outcome.ok, outcome.broken
    assert outcome.dropped[FaultKind.SPLIT] > 100
    assert down[0] >= 24 - 24 // sides - 2


def test_a_split_with_too_few_peers_for_its_sides_is_missed() -> None:
    """It would leave a side empty."""
    fault = Fault(FaultKind.SPLIT, at_s=5.0, sides=4, bridge=2)
    outcome = Execution(Scenario("mine", "", 5, 60.0, faults=(fault,)), 1).run()

    assert "declared, but never happened: split" in outcome.broken


@pytest.mark.parametrize(
    "text, complaint",
    [
        ('kind = "crash"\nsides = 3', "sides, bridge and one_way belong to split"),
        ('kind = "cut"\none_way = true', "sides, bridge and one_way belong to split"),
        ('kind = "split"\nsides = 1', "sides must be at least 2"),
        ('kind = "split"\nsides = 2.5', r"faults\[0\].sides must be a whole number"),
        ('kind = "split"\nbridge = -1', "bridge must not be negative"),
        ('kind = "split"\none_way = 1', r"faults\[0\].one_way must be true or false"),
        ('kind = "split"\nsides = 3\nshare = 0.5', "share is that of each side but the first"),
        ('kind = "split"\nsides = 3\ntargets = [1]', "targets are one side of two"),
    ],
)
def test_a_wrong_split_is_told(text: str, complaint: str) -> None:
    """Where the file is read, with the key."""
    with pytest.raises(UsageError, match=complaint):
        parse(SMALL + text, "mine")
