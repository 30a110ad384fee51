"""What is claimed about members, and the order in which claims win.

A record is a point of a join-semilattice: ``merge`` is commutative, associative and idempotent,
so any order and any repetition of the same claims ends in the same map (gossip/README.md,
M1 to M5). Progress counts are the same kind of thing, one per (peer, boot).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from gossip.messages import PEER_ID_FORM, Evidence, PeerId, Progress, Record

TEXT_CHARS_MAX: Final = 256
"""Longest address or host name taken from a claim (a DNS name has at most 253)."""

LINEAGE_BYTES_MAX: Final = 64
"""Longest lineage taken from a claim."""

COUNT_MAX: Final = 1 << 53
"""Largest boot, incarnation, version or sample count taken from a claim (exact in a float)."""

PEER_ID_CHARS: Final = 16

ACCUSERS_MAX: Final = 16
"""Most accusers taken from a claim: as many observers as a peer can have."""


def merge(a: Record, b: Record) -> Record:
    """The claim that wins: the larger key; at equal keys the larger tuple of the other fields."""
    assert a.peer == b.peer
    return a if a is b or _order(a) >= _order(b) else b


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


def _is_peer_id(peer: PeerId) -> bool:
    return len(peer) == PEER_ID_CHARS and _is_hex(peer)


@lru_cache(maxsize=1 << 16)
def _is_hex(peer: PeerId) -> bool:
    """Remembered: the same few are named again and again."""
    return PEER_ID_FORM.fullmatch(peer) is not None


def record_flaw(record: Record) -> str | None:
    """Why a claim must not be believed whatever its key, or None."""
    if not _is_peer_id(record.peer):
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
    if not _is_peer_id(progress.peer):
        return f"peer id {progress.peer[:20]!r} is not 16 hex digits"
    for count in (progress.boot, progress.version, progress.samples):
        if not 0 <= count <= COUNT_MAX:
            return f"count out of range in the progress of {progress.peer}"
    if len(progress.lineage) > LINEAGE_BYTES_MAX:
        return f"lineage of {len(progress.lineage)} bytes in the progress of {progress.peer}"
    return None


def evidence_flaw(evidence: Evidence) -> str | None:
    """Why evidence must not be believed, or None."""
    if len(evidence.accusers) > ACCUSERS_MAX:
        return f"{len(evidence.accusers)} accusers of {evidence.subject[:20]!r}"
    for peer in (evidence.subject, *evidence.accusers):
        if not _is_peer_id(peer):
            return f"peer id {peer[:20]!r} is not 16 hex digits"
    return None
