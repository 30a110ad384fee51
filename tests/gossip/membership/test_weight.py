"""What a member costs in bytes, and that it is given back."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import pytest

from gossip.config import MembershipConfig
from gossip.membership import ground, records, rings
from gossip.membership.swim import Swim
from gossip.messages import Gossip, Record, Rumors, Status
from gossip.wire import frames
from tests.gossip.membership.claims import peer, progress, record
from tests.gossip.membership.dialogue import group, machine, run, say

RUN: Final = frames.run_digest("weight")
MEMBER_BYTES_MAX: Final = 1_000
"""A record, its account, their texts and places in the tables, as Python objects: 870 each of 1,000
members, measured. (A first design said 300; the texts of one record alone take more.)"""

ACCOUNT_BYTES_MAX: Final = 600
"""Of one that is gone: what it trained is counted for ever, see ``samples_total``."""

FIXED_BYTES_MAX: Final = 64 << 10
TOMBSTONE_S: Final = 30.0
AT_ONCE: Final = 50


@contextmanager
def tracing() -> Iterator[None]:
    """Allocations are counted."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """In every test here."""
    with tracing():
        yield


def held_bytes() -> int:
    """What is held now, but for what the process remembers of ids, whoever's they are: three
    memories with a fixed number of places."""
    for memory in (ground._mixed, rings.places, records._is_hex):
        memory.cache_clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def hear_of(swim: Swim, members: list[Record], now: float) -> None:
    """As decoded from frames: nothing is shared with what is known, or with this test."""
    for first in range(0, len(members), AT_ONCE):
        some = members[first : first + AT_ONCE]
        accounts = tuple(progress(int(each.peer, 16)) for each in some)
        raw = frames.encode_control(RUN, peer(2), Gossip(Rumors(tuple(some), accounts)))
        _, message = frames.decode_control(RUN, raw)
        assert isinstance(message, Gossip)
        say(swim, 2, message, now)


@pytest.mark.parametrize("size", [250, 1000])
def test_a_member_weighs_so_much_and_no_more(size: int) -> None:
    """M27: in bytes, whatever the size of the group; hearing it all again adds nothing."""
    members = [record(number) for number in range(2, size + 2)]
    before = held_bytes()
    swim = machine()
    hear_of(swim, members, 0.1)
    assert size == len(swim.live())
    once = held_bytes() - before
    assert once <= MEMBER_BYTES_MAX * size + FIXED_BYTES_MAX

    for _ in range(3):
        hear_of(swim, members, 0.2)
    assert held_bytes() - before <= 1.02 * once


def test_who_is_gone_weighs_nothing_in_the_end() -> None:
    """M27: once the tombstones end; however many lives there were of them."""
    swim = group(4, MembershipConfig(tombstone_s=TOMBSTONE_S))
    members = [record(number) for number in range(5, 505)]
    before, now = held_bytes(), 0.1
    for boot in range(1, 4):
        hear_of(swim, [replace(each, boot=boot) for each in members], now)
        left = [replace(each, boot=boot, status=Status.LEFT) for each in members]
        hear_of(swim, left, now + 1.0)
        now += 2.0
    full_bytes = held_bytes() - before
    assert full_bytes >= 700 * len(members)
    run(swim, now + 2 * TOMBSTONE_S, answering=(2, 3, 4), every_s=5.0)

    assert 4 == len(swim.records())
    kept_bytes = held_bytes() - before
    assert kept_bytes <= ACCOUNT_BYTES_MAX * len(members) + FIXED_BYTES_MAX
