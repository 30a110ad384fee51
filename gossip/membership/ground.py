"""A member list that many peers of one process share, and its fingerprint.

Peers of a large swarm know nearly the same. In a simulation of thousands the common part is kept
once (``Ground``), and each peer keeps what it knows beyond or otherwise (``Roster``); a real peer
stands on a ground of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gossip.membership.rings import Around, Ring
from gossip.messages import PeerId, Record, Status

BUCKETS: Final = 256
"""Anti-entropy compares the members by the first byte of their ids."""

_MASK: Final = (1 << 64) - 1


def bucket_of(peer: PeerId) -> int:
    """In which bucket a member is compared."""
    return int(peer[:2], 16)


def fingerprint(record: Record) -> int:
    """64 bits of a record's peer and key. Equal keys mean equal records (M6), so they suffice.

    The finalizer of MurmurHash3 (Appleby, public domain) over the peer, then the key: buckets
    are the exclusive or of these, so they change in constant time.
    """
    return _mixed(record.peer, record.boot, record.incarnation << 2 | record.status)


@lru_cache(maxsize=1 << 18)
def _mixed(peer: PeerId, boot: int, life: int) -> int:
    return _mix(_mix(_mix(int(peer, 16)) ^ boot) ^ life)


def _mix(value: int) -> int:
    value = (value ^ (value & _MASK) >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


@dataclass(frozen=True, slots=True)
class Ground:
    """Records that do not change any more, and everything that is looked up about them.

    Those that were handed the same one also share what they found out about who stands around whom
    (``around``), if it is to be remembered.
    """

    records: dict[PeerId, Record]
    live: tuple[PeerId, ...]
    down: tuple[PeerId, ...]
    undialable: dict[PeerId, None]
    rings: tuple[Ring, ...]
    buckets: array[int]
    in_bucket: tuple[tuple[PeerId, ...], ...]
    around: Around | None = None

    def gone(self) -> dict[PeerId, None]:
        """Who is down or has left, in a dictionary of the caller's own."""
        if len(self.live) == len(self.records):
            return {}
        return {peer: None for peer, each in self.records.items() if each.status >= Status.DOWN}

    @staticmethod
    def of(records: Iterable[Record], rings: int, around: Around | None = None) -> Ground:
        """At most one record for each peer; all of them are passed on to others."""
        by_peer = {record.peer: record for record in sorted(records, key=lambda each: each.peer)}
        live = tuple(peer for peer, record in by_peer.items() if record.status < Status.DOWN)
        down = tuple(peer for peer, record in by_peer.items() if record.status == Status.DOWN)
        undialable = {peer: None for peer in live if not by_peer[peer].control_address}
        buckets = array("Q", bytes(8 * BUCKETS))
        in_bucket: list[list[PeerId]] = [[] for _ in range(BUCKETS)]
        for peer, record in by_peer.items():
            bucket = bucket_of(peer)
            buckets[bucket] ^= fingerprint(record)
            in_bucket[bucket].append(peer)
        standing = tuple(Ring(number, live) for number in range(rings))
        members = tuple(map(tuple, in_bucket))
        return Ground(by_peer, live, down, undialable, standing, buckets, members, around)
