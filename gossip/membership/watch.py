"""Whom this peer watches and which links it keeps: both follow from who is live.

Links: to everyone in a small group; in a large one to the watch neighbors and, on demand, to
others (swap partners, fellows), of which the least recently used are given up.
"""

from __future__ import annotations

from typing import Final

from gossip.config import MembershipConfig
from gossip.machine import Dial, Effect, Hangup
from gossip.membership.rings import places
from gossip.membership.roster import Roster
from gossip.membership.sightings import Sightings
from gossip.messages import PeerId

_CIRCLE: Final = (1 << 64) - 1


class Watch:
    """My watch neighbors, kept up to date at little cost, and my links.

    ``active`` of a neighbor says that it is I who pings in our pair; the choice is made by their
    places, so that every peer is pinged by about half of its observers and pings the others.
    """

    __slots__ = (
        "_arcs",
        "_are_linked",
        "_config",
        "_is_old",
        "_links",
        "_me",
        "_mine",
        "_neighbors",
        "_next",
        "_order",
        "_roster",
        "_sightings",
    )

    def __init__(self, roster: Roster, config: MembershipConfig, sightings: Sightings) -> None:
        self._roster = roster
        self._sightings = sightings
        self._config = config
        self._me = roster.me.peer
        self._mine = places(self._me)
        self._neighbors: dict[PeerId, bool] = {}
        self._order: list[PeerId] = []
        # The places of my nearest neighbors on each ring, behind me and ahead; None: anybody may
        # be one.
        self._arcs: list[tuple[int, int]] | None = None
        self._is_old = True
        self._are_linked = False
        self._links: dict[PeerId, None] = {}
        self._next = 0

    # ---------------------------------------------------------------- neighbors

    @property
    def neighbors(self) -> dict[PeerId, bool]:
        """Whom I watch, and whether it is I who pings."""
        if self._is_old:
            self._renew()
        return self._neighbors

    @property
    def is_old(self) -> bool:
        """Whether my neighbors may have changed since they were last looked at."""
        return self._is_old

    def member_came(self, peer: PeerId) -> None:
        """A member is live: does it stand nearer to me than a neighbor of mine?"""
        if self._is_old or self._arcs is None:
            self._is_old = True
            return
        for place, (behind, ahead) in zip(places(peer), self._arcs, strict=False):
            is_between = behind < place < ahead
            if behind >= ahead:  # the circle ends between them
                is_between = place > behind or place < ahead
            if is_between:
                self._is_old = True
                return

    def everybody_came(self) -> None:
        """So many are new that everything has to be looked up again."""
        self._is_old = True

    def member_went(self, peer: PeerId) -> None:
        """A member is live no more."""
        if self._arcs is None or peer in self._neighbors or self._roster.is_small:
            self._is_old = True

    @property
    def hidden(self) -> int:
        """How many of my neighbors cannot be dialed: they hear only from who watches them."""
        if not self._roster.has_undialable:
            return 0
        return sum(not self._roster.is_dialable(peer) for peer in self.neighbors)

    def in_turn(self, count: int) -> list[PeerId]:
        """The next neighbors in a fixed rotation, each at most once."""
        if self._is_old:
            self._renew()
        order = self._order
        count = min(count, len(order))
        start, self._next = self._next, self._next + count
        return [order[(start + each) % len(order)] for each in range(count)]

    def _renew(self) -> None:
        self._is_old = self._are_linked = False
        roster = self._roster
        self._order = roster.neighbors(self._me)
        self._neighbors = {peer: self._pings(peer) for peer in self._order}
        self._arcs = None
        if roster.has_undialable or roster.is_small:
            return
        standing = [places(peer) for peer in self._order]
        self._arcs = [
            (
                (mine - min((mine - each[number]) & _CIRCLE for each in standing)) & _CIRCLE,
                (mine + min((each[number] - mine) & _CIRCLE for each in standing)) & _CIRCLE,
            )
            for number, mine in enumerate(self._mine[: self._config.observers // 2])
        ]

    def _pings(self, peer: PeerId) -> bool:
        odd = bool((self._mine[0] ^ places(peer)[0]) & 1)
        return (self._me < peer) is odd

    # ---------------------------------------------------------------- links

    def links_due(self) -> list[Effect]:
        """Dial neighbors that are new since last asked, and give up what is too much."""
        effects: list[Effect] = []
        neighbors = self.neighbors
        if not self._are_linked:
            self._are_linked = True
            for peer in neighbors:
                effects += self.link(peer)
        return effects

    def dial_all(self) -> bool:
        """Whether the group is so small that everyone keeps a link to everyone."""
        return self._roster.others <= self._config.links_max

    def link(self, peer: PeerId) -> list[Effect]:
        """Keep a link to this peer from now on, as the most recently used."""
        if peer in self._links:
            if not self.dial_all():
                self._links[peer] = self._links.pop(peer)
            return []
        return self.dial(peer)

    def dial(self, peer: PeerId) -> list[Effect]:
        """Dial, or dial again (changes nothing while the link stands)."""
        record = self._roster.get(peer)
        if record is None or not record.control_address:
            return []
        self._links[peer] = None
        dial = Dial(peer, record.control_address, record.bulk_address)
        return [dial, *self._give_up_idle(but=peer)]

    def adopt(self, peer: PeerId) -> list[Effect]:
        """A member's link was opened for another purpose, which is served: it is one of mine from
        now on where I keep links to all, or else is given up; a contact would drown in them."""
        record = self._roster.get(peer)
        if peer in self._links or record is None or not record.control_address:
            return []
        # Who cannot be dialed is known by the links it opens: it keeps what it has room for.
        is_mine = self.dial_all() or peer in self.neighbors
        if not is_mine and self._roster.me.control_address:
            return [Hangup(peer)]
        self._links = {peer: None, **self._links}
        return self._give_up_idle()

    def _give_up_idle(self, but: PeerId | None = None) -> list[Effect]:
        if len(self._links) <= self._config.links_max:
            return []
        idle = next((each for each in self._links if each not in self.neighbors), None)
        return [] if idle is None or idle == but else self.give_up(idle)

    def is_dialed(self, peer: PeerId) -> bool:
        """Whether I want a link to this peer."""
        return peer in self._links

    def give_up(self, peer: PeerId) -> list[Effect]:
        """Hang up, if there is a link of mine."""
        if peer not in self._links:
            return []
        del self._links[peer]
        self._sightings.unlinked(peer)
        return [Hangup(peer)]
