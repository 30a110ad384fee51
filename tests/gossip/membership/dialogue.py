"""One membership machine in a test's hands: say something, see what it asks for."""

from __future__ import annotations

import random
from typing import TypeVar

from gossip.config import MembershipConfig
from gossip.machine import Effect, Send, Tell
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import Gossip, MembershipMessage, PeerId, Ping, Record, Rumors
from tests.gossip.membership.claims import LAYOUT, peer, record

Kind = TypeVar("Kind")
CONFIG = MembershipConfig()


def machine(*members: Record, config: MembershipConfig = CONFIG, seed: int = 1) -> Swim:
    """Peer 1 at time 0, which has heard of these members."""
    swim = Swim(record(1), Terms(LAYOUT), config, random.Random(seed), 0.0)
    if members:
        swim.hear(peer(99), Gossip(Rumors(members)), 0.0)
    return swim


def say(swim: Swim, sender: int, message: MembershipMessage, now: float) -> list[Effect]:
    """Deliver a message the way the core does."""
    swim.heard_from(peer(sender), now)
    return swim.hear(peer(sender), message, now)


def run(swim: Swim, until: float) -> list[tuple[float, Effect]]:
    """Wake the machine at each of its deadlines; every effect with its time."""
    effects: list[tuple[float, Effect]] = []
    while swim.deadline() <= until:
        at = swim.deadline()
        effects += [(at, effect) for effect in swim.wake(at)]
    return effects


def only(effects: list[tuple[float, Effect]]) -> list[Effect]:
    """The effects without their times."""
    return [effect for _, effect in effects]


def sent(effects: list[Effect], kind: type[Kind], to: PeerId | None = None) -> list[Kind]:
    """The messages of a kind that go out, to one peer or to any."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind) and to in (None, effect.to)
    ]


def told(effects: list[Effect], kind: type[Kind]) -> list[Kind]:
    """The reports of a kind."""
    return [
        effect.report
        for effect in effects
        if isinstance(effect, Tell) and isinstance(effect.report, kind)
    ]


def carried(effects: list[Effect]) -> list[Rumors]:
    """The claims that go out with gossip and probes, one entry a message."""
    gossip = [message.rumors for message in sent(effects, Gossip)]
    return gossip + [message.rumors for message in sent(effects, Ping)]
