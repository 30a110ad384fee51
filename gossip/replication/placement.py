"""Who trains on which data shard: rendezvous hashing with bounded loads.

Plain rendezvous leaves the luckiest of N members with noticeably more than its share when there
are few shards each. Here a member that is full passes a shard on to the next in that shard's own
order, so none exceeds ``slack`` times its fair share, at the price of a few more moves when the
members change. Everyone who knows the same members computes the same plan.

Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gossip.hashing.rendezvous import Weighted, holders
from gossip.messages import PeerId

SLACK = 1.25
"""How far above its fair share a member may be loaded; the paper's c."""


def shard_key(shard: int) -> bytes:
    """The key under which a shard is placed."""
    return b"shard/%d" % shard


def limits(shards: int, members: Sequence[Weighted], slack: float = SLACK) -> dict[PeerId, int]:
    """At most so many shards for each member with a usable weight: ceil(slack * fair share).

    The limits add up to at least ``shards``, so every shard finds a place.
    """
    assert slack >= 1.0, "below 1 the limits cannot hold all shards"
    usable = sorted(member for member in members if 0.0 < member[1] < math.inf)
    heaviest = max((weight for _, weight in usable), default=1.0)
    # Relative weights: a sum of huge but finite weights must not become inf.
    total = math.fsum(weight / heaviest for _, weight in usable)
    return {
        peer: math.ceil(slack * shards * (weight / heaviest) / total) for peer, weight in usable
    }


def place(shards: int, members: Sequence[Weighted], slack: float = SLACK) -> tuple[PeerId, ...]:
    """The owner of each shard 0 .. shards-1; empty when no member has a usable weight.

    Members may come in any order; each id at most once.
    """
    room = limits(shards, members, slack)
    if not room:
        return ()
    usable = [member for member in members if member[0] in room]
    assert len(usable) == len(room), "a member is listed twice"
    owners: list[PeerId] = []
    for shard in range(shards):
        drawn = holders(shard_key(shard), usable, len(usable))
        chosen = next(peer for peer in drawn if room[peer] > 0)
        room[chosen] -= 1
        owners.append(chosen)
    return tuple(owners)


def owned(
    shards: int, members: Sequence[Weighted], me: PeerId, slack: float = SLACK
) -> tuple[int, ...]:
    """The shards that ``me`` trains on under ``place``, in rising order."""
    plan = place(shards, members, slack)
    return tuple(shard for shard, peer in enumerate(plan) if peer == me)
