"""Two or more transports on loopback, polled together until something happened."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from gossip.messages import Chunk, ExchangeId, Leg, PeerId, Transfer
from gossip.transport.keys import CurveKeys
from gossip.transport.transport import Arrived, Event, Junk, Transport
from gossip.transport.zeromq import ZeroMQTransport

A, B, C = (PeerId(f"{number:016x}") for number in (0xA, 0xB, 0xC))
DEADLINE_S = 20.0

Kind = TypeVar("Kind")


def transfer(seq: int = 1) -> Transfer:
    """Some blob of A's."""
    return Transfer(ExchangeId(A, 1, seq), Leg.CODE)


def chunk_of(payload: bytes | bytearray, seq: int = 1, offset: int = 0) -> Chunk:
    """The chunk that announces a payload."""
    return Chunk(transfer(seq), offset, len(payload), b"digest")


class Peer:
    """A transport and everything it reported."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.events: list[Event] = []

    def poll(self, timeout_s: float = 0.01) -> None:
        self.events += self.transport.poll(timeout_s)

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self) -> list[object]:
        return [event.message for event in self.all(Arrived)]

    def junk_kinds(self) -> list[str]:
        return [event.kind for event in self.all(Junk)]


@contextmanager
def loopback(
    *ids: PeerId, run: str = "test", curve: CurveKeys | None = None
) -> Iterator[list[Peer]]:
    """ZeroMQ peers on ports of the system's choice, closed at the end."""
    peers = [Peer(ZeroMQTransport(each, 1, run, "127.0.0.1:0", None, curve)) for each in ids]
    try:
        yield peers
    finally:
        for peer in peers:
            peer.transport.close()


def until(condition: Callable[[], object], *peers: Peer, deadline_s: float = DEADLINE_S) -> None:
    """Poll all peers until the condition holds; fails at the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not in {deadline_s} s: {[p.events for p in peers]}"
        for peer in peers:
            peer.poll()


def link(one: Peer, other: Peer, other_id: PeerId) -> None:
    """``one`` dials ``other`` on both planes."""
    there = other.transport
    one.transport.dial(other_id, there.control_address, there.bulk_address, None)


def port_of(address: str) -> int:
    """The port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def send_raw(address: str, raw: bytes, *, half_close: bool = False) -> socket.socket:
    """A stranger's connection that has sent some bytes."""
    connection = socket.create_connection(("127.0.0.1", port_of(address)))
    connection.sendall(raw)
    if half_close:
        connection.shutdown(socket.SHUT_WR)
    return connection
