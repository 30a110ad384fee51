"""Doubt before a verdict: a suspect has a while to refute, the shorter the more accuse it.

Only a suspect's observers hold a trial of it, and each its own. A trial belongs to one life
(boot, incarnation): a later claim ends it. Its deadline lies between min and max: with one
accuser at max, falling with the logarithm of the independent accusers, at min once there are
enough; it never moves back, except by the time this peer itself was starved (M15 to M17).
Source: Lifeguard (arXiv 1707.00788), section 3.B (LHA-Suspicion).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gossip.deadlines import Deadlines
from gossip.messages import PeerId, Record, Seconds


@dataclass(slots=True)
class Trial:
    """One suspect. ``began_at`` is when its silence was first noticed; ``not_before`` until when it
    has time whoever accuses it: what accusers said while this peer was starved comes first.

    ``accusers`` are marked where they doubt it, since a split may be what they see.
    """

    suspect: Record
    began_at: Seconds
    min_s: Seconds
    max_s: Seconds
    enough: int
    ends_at: Seconds
    accusers: dict[PeerId, bool] = field(default_factory=dict)
    not_before: Seconds = -math.inf
    tell_at: Seconds = -math.inf
    tell_pause_s: Seconds = 2.0

    def may_tell(self, now: Seconds) -> bool:
        """Whether I repeat my own accusation now: less and less often, as it convinces nobody."""
        if now < self.tell_at:
            return False
        self.tell_at = now + self.tell_pause_s
        self.tell_pause_s *= 2
        return True

    def timeout_s(self) -> Seconds:
        """How long the suspect has, counted from ``began_at``."""
        confirmations = len(self.accusers) - 1
        if confirmations >= self.enough - 1:
            return self.min_s
        if confirmations <= 0:
            return self.max_s
        share = math.log(confirmations + 1) / math.log(self.enough)
        return max(self.min_s, self.max_s - (self.max_s - self.min_s) * share)


class Suspicions:
    """The trials under way; at most one a peer."""

    __slots__ = ("deadlines", "open")

    def __init__(self) -> None:
        self.open: dict[PeerId, Trial] = {}
        """By suspect; to be read."""
        self.deadlines: Deadlines[PeerId] = Deadlines()

    def get(self, peer: PeerId) -> Trial | None:
        """The trial of a peer."""
        return self.open.get(peer)

    def accuse(self, trial: Trial, accuser: PeerId, doubts: bool) -> bool:
        """Hear an accuser in this trial, opening it if there is none of that life; whether the
        accuser is a new one. What it said last of its doubt holds."""
        peer = trial.suspect.peer
        current = self.open.get(peer)
        if current is None or current.suspect.key < trial.suspect.key:
            current = self.open[peer] = trial
        is_new = accuser not in current.accusers
        current.accusers[accuser] = doubts
        if not is_new:
            return False
        current.began_at = min(current.began_at, trial.began_at)
        ends_at = min(current.ends_at, current.began_at + current.timeout_s())
        current.ends_at = max(ends_at, current.not_before)
        self.deadlines.set(peer, current.ends_at)
        return True

    def retract(self, peer: PeerId, accuser: PeerId) -> None:
        """An accuser hears from the suspect again; the others may still not."""
        trial = self.open.get(peer)
        if trial is None:
            return
        trial.accusers.pop(accuser, None)
        if not trial.accusers:
            self.clear(peer)

    def clear(self, peer: PeerId) -> None:
        """The trial is over; nothing happens for a peer without one."""
        if self.open.pop(peer, None) is not None:
            self.deadlines.clear(peer)

    def clear_all(self) -> None:
        """Try nobody."""
        for peer in list(self.open):
            self.clear(peer)

    def extend(self, by_s: Seconds, earliest_at: Seconds) -> None:
        """Give every suspect ``by_s`` more, and until ``earliest_at``: this peer could not hear
        refutations meanwhile, and those that came over links which closed are lost."""
        for peer, trial in self.open.items():
            trial.began_at += by_s
            trial.not_before = earliest_at
            trial.ends_at = max(trial.ends_at + by_s, earliest_at)
            self.deadlines.set(peer, trial.ends_at)

    def look_again(self, trial: Trial, now: Seconds) -> None:
        """Its time is up; unless it is cleared, it is due again after its longest time."""
        self.deadlines.set(trial.suspect.peer, now + trial.max_s)

    def due(self, now: Seconds) -> list[Trial]:
        """Trials whose time is up, earliest first. They stay open until they are cleared: one
        without enough accusers may still find them."""
        return [self.open[peer] for peer in self.deadlines.due(now)]

    def deadline(self) -> Seconds:
        """When the next trial is due, or ``math.inf``."""
        return self.deadlines.earliest()
