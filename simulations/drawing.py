"""Small random scenarios as Hypothesis draws them: few peers, few faults at given times.

All is drawn so that it shrinks well: from fixed ranges, whatever was drawn before, and with what
is simplest first. Each keeps to what the design promises, as those of ``soaking`` do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

from simulations.scenario import PATHS, Expected, Fault, FaultKind, Profile, Scenario, Start
from simulations.soaking import calm_bound_s, can_judge

NAME: Final = "found"
"""Of what is drawn; a file gives it another."""

PEERS_MAX: Final = 10
FAULTS_MAX: Final = 4
SEEDS_MAX: Final = 999

AT_TENTHS: Final = (50, 250)
"""When a fault comes, in tenths of a second: by then all have joined."""

LASTS_S: Final = (1, 30)
"""How long one lasts, in whole seconds: the group is patient for far longer."""

PAUSE_S: Final = (1, 20)
"""How long until a process that ended is back."""

KINDS: Final = (
    FaultKind.CRASH,
    FaultKind.LEAVE,
    FaultKind.REPLACE,
    FaultKind.LOSE_HOST,
    FaultKind.STALL,
    FaultKind.FREEZE,
    FaultKind.CLOCK,
    FaultKind.CUT,
    FaultKind.CUT_ONE_WAY,
    FaultKind.LOSSY_LINK,
    FaultKind.SPLIT,
    FaultKind.ACCUSE,
    FaultKind.RESTART_ALL,
)
ENDINGS: Final = (FaultKind.CRASH, FaultKind.LEAVE, FaultKind.LOSE_HOST)


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario and the seed to run it under."""

    scenario: Scenario
    seed: int


def cases(peers_max: int = PEERS_MAX) -> st.SearchStrategy[Case]:
    """Scenarios of at most so many peers (at least two), under seeds of their own."""
    return st.builds(Case, scenarios(peers_max), st.integers(1, SEEDS_MAX))


@st.composite
def scenarios(draw: st.DrawFn, peers_max: int = PEERS_MAX) -> Scenario:
    """Some faults at given times, then calm long enough to agree in."""
    peers = draw(st.integers(2, max(2, peers_max)))
    drawn = draw(st.lists(faults(), min_size=1, max_size=FAULTS_MAX))
    aimed = [aim(fault, peers) for fault in drawn]
    profile = draw(st.sampled_from([Profile.WAN, Profile.LAN]))
    dial_out_share = draw(st.sampled_from([0.0, 0.25, 0.5]))
    calm_s = calm_bound_s(peers)
    return Scenario(
        name=NAME,
        summary="found by a search",
        peers=peers,
        seconds=max(map(over_s, aimed)) + calm_s,
        calm_s=calm_s,
        quiet_s=5.0,
        profile=profile,
        start=draw(st.sampled_from(list(Start))),
        dial_out_share=dial_out_share,
        conditions=replace(
            profile.conditions,
            loss=draw(st.sampled_from([0.0, 0.01, 0.05])),
            duplication=draw(st.sampled_from([0.0, 0.02])),
            reordering=draw(st.sampled_from([0.0, 0.05])),
        ),
        every_fault=False,
        faults=tuple(aimed),
        expect=Expected(false_downs=0 if can_judge(peers, dial_out_share) else None),
    )


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """One fault; the numbers of its targets are yet to be fitted to the peers there are."""
    kind = draw(st.sampled_from(KINDS))
    fault = Fault(kind, at_s=draw(st.integers(*AT_TENTHS)) / 10, targets=draw(targets(kind)))
    if kind in ENDINGS:
        back = draw(st.booleans())
        pause_s = float(draw(st.integers(*PAUSE_S)))
        disk = draw(st.sampled_from([True, False]))
        return replace(fault, restart_after_s=(pause_s, pause_s), disk=disk) if back else fault
    if kind is FaultKind.RESTART_ALL:
        within_s, pause_s = float(draw(st.integers(*LASTS_S))), float(draw(st.integers(*PAUSE_S)))
        share = draw(st.sampled_from([True, False, 0.5]))
        for_s, restart_after_s = (0.0, within_s), (1.0, pause_s)
        return replace(fault, for_s=for_s, restart_after_s=restart_after_s, disk=share)
    if kind is FaultKind.CLOCK:
        rate = draw(st.integers(95, 105)) / 100
        return replace(fault, rate=(rate, rate))
    if kind is FaultKind.REPLACE:
        return fault
    lasts_s = float(draw(st.integers(*LASTS_S)))
    fault = replace(fault, for_s=(lasts_s, lasts_s))
    if kind is FaultKind.SPLIT:
        return replace(fault, one_way=draw(st.booleans()), bridge=draw(st.integers(0, 1)))
    return fault


def targets(kind: FaultKind) -> st.SearchStrategy[tuple[int, ...]]:
    """Whom a fault of this kind hits: two, one, or a few; everybody needs no numbers."""
    if kind is FaultKind.RESTART_ALL:
        return st.just(())
    most = 2 if kind in PATHS else 1 if kind is FaultKind.ACCUSE else PEERS_MAX // 2
    least = 2 if kind in PATHS else 1
    numbers = st.integers(0, PEERS_MAX - 1)
    return st.lists(numbers, min_size=least, max_size=most, unique=True).map(tuple)


def over_s(fault: Fault) -> float:
    """When a fault at a given time is over, and something more."""
    lasts_s = (fault.restart_after_s or (0.0, 0.0))[1] + fault.for_s[1]
    return math.ceil((fault.at_s or 0.0) + lasts_s + 1.0)


def aim(fault: Fault, peers: int) -> Fault:
    """The same fault at targets that there are.

    Peer 0 never ends for good: somebody has to be where those that come are told to ask.
    """
    least = 1 if fault.kind in (*ENDINGS, FaultKind.REPLACE) else 0
    fitted = [least + number % (peers - least) for number in fault.targets]
    if fault.kind in PATHS and len(set(fitted)) < 2:
        fitted = [fitted[0], (fitted[0] + 1) % peers]
    return replace(fault, targets=tuple(dict.fromkeys(fitted)))
