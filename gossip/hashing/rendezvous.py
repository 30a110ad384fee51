"""Weighted rendezvous hashing: every peer scores all members for a key and takes the best.

Whoever knows the same members comes to the same answer, in any order, on any machine: the only
inputs are the key, the members' ids and their weights. When a member leaves, exactly its keys
move; when one joins, keys move to it only. Cost is one hash a member and key.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN
6(1), 1998 (highest random weight); the weighted score -w / ln(u) is from Schindelhauer and
Schomaker, "Weighted distributed hash tables", SPAA 2005 (logarithmic method).
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from typing import TypeAlias

from gossip.messages import PeerId

Weighted: TypeAlias = tuple[PeerId, float]
"""A member and its weight: twice the weight, twice the keys.

A weight that is not a positive finite number counts as none, and its member holds nothing:
weights come from records that others sent, so they must not be able to raise.
"""

_PERSON = b"gossip-hrw-1"  # keeps these hashes apart from any other use of BLAKE2
_MANTISSA_BITS = 52  # so that u below is exact and never rounds to 1.0, where ln(u) is 0


def score(key: bytes, member: Weighted) -> float:
    """How strongly ``key`` is drawn to ``member``: -w / ln(u), u uniform in (0, 1).

    -inf for a member without a usable weight.
    """
    peer, weight = member
    if not 0.0 < weight < math.inf:
        return -math.inf
    # The key's length in front keeps (key, peer) unambiguous when both vary in length.
    text = len(key).to_bytes(4, "big") + key + peer.encode()
    digest = hashlib.blake2b(text, digest_size=8, person=_PERSON).digest()
    u = ((int.from_bytes(digest, "big") >> (64 - _MANTISSA_BITS)) + 0.5) / (1 << _MANTISSA_BITS)
    return -weight / math.log(u)


def holders(key: bytes, members: Sequence[Weighted], copies: int) -> tuple[PeerId, ...]:
    """The ``copies`` members that ``key`` is drawn to most, the owner first; fewer if there are
    fewer with a usable weight. Ties, which need a 52-bit collision, go to the lower id.
    """
    scored = ((score(key, member), member[0]) for member in members)
    usable = ((-value, peer) for value, peer in scored if value > 0.0)
    return tuple(peer for _, peer in heapq.nsmallest(copies, usable))


def owner(key: bytes, members: Sequence[Weighted]) -> PeerId | None:
    """The member that ``key`` is drawn to most, or None without members."""
    first = holders(key, members, 1)
    return first[0] if first else None
