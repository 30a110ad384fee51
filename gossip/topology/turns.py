"""Whose turn it is: which fragment is swapped next, with whom, and how often to try. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gossip.config import ExchangeConfig, Partners
from gossip.messages import PeerId
from gossip.topology.schedule import (
    exponential_neighbors,
    least_recent_partner,
    random_partner,
)

ANYBODY_EVERY: Final = 16
"""Of so many swaps one is opened with whomever of all a peer met longest ago: where paths are cut
for good, each may see other members, and the only bridge between two parts may join peers that are
not neighbors in either's list."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One swap to open."""

    fragment: int
    partner: PeerId


class Turns:
    """Fragments go round robin over the free ones; partners as ``ExchangeConfig.partners`` says.

    A due swap may be tried ``attempts_max`` times (after Busy, with another partner each time).
    Who was met when is remembered per fragment, of as many peers as are candidates, twice over;
    whoever was asked in vain waits its turn like one that was met.
    """

    __slots__ = (
        "_attempts_left",
        "_config",
        "_last_partner",
        "_me",
        "_meetings",
        "_met",
        "_next_fragment",
        "_opened",
        "_rng",
    )

    def __init__(self, config: ExchangeConfig, me: PeerId, rng: random.Random) -> None:
        self._config = config
        self._me = me
        self._rng = rng
        self._attempts_left = 0
        self._next_fragment = 0
        self._last_partner: PeerId | None = None
        self._opened = 0
        self._met: list[dict[PeerId, int]] = [{} for _ in range(config.fragments)]
        self._meetings = 0

    def met(self, partner: PeerId, fragment: int) -> None:
        """A swap of this fragment with ``partner`` was opened, or applied, whoever opened it."""
        self._meetings += 1
        met = self._met[fragment]
        met.pop(partner, None)  # so that the dict's order is that of the meetings
        met[partner] = self._meetings

    def grant(self, attempts: int) -> None:
        """A swap is due: allow so many attempts from now on."""
        self._attempts_left = attempts

    def next(
        self, is_free: Callable[[int], bool], partners: Sequence[PeerId], anybody: bool = False
    ) -> Turn | None:
        """The next swap to open, using up one attempt; None if there is nothing to do.

        ``partners`` are those that answer, sorted, without me. ``anybody``: all in turn, not only
        neighbors, as when the last swaps are to show that nobody differs.
        """
        fragments = self._config.fragments
        order = [(self._next_fragment + each) % fragments for each in range(fragments)]
        fragment = next((each for each in order if is_free(each)), None)
        if fragment is None or self._attempts_left <= 0:
            return None
        partner = self._choose(fragment, partners, anybody or not self._opened % ANYBODY_EVERY)
        if partner is None:
            return None
        self._attempts_left -= 1
        self._last_partner = partner
        self._opened += 1
        self.met(partner, fragment)
        self._next_fragment = (fragment + 1) % fragments
        return Turn(fragment, partner)

    def _choose(self, fragment: int, partners: Sequence[PeerId], anybody: bool) -> PeerId | None:
        met = self._met[fragment]
        while len(met) > 2 * len(partners) + 2:
            del met[next(iter(met))]
        if self._config.partners is Partners.RANDOM:
            return random_partner(partners, self._last_partner, self._rng)
        among = partners
        if self._config.partners is Partners.EXPONENTIAL and not anybody:
            among = exponential_neighbors(partners, self._me)
        return least_recent_partner(among, met, self._rng)

    def backoff_s(self) -> float:
        """How long to wait after Busy (rule 2)."""
        return self._rng.uniform(0.0, self._config.backoff_s)
