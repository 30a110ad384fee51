"""What is claimed about members, and the order in which claims win.

A record is a point of a join-semilattice: ``merge`` is commutative, associative and idempotent,
so any order and any repetition of the same claims ends in the same map (gossip/README.md,
M1 to M5). Progress counts are the same kind of thing, one per (peer, boot).

Invariants: a roster's key for a member only grows until its tombstone is forgotten; ``live`` and
``down`` are sorted and always agree with the records; both maps are bounded.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from gossip.messages import NO_LINEAGE, PEER_ID_FORM, PeerId, Progress, Record, Status

TEXT_CHARS_MAX = 256
"""Longest address or host name taken from a claim (a DNS name has at most 253)."""

LINEAGE_BYTES_MAX = 64
"""Longest lineage taken from a claim."""

COUNT_MAX = 1 << 53
"""Largest boot, incarnation, version or sample count taken from a claim (exact in a float)."""


def merge(a: Record, b: Record) -> Record:
    """The claim that wins: the larger key; at equal keys the larger tuple of the other fields."""
    assert a.peer == b.peer
    return a if _order(a) >= _order(b) else b


def merge_progress(a: Progress, b: Progress) -> Progress:
    """The account that wins: the larger key; at equal keys the larger tuple of the rest."""
    assert a.peer == b.peer
    return a if _progress_order(a) >= _progress_order(b) else b


def _order(record: Record) -> tuple[int, int, int, str, str, str, float]:
    return (
        *record.key,
        record.control_address,
        record.bulk_address,
        record.host,
        record.capacity,
    )


def _progress_order(progress: Progress) -> tuple[int, int, int, bytes, int]:
    return (*progress.key, progress.samples, progress.lineage, int(progress.phase))


def record_flaw(record: Record) -> str | None:
    """Why a claim must not be believed whatever its key, or None."""
    if PEER_ID_FORM.fullmatch(record.peer) is None:
        return f"peer id {record.peer[:20]!r} is not 16 hex digits"
    if not 0 <= record.boot <= COUNT_MAX or not 0 <= record.incarnation <= COUNT_MAX:
        return f"boot or incarnation of {record.peer} out of range"
    for text in (record.control_address, record.bulk_address, record.host):
        if len(text) > TEXT_CHARS_MAX or not text.isprintable():
            return f"absurd address of {record.peer}: {text[:20]!r} ({len(text)} characters)"
    if not (math.isfinite(record.capacity) and record.capacity >= 0):
        return f"capacity of {record.peer} is {record.capacity}"
    return None


def progress_flaw(progress: Progress) -> str | None:
    """Why an account must not be believed whatever its key, or None."""
    if PEER_ID_FORM.fullmatch(progress.peer) is None:
        return f"peer id {progress.peer[:20]!r} is not 16 hex digits"
    for count in (progress.boot, progress.version, progress.samples):
        if not 0 <= count <= COUNT_MAX:
            return f"count out of range in the progress of {progress.peer}"
    if len(progress.lineage) > LINEAGE_BYTES_MAX:
        return f"lineage of {len(progress.lineage)} bytes in the progress of {progress.peer}"
    return None


class Roster:
    """Every record known, my own included.

    A tombstone (down or left) of a peer never known alive here is kept but not passed on: else
    peers that forget at different times would hand the same tombstone round for ever.
    """

    def __init__(self, me: Record, members_max: int) -> None:
        self._me = me.peer
        self._members_max = members_max
        self._records: dict[PeerId, Record] = {me.peer: me}
        self._live: list[PeerId] = []
        self._down: list[PeerId] = []
        self._hearsay: dict[PeerId, None] = {}

    @property
    def me(self) -> Record:
        """My own record."""
        return self._records[self._me]

    @property
    def live(self) -> Sequence[PeerId]:
        """Alive or suspect, without me, sorted; not to be changed by the reader."""
        return self._live

    @property
    def down(self) -> Sequence[PeerId]:
        """Down (not left), sorted; not to be changed by the reader."""
        return self._down

    def get(self, peer: PeerId) -> Record | None:
        """The record of one peer, mine included."""
        return self._records.get(peer)

    def has_room(self, peer: PeerId) -> bool:
        """Whether a record of this peer can be taken."""
        return peer in self._records or len(self._records) < self._members_max

    def put(self, record: Record) -> bool:
        """Merge one claim; True when it won. There must be room."""
        assert self.has_room(record.peer)
        peer, before = record.peer, self._records.get(record.peer)
        if before is not None and merge(before, record) == before:
            return False
        self._records[peer] = record
        if peer == self._me:
            return True
        if record.status < Status.DOWN:
            self._hearsay.pop(peer, None)
        elif before is None:
            self._hearsay[peer] = None
        _keep(self._live, peer, record.status < Status.DOWN)
        _keep(self._down, peer, record.status == Status.DOWN)
        return True

    def forget(self, peer: PeerId) -> None:
        """Drop the tombstone of a peer, as if it had never been heard of."""
        assert peer != self._me
        assert self._records[peer].status >= Status.DOWN
        del self._records[peer]
        self._hearsay.pop(peer, None)
        _keep(self._down, peer, False)

    def all(self) -> list[Record]:
        """Every record, sorted by peer."""
        return [self._records[peer] for peer in sorted(self._records)]

    def shared(self) -> tuple[Record, ...]:
        """The records to pass on in full, sorted by peer."""
        return tuple(record for record in self.all() if record.peer not in self._hearsay)


class Account:
    """Progress of every peer in every boot heard of, so that a restart loses no sample."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: dict[tuple[PeerId, int], Progress] = {}
        self._newest: dict[PeerId, Progress] = {}
        self._totals: dict[bytes, int] = {}

    def has_room(self, progress: Progress) -> bool:
        """Whether this entry can be taken."""
        known = (progress.peer, progress.boot) in self._entries
        return known or len(self._entries) < self._entries_max

    def put(self, progress: Progress) -> bool:
        """Merge one entry; True when it won. For others' entries, ask for room first."""
        key = (progress.peer, progress.boot)
        before = self._entries.get(key)
        if before is not None:
            if merge_progress(before, progress) == before:
                return False
            self._add(before.lineage, -before.samples)
        self._entries[key] = progress
        self._add(progress.lineage, progress.samples)
        newest = self._newest.get(progress.peer)
        if newest is None or progress.boot >= newest.boot:
            self._newest[progress.peer] = progress
        return True

    def _add(self, lineage: bytes, samples: int) -> None:
        total = self._totals.get(lineage, 0) + samples
        if total:
            self._totals[lineage] = total
        else:
            self._totals.pop(lineage, None)

    def newest(self, peer: PeerId) -> Progress | None:
        """The account of the peer's newest boot."""
        return self._newest.get(peer)

    def total(self, lineage: bytes) -> int:
        """Samples trained on under one lineage, by all peers in all boots; 0 for no lineage."""
        return 0 if lineage == NO_LINEAGE else self._totals.get(lineage, 0)

    def all(self) -> tuple[Progress, ...]:
        """Every entry, sorted by peer, then boot."""
        return tuple(self._entries[key] for key in sorted(self._entries))


def _keep(peers: list[PeerId], peer: PeerId, wanted: bool) -> None:
    """Have ``peer`` in the sorted list, or not."""
    at = bisect_left(peers, peer)
    there = at < len(peers) and peers[at] == peer
    if wanted and not there:
        insort(peers, peer)
    elif there and not wanted:
        del peers[at]
