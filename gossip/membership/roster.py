"""Every record one peer knows, and what follows from them: who is live, who watches whom.

Invariants: a key for a member only grows until its tombstone is forgotten (M2); ``live``,
``down``, the rings and the buckets always agree with the records; the number of records is
bounded (M27).
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from gossip.membership.ground import Ground, bucket_of, fingerprint
from gossip.membership.records import merge
from gossip.membership.rings import Standing
from gossip.messages import PeerId, Record, Status

CHANGES_MAX: Final = 512
"""So many may come and go beside the ground; three quarters of its live members, if that is more:
half of a group comes and goes with a split, and all stand on the same ground again."""


class Roster:
    """The records of one peer, its own included: its own changes over a shared ground.

    A tombstone (down or left) is passed on for a while only (``retire``), and not at all if its
    peer was never known alive here: else peers that forget at different times would hand the same
    tombstone round for ever.
    """

    __slots__ = (
        "_am_live",
        "_buckets",
        "_count",
        "_down",
        "_forgotten",
        "_ground",
        "_hearsay",
        "_joined",
        "_live",
        "_live_count",
        "_me",
        "_members_max",
        "_observers",
        "_outside",
        "_records",
        "_standing",
        "_undialable",
        "gone",
        "me",
    )

    def __init__(self, me: Record, members_max: int, observers: int, ground: Ground | None = None):
        self._me = me.peer
        self._members_max = members_max
        self._observers = observers
        self._ground = ground or Ground.of((), observers // 2)
        self._records: dict[PeerId, Record] = {}
        self._forgotten: dict[PeerId, None] = {}
        self._standing = Standing(self._ground.rings, self._ground.around)
        self._buckets = array("Q", self._ground.buckets)
        self._count = len(self._ground.records)
        self._joined: list[PeerId] = []
        self._live_count = len(self._ground.live)
        self._live: list[PeerId] | None = None
        self._down = list(self._ground.down)
        self._undialable: dict[PeerId, None] = dict(self._ground.undialable)
        self._hearsay: dict[PeerId, None] = {}
        # Whom the ground does not know.
        self._outside: dict[PeerId, None] = {}
        self.gone: dict[PeerId, None] = self._ground.gone()
        """Who is down or has left; to be read."""
        self.me = me
        """My own record; to be read."""
        self._am_live = True
        self._put(me, self.get(me.peer))

    # ---------------------------------------------------------------- reading

    @property
    def others(self) -> int:
        """How many live members there are beside me."""
        return self._live_count - self._am_live

    @property
    def is_small(self) -> bool:
        """Whether there are so few that everybody watches everybody."""
        return self._live_count <= self._observers + 1

    @property
    def has_undialable(self) -> bool:
        """Whether any live member cannot be dialed."""
        return bool(self._undialable)

    def is_dialable(self, peer: PeerId) -> bool:
        """Whether a live member can be dialed."""
        return peer not in self._undialable

    @property
    def live(self) -> Sequence[PeerId]:
        """Live members without me, sorted; not to be changed by the reader."""
        if self._live is None:
            live = [peer for peer in self._ground.live if self._is_live(peer)]
            live += self._joined
            live.sort()
            self._live = [peer for peer in live if peer != self._me]
        return self._live

    @property
    def down(self) -> Sequence[PeerId]:
        """Down (not left), sorted; not to be changed by the reader."""
        return self._down

    def get(self, peer: PeerId) -> Record | None:
        """The record of one peer, mine included."""
        record = self._records.get(peer)
        if record is None and peer not in self._forgotten:
            return self._ground.records.get(peer)
        return record

    def is_live(self, peer: PeerId) -> bool:
        """A live member that is not me."""
        return peer != self._me and self._is_live(peer)

    def is_gone(self, peer: PeerId) -> bool:
        """A member that is down or has left."""
        return peer in self.gone

    def _is_live(self, peer: PeerId) -> bool:
        record = self.get(peer)
        return record is not None and record.status < Status.DOWN

    def has_room(self, peer: PeerId) -> bool:
        """Whether a record of this peer can be taken."""
        return self._count < self._members_max or self.get(peer) is not None

    def draw(self, rng: random.Random) -> PeerId | None:
        """A random live member beside me, or None; without listing them all, where they are many
        of those there were."""
        if self.others == 0:
            return None
        ground, joined = self._ground.live, self._joined
        if 4 * self.others < len(ground):  # as in a small group that most have left
            return self.live[rng.randrange(self.others)]
        while True:
            at = rng.randrange(len(ground) + len(joined))
            peer = ground[at] if at < len(ground) else joined[at - len(ground)]
            if self.is_live(peer):
                return peer

    def all(self) -> list[Record]:
        """Every record, sorted by peer."""
        return sorted(self._all(), key=lambda record: record.peer)

    def _all(self) -> Iterator[Record]:
        yield from self._records.values()
        for peer, record in self._ground.records.items():
            if peer not in self._records and peer not in self._forgotten:
                yield record

    def shared(self) -> tuple[Record, ...]:
        """The records to pass on in full, sorted by peer."""
        return tuple(record for record in self.all() if record.peer not in self._hearsay)

    def in_buckets(self, buckets: bytes) -> list[Record]:
        """The records to pass on in some buckets, sorted by peer."""
        wanted = set(buckets)
        peers = {peer: None for bucket in buckets for peer in self._ground.in_bucket[bucket]}
        peers |= {peer: None for peer in self._outside if bucket_of(peer) in wanted}
        records = [self.get(peer) for peer in sorted(peers) if peer not in self._hearsay]
        return [record for record in records if record is not None]

    @property
    def buckets(self) -> array[int]:
        """For each bucket the exclusive or of the fingerprints of the records to pass on."""
        return self._buckets

    # ---------------------------------------------------------------- who watches whom

    def neighbors(self, peer: PeerId) -> list[PeerId]:
        """Whom a peer watches, and is watched by: its neighbors on the rings.

        One that cannot be dialed watches nobody, but is watched by those returned. In a small
        group everybody watches everybody.
        """
        dialable = peer not in self._undialable
        if self.is_small:
            everyone = [*self.live, self._me] if self._is_live(self._me) else self.live
            others = [each for each in everyone if each != peer]
            return [each for each in others if dialable or each not in self._undialable]
        return self._standing.around(peer, self._undialable, wants_passed=dialable)

    def observers(self, peer: PeerId) -> list[PeerId]:
        """Who watches a peer."""
        return [each for each in self.neighbors(peer) if each not in self._undialable]

    def would_observe(self, accuser: PeerId, peer: PeerId, observers: list[PeerId]) -> bool:
        """Whether somebody who is not live here would watch ``peer`` if it were."""
        return self.is_small or self._standing.is_between(accuser, observers, peer)

    # ---------------------------------------------------------------- writing

    def put(self, record: Record) -> bool:
        """Merge one claim; True when it won. There must be room."""
        before = self.get(record.peer)
        if before is record:
            return False
        if before is not None and merge(before, record) == before:
            return False
        assert self.has_room(record.peer)
        self._put(record, before)
        return True

    def take_many(self, new: Iterable[Record]) -> list[Record]:
        """Take live records of peers not known yet, as far as there is room; those taken."""
        room = max(0, self._members_max - self._count)
        taken = list(islice(new, room))
        self._stand_on([*self._all(), *taken])
        return taken

    def _put(self, record: Record, before: Record | None) -> None:
        peer = record.peer
        self._records[peer] = record
        if peer not in self._ground.records:
            self._outside[peer] = None
        if peer == self._me:
            self.me = record
            self._am_live = record.status < Status.DOWN
        self._forgotten.pop(peer, None)
        bucket = bucket_of(peer)
        if before is None:
            self._count += 1
        elif peer not in self._hearsay:
            self._buckets[bucket] ^= fingerprint(before)
        was_live = before is not None and before.status < Status.DOWN
        is_live = record.status < Status.DOWN
        if is_live:
            self._hearsay.pop(peer, None)
        elif before is None:
            self._hearsay[peer] = None
        if peer not in self._hearsay:
            self._buckets[bucket] ^= fingerprint(record)
        if is_live:
            self.gone.pop(peer, None)
        else:
            self.gone[peer] = None
        if is_live and not record.control_address:
            self._undialable[peer] = None
        else:
            self._undialable.pop(peer, None)
        if was_live != is_live:
            self._move(peer, is_live)
        was_down = before is not None and before.status == Status.DOWN
        if was_down != (record.status == Status.DOWN):
            _keep(self._down, peer, not was_down)
        self._settle()

    def _move(self, peer: PeerId, is_live: bool) -> None:
        """A member came or went."""
        in_ground = self._in_live_ground(peer)
        self._live = None
        self._live_count += 1 if is_live else -1
        if is_live:
            self._standing.add(peer, in_ground)
        else:
            self._standing.remove(peer, in_ground)
        if not in_ground:
            _keep(self._joined, peer, is_live)

    def _in_live_ground(self, peer: PeerId) -> bool:
        record = self._ground.records.get(peer)
        return record is not None and record.status < Status.DOWN

    def forget(self, peer: PeerId) -> None:
        """Drop the tombstone of a peer, as if it had never been heard of."""
        record = self.get(peer)
        assert peer != self._me
        assert record is not None
        assert record.status >= Status.DOWN
        if peer not in self._hearsay:
            self._buckets[bucket_of(peer)] ^= fingerprint(record)
        self._records.pop(peer, None)
        self._outside.pop(peer, None)
        if peer in self._ground.records:
            self._forgotten[peer] = None
        self._hearsay.pop(peer, None)
        self.gone.pop(peer, None)
        self._count -= 1
        _keep(self._down, peer, False)

    def retire(self, peer: PeerId) -> None:
        """Keep a tombstone, but pass it on no more."""
        record = self.get(peer)
        if record is None or record.status < Status.DOWN or peer in self._hearsay:
            return
        self._buckets[bucket_of(peer)] ^= fingerprint(record)
        self._records[peer] = record
        self._hearsay[peer] = None

    def _settle(self) -> None:
        """Make a ground of one's own once many have come and gone for good."""
        came, went = len(self._joined), self._standing.gone_count
        if came + went > max(CHANGES_MAX, len(self._ground.live) * 3 // 4):
            self._stand_on(list(self._all()))

    def _stand_on(self, records: list[Record]) -> None:
        """Make these the ground, hearsay aside, and keep no changes."""
        hearsay = {peer: self._records[peer] for peer in self._hearsay}
        mine = [record for record in records if record.peer not in hearsay]
        me = self.me
        self._ground = Ground.of(mine, self._observers // 2)
        self._records = {**hearsay, me.peer: me}
        self._forgotten = {}
        self._outside = dict.fromkeys(hearsay)
        self._standing = Standing(self._ground.rings)
        self._buckets = array("Q", self._ground.buckets)
        self._count = len(records)
        self._joined = []
        self._live = None
        self._live_count = len(self._ground.live)
        self._down = list(self._ground.down)
        for peer, record in hearsay.items():
            _keep(self._down, peer, record.status == Status.DOWN)
        self._undialable = dict(self._ground.undialable)


def _keep(peers: list[PeerId], peer: PeerId, wanted: bool) -> None:
    """Have ``peer`` in the sorted list, or not."""
    at = bisect_left(peers, peer)
    there = at < len(peers) and peers[at] == peer
    if wanted and not there:
        insort(peers, peer)
    elif there and not wanted:
        del peers[at]
