"""Deliberate bugs around splits that heal; see ``sabotage``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gossip.machine import Effect
from gossip.membership.judgment import Judgment
from gossip.membership.jury import Jury
from gossip.membership.sightings import Sightings
from gossip.membership.verdicts import Claim, Weight
from gossip.messages import Evidence, PeerId, Record, Seconds
from simulations.bugs import Replacement, bug
from simulations.small_scenarios import BRIDGE, LONG_BRIDGE, SHORT, SPLIT


@bug(SPLIT, "M24")
def split_verdicts_believed() -> list[Replacement]:
    """Verdicts from behind a split that has just healed are believed without any delay."""
    weigh = Judgment._weigh

    def believe(self: Judgment, claim: Claim, why: str, now: Seconds) -> list[Effect]:
        if self._view.verdicts.weigh(claim.record, claim.accusers, now) is Weight.TOO_FEW:
            return weigh(self, claim, why, now)
        return self.believe(claim.record, why, now)

    return [(Judgment, "_weigh", believe)]


@bug(SHORT, "M24")
def split_not_seen_while_it_lasts() -> list[Replacement]:
    """Paths that fell silent together say nothing before one of them is open again."""
    return [(Sightings, "is_splitting", lambda *_, **__: False)]


@bug(BRIDGE, "M11")
def doubt_kept_to_oneself() -> list[Replacement]:
    """A verdict that is doubted is told as if it were not."""
    tell = Judgment._evidence

    def told(self: Judgment, record: Record, accusers: Iterable[PeerId], now: Seconds) -> Evidence:
        return replace(tell(self, record, accusers, now), doubted=False)

    return [(Judgment, "_evidence", told)]


@bug(BRIDGE, "M11")
def accusers_hide_their_doubt() -> list[Replacement]:
    """Observers that see a split accuse as if they saw none, to those that see none."""
    hold_trial = Jury._hold_trial

    def hold_plainly(
        self: Jury, suspect: Record, accuser: PeerId, why: str, now: Seconds, doubts: bool
    ) -> list[Effect]:
        own = accuser == self._view.roster.me.peer
        return hold_trial(self, suspect, accuser, why, now, doubts and own)

    return [(Jury, "_hold_trial", hold_plainly)]


@bug(LONG_BRIDGE, "M11")
def bridges_ask_nobody() -> list[Replacement]:
    """Whoever sees nothing of a split that others see believes them in the end."""
    return [(Judgment, "_sees_less_than_tellers", lambda *_: False)]
