"""Whom to probe next, and which probes are still open.

Round-robin over a shuffled list, shuffled again after each pass (SWIM, section 4.3): every member
is probed within 2 N - 1 intervals by each peer, and no two peers walk the same order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gossip.deadlines import Deadlines
from gossip.messages import PeerId, Seconds


class Prober:
    """At most one open probe a member; any message from it closes the probe."""

    def __init__(self, rng: random.Random, timeout_s: Seconds) -> None:
        self._rng = rng
        self._timeout_s = timeout_s
        self._pass: list[PeerId] = []
        self._open: Deadlines[PeerId] = Deadlines()
        self.last_number = 0

    def add(self, peer: PeerId) -> None:
        """A new member takes a random place in the pass under way."""
        self._pass.insert(self._rng.randrange(len(self._pass) + 1), peer)

    def next_target(self, live: Sequence[PeerId]) -> PeerId:
        """The next member in turn; ``live`` is sorted and not empty.

        ``forget`` keeps the pass clean of members that went, so its last entry is live.
        """
        if not self._pass:
            self._pass = list(live)
            self._rng.shuffle(self._pass)
        return self._pass.pop()

    def start(self, peer: PeerId, now: Seconds) -> int:
        """Open a probe and return its number; a probe already open keeps its time-out."""
        self.last_number += 1
        if peer not in self._open:
            self._open.set(peer, now + self._timeout_s)
        return self.last_number

    def heard(self, peer: PeerId) -> None:
        """The member gave a sign of life: its probe, if any, is answered."""
        self._open.clear(peer)

    def forget(self, peer: PeerId) -> None:
        """The member went: probe it no more."""
        self._open.clear(peer)
        if peer in self._pass:
            self._pass.remove(peer)

    def void(self) -> None:
        """Open probes prove nothing: this peer itself was starved."""
        self._open = Deadlines()

    def due(self, now: Seconds) -> list[PeerId]:
        """Members that gave no sign of life in time; their probes are closed."""
        return self._open.due(now)

    def deadline(self) -> Seconds:
        """When the next probe runs out, or ``math.inf``."""
        return self._open.earliest()
