"""Looking up our shards never holds the trainer up for long."""

from __future__ import annotations

import threading

import pytest

from gossip.messages import PeerId
from gossip.replication.placement import owned
from peers.placement import AT_ONCE_MAX, Members, Placement

MEMBERS = tuple((PeerId(f"{index:016x}"), 1.0) for index in range(60))
ME = MEMBERS[0][0]


def test_small_placements_are_made_at_once() -> None:
    """And remembered."""
    placement = Placement()
    for members in (MEMBERS[:4], MEMBERS[:5], MEMBERS[:5]):
        assert owned(20, members, ME) == placement.owned(20, members, ME)


def test_large_placements_come_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one stays in force until then, and asking is quick."""
    may_answer = threading.Event()

    def answered(shards: int, members: Members, me: PeerId) -> tuple[int, ...]:
        assert members == MEMBERS or may_answer.wait(20.0)
        return owned(shards, members, me)

    monkeypatch.setattr("peers.placement.owned", answered)
    shards = 4 * AT_ONCE_MAX // len(MEMBERS)
    placement = Placement()
    first = placement.owned(shards, MEMBERS, ME)
    assert owned(shards, MEMBERS, ME) == first
    assert first == placement.owned(shards, MEMBERS[:30], ME)
    may_answer.set()
    assert placement._thread is not None
    placement._thread.join(20.0)
    assert first != placement.owned(shards, MEMBERS[:30], ME)
    assert owned(shards, MEMBERS[:30], ME) == placement.owned(shards, MEMBERS[:30], ME)
