"""One membership machine in a test's hands: say something, see what it asks for."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TypeVar

from gossip.config import MembershipConfig
from gossip.machine import Dial, Effect, LinkCause, MemberChanged, ReachChanged, Send, Tell
from gossip.membership.sightings import Witness
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import (
    Ack,
    Gossip,
    Hello,
    MembershipMessage,
    Nack,
    NackReason,
    PeerId,
    Ping,
    PingReq,
    Record,
    Rumors,
    Seconds,
    Status,
)
from tests.gossip.membership.claims import LAYOUT, down, evidence, peer, progress, record, suspect

Kind = TypeVar("Kind")
CONFIG = MembershipConfig()
FEW = MembershipConfig(observers=4, accusers=3, links_max=8)
"""Fewer observers than there are members in a small group."""
MIN_S = CONFIG.suspicion_s(6)
PAIR_S = CONFIG.suspicion_s(2)
"""The shortest trial, in a group of six and of two."""
OTHERS = (2, 3, 5, 6)
"""The fellows, where peer 4 of six is the one in doubt."""
Timed = list[tuple[Seconds, Effect]]


def machine(
    *members: Record, config: MembershipConfig = CONFIG, seed: int = 1, me: Record | None = None
) -> Swim:
    """Peer 1 at time 0; it belongs to a group of these members, if there are any."""
    swim = Swim(me or record(1), Terms(LAYOUT), config, random.Random(seed), 0.0)
    if members:
        swim._view.is_welcomed = True
        swim.hear(peer(99), Gossip(Rumors(members)), 0.0)
    return swim


def group(size: int, config: MembershipConfig = CONFIG) -> Swim:
    """Peer 1 among peers 1 to ``size``, with a link to each, all just heard."""
    swim = machine(*map(record, range(2, size + 1)), config=config)
    for number in range(2, size + 1):
        swim.link_up(peer(number), 0.0)
        swim.heard_from(peer(number), 0.0)
    swim.wake(0.0)
    return swim


def hello(number: int, boot: int = 1, newcomer: bool = True) -> Hello:
    """The greeting of the numbered peer."""
    return Hello(record(number, boot=boot), progress(number, boot=boot), LAYOUT, 1, newcomer)


def say(swim: Swim, sender: int, message: MembershipMessage, now: Seconds) -> list[Effect]:
    """Deliver a message the way the core does."""
    effects = swim.heard_from(peer(sender), now)
    return effects + swim.hear(peer(sender), message, now)


def tell(swim: Swim, sender: int, *claims: Record, now: Seconds) -> list[Effect]:
    """Deliver records as gossip."""
    return say(swim, sender, Gossip(Rumors(claims)), now)


def accuse(
    swim: Swim, accuser: int, number: int, now: Seconds, incarnation: int = 0
) -> list[Effect]:
    """One peer accuses another."""
    stands_on = evidence(number, accuser, incarnation=incarnation)
    accused = suspect(number, incarnation=incarnation)
    return say(swim, accuser, Gossip(Rumors((accused,), (), (stands_on,))), now)


def bury(swim: Swim, number: int, *accusers: int, by: int, now: Seconds) -> list[Effect]:
    """One peer says that another is down, since these accused it."""
    return say(swim, by, Gossip(Rumors((down(number),), (), (evidence(number, *accusers),))), now)


def run(
    swim: Swim,
    until: Seconds,
    answering: tuple[int, ...] = (),
    every_s: Seconds = 0.5,
    nacks: bool = True,
) -> list[tuple[Seconds, Effect]]:
    """Wake the machine at each of its deadlines; every effect with its time.

    Peers that are ``answering`` say something now and then, and answer each Ping at once; they
    say of others that they do not get through either.
    """
    effects: list[tuple[Seconds, Effect]] = []
    answers = dict.fromkeys(map(peer, answering))
    now = swim._last_input_at
    speak_at = now if answering else math.inf
    wakes: Counter[Seconds] = Counter()
    while (at := min(swim.deadline(), speak_at)) <= until:
        now = max(now, at)
        wakes[now] += 1
        assert wakes[now] < 100, f"wakes again and again at {now}"
        if now >= speak_at:
            speak_at = now + every_s
            for each in answers:
                effects += [(now, effect) for effect in swim.heard_from(each, now)]
        asked = swim.wake(now)
        for effect in asked:
            effects.append((now, effect))
            if isinstance(effect, Send) and effect.to in answers:
                effects += [(now, each) for each in answer(swim, effect, now, nacks)]
    return effects


def answer(swim: Swim, asked: Send, now: Seconds, nacks: bool) -> list[Effect]:
    """Answer a Ping in the life and incarnation that is known, and a PingReq with a Nack."""
    known = swim.record(asked.to)
    assert known is not None
    match asked.message:
        case Ping(probe):
            said: MembershipMessage = Ack(probe, known.boot, known.incarnation)
        case PingReq(probe, subject) if nacks:
            said = Nack(probe, subject, NackReason.TIMEOUT)
        case _:
            return []
    return swim.heard_from(asked.to, now) + swim.hear(asked.to, said, now)


def only(effects: list[tuple[Seconds, Effect]]) -> list[Effect]:
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


def reaches(effects: list[Effect]) -> list[tuple[PeerId, str]]:
    """Private verdicts, by name."""
    return [(each.peer, each.reach.name) for each in told(effects, ReachChanged)]


def dials(effects: list[Effect]) -> list[PeerId | None]:
    """Who is dialed."""
    return [each.peer for each in effects if isinstance(each, Dial)]


def accusations(effects: list[Effect], of: int) -> list[PeerId]:
    """Who is told that the numbered peer is a suspect."""
    return [
        each.to
        for each in effects
        if isinstance(each, Send)
        and isinstance(each.message, Gossip)
        and any(
            claim.key[2] == 1 and claim.peer == peer(of) for claim in each.message.rumors.records
        )
    ]


def carried(effects: list[Effect]) -> list[Rumors]:
    """The claims that go out with gossip and probes, one entry a message."""
    gossip = [message.rumors for message in sent(effects, Gossip)]
    return gossip + [message.rumors for message in sent(effects, Ping)]


def told_of(number: int, effect: Send) -> bool:
    """Whether a message says that a peer is down."""
    message = effect.message
    return isinstance(message, Gossip) and down(number) in message.rumors.records


def silent_4() -> Swim:
    """Peer 1 among six at second 10, without a link to peer 4, of which it heard nothing lately."""
    swim = group(6)
    swim._view.sightings.at(peer(4)).witness = Witness.NONE
    run(swim, 9.9, answering=(2, 3, 5, 6))
    return swim


def changed(effects: Timed, status: Status) -> list[Seconds]:
    """When peer 2 or 4 was told to be in a status."""
    return [
        at
        for at, effect in effects
        for change in told([effect], MemberChanged)
        if change.record.status == status
    ]


def first(effects: Timed, kind: type[object]) -> Seconds:
    """When a message of a kind went to peer 2 or 4 first."""
    return next(at for at, each in effects if sent([each], kind))


def lost(size: int = 6) -> Swim:
    """Peer 1 among so many, to whom the dial to peer 4 (or 2, in a pair) has found nobody."""
    swim = machine(*map(record, range(2, size + 1)))
    swim.link_lost(peer(4 if size > 3 else 2), LinkCause.SILENT, 0.0)
    return swim
