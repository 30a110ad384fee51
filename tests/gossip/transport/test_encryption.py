"""Real sockets with and without the run key."""

from __future__ import annotations

import os
from functools import partial

from gossip.messages import (
    ExchangeId,
    Gone,
    Gossip,
    Ping,
    Record,
    Rumors,
    Status,
)
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    Junk,
    LinkClosed,
    LinkOpened,
)
from gossip.transport.zeromq import generate_run_key
from tests.gossip.transport.network import (
    A,
    B,
    C,
    chunk_of,
    link,
    loopback,
    send_raw,
    until,
)


def test_with_the_run_key_messages_cross_and_without_it_nothing_does() -> None:
    """Neither a peer without a key, nor one with another, nor the oldest protocol gets in."""
    key = generate_run_key()
    with (
        loopback(A, B, curve=key) as (a, b),
        loopback(C) as (plain,),
        loopback(C, curve=generate_run_key()) as (other,),
    ):
        for each in (a, plain, other):
            link(each, b, B)
            each.transport.send(B, Gone(ExchangeId(C, 1, 1)))
            each.transport.send_chunk(B, chunk_of(b"secret"), memoryview(b"secret"))
        with send_raw(b.transport.control_address, b"\x01\x00\x05\x00GSP1"):
            until(
                lambda: (
                    b.messages() and b.all(ChunkArrived) and b.junk_kinds().count("handshake") > 2
                ),
                *(a, b, plain, other),
            )

        assert [A] == [event.sender for event in b.all(Arrived)]
        assert [A] == [event.sender for event in b.all(ChunkArrived)]
        assert set(b.transport.counters.faults) == {"handshake"}
        assert LinkOpened(B) not in plain.events + other.events


def test_the_largest_frames_cross_encrypted_as_well() -> None:
    """What encryption adds to a frame does not count against its limit, on either plane and way."""
    key = generate_run_key()
    payload = memoryview(os.urandom(1 << 20))
    record = Record(A, 1, 0, Status.ALIVE, "x" * 4000, "x" * 4000)
    largest = Gossip(Rumors((record,) * 500))
    with loopback(A, B, curve=key) as (a, b):
        link(a, b, B)
        until(lambda: a.transport.send(B, largest) and LinkOpened(B) in a.events, a, b)
        until(lambda: b.messages(), a, b)
        for one, other, to in ((a, b, B), (b, a, A)):
            sent = partial(one.transport.send_chunk, to, chunk_of(bytes(payload)), payload)
            until(sent, a, b)
            until(partial(other.all, ChunkArrived), a, b)

        assert a.transport.counters.faults == b.transport.counters.faults == {}


def test_a_keyless_listener_gets_nothing_from_a_peer_with_a_key() -> None:
    """The dialing side insists as well."""
    with loopback(A, curve=generate_run_key()) as (a,), loopback(B) as (b,):
        link(a, b, B)
        a.transport.send(B, Ping(1, 1))
        until(lambda: b.all(Junk) and a.all(LinkClosed) + a.all(Junk), a, b)

        assert b.messages() == []
