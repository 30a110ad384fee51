"""How long to wait for what was asked for, learned from what came.

A fixed wait fails on slow links: asked again too soon, the same bytes queue twice and the link
collapses; given up too soon, nothing ever arrives. So, as TCP does (RFC 6298): the wait follows
the measured time between signs of progress, and doubles while none comes. Before the first one
nobody knows whether the link is slow or a frame was lost, so the slowest link is assumed.

Both ends have one: a receiver counts new chunks, a holder the Wants that its chunks bring forth.
"""

from __future__ import annotations

from typing import NamedTuple

from gossip.config import ExchangeConfig
from gossip.messages import CHUNK_BYTES_MAX, Seconds

DOUBLINGS_MAX = 4
"""The wait grows to at most sixteen times where it began."""

GAPS_OF_SILENCE = 4
"""A chunk that is this many gaps late is asked for again."""

GAPS_OF_STALL = 8
"""A transfer is given up after this many of its longest gaps, never before the configured wait."""

STALL_STRETCH_MAX = 6
"""Nor is it ever waited for longer than this many configured waits."""

SLOWEST_WAITS = 3
"""The slowest link that swaps carries CHUNK_BYTES_MAX in this many configured waits: 52 kB/s with
the defaults. A partner that hears nothing at all is found silent by its probes, much sooner."""


class Pace(NamedTuple):
    """What a complete pull leaves for the next one from the same peer: how long its first chunk of
    ``chunk_bytes`` took, and the rate of all of it."""

    first_s: Seconds
    chunk_bytes: int
    bytes_per_s: float


class Patience:
    """The pace of one transfer, seen from one end. Begin when ``awaited_bytes`` are asked for; say
    when progress is made and when it is asked again.

    Invariant: ``silence_s`` is at least ``retry_s`` and at most half of ``withdraw_after_s`` or
    what the slowest link takes, the longer one; ``stall_s`` lies between ``withdraw_after_s`` and
    STALL_STRETCH_MAX times that, so nobody is waited for without end. A pace ``known`` from before
    says when to ask again, not when to give up: the link may be slower by now.
    """

    __slots__ = (
        "_asked_twice",
        "_awaited_bytes",
        "_began_at",
        "_config",
        "_doublings",
        "_first_s",
        "_gap_s",
        "_last_at",
        "_longest_gap_s",
        "_slowest_s",
    )

    def __init__(
        self,
        config: ExchangeConfig,
        awaited_bytes: int,
        now: Seconds,
        known: Pace | None = None,
    ) -> None:
        self._config = config
        self._awaited_bytes = awaited_bytes
        whole_s = SLOWEST_WAITS * config.withdraw_after_s
        self._slowest_s = whole_s * awaited_bytes / CHUNK_BYTES_MAX
        self._began_at = self._last_at = now
        self._first_s: Seconds | None = None
        self._longest_gap_s: Seconds | None = None
        self._doublings = 0
        self._asked_twice = False
        self._gap_s: Seconds | None = None
        if known is not None:
            first_s = known.first_s * max(1.0, awaited_bytes / known.chunk_bytes)
            # Where frames are lost it looks slower than any link: never wait longer than for that.
            self._gap_s = min(first_s, self._slowest_s / GAPS_OF_SILENCE)

    @property
    def silence_s(self) -> Seconds:
        """Ask again after this long without anything new.

        It doubles only up to what a chunk takes on the slowest link: a longer silence is a lost
        frame, not a slow link, and a short chunk asked for twice costs a link little.
        """
        retry_s, slowest_s = self._config.retry_s, self._slowest_s
        if self._gap_s is None:
            return max(retry_s, slowest_s)
        pace_s = max(retry_s, GAPS_OF_SILENCE * self._gap_s)
        doubled_s = min(pace_s * float(2**self._doublings), slowest_s)
        longest_s = max(self._config.withdraw_after_s / 2, slowest_s)
        return max(retry_s, min(pace_s, longest_s), doubled_s)

    @property
    def stall_s(self) -> Seconds:
        """Give up after this long without a sign of life."""
        least_s = self._config.withdraw_after_s
        learned_s = least_s + self._slowest_s
        if self._longest_gap_s is not None:
            learned_s = GAPS_OF_STALL * self._longest_gap_s
        return max(least_s, min(learned_s, STALL_STRETCH_MAX * least_s))

    def arrived(self, now: Seconds) -> None:
        """Something new came. One long gap is soon forgotten, a steady pace is not.

        After asking again nobody knows which Want was answered: then the gap says nothing of the
        pace, and the longer wait stands until a chunk comes unasked (Karn and Partridge, 1987).
        """
        gap_s = now - self._last_at
        self._last_at = now
        if not self._asked_twice:
            if self._longest_gap_s is None:
                self._first_s = gap_s
            self._gap_s = max(gap_s, (self._gap_s or 0.0) / 2)
            self._doublings = 0
        self._longest_gap_s = max(gap_s, self._longest_gap_s or 0.0)
        self._asked_twice = False

    def asked_again(self) -> None:
        """Nothing came, and it was asked for once more: wait longer the next time."""
        self._doublings = min(self._doublings + 1, DOUBLINGS_MAX)
        self._asked_twice = True

    def pace(self, arrived_bytes: int) -> Pace | None:
        """What was learned, when so much has come; None if its first chunk was asked for twice."""
        if self._first_s is None:
            return None
        took_s = max(self._last_at - self._began_at, 1e-6)
        return Pace(self._first_s, self._awaited_bytes, arrived_bytes / took_s)
