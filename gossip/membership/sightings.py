"""What this peer itself has seen of each other one: words, links, silence. Never a verdict.

From it follow the private verdict (``reach``: may I swap with it?) and whether silence may be held
against a peer at all: a link that lives, or a kernel that accepts while the process says nothing,
witnesses that the peer is busy or frozen, not gone (gossip/README.md, M12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gossip.machine import LinkCause, Reach
from gossip.messages import PeerId, Seconds


class Witness(IntEnum):
    """What the link dialed to a peer says."""

    NONE = 0
    UP = 1
    CLOSED = 2
    REFUSED = 3
    SILENT = 4
    FROZEN = 5


OF_CAUSE: Final = {
    LinkCause.CLOSED: Witness.CLOSED,
    LinkCause.REFUSED: Witness.REFUSED,
    LinkCause.SILENT: Witness.SILENT,
    LinkCause.FROZEN: Witness.FROZEN,
}

_ALIVE: Final = (Witness.UP, Witness.FROZEN)
UNDECIDED_S: Final = 10.0
"""A link says nothing while it is being dialed, first or anew; this is longer than that takes."""

GONE_AFTER_S: Final = 5.0
"""Who has been lost to me for so long is not waited for when a verdict needs its voice."""

_GONE: Final = (Witness.CLOSED, Witness.REFUSED, Witness.SILENT)

SPLIT_MIN: Final = 3
SPLIT_SHARE: Final = 4
"""So many paths, and one in ``SPLIT_SHARE`` of all, that fell silent together are a split, or many
hosts lost at once; nobody can tell which from one side."""

SILENCED_MAX: Final = 64
"""Paths remembered that fell silent: as many as there are links."""


@dataclass(slots=True)
class Sighting:
    """One peer as seen from here.

    ``failing_since`` is when its first probe since it was last heard ran out. ``lost_probe`` is
    the number of the last probe sent before its link was lost: only an answer to a later one
    shows that there is a way both ways again. ``closed_at`` is when its link was lost,
    ``up_at`` when it last came up. ``given_up``: the link was silent when I gave it up.
    """

    heard_at: Seconds = -1e9
    witness: Witness = Witness.NONE
    failing_since: Seconds | None = None
    lost_probe: int = -1
    closed_at: Seconds = -1e9
    up_at: Seconds = -1e9
    given_up: bool = False

    @property
    def reach(self) -> Reach:
        """The private verdict."""
        if self.witness in _GONE:
            return Reach.LOST
        if self.witness == Witness.FROZEN:
            return Reach.BUSY
        if self.failing_since is None:
            return Reach.OPEN
        return Reach.BUSY if self.witness == Witness.UP else Reach.LOST

    @property
    def is_unmet(self) -> bool:
        """Whether nothing was ever heard of it, and no link to it has ever been up."""
        return self.witness == Witness.NONE and max(self.heard_at, self.up_at) < 0

    def is_gone(self, now: Seconds) -> bool:
        """Whether it is certain that nothing gets through, and has been for a while: a peer that
        comes to itself again finds its links lost for a moment."""
        if self.witness in (Witness.REFUSED, Witness.SILENT):
            return now - self.closed_at >= GONE_AFTER_S
        if self.witness != Witness.NONE or self.failing_since is None:
            return False
        return now - self.failing_since >= GONE_AFTER_S

    def lose(self, witness: Witness, last_probe: int, now: Seconds) -> None:
        """Its link is lost, or more is known about why."""
        if self.witness not in _GONE:
            self.closed_at = now
        self.witness, self.lost_probe, self.given_up = witness, last_probe, False

    def begin_anew(self) -> None:
        """It is in a new life: what ended the last one is no longer held against it."""
        self.failing_since = None
        if self.witness != Witness.UP:
            self.witness = Witness.NONE

    def is_excused(self, is_dialed: bool, now: Seconds) -> bool:
        """Whether silence may mean only that it is busy or frozen.

        A link that was dialed but has not come up yet, or is closed and being dialed anew, will
        tell soon.
        """
        if self.witness == Witness.CLOSED:
            return now - self.closed_at < UNDECIDED_S
        if self.witness == Witness.NONE and is_dialed:
            return self.failing_since is None or now - self.failing_since < UNDECIDED_S
        return self.witness in _ALIVE


class Sightings:
    """Sightings of the peers met, in the order met."""

    __slots__ = (
        "_linked", "_linked_at", "_mended", "_silenced", "_silent", "_silent_at",
        "_silent_within_s", "_standing", "seen",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seen: dict[PeerId, Sighting] = {}
        """By peer; to be read."""
        # Who was heard, or linked, after its link had been silent, and when last; oldest first.
        self._mended: dict[PeerId, Seconds] = {}
        # Whose path fell silent, and when; oldest first. Kept of members that went since.
        self._silenced: dict[PeerId, Seconds] = {}
        # Who went, by what others say, while a link stood that it had opened, and since when.
        self._standing: dict[PeerId, Seconds] = {}
        # How many links stood when they were last counted: many claims are weighed at one time.
        self._linked = 0
        self._linked_at: Seconds = -math.inf
        # The same of paths that had fallen silent within so long.
        self._silent = 0
        self._silent_at: Seconds = -math.inf
        self._silent_within_s: Seconds = 0.0

    def of(self, peer: PeerId) -> Sighting | None:
        """What was seen of a peer."""
        return self.seen.get(peer)

    def at(self, peer: PeerId) -> Sighting:
        """The same, to be written. A link that stands speaks for who is back."""
        seen = self.seen.get(peer)
        if seen is None:
            seen = self.seen[peer] = Sighting()
            if peer in self._standing:
                seen.witness, seen.up_at = Witness.UP, self._standing.pop(peer)
        return seen

    def is_beside(self, peer: PeerId, now: Seconds) -> bool:
        """Whether a link to it has stood for so long that no split came between us since."""
        seen = self.seen.get(peer)
        return seen is not None and seen.witness == Witness.UP and now - seen.up_at >= UNDECIDED_S

    def heard_within(self, peer: PeerId, age_s: Seconds, now: Seconds) -> bool:
        """Whether a message of this peer came so recently."""
        seen = self.seen.get(peer)
        return seen is not None and now - seen.heard_at < age_s

    def reach(self, peer: PeerId) -> Reach:
        """The private verdict on a peer; a peer never met is worth a try."""
        seen = self.seen.get(peer)
        return Reach.OPEN if seen is None else seen.reach

    def lose(self, peer: PeerId, witness: Witness, last_probe: int, now: Seconds) -> None:
        """The link to it is lost, or more is known about why."""
        self.at(peer).lose(witness, last_probe, now)
        self._linked_at = self._silent_at = -math.inf
        if witness in (Witness.REFUSED, Witness.FROZEN):
            self._speaks(peer)  # its host answers, so the path is open
        if witness != Witness.SILENT or peer in self._silenced:
            return
        self._silenced[peer] = now
        if len(self._silenced) > SILENCED_MAX:
            oldest = next(iter(self._silenced))
            untried = (each for each in self._silenced if not self._is_tried(each))
            del self._silenced[next(untried, oldest)]

    def is_splitting(self, within_s: Seconds, now: Seconds, but: PeerId) -> bool:
        """Whether a large part of all paths is silent, several beside the one to this peer: as in
        a split, of which the far side may speak to me before any path of mine has come to itself.
        Paths to members that went since count for so long."""
        if len(self._silenced) < SPLIT_MIN:
            return False
        silent = self._silent_within(within_s, now)
        if silent - self._is_silent(but, within_s, now) < SPLIT_MIN:
            return False
        if self._linked_at != now:
            self._linked = sum([each.witness == Witness.UP for each in self.seen.values()])
            self._linked_at = now
        return silent * SPLIT_SHARE >= silent + self._linked

    def _silent_within(self, within_s: Seconds, now: Seconds) -> int:
        """How many paths are silent; counted once for all claims weighed at a time."""
        if self._silent_at != now or self._silent_within_s != within_s:
            silent = [self._is_silent(peer, within_s, now) for peer in self._silenced]
            self._silent = sum(silent)
            self._silent_at, self._silent_within_s = now, within_s
        return self._silent

    def _is_silent(self, peer: PeerId, within_s: Seconds, now: Seconds) -> bool:
        """Whether a path fell silent so recently, or is one that I still try, to a member that the
        group thinks is there."""
        since = self._silenced.get(peer)
        if since is None or now - since < within_s:
            return since is not None
        return self._is_tried(peer)

    def _is_tried(self, peer: PeerId) -> bool:
        """Whether a path that is silent leads to a live member, and I have a link to it."""
        seen = self.seen.get(peer)
        return seen is not None and seen.witness is Witness.SILENT and not seen.given_up

    def came_up(self, peer: PeerId, now: Seconds) -> None:
        """The link to it is open."""
        seen = self.at(peer)
        if seen.witness == Witness.SILENT or peer in self._silenced:
            self.mended(peer, now)
        seen.witness, seen.up_at = Witness.UP, now
        self._linked_at = -math.inf

    def speaks_again(self, peer: PeerId, now: Seconds) -> None:
        """Something came over its path, which may have been silent; it may have been down since."""
        if peer in self._silenced:
            self.mended(peer, now)

    def mended(self, peer: PeerId, now: Seconds) -> None:
        """The path to it was silent, and is not any more."""
        self._mended.pop(peer, None)
        self._mended[peer] = now
        self._speaks(peer)

    def mended_within(self, age_s: Seconds, now: Seconds, but: PeerId) -> bool:
        """Whether any path but the one to this peer was mended so recently: as after a split."""
        for each in reversed(self._mended):
            if each != but:
                return now - self._mended[each] < age_s
        return False

    def begins_anew(self, peer: PeerId) -> bool:
        """It is in a new life: it was its host that was silent, not the path. Whether anything had
        been seen of it."""
        seen = self.seen.get(peer)
        if seen is not None:
            seen.begin_anew()
        self._mended.pop(peer, None)
        self._speaks(peer)
        return seen is not None

    def _speaks(self, peer: PeerId) -> None:
        """Its path is not silent any more."""
        self._silenced.pop(peer, None)
        self._silent_at = -math.inf

    def extend(self, by_s: Seconds) -> None:
        """I could hear nobody for so long: that time does not count against them."""
        for seen in self.seen.values():
            seen.heard_at += by_s
            seen.closed_at += by_s
            seen.up_at += by_s
            if seen.failing_since is not None:
                seen.failing_since += by_s
        for peer in self._mended:
            self._mended[peer] += by_s
        for peer in self._silenced:
            self._silenced[peer] += by_s
        self._silent_at = -math.inf

    def unlinked(self, peer: PeerId) -> None:
        """I gave up the link to it, which speaks for it no more."""
        seen = self.seen.get(peer)
        if seen is None:
            return
        seen.given_up = seen.witness == Witness.SILENT
        self._silent_at = -math.inf
        if seen.witness == Witness.UP:
            seen.witness = Witness.NONE

    def went(self, peer: PeerId, is_dialable: bool) -> None:
        """The peer went, as others say. Links that it opened, since it cannot be dialed, stand."""
        seen, up_at = self.seen.get(peer), self._standing.get(peer)
        if seen is not None and seen.witness == Witness.UP:
            up_at = seen.up_at
        self.forget(peer)
        if up_at is not None and not is_dialable:
            self._standing[peer] = up_at

    def forget(self, peer: PeerId) -> None:
        """The peer went, and no link to it is left."""
        self.seen.pop(peer, None)
        self._standing.pop(peer, None)
        self._mended.pop(peer, None)
        self._silent_at = -math.inf
