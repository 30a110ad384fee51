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

HEARERS: Final = 2
"""How soon news gets about is measured from the first that hears it, so there must be another."""


def peers_least(scenario: Scenario) -> int:
    """With so many every fault finds whom it hits, one after the other. 1 where the scenario does
    not ask that each really happens."""
    if not scenario.every_fault:
        return 1
    least, gone, came = 1, 0, 0.0
    if scenario.dial_out_share:
        first = next(n for n in itertools.count(1) if only_dials_out(n, scenario.dial_out_share))
        least = first + 1
    for fault in sorted(scenario.faults, key=_when):
        hit = _hit(fault)
        spared = SPARED.get(fault.kind, 0)
        if fault.kind is FaultKind.REPLACE and scenario.expect.rounds_over_log2 is not None:
            spared = HEARERS
        numbered = max(fault.targets, default=-1) + 1 - came
        least = max(least, gone + hit + spared, int(max(0, numbered)))
        if fault.kind is FaultKind.REPLACE:
            came += math.inf if fault.at_s is None else hit
        elif fault.kind in ENDINGS and fault.at_s is not None and fault.restart_after_s is None:
            gone += hit
    return least


def _when(fault: Fault) -> float:
    """What comes at random times may come before all else."""
    return -1.0 if fault.at_s is None else fault.at_s


def _hit(fault: Fault) -> int:
    """How many at once, at least; a share of few may be nobody, but one is always hit."""
    return 2 if fault.kind in PATHS else len(fault.targets) or fault.count
