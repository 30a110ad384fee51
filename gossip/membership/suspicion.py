"""Doubt before a verdict: every suspect has a while to refute (SWIM, section 4.2).

A suspicion belongs to one claim (boot, incarnation); a later claim starts a new one. Its deadline
never moves, except by the time this peer itself was starved (gossip/README.md, M15 and M17).
Whenever half of the time left has passed, the suspect itself is asked: rumors reach everybody
only with high probability, and one missed refutation must not end in a false verdict.
"""

from __future__ import annotations

from typing import NamedTuple

from gossip.deadlines import Deadlines
from gossip.messages import PeerId, Record, Seconds


class _Doubt(NamedTuple):
    suspect: Record
    ends_at: Seconds


class Suspicions:
    """The suspects and when each is called down; at most one suspicion a peer.

    ``answer_s`` is how long a suspect needs to answer; later than that nobody is asked.
    """

    def __init__(self, answer_s: Seconds) -> None:
        self._answer_s = answer_s
        self._open: dict[PeerId, _Doubt] = {}
        self._deadlines: Deadlines[PeerId] = Deadlines()
        self._asks: Deadlines[PeerId] = Deadlines()

    def start(self, suspect: Record, now: Seconds, for_s: Seconds) -> None:
        """Doubt this claim for so long; the same claim again changes nothing."""
        current = self._open.get(suspect.peer)
        if current is None or current.suspect.key != suspect.key:
            self._open[suspect.peer] = _Doubt(suspect, now + for_s)
            self._deadlines.set(suspect.peer, now + for_s)
            self._ask_later(suspect.peer, now, now + for_s)

    def _ask_later(self, peer: PeerId, now: Seconds, ends_at: Seconds) -> None:
        wait_s = (ends_at - now) / 2
        if wait_s >= self._answer_s:
            self._asks.set(peer, now + wait_s)

    def clear(self, peer: PeerId) -> None:
        """The doubt is settled; nothing happens for a peer not in doubt."""
        self._open.pop(peer, None)
        self._deadlines.clear(peer)
        self._asks.clear(peer)

    def clear_all(self) -> None:
        """Doubt nobody."""
        for peer in list(self._open):
            self.clear(peer)

    def extend(self, by_s: Seconds) -> None:
        """Give every suspect ``by_s`` more: this peer could not hear refutations meanwhile."""
        for peer, doubt in self._open.items():
            later = _Doubt(doubt.suspect, doubt.ends_at + by_s)
            self._open[peer] = later
            self._deadlines.set(peer, later.ends_at)

    def to_ask(self, now: Seconds) -> list[PeerId]:
        """The suspects to be asked now, in turn."""
        peers = self._asks.due(now)
        for peer in peers:
            self._ask_later(peer, now, self._open[peer].ends_at)
        return peers

    def due(self, now: Seconds) -> list[Record]:
        """The suspects whose time is up, earliest first; their suspicions are closed."""
        suspects = [self._open[peer].suspect for peer in self._deadlines.due(now)]
        for suspect in suspects:
            self.clear(suspect.peer)
        return suspects

    def deadline(self) -> Seconds:
        """When the next suspect is due or to be asked, or ``math.inf``."""
        return min(self._deadlines.earliest(), self._asks.earliest())
