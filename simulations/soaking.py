"""Random scenarios: each seed has its own size, network and mixture of faults.

Swarm testing (Groce et al., 2012; FoundationDB and TigerBeetle test this way): a run with all
faults at once shows less than runs that each leave a random part of them out, since one fault
can hide what another would have shown.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Final

from simulations.births import only_dials_out
from simulations.guard import SMALL
from simulations.scenario import Expected, Fault, FaultKind, Profile, Scenario, Start
from simulations.seeds import generator

SOAK: Final = "soak"
"""The name under which ``gossip simulate`` takes a seed's random scenario."""

PEERS_MAX: Final = 32
CHAOS_S: Final = (20.0, 90.0)
BUSY_S: Final = 120.0
"""Rests are far shorter than this: the group may bury who is frozen longer."""

DIAL_OUT_SHARES: Final = (0.0, 0.0, 0.25, 0.5)
"""How many only dial out: in every other scenario none."""

FIRST: Final = (
    Fault(FaultKind.CRASH, per_minute=2.0, restart_after_s=(0.5, 20.0)),
    Fault(FaultKind.CRASH, per_minute=1.0),
    Fault(FaultKind.LOSE_HOST, per_minute=2.0, restart_after_s=(0.5, 30.0)),
    Fault(FaultKind.CRASH, per_minute=2.0, restart_after_s=(1.0, 20.0), disk=False),
    Fault(FaultKind.REPLACE, per_minute=3.0),
    Fault(FaultKind.LEAVE, per_minute=1.0, restart_after_s=(5.0, 20.0)),
    Fault(FaultKind.FREEZE, per_minute=4.0, for_s=(0.5, 30.0)),
    Fault(FaultKind.STALL, per_minute=8.0, for_s=(0.2, 30.0)),
    Fault(FaultKind.CLOCK, per_minute=4.0, rate=(0.95, 1.05)),
    Fault(FaultKind.CUT, per_minute=4.0, for_s=(0.5, 30.0)),
    Fault(FaultKind.CUT_ONE_WAY, per_minute=4.0, for_s=(0.5, 30.0)),
    Fault(FaultKind.LOSSY_LINK, per_minute=4.0, for_s=(1.0, 40.0)),
    Fault(FaultKind.SPLIT, per_minute=1.0, for_s=(1.0, 40.0)),
    Fault(FaultKind.ACCUSE, per_minute=1.0, for_s=(5.0, 40.0)),
)

RESTART_ALL: Final = Fault(
    FaultKind.RESTART_ALL,
    per_minute=1.0,
    for_s=(0.0, 20.0),
    restart_after_s=(0.5, 20.0),
    disk=0.5,
)
PARTIAL: Final = Fault(FaultKind.SPLIT, per_minute=1.0, for_s=(1.0, 40.0))

LATER: Final = {
    "restart_all": RESTART_ALL,
    "sides": replace(PARTIAL, sides=3),
    "one_way": replace(PARTIAL, one_way=True),
    "bridge": replace(PARTIAL, bridge=1),
}
"""What came to the menu later, each by a name that gives it dice of its own, so that what the other
dice say under a seed stays as it was."""

MENU: Final = (*FIRST, *LATER.values())

CHANCE: Final = 0.4
CHANCE_OF_LATER: Final = 0.2


def soak_scenario(seed: int) -> Scenario:
    """The random scenario of this seed: a phase of chaos, then calm long enough to agree in."""
    dice = generator(seed, SOAK)
    peers = dice.randint(3, PEERS_MAX)
    profile = dice.choice(list(Profile))
    loss = dice.choice((0.0, 0.0, 0.01, 0.05))
    conditions = replace(
        profile.conditions,
        loss=loss,
        duplication=dice.choice((0.0, 0.02)),
        reordering=dice.choice((0.0, 0.05)),
    )
    chaos_s = round(dice.uniform(*CHAOS_S))
    calm_s = calm_bound_s(peers)
    faults = tuple(_paced(fault, peers, dice) for fault in FIRST if dice.random() < CHANCE)
    start, dial_out_share = dice.choice(list(Start)), dice.choice(DIAL_OUT_SHARES)
    return Scenario(
        name=SOAK,
        summary="random",
        peers=peers,
        seconds=chaos_s + calm_s,
        calm_s=calm_s,
        quiet_s=5.0,
        profile=profile,
        start=start,
        dial_out_share=dial_out_share,
        conditions=conditions,
        every_fault=False,
        faults=(*faults, *_later(seed, peers)),
        expect=Expected(false_downs=0 if can_judge(peers, dial_out_share) else None),
    )


def _later(seed: int, peers: int) -> list[Fault]:
    all_dice = [(fault, generator(seed, SOAK, name)) for name, fault in LATER.items()]
    drawn = [(fault, dice) for fault, dice in all_dice if dice.random() < CHANCE_OF_LATER]
    return [_paced(fault, peers, dice) for fault, dice in drawn]


def can_judge(peers: int, dial_out_share: float) -> bool:
    """Whether enough peers watch others for one that is wrong about another to be outvoted."""
    return sum(not only_dials_out(number, dial_out_share) for number in range(peers)) >= SMALL


def calm_bound_s(peers: int) -> float:
    """So long after the last fault all must agree.

    Twice the time after which down members are greeted again, the longest suspicion, and a round
    of news for each doubling.
    """
    return 2 * 30.0 + 5 * 5.3 + math.ceil(math.log2(peers + 1))


def _paced(fault: Fault, peers: int, dice: random.Random) -> Fault:
    """More of it among many peers, and sometimes much more."""
    return replace(fault, per_minute=fault.per_minute * peers / 16 * dice.choice((0.5, 1.0, 2.0)))
