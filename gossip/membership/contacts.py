"""The addresses that a peer joins through: named ones, and those that an earlier life kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gossip.machine import Dial, Effect
from gossip.membership.roster import Roster
from gossip.messages import PeerId

CONTACTS_AT_ONCE: Final = 16
"""So many are dialed at a time, if not more are named: whoever is there sends all it knows."""


class Contacts:
    """Dialed until each is a live member's.

    Addresses of an earlier life come after those named, as who was named may be gone for good, and
    are given up with the first welcome: they may be of another run by now, and a peer that knows
    both would join the two.
    """

    __slots__ = (
        "_answers_at",
        "_dialed",
        "_kept",
        "_named_count",
        "_roster",
        "addresses",
        "are_doubtful",
    )

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.addresses: tuple[str, ...] = ()
        # Those of an earlier life, beside named ones; and how many to dial at first.
        self._kept: frozenset[str] = frozenset()
        self._named_count = 0
        self.are_doubtful = False
        """Whether a refusal says nothing of those named, as others were dialed beside them."""
        # Who answered at an address: it may tell another one than was dialed.
        self._answers_at: dict[str, PeerId] = {}
        self._dialed = ""

    def begin(self, named: Iterable[str], remembered: Iterable[str]) -> list[Effect]:
        """Dial those named, my own excepted; with none those remembered."""
        own = self._roster.me.control_address
        first = [address for address in dict.fromkeys(named) if address != own]
        known = {own, *first}
        others = [address for address in remembered if address not in known]
        self.addresses = tuple(dict.fromkeys([*first, *others]))
        self._kept = frozenset(others if first else ())
        self._named_count = len(first)
        return self.dial(len(first) or CONTACTS_AT_ONCE)

    def again(self, hasty: bool) -> list[Effect]:
        """Dial the next of them: one, or in haste as many as were named or more."""
        return self.dial(max(self._named_count, CONTACTS_AT_ONCE) if hasty else 1)

    def dial(self, at_once: int) -> list[Effect]:
        """Dial the addresses that lead to no live member, so many of them, in turn."""
        if not self.addresses:
            return []
        records = [self._roster.get(peer) for peer in self._roster.live]
        known = {record.control_address for record in records if record}
        for address, peer in self._answers_at.items():
            # One that cannot be dialed answers nowhere: it came by itself meanwhile.
            if self._roster.is_live(peer) and self._roster.is_dialable(peer):
                known.add(address)
        away = [address for address in self.addresses if address not in known][:at_once]
        self.addresses = tuple(sorted(self.addresses, key=away.__contains__))
        self._dialed = away[0] if len(away) == 1 else ""
        self.are_doubtful = self.are_doubtful or not self._kept.isdisjoint(away)
        return [Dial(None, address, "") for address in away]

    def answered(self, peer: PeerId) -> None:
        """A link came up, not dialed for the watch: it leads to the one address just dialed."""
        if self._dialed:
            self._answers_at[self._dialed], self._dialed = peer, ""

    def welcomed(self) -> None:
        """Somebody let me in."""
        self.addresses = tuple(each for each in self.addresses if each not in self._kept)
        self._kept = frozenset()
        self.are_doubtful = False
