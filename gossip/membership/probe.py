"""Probes under way: first direct, then through fellow observers, then failed (SWIM, section 3.1).

Also the probes made on behalf of others. Whom to probe, and what follows, is decided elsewhere.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from gossip.deadlines import Deadlines
from gossip.membership.health import SCORE_MAX
from gossip.membership.roundtrip import RoundTrips
from gossip.messages import PeerId, Seconds

INDIRECT_FACTOR: Final = 1.5
"""Fellows get this many direct time-outs: one for a probe of theirs, which they are told, and the
rest for the way there and back."""


class Stage(IntEnum):
    """How far a probe has come."""

    DIRECT = 0
    INDIRECT = 1


class Probe:
    """One probe of one peer. ``asked`` are the fellows that have not said anything yet."""

    __slots__ = ("asked", "number", "stage", "timeout_s")

    def __init__(self, number: int, timeout_s: Seconds) -> None:
        self.number = number
        self.timeout_s = timeout_s
        self.stage = Stage.DIRECT
        self.asked: dict[PeerId, None] = {}


class Favor(NamedTuple):
    """A fellow's task: who asked, about whom, under which number of theirs."""

    asker: PeerId
    subject: PeerId
    number: int


class Prober:
    """At most one open probe a peer; any message from it closes the probe.

    ``favors_max`` bounds what others can make this peer do at a time.
    """

    __slots__ = (
        "_favors",
        "_favors_max",
        "_sent",
        "_trips",
        "deadlines",
        "favor_deadlines",
        "last_number",
        "open",
    )

    def __init__(self, trips: RoundTrips, favors_max: int = 64) -> None:
        self._trips = trips
        self._favors_max = favors_max
        self.open: dict[PeerId, Probe] = {}
        """By peer; to be read."""
        # Number and time of the last probe of each peer, until its answer is measured.
        self._sent: dict[PeerId, tuple[int, Seconds]] = {}
        self.deadlines: Deadlines[PeerId] = Deadlines()
        self._favors: dict[int, Favor] = {}
        self.favor_deadlines: Deadlines[int] = Deadlines()
        self.last_number = 0

    def is_open(self, peer: PeerId) -> bool:
        """Whether an answer of this peer is awaited."""
        return peer in self.open

    def start(self, peer: PeerId, now: Seconds, factor: int) -> int:
        """Open a probe and return its number; a probe already open keeps its time-out.

        ``factor`` stretches the time-out (Lifeguard).
        """
        self.last_number += 1
        if peer not in self.open:
            timeout_s = self._trips.timeout_s(peer) * factor
            self.open[peer] = Probe(self.last_number, timeout_s)
            self._sent[peer] = (self.last_number, now)
            self.deadlines.set(peer, now + timeout_s)
        return self.last_number

    def ask(self, peer: PeerId, fellows: list[PeerId], now: Seconds) -> None:
        """The direct probe ran out: wait for the fellows."""
        probe = self.open[peer]
        probe.stage = Stage.INDIRECT
        probe.asked = dict.fromkeys(fellows)
        self.deadlines.set(peer, now + INDIRECT_FACTOR * probe.timeout_s)

    def answered(self, peer: PeerId, number: int, now: Seconds) -> bool:
        """An Ack came: measure the round trip if it is that of the last probe, which the same
        message closed before as a sign of life. Whether the number was ever given out."""
        sent = self._sent.get(peer)
        if sent is not None and sent[0] == number:
            del self._sent[peer]
            self._trips.measured(peer, now - sent[1])
        return 0 < number <= self.last_number

    def said(self, fellow: PeerId, subject: PeerId) -> bool:
        """A fellow answered, whatever it said: it is there itself. Whether it was asked."""
        probe = self.open.get(subject)
        if probe is None or fellow not in probe.asked:
            return False
        del probe.asked[fellow]
        return True

    def close(self, peer: PeerId) -> Probe | None:
        """The peer gave a sign of life, or its probe is over."""
        probe = self.open.pop(peer, None)
        if probe is not None:
            self.deadlines.clear(peer)
        return probe

    def void(self) -> None:
        """Open probes prove nothing: this peer itself was starved."""
        for peer in list(self.open):
            self.close(peer)
        self._sent.clear()

    def forget(self, peer: PeerId) -> None:
        """The peer went."""
        self.close(peer)
        self._sent.pop(peer, None)

    def due(self, now: Seconds) -> list[tuple[PeerId, Probe]]:
        """Probes whose stage ran out; to be closed or taken to the next stage by the caller."""
        return [(peer, self.open[peer]) for peer in self.deadlines.due(now)]

    # ---------------------------------------------------------------- for others

    def is_fair(self, within_s: Seconds) -> bool:
        """Whether an honest peer may give a fellow this time: its own longest time-out at most."""
        return 0 < within_s <= self._trips.most_s * (1 + SCORE_MAX)

    def favor(self, favor: Favor, within_s: Seconds, now: Seconds) -> int | None:
        """Open a probe for somebody else; its number, or None when too many are open.

        It ends ``within_s``: who asked waits little longer, and takes silence for its own fault.
        """
        if len(self._favors) >= self._favors_max:
            return None
        self.last_number += 1
        self._favors[self.last_number] = favor
        timeout_s = min(self._trips.timeout_s(favor.subject), within_s)
        self.favor_deadlines.set(self.last_number, now + timeout_s)
        return self.last_number

    def favor_done(self, number: int, subject: PeerId) -> Favor | None:
        """The subject answered this number: whom to tell."""
        favor = self._favors.get(number)
        if favor is None or favor.subject != subject:
            return None
        self.favor_deadlines.clear(number)
        return self._favors.pop(number)

    def favors_failed(self, now: Seconds) -> list[Favor]:
        """Favors whose subject did not answer in time."""
        return [self._favors.pop(number) for number in self.favor_deadlines.due(now)]

    def deadline(self) -> Seconds:
        """When the next probe or favor runs out, or ``math.inf``."""
        return min(self.deadlines.earliest(), self.favor_deadlines.earliest())
