"""How long to wait for the next chunk, learned from those that came.

A fixed wait fails on slow links: asked again too soon, the same bytes queue twice and the link
collapses; given up too soon, nothing ever arrives. So, as TCP does (RFC 6298): the wait follows
the measured time between chunks, and doubles while nothing comes.
"""

from __future__ import annotations

from gossip.config import ExchangeConfig
from gossip.messages import CHUNK_BYTES_MAX, Seconds

DOUBLINGS_MAX = 4
"""The wait grows to at most sixteen times where it began; by default this reaches half of
``withdraw_after_s``, the slowest pace a chunk may have."""

GAPS_OF_SILENCE = 2
"""A chunk that is this many gaps late is asked for again."""

GAPS_OF_STALL = 4
"""A transfer is given up after this many of its longest gaps, never before the configured wait."""

STALL_STRETCH_MAX = 4
"""Nor is it ever waited for longer than this many configured waits."""


class Patience:
    """The pace of one pull. Begin at the first Want; say when something comes and is asked again.

    Invariant: ``silence_s`` is at least ``retry_s`` and at most half of ``withdraw_after_s``
    (unless that is less); ``stall_s`` lies between ``withdraw_after_s`` and STALL_STRETCH_MAX times
    that, so nobody is waited for without end.
    """

    __slots__ = (
        "_asked_twice",
        "_config",
        "_doublings",
        "_gap_s",
        "_last_at",
        "_longest_gap_s",
        "_slowest_s",
    )

    def __init__(self, config: ExchangeConfig, chunk_bytes: int, now: Seconds) -> None:
        self._config = config
        self._slowest_s = config.withdraw_after_s / 2 * chunk_bytes / CHUNK_BYTES_MAX
        self._last_at = now
        self._gap_s = 0.0
        self._longest_gap_s = 0.0
        self._doublings = 0
        self._asked_twice = False

    @property
    def silence_s(self) -> Seconds:
        """Ask again after this long without anything new.

        It doubles only up to what a chunk takes at the slowest pace a link may have (1 MiB in half
        of ``withdraw_after_s``, when the holder gives up, too): a longer silence is a lost frame,
        not a slow link, and a short chunk asked for twice costs a link little.
        """
        pace_s = max(self._config.retry_s, GAPS_OF_SILENCE * self._gap_s)
        doubled_s = min(pace_s * float(2**self._doublings), self._slowest_s)
        return max(self._config.retry_s, min(pace_s, self._config.withdraw_after_s / 2), doubled_s)

    @property
    def stall_s(self) -> Seconds:
        """Give up after this long without a sign of life."""
        least_s = self._config.withdraw_after_s
        learned_s = min(GAPS_OF_STALL * self._longest_gap_s, STALL_STRETCH_MAX * least_s)
        return max(least_s, learned_s)

    def arrived(self, now: Seconds) -> None:
        """Something new came. One long gap is soon forgotten, a steady pace is not.

        After asking again nobody knows which Want was answered: then the gap says nothing of the
        pace, and the longer wait stands until a chunk comes unasked (Karn and Partridge, 1987).
        """
        gap_s = now - self._last_at
        self._last_at = now
        self._longest_gap_s = max(gap_s, self._longest_gap_s)
        if not self._asked_twice:
            self._gap_s = max(gap_s, self._gap_s / 2)
            self._doublings = 0
        self._asked_twice = False

    def asked_again(self) -> None:
        """Nothing came, and it was asked for once more: wait longer the next time."""
        self._doublings = min(self._doublings + 1, DOUBLINGS_MAX)
        self._asked_twice = True
