"""Members that go and come back again and again are given no new work for a while.

Each return from down costs one point, and points halve with time; above a limit the member holds
no shards until they have decayed, since moving its shards to and fro costs everybody.
Source: the idea is RFC 2439 (BGP route flap damping), section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from gossip.messages import PeerId, Seconds

CROWD_S: Final = 30.0
CROWD_MIN: Final = 2
"""More returns than this within ``CROWD_S``, and more than a quarter of all members, are a split
that has healed."""

SWEEP_MIN: Final = 64
"""So many peers may be remembered for no reason."""

FORGET_BELOW: Final = 0.1
"""Points too few to remember."""


@dataclass(frozen=True, slots=True)
class Score:
    """So many points as of a time."""

    points: float
    since: Seconds


class Flaps:
    """Points of each peer that ever came back, as of the time they were last added.

    After a split thousands come back at once: those that have the same score share it.
    """

    __slots__ = (
        "_crowd_until", "_half_life_s", "_limit", "_points", "_recent", "_refuted", "_shared",
        "_shared_at", "_sweep_at",
    )  # fmt: skip

    def __init__(self, half_life_s: Seconds, limit: float) -> None:
        self._half_life_s = half_life_s
        self._limit = limit
        self._points: dict[PeerId, Score] = {}
        self._recent: dict[PeerId, Score] = {}
        # The scores of one time, by points.
        self._shared: dict[float, Score] = {}
        self._shared_at: Seconds = -math.inf
        self._crowd_until: Seconds = -math.inf
        self._refuted: dict[PeerId, Seconds] = {}
        self._sweep_at = SWEEP_MIN

    def returned(self, peer: PeerId, now: Seconds, members: int, same_life: bool = False) -> None:
        """A member that was down is back; in the ``same_life``, if the verdict was wrong.

        When a large part of all ``members`` comes back at once, it was the network, not they.
        """
        self._refuted.pop(peer, None)
        if same_life:
            self._refuted[peer] = now
            for each in list(self._refuted)[:-2]:  # the two newest tell of one and of others
                del self._refuted[each]
        self._recent.pop(peer, None)
        self._recent[peer] = self._score(0.0, now)
        old = takewhile(lambda each: now - self._recent[each].since > CROWD_S, self._recent)
        for each in list(old):
            del self._recent[each]
        if now < self._crowd_until:
            self._add(peer, 0.0, now)
        elif len(self._recent) <= max(CROWD_MIN, members // 4):
            self._add(peer, 1.0, now)
        else:
            self._crowd_until = now + CROWD_S
            self._add(peer, 1.0, now)
            for each in self._recent:
                self._add(each, -1.0, now)
        self._sweep(now)

    def _add(self, peer: PeerId, points: float, now: Seconds) -> None:
        self._points[peer] = self._score(max(0.0, self.points(peer, now) + points), now)

    def _score(self, points: float, now: Seconds) -> Score:
        """This score; one object for all that have the same."""
        if self._shared_at != now:
            self._shared.clear()
            self._shared_at = now
        score = self._shared.get(points)
        if score is None:
            score = self._shared[points] = Score(points, now)
        return score

    def _sweep(self, now: Seconds) -> None:
        """Forget whom there is no reason to remember, now and then."""
        if len(self._points) <= self._sweep_at:
            return
        self._points = {
            peer: score
            for peer, score in self._points.items()
            if self.points(peer, now) >= FORGET_BELOW or now - score.since < CROWD_S
        }
        self._sweep_at = 2 * len(self._points) + SWEEP_MIN

    def points(self, peer: PeerId, now: Seconds) -> float:
        """What is left of its points."""
        score = self._points.get(peer)
        if score is None or not score.points:
            return 0.0
        return score.points * math.exp2(-max(0.0, now - score.since) / self._half_life_s)

    def returned_within(self, peer: PeerId, age_s: Seconds, now: Seconds) -> bool:
        """Whether it came back so recently."""
        last = self._points.get(peer)
        return last is not None and now - last.since < age_s

    def refuted_within(self, age_s: Seconds, now: Seconds, but: PeerId) -> bool:
        """Whether any member but this one came back so recently from a verdict that was wrong."""
        for each in reversed(self._refuted):
            if each != but:
                return now - self._refuted[each] < age_s
        return False

    def is_steady(self, peer: PeerId, now: Seconds) -> bool:
        """Whether it may be given shards."""
        return self.points(peer, now) <= self._limit
