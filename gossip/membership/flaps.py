"""Members that go and come back again and again are given no new work for a while.

Each return from down costs one point, and points halve with time; above a limit the member holds
no shards until they have decayed, since moving its shards to and fro costs everybody.
Source: the idea is RFC 2439 (BGP route flap damping), section 4.
"""

from __future__ import annotations

import math

from gossip.messages import PeerId, Seconds

FORGET_BELOW = 0.1
"""Points too few to remember."""


class Flaps:
    """Points of each peer that ever came back, as of the time they were last added."""

    def __init__(self, half_life_s: Seconds, limit: float) -> None:
        self._half_life_s = half_life_s
        self._limit = limit
        self._points: dict[PeerId, tuple[float, Seconds]] = {}

    def returned(self, peer: PeerId, now: Seconds) -> None:
        """A member that was down is back."""
        self._points[peer] = (self.points(peer, now) + 1.0, now)
        for each in [each for each in self._points if self.points(each, now) < FORGET_BELOW]:
            del self._points[each]

    def points(self, peer: PeerId, now: Seconds) -> float:
        """What is left of its points."""
        points, since = self._points.get(peer, (0.0, now))
        return points * math.exp2(-max(0.0, now - since) / self._half_life_s)

    def returned_within(self, peer: PeerId, age_s: Seconds, now: Seconds) -> bool:
        """Whether it came back so recently."""
        last = self._points.get(peer)
        return last is not None and now - last[1] < age_s

    def is_steady(self, peer: PeerId, now: Seconds) -> bool:
        """Whether it may be given shards."""
        return self.points(peer, now) <= self._limit
