"""The transport inside one process keeps the same promises."""

from __future__ import annotations

import threading

import pytest

from gossip.errors import TransportError
from gossip.machine import LinkCause
from gossip.messages import Gossip, Ping, Rumors
from gossip.transport.memory import MemoryNetwork, MemoryTransport
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    DialRefused,
    Event,
    LinkClosed,
    LinkOpened,
    Transport,
)
from tests.gossip.transport.network import A, B, C, chunk_of, transfer


@pytest.fixture
def pair() -> tuple[MemoryTransport, MemoryTransport]:
    """A, which has dialed B, and B."""
    network = MemoryNetwork()
    a, b = MemoryTransport(network, A), MemoryTransport(network, B, name="bob")
    a.dial(B, "mem:bob", "mem:bob", None)
    assert [LinkOpened(B)] == a.poll(0)
    return a, b


def test_it_satisfies_the_interface(pair: tuple[MemoryTransport, MemoryTransport]) -> None:
    """Checked by the type checker; addresses are names."""
    transport: Transport = pair[1]

    assert transport.control_address == "mem:bob"


def test_messages_and_chunks_cross_both_ways(
    pair: tuple[MemoryTransport, MemoryTransport],
) -> None:
    """Control before bulk; the payload is the receiver's own."""
    a, b = pair
    payload = bytearray(b"payload")
    assert a.send_chunk(B, chunk_of(payload), memoryview(payload))
    payload[:] = b"changed"
    assert not a.busy(transfer())
    assert a.send(B, Ping(1, 1))
    arrived, chunk = b.poll(0)
    assert b.send(A, Gossip(Rumors()))

    assert arrived == Arrived(A, Ping(1, 1))
    assert isinstance(chunk, ChunkArrived)
    assert bytes(chunk.payload) == b"payload"
    assert [Arrived(B, Gossip(Rumors()))] == a.poll(0)
    assert a.counters.sent_bytes == b.counters.received_bytes > 0


def test_a_contact_becomes_a_peer_with_its_first_answer() -> None:
    """As over sockets."""
    network = MemoryNetwork()
    a, b = MemoryTransport(network, A), MemoryTransport(network, B)
    a.dial(None, "mem:" + B, "", Ping(1, 1))
    assert not a.send(B, Ping(2, 1))
    assert [Arrived(A, Ping(1, 1))] == b.poll(0)
    b.send(A, Gossip(Rumors()))

    assert [LinkOpened(B), Arrived(B, Gossip(Rumors()))] == a.poll(0)
    assert a.send(B, Ping(2, 1))


def test_nobody_at_an_address_is_refused(pair: tuple[MemoryTransport, MemoryTransport]) -> None:
    """For contacts and for peers."""
    a, _ = pair
    a.dial(None, "mem:nobody", "", None)
    a.dial(C, "mem:bob", "", None)

    refused = LinkCause.REFUSED
    assert [DialRefused("mem:nobody", refused), LinkClosed(C, refused)] == a.poll(0)


def test_a_peer_that_closes_is_lost_to_those_who_dialed_it(
    pair: tuple[MemoryTransport, MemoryTransport],
) -> None:
    """Once, however often it closes, and with the cause that a fresh dial finds."""
    a, b = pair
    b.close()
    b.close()

    causes = [LinkCause.CLOSED, LinkCause.REFUSED]
    assert [LinkClosed(B, cause) for cause in causes] == a.poll(0)
    assert not a.send(B, Ping(1, 1))
    assert a.counters.dropped == 1


def test_hanging_up_ends_the_way(pair: tuple[MemoryTransport, MemoryTransport]) -> None:
    """Until the next dial."""
    a, b = pair
    a.hang_up(B)
    assert not a.send(B, Ping(1, 1))
    a.dial(B, "mem:bob", "", Ping(2, 1))

    assert [Arrived(A, Ping(2, 1))] == b.poll(0)


def test_a_frame_of_another_run_is_counted() -> None:
    """The same frames, the same checks."""
    network = MemoryNetwork()
    a, b = MemoryTransport(network, A, "one"), MemoryTransport(network, B, "other")
    a.dial(B, "mem:" + B, "", Ping(1, 1))

    assert ["run"] == list(b.counters.faults)
    assert not any(isinstance(event, Arrived) for event in b.poll(0))


def test_a_name_is_taken_once(pair: tuple[MemoryTransport, MemoryTransport]) -> None:
    """Like a port in use."""
    network = pair[0]._network

    with pytest.raises(TransportError, match="mem:bob is in use"):
        MemoryTransport(network, C, name="bob")


def test_a_poll_ends_when_something_arrives_or_it_is_woken(
    pair: tuple[MemoryTransport, MemoryTransport],
) -> None:
    """From other threads, long before its time is over."""
    a, b = pair
    polled: list[list[Event]] = []
    for act in (lambda: a.send(B, Ping(1, 1)), b.wake):
        thread = threading.Thread(target=lambda: polled.append(b.poll(30)))
        thread.start()
        act()
        thread.join(10)
        assert not thread.is_alive()

    assert [[Arrived(A, Ping(1, 1))], []] == polled
