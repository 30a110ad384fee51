"""How few peers a scenario can be run with: with fewer, what it declares cannot all happen.

Faults that come again and again need one victim each; that dice may leave them out altogether,
more likely so with few peers, is no matter of this module.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from simulations.births import only_dials_out
from simulations.faults import ENDINGS
from simulations.scenario import PATHS, Fault, FaultKind, Scenario

SPARED: Final[dict[FaultKind, int]] = {
    **dict.fromkeys(ENDINGS, 1),  # somebody has to be left
    FaultKind.REPLACE: 1,
    FaultKind.ACCUSE: 1,
    FaultKind.SPLIT: 1,
}
"""Beside those that are hit, so many must be there."""

RESTS: Final = (FaultKind.FREEZE, FaultKind.STALL)
"""Who is held up or stands still is hit by nothing else meanwhile."""

HEARERS: Final = 2
"""How soon news gets about is measured from the first that hears it, so there must be another."""


def peers_least(scenario: Scenario) -> int:
    """With so many every fault finds whom it hits, one after the other. 1 where the scenario does
    not ask that each really happens."""
    if not scenario.every_fault:
        return 1
    least, gone, came, resting = 1, 0, 0.0, _Resting()
    if scenario.dial_out_share:
        first = next(n for n in itertools.count(1) if only_dials_out(n, scenario.dial_out_share))
        least = first + 1
    for fault in sorted(scenario.faults, key=_when):
        hit = _hit(fault)
        spared = SPARED.get(fault.kind, 0)
        if fault.kind is FaultKind.REPLACE and scenario.expect.rounds_over_log2 is not None:
            spared = HEARERS
        numbered = max(fault.targets, default=-1) + 1 - came
        free = hit + max(spared, resting.at(_when(fault)))  # who rests is there, but is not hit
        least = max(least, gone + free, int(max(0, numbered)))
        resting.add(fault, hit)
        if fault.kind is FaultKind.REPLACE:
            came += math.inf if fault.at_s is None else hit
        elif fault.kind in ENDINGS and fault.at_s is not None and fault.restart_after_s is None:
            gone += hit
    return least


class _Resting:
    """How many are held up or stand still, those that are at given times."""

    def __init__(self) -> None:
        self._until_s: list[tuple[float, int]] = []

    def at(self, at_s: float) -> int:
        """So many may still be."""
        return sum(hit for until_s, hit in self._until_s if until_s > at_s)

    def add(self, fault: Fault, hit: int) -> None:
        """Another fault, if it is of that kind."""
        if fault.kind in RESTS and fault.at_s is not None:
            self._until_s.append((fault.at_s + fault.for_s[1], hit))


def _when(fault: Fault) -> float:
    """What comes at random times may come before all else."""
    return -1.0 if fault.at_s is None else fault.at_s


def _hit(fault: Fault) -> int:
    """How many at once, at least; a share of few may be nobody, but one is always hit."""
    if fault.kind is FaultKind.SPLIT and not fault.targets:
        return fault.sides - 1 + fault.bridge
    return 2 if fault.kind in PATHS else (len(fault.targets) or fault.count) + fault.bridge
