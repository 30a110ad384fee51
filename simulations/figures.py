"""What is measured in a world: how soon peers know, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from gossip.messages import Seconds

BIN_S = 0.02
"""Resolution of percentiles."""


class Histogram:
    """Durations in bins, so that millions of them take little memory."""

    __slots__ = ("_bins", "count", "largest_s")

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count = 0
        self.largest_s = math.nan

    def add(self, duration_s: Seconds) -> None:
        """Take one duration."""
        at = int(duration_s / BIN_S)
        self._bins[at] = self._bins.get(at, 0) + 1
        self.count += 1
        if not duration_s <= self.largest_s:
            self.largest_s = duration_s

    def quantile_s(self, share: float) -> Seconds:
        """At most this long for such a share of all; NaN when there is none."""
        wanted, passed = share * self.count, 0
        for at in sorted(self._bins):
            passed += self._bins[at]
            if passed >= wanted:
                return min((at + 1) * BIN_S, self.largest_s)
        return math.nan


class News(StrEnum):
    """What a claim tells others of its subject."""

    CAME = "came"
    REFUTED = "refuted"
    LEFT = "left"
    DOWN = "down"


@dataclass(slots=True)
class Figures:
    """All that is measured.

    known           from a lost life's end until 99 % of those that were there hold it down, once
                    for each life (``measuring``); this is judged.
    known_of        the same by whether the one that is gone could only dial out.
    not_known       lost lives that are not known to so many yet.
    detection       from a peer's end until a live peer holds it down, over all pairs of the two.
    first_verdict   from a lost life's end until the first holds it down.
    dial_out        lives of peers that only dial out.
    first_doubt     from a peer's end until the first live peer suspects it or holds it down.
    news            from the first peer that hears of a claim until another one does, by what it
                    tells (``spreading``).
    false_downs     verdicts about peers that ran, each peer that believed one counted.
    falsely_down    peers (and lives) that such a verdict was about.
    agreed_s        from the calm's beginning until all agree; inf: never.
    """

    known: Histogram = field(default_factory=Histogram)
    known_of: dict[bool, Histogram] = field(
        default_factory=lambda: {False: Histogram(), True: Histogram()}
    )
    not_known: int = 0
    detection: Histogram = field(default_factory=Histogram)
    first_verdict: Histogram = field(default_factory=Histogram)
    dial_out: int = 0
    first_doubt: Histogram = field(default_factory=Histogram)
    news: dict[News, Histogram] = field(
        default_factory=lambda: {kind: Histogram() for kind in News}
    )
    false_downs: int = 0
    falsely_down: dict[tuple[str, int], None] = field(default_factory=dict)
    agreed_s: Seconds = math.inf
    idle_bytes_per_s: float = math.nan
    idle_messages_per_s: float = math.nan
    idle_gossip_messages: int = 0
    control_bytes_per_s: float = math.nan
    worst_bytes_per_s: float = math.nan

    def rounds(self, round_s: Seconds, *kinds: News) -> float:
        """Gossip rounds until the last peer knew of such news (by default any); NaN: none came."""
        longest_s = [self.news[kind].largest_s for kind in kinds or News if self.news[kind].count]
        return math.ceil(max(longest_s) / round_s) if longest_s else math.nan
