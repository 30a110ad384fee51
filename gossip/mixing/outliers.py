"""Whom a peer does not follow: one that stands far apart where nearly all others stand near.

A clip bounds how far a swap moves a peer, but not where to, and honest corrections need that much
room. One in eight that always asks for a step back, or for the start, costs 6 % of loss however it
is clipped (simulations/compare). But honest peers are about equally far from each other, whatever
data each of them sees, and whoever lies to some effect is not.

Whoever is left behind honestly (it was cut off, and all others went on) finds all others far from
itself, which is no reason not to follow them, and so comes back by itself. Of two groups that a
split kept apart, at least one finds a third of all peers on the other side, and follows them.
Liars that are that many, adapt, or lie in small steps are not found out; they are clipped all the
same.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from statistics import median_low
from typing import Final

from gossip.messages import PeerId

KNOWN_MAX: Final = 16
"""Peers remembered, those met last: distances change as rates do."""

MEETINGS_MAX: Final = 4 * KNOWN_MAX
"""Who was not met for so many meetings counts no more: it may be gone, and distances have grown."""

FAR: Final = 4.0
"""So many times the median of all distances. Honest peers came to 3.2 at most, and 99 % of the time
to less than 1.8; one that claims noise, the start, or progress backwards to 7 at least, mostly to
20 and more (a transformer and Muon, eight peers)."""

NEAR: Final = 1e-5
"""As a share of a model's length: whoever is no farther away is near. While a run is finished all
come to agree to the last bit, and the last that still differs a little must not be left aside."""

FEW: Final = 3
"""Fewer than one in so many may be left aside, so nobody is while only three are known. More than
two thirds must be honest wherever nobody knows who is (Lamport, Shostak and Pease, "The Byzantine
generals problem", 1982)."""


class Outliers:
    """The distances of the peers met last, by fragment; of one thread."""

    def __init__(self) -> None:
        self._distances: dict[int, dict[PeerId, float]] = defaultdict(dict)
        # When each was met last, in meetings of the fragment; in the order of the distances.
        self._met: dict[int, dict[PeerId, int]] = defaultdict(dict)
        self._meetings: Counter[int] = Counter()

    def follows(self, fragment: int, peer: PeerId, distance: float) -> bool:
        """Whether to move towards a peer that is so far away; remembers that it is.

        ``distance`` is a share of this peer's own length; not finite is farther than anything.
        """
        known = self._remember(fragment, peer)
        known[peer] = distance = math.inf if math.isnan(distance) else distance
        limit = max(FAR * median_low(known.values()), NEAR)
        far = sum(each > limit for each in known.values())
        return distance <= limit or FEW * far >= len(known)

    def _remember(self, fragment: int, peer: PeerId) -> dict[PeerId, float]:
        """The distances that count beside this peer's new one, which becomes the last."""
        known, met = self._distances[fragment], self._met[fragment]
        # Whoever comes again and again makes nobody else forgotten.
        self._meetings[fragment] += peer != next(reversed(met), None)
        now = self._meetings[fragment]
        for each in (known, met):
            each.pop(peer, None)
        met[peer] = now
        while len(met) > KNOWN_MAX or now - next(iter(met.values())) > MEETINGS_MAX:
            gone = next(iter(met))
            del met[gone]
            del known[gone]
        return known

    def forget_all(self) -> None:
        """This peer is another model now, at other distances."""
        self._distances.clear()
        self._met.clear()
