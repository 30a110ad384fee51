"""The splits of a world, for as long as a verdict may still come of one.

A split may begin before what the last one left behind has been refuted. So each is remembered by
itself: who stood where, when it began and when it healed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gossip.messages import PeerId, Seconds
from simulations.network import FIRST_SIDE

HEAL_GRACE_S = 30.0
"""So long after a split has healed, what it did to bystanders may still tell."""

CROSSING_S = 3.0
"""So long a verdict across it may that has a link: a lost path is dialed again within two seconds,
and what is said then takes a round trip or two."""


@dataclass(slots=True)
class Split:
    """One of them; ``healed_at_s`` is infinite while it lasts. ``sides`` are bits, and a bridge has
    several. ``lone`` had met nobody yet when it began."""

    sides: Mapping[PeerId, int]
    began_at_s: Seconds
    lone: frozenset[PeerId] = frozenset()
    healed_at_s: Seconds = math.inf

    def excuses(self, one: PeerId, other: PeerId, linked: bool, now: Seconds) -> bool:
        """Whether one may be held down by the other because nothing got through until just now, or
        does not yet: whoever held the other down has given up its link, and looks for it anew."""
        lately = now - self.healed_at_s <= CROSSING_S
        return (lately or not linked) and self.divides(one, other)

    def divides(self, one: PeerId, other: PeerId) -> bool:
        """Whether the two have no side in common; who was not there yet when it began stands with
        the first."""
        return not self.sides.get(one, FIRST_SIDE) & self.sides.get(other, FIRST_SIDE)


class Splits:
    """All that a verdict may still come of; ``ever`` says whether there was any at all."""

    def __init__(self) -> None:
        self.ever = False
        self._recent: list[Split] = []

    def began(
        self, sides: Mapping[PeerId, int], now: Seconds, lone: frozenset[PeerId] = frozenset()
    ) -> None:
        """The world is split; the split before it, if it still lasted, is over."""
        self.healed(now)
        self.ever = True
        self._recent = [*self.recent(now), Split(sides, now, lone)]

    def healed(self, now: Seconds) -> None:
        """Nothing is split any more."""
        for each in self._recent:
            each.healed_at_s = min(each.healed_at_s, now)

    def recent(self, now: Seconds) -> list[Split]:
        """The one that lasts, and those that healed at most ``HEAL_GRACE_S`` ago; oldest first."""
        return [each for each in self._recent if now - each.healed_at_s <= HEAL_GRACE_S]

    def divided(self, one: PeerId, other: PeerId, at_s: Seconds) -> bool:
        """Whether the two stood apart then, which is not long ago."""
        return any(
            each.began_at_s <= at_s <= each.healed_at_s and each.divides(one, other)
            for each in self._recent
        )

    def healed_lately(self, now: Seconds) -> bool:
        """Whether one has healed within ``HEAL_GRACE_S``."""
        return any(0 <= now - each.healed_at_s < HEAL_GRACE_S for each in self._recent)
