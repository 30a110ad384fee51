"""Looking up our shards never holds the trainer up for long."""

from __future__ import annotations

import time

from gossip.messages import PeerId
from gossip.replication.placement import owned
from peers.placement import AT_ONCE_MAX, Placement

MEMBERS = tuple((PeerId(f"{index:016x}"), 1.0) for index in range(60))
ME = MEMBERS[0][0]


def test_small_placements_are_made_at_once() -> None:
    """And remembered."""
    placement = Placement()
    for members in (MEMBERS[:4], MEMBERS[:5], MEMBERS[:5]):
        assert owned(20, members, ME) == placement.owned(20, members, ME)


def test_large_placements_come_a_little_later() -> None:
    """The old one stays in force until then, and asking is quick."""
    shards = 4 * AT_ONCE_MAX // len(MEMBERS)
    placement = Placement()
    first = placement.owned(shards, MEMBERS, ME)
    assert owned(shards, MEMBERS, ME) == first
    assert first == placement.owned(shards, MEMBERS[:30], ME)
    until_s = time.monotonic() + 20.0
    while placement.owned(shards, MEMBERS[:30], ME) == first:
        assert time.monotonic() < until_s, "the worker's answer never came"
        time.sleep(0.001)
    assert owned(shards, MEMBERS[:30], ME) == placement.owned(shards, MEMBERS[:30], ME)
