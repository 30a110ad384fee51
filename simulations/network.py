"""The network of a simulated world: what becomes of a frame, and which links stand.

It knows no events and no clock: the world asks when a frame arrives, ``wiring`` decides what
becomes of links. Control and bulk are planes of their own, as in the real transport: only bulk
queues behind bulk. Where an uplink is limited both pay for it, control frames first.

Frames are lost, repeated and reordered one by one, which is harsher than TCP (that loses a whole
link at once); so what holds here holds there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from gossip.machine import LinkCause, Received
from gossip.messages import Message, PeerId, Seconds
from simulations.conditions import Conditions
from simulations.seeds import derive

if TYPE_CHECKING:
    from simulations.simulated_peer import Sent, SimulatedPeer

FIRST_SIDE: Final = 1
"""Sides of a split are bits of a number. Who stands on several sides sees all of them; with no
split everybody stands on the first."""

FRAMES_WAITING_MAX: Final = 1000
"""Frames that wait for a link being dialed; more are lost, as in the real transport."""

_SHARE: Final = float(1 << 64)


class LinkState(IntEnum):
    """DIALING: never up so far, so frames wait. LOST: it was up once; frames are lost."""

    DIALING = 0
    UP = 1
    LOST = 2


class Port:
    """Where one peer meets the network, in all its lives.

    ``outgoing`` are the links it dialed, by peer, ``incoming`` those that others dialed to it;
    ``visitors`` are the peers that only dial out and whose links it was told of, by the number of
    the connection. ``last`` is what it sent last.
    """

    __slots__ = (
        "control_free_at",
        "host_lost",
        "incoming",
        "last",
        "life",
        "outgoing",
        "peer",
        "sides",
        "uplink_free_at",
        "visitors",
    )

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.outgoing: dict[PeerId, Link] = {}
        self.incoming: dict[PeerId, Link] = {}
        self.life: SimulatedPeer | None = None
        self.host_lost = False
        self.sides = FIRST_SIDE
        self.uplink_free_at: Seconds = 0.0
        self.control_free_at: Seconds = 0.0
        self.visitors: dict[PeerId, int] = {}
        self.last: Received | None = None

    def frame(self, message: Message) -> Received:
        """A message as it is heard; one that goes to several in turn is the same to all."""
        last = self.last
        if last is None or last.message is not message:
            last = self.last = Received(self.peer, message)
        return last


Waiting: TypeAlias = "Received | Sent"


class Link:
    """One dialed link; frames go both ways over it. ``here`` dialed it, ``there`` answered.

    ``attempt`` numbers the dials, so that an answer to an older one is not taken for news.
    ``contact`` is the address that was dialed, while nobody has answered there; ``wanted`` says
    that the peer was dialed as a member.
    ``told`` are the failures reported since it was last up or asked for. ``visit`` numbers the
    connection of a dialer that only dials out, once the other side has been told of it; until then
    the link is ``unseen``.
    """

    __slots__ = (
        "attempt",
        "contact",
        "dialer",
        "here",
        "latency_s",
        "state",
        "there",
        "to",
        "told",
        "unseen",
        "up",
        "visit",
        "waiting",
        "wanted",
    )

    def __init__(self, dialer: Port, here: SimulatedPeer, to: Port, latency_s: Seconds) -> None:
        self.dialer = dialer
        self.here = here
        self.to = to
        self.there: SimulatedPeer | None = None
        self.latency_s = latency_s
        self.state = LinkState.DIALING
        self.up = False
        self.attempt = 0
        self.contact: str | None = None
        self.wanted = False
        self.told: list[LinkCause] = []
        self.unseen = False
        self.visit = 0
        self.waiting: list[Waiting] | None = None


class Network:
    """Ports, cuts and the fate of frames; see the module.

    ``impaired`` says that some pair is cut, lossy or on two sides: only then is each frame asked
    about. ``dropped`` counts, by sender and receiver, the frames that a cut or lossy path took, and
    the links that were lost to a cut; ``split_dropped`` the same of splits; ``randomly_lost``,
    ``duplicated``, ``reordered`` and ``delayed`` what the conditions did to frames.
    """

    def __init__(self, conditions: Conditions, seed: int, rng: random.Random) -> None:
        self.conditions = conditions
        self.ports: dict[PeerId, Port] = {}
        self.impaired = False
        self.ever_deaf = False
        self.frames = 0
        self.lost_frames = 0
        self.randomly_lost = 0
        self.duplicated = 0
        self.reordered = 0
        self.delayed = 0
        self.split_dropped = 0
        self.dropped: dict[tuple[PeerId, PeerId], int] = {}
        self._seed = seed
        self._rng = rng
        self._cuts: dict[tuple[PeerId, PeerId], int] = {}
        self._lossy: dict[tuple[PeerId, PeerId], float] = {}
        self._deaf: dict[PeerId, None] = {}
        self._is_split = False
        self._one_way = False
        self.random = rng.random

    def port(self, peer: PeerId) -> Port:
        """The port of a peer, made when first asked for."""
        found = self.ports.get(peer)
        if found is None:
            found = self.ports[peer] = Port(peer)
        return found

    # What becomes of a frame.

    def latency_s(self, a: PeerId, b: PeerId) -> Seconds:
        """One way between two peers, the same in both directions and for ever."""
        least, most = self.conditions.latency_s
        share = derive(self._seed, "latency", min(a, b), max(a, b)) / _SHARE
        return least + (most - least) * share

    def arrivals(self, latency_s: Seconds, leaves_at: Seconds) -> tuple[Seconds, ...]:
        """When copies of a frame arrive that leaves now: none, one or two times."""
        conditions, draw = self.conditions, self.random
        if draw() < conditions.loss:
            self.randomly_lost += 1
            return ()
        arrives_at = leaves_at + latency_s + draw() * conditions.jitter_s
        if conditions.reordering and draw() < conditions.reordering:
            self.reordered += 1
            arrives_at += draw() * latency_s
        if conditions.tail_share and draw() < conditions.tail_share:
            self.delayed += 1
            arrives_at += draw() * conditions.tail_s
        if draw() < conditions.duplication:
            self.duplicated += 1
            return (arrives_at, arrives_at + draw() * conditions.jitter_s)
        return (arrives_at,)

    def leaves_at(self, port: Port, bulk_bytes: int, now: Seconds) -> Seconds:
        """When the last byte of a bulk frame has left its sender."""
        if math.isinf(self.conditions.bytes_per_s):
            return now
        starts_at = max(now, port.uplink_free_at)
        port.uplink_free_at = starts_at + bulk_bytes / self.conditions.bytes_per_s
        return port.uplink_free_at

    def control_leaves_at(self, port: Port, frame_bytes: int, now: Seconds) -> Seconds:
        """The same of a control frame: it waits for those before it, and bulk waits for it. Only
        where the uplink is limited."""
        takes_s = frame_bytes / self.conditions.bytes_per_s
        port.control_free_at = max(now, port.control_free_at) + takes_s
        port.uplink_free_at = max(now, port.uplink_free_at) + takes_s
        return port.control_free_at

    def redial_pause_s(self) -> Seconds:
        """How long until a transport that lost a link tries again."""
        return self._rng.uniform(*self.conditions.redial_s)

    # Links.

    def links(self) -> Iterator[Link]:
        """All links, by dialer, oldest dial first."""
        for port in self.ports.values():
            yield from port.outgoing.values()

    def between(self, a: PeerId, b: PeerId) -> list[Link]:
        """The links of two peers with each other, whoever dialed."""
        ways = (self.port(a).outgoing.get(b), self.port(b).outgoing.get(a))
        return [link for link in ways if link is not None]

    def link(self, here: SimulatedPeer, to: PeerId) -> Link:
        """The link of a life to a peer, made when first asked for."""
        found = here.port.outgoing.get(to)
        if found is None:
            dialer, there = here.port, self.port(to)
            found = Link(dialer, here, there, self.latency_s(dialer.peer, to))
            dialer.outgoing[to] = there.incoming[dialer.peer] = found
        return found

    def drop(self, link: Link) -> None:
        """The dialer no longer keeps this link."""
        link.up = False
        link.attempt += 1
        link.waiting = None
        link.dialer.outgoing.pop(link.to.peer, None)
        link.to.incoming.pop(link.dialer.peer, None)

    # Cuts.

    def is_open(self, a: Port, b: Port) -> bool:
        """Whether a connection between the two can live: that takes both directions."""
        if not self.impaired:
            return True
        there, back = (a.peer, b.peer), (b.peer, a.peer)
        together = a.sides & b.sides != 0
        return together and there not in self._cuts and back not in self._cuts

    def passes(self, a: Port, b: Port) -> bool:
        """Whether a frame from ``a`` gets to ``b`` now, apart from everyday loss."""
        if not a.sides & b.sides and not (self._one_way and a.sides < b.sides):
            self.split_dropped += 1
            return False
        if b.peer in self._deaf:
            return False
        way = (a.peer, b.peer)
        if way in self._cuts:
            self.note_drop(way)
            return False
        share = self._lossy.get(way)
        if share is None or self.random() >= share:
            return True
        self.note_drop(way)
        return False

    def note_drop(self, way: tuple[PeerId, PeerId]) -> None:
        """A bad path took a frame, or a link."""
        self.dropped[way] = self.dropped.get(way, 0) + 1

    def cut(self, a: PeerId, b: PeerId) -> None:
        """No frame passes from ``a`` to ``b`` until as many ``mend``."""
        self._cuts[a, b] = self._cuts.get((a, b), 0) + 1
        self.impaired = True

    def mend(self, a: PeerId, b: PeerId) -> None:
        """Undo one ``cut``."""
        left = self._cuts.pop((a, b), 0) - 1
        if left > 0:
            self._cuts[a, b] = left
        self._note()

    def make_lossy(self, a: PeerId, b: PeerId, share: float) -> None:
        """So much of what ``a`` sends to ``b`` is lost, though their links stand; 0 mends it."""
        self._lossy.pop((a, b), None)
        if share:
            self._lossy[a, b] = share
        self._note()

    def deafen(self, peer: PeerId, deaf: bool) -> None:
        """Nothing that is sent to this peer is heard, though its links stand."""
        self._deaf.pop(peer, None)
        if deaf:
            self._deaf[peer] = None
            self.ever_deaf = True
        self._note()

    def is_deaf(self, peer: PeerId) -> bool:
        """Whether the peer hears nothing."""
        return peer in self._deaf

    def split(self, sides: Sequence[Sequence[PeerId]], one_way: bool = False) -> None:
        """Nothing passes between the sides, or, ``one_way``, nothing from a later to an earlier
        one. Peers not named stand with the first; those named twice, with both."""
        self.heal()
        named: dict[PeerId, int] = {}
        for index, side in enumerate(sides):
            for peer in side:
                named[peer] = named.get(peer, 0) | FIRST_SIDE << index
        for peer, bits in named.items():
            self.port(peer).sides = bits
        self._is_split, self._one_way = True, one_way
        self._note()

    def heal(self) -> None:
        """Undo the split."""
        for port in self.ports.values():
            port.sides = FIRST_SIDE
        self._is_split = self._one_way = False
        self._note()

    def _note(self) -> None:
        self.impaired = bool(self._cuts or self._lossy or self._deaf or self._is_split)
