"""Anti-entropy: two peers compare their records and repair what gossip lost, at constant cost.

    A -> B  Digest: 256 hashes           equal: nothing follows
    B -> A  Diff: my versions where the hashes differ
    A -> B  Lookup: what is newer at mine, and whose records I want
    B -> A  Gossip: those, and who of what A told is gone

What B holds of members that it never knew alive, or that are gone for long, is in no digest and no
diff, as it is news to nobody. But who still counts on one that is gone is told so, whichever of the
two began.

Source: the two-level comparison is that of Merkle trees in Dynamo (DeCandia et al., SOSP 2007,
section 4.7) with one level of buckets, which suffices for some thousand members.
"""

from __future__ import annotations

import random
import struct
from array import array
from typing import Final

from gossip.machine import Effect, Send
from gossip.membership.ground import BUCKETS
from gossip.membership.view import View
from gossip.messages import (
    Diff,
    Digest,
    Lookup,
    PeerId,
    Progress,
    Record,
    Rumors,
    Seconds,
    Status,
    Version,
)

RECORDS_MAX: Final = 4096
"""Records sent or asked for in one go; the next comparison finds the rest."""

ACCOUNTS_PER_DIGEST: Final = 16
"""Accounts change all the time and so are not compared, but passed round a few at a time."""

FIRST_SYNC_S: Final = 2.0
"""A newcomer's first comparison comes within this, the next ones each twice as late."""

_FORM = struct.Struct(f"<{BUCKETS}Q")
_IS_AS_HERE = array("Q", [1]).tobytes()[0] == 1


class Pace:
    """How long until the next comparison. A newcomer compares soon and then less and less often:
    who welcomed it may have been one itself. So does who hears again after it was cut off."""

    __slots__ = ("_most_s", "_next_s")

    def __init__(self, most_s: Seconds) -> None:
        self._most_s = most_s
        self._next_s = FIRST_SYNC_S

    def next_s(self) -> Seconds:
        """The pause before the next one; the one after it is twice as long."""
        pause_s = min(self._most_s, self._next_s)
        self._next_s = min(self._most_s, 2 * self._next_s)
        return pause_s

    def hurry(self) -> bool:
        """Begin anew; False where it has just begun."""
        was_slow = self._next_s > 2 * FIRST_SYNC_S
        self._next_s = FIRST_SYNC_S
        return was_slow

    def settle(self) -> None:
        """No hurry from now on."""
        self._next_s = self._most_s


class Sync:
    """The comparisons of one peer."""

    __slots__ = ("_rng", "_view")

    def __init__(self, view: View, rng: random.Random) -> None:
        self._view = view
        self._rng = rng

    def digest(self) -> Digest:
        """What I hold, in short."""
        return Digest(_packed(self._view.roster.buckets), self._some_accounts())

    def _some_accounts(self) -> tuple[Progress, ...]:
        roster, account = self._view.roster, self._view.account
        drawn = [roster.draw(self._rng) for _ in range(min(ACCOUNTS_PER_DIGEST, roster.others))]
        peers = dict.fromkeys(peer for peer in drawn if peer is not None)
        return tuple([each for each in map(account.newest, peers) if each is not None])

    def pinged_by(self, peer: PeerId) -> list[Effect]:
        """One that only dials out pings those that watched it when it last heard of anybody. If I
        do not any more, those that do cannot come to it to say so: we compare."""
        roster, watch = self._view.roster, self._view.watch
        hidden = roster.has_undialable and roster.is_live(peer) and not roster.is_dialable(peer)
        if not hidden or peer in watch.neighbors:
            return []
        return [Send(peer, self.digest())]

    def diff(self, digest: Digest) -> Diff | None:
        """Where we differ, and what I hold there; None when we do not, or it is no digest."""
        if len(digest.buckets) != _FORM.size:
            return None
        mine = self._view.roster.buckets
        if digest.buckets == _packed(mine):
            return None
        theirs = _FORM.unpack(digest.buckets)
        buckets = bytes([at for at in range(BUCKETS) if theirs[at] != mine[at]])
        held = self._view.roster.in_buckets(buckets)
        return Diff(buckets, tuple([_version(record) for record in held]))

    def lookup(self, diff: Diff) -> Lookup | None:
        """What I can tell and what I want to hear; None when there is neither."""
        roster = self._view.roster
        theirs = {version.peer: version for version in diff.versions}
        newer = [each for each in roster.in_buckets(diff.buckets) if each.peer not in theirs]
        wanted: list[PeerId] = []
        for peer, version in theirs.items():
            record = roster.get(peer)
            if record is None or record.key < version[1:]:
                wanted.append(peer)
            elif record.key > version[1:]:
                newer.append(record)
        if not newer and not wanted:
            return None
        return Lookup(self._told(newer), tuple(wanted[:RECORDS_MAX]))

    def answer(self, lookup: Lookup) -> Rumors:
        """The records asked for, and those of members said to be alive that I know to be gone;
        with what they stand on and these peers' accounts."""
        roster = self._view.roster
        held = [roster.get(peer) for peer in lookup.peers[:RECORDS_MAX]]
        gone = [self._gone_since(record) for record in lookup.rumors.records[:RECORDS_MAX]]
        return self._told([record for record in (*held, *gone) if record is not None])

    def _gone_since(self, said: Record) -> Record | None:
        """What I know of a member that is gone, and that another still counts on."""
        known = self._view.roster.get(said.peer)
        if known is None or said.status >= Status.DOWN or known.status < Status.DOWN:
            return None
        return known if known.key > said.key else None

    def _told(self, records: list[Record]) -> Rumors:
        told = self._view.with_evidence(tuple(records[:RECORDS_MAX]))
        accounts = [self._view.account.newest(record.peer) for record in told.records]
        return Rumors(
            told.records, tuple([each for each in accounts if each is not None]), told.evidence
        )


def _packed(buckets: array[int]) -> bytes:
    """As they cross the wire: 8 bytes each, the lowest first."""
    return buckets.tobytes() if _IS_AS_HERE else _FORM.pack(*buckets)


def _version(record: Record) -> Version:
    return Version(record.peer, record.boot, record.incarnation, record.status)
