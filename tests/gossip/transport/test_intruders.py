"""Bytes on real sockets that no honest peer sends: each costs a counted fault, and no more."""

from __future__ import annotations

import contextlib
import os
import struct

import pytest

from gossip.messages import (
    Ping,
)
from gossip.transport.transport import (
    ChunkArrived,
    Junk,
    LinkOpened,
)
from gossip.transport.zeromq import ZeroMQTransport
from gossip.wire import frames
from tests.gossip.transport.network import (
    A,
    B,
    C,
    Peer,
    chunk_of,
    link,
    loopback,
    send_raw,
    until,
)

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
"""A ZMTP 3.0 greeting without security, 64 bytes (rfc.zeromq.org/spec/23)."""

READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
READY = READY[:1] + bytes([len(READY) - 2]) + READY[2:]

OVERSIZED = b"\x02" + struct.pack(">Q", 8 << 20)
"""The head of a frame that says it is 8 MiB long: memory would be found for it."""


STRANGERS = {
    "random bytes": (b"\x2a" + os.urandom(500), False, "handshake"),
    "a web browser": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", False, "handshake"),
    "a half-closed connection": (b"", True, "handshake"),
    "half a greeting": (GREETING[:12], True, "handshake"),
    "an unknown greeting": (GREETING.replace(b"NULL", b"XXXX"), False, "handshake"),
    "a frame in the handshake": (GREETING + READY + OVERSIZED, False, "handshake"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("plane", ["control", "bulk"])
def test_a_strangers_bytes_are_counted_and_a_good_peer_still_gets_through(
    pair: list[Peer], name: str, plane: str
) -> None:
    """Whatever comes over plain TCP costs one counted fault."""
    a, b = pair
    raw, half_close, kind = STRANGERS[name]
    address = getattr(b.transport, f"{plane}_address")

    with send_raw(address, raw, half_close=half_close):
        until(lambda: b.all(Junk), a, b)
    a.transport.send(B, Ping(1, 1))
    until(lambda: b.messages(), a, b)

    assert [kind] == b.junk_kinds()
    assert {kind: 1} == b.transport.counters.faults


@pytest.mark.parametrize("plane", ["control", "bulk"])
def test_an_oversized_length_is_cut_and_counted(pair: list[Peer], plane: str) -> None:
    """After a proper handshake; the connection that claims it is closed, the good peer stays."""
    a, b = pair
    with send_raw(getattr(b.transport, f"{plane}_address"), GREETING) as stranger:
        stranger.settimeout(10)
        answers = stranger.makefile("rb")
        assert len(answers.read(64)) == 64
        stranger.sendall(READY)
        assert b"ROUTER" in answers.read(43)  # its READY
        stranger.sendall(OVERSIZED)
        until(lambda: b.all(Junk), a, b)
        with contextlib.suppress(ConnectionResetError):  # an end as good as the orderly one
            assert answers.read(1) == b""
    a.transport.send(B, Ping(1, 1))
    until(lambda: b.messages(), a, b)

    assert {"length": 1} == b.transport.counters.faults


def test_a_stranger_who_hangs_up_at_once_is_counted(pair: list[Peer]) -> None:
    """Nobody is there any more when the fault is found."""
    a, b = pair
    send_raw(b.transport.control_address, os.urandom(3) * 300).close()

    until(lambda: b.all(Junk), a, b)
    assert {"handshake": 1} == b.transport.counters.faults


def test_orderly_ends_of_links_are_no_faults() -> None:
    """Peers that come, talk and go leave no mark."""
    with loopback(A) as (a,):
        for number in range(3):
            with loopback(B) as (b,):
                link(b, a, A)
                until(lambda: LinkOpened(A) in b.events, a, b)
                b.transport.send(A, Ping(number, 1))
                until(lambda n=number: len(a.messages()) == n + 1, a, b)
        until(lambda: a.transport.poll(0.3) == [], a)

        assert a.transport.counters.faults == {}


class Forger(Peer):
    """A peer whose frames say what a test wants them to."""

    def __init__(self, run: str = "test", me: str = C) -> None:
        super().__init__(ZeroMQTransport(me, 1, run, "127.0.0.1:0"))  # type: ignore[arg-type] # the test picks valid text

    def claim(self, monkeypatch: pytest.MonkeyPatch, there: Peer, **changes: object) -> None:
        """Send B one Ping encoded under changed rules of the wire."""
        self.transport.dial(B, there.transport.control_address, "", None)
        until(lambda: LinkOpened(B) in self.events, self, there)
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(frames, name, value)
            assert self.transport.send(B, Ping(1, 1))


@pytest.mark.parametrize(
    "changes, run, kind",
    [
        ({"VERSION": frames.VERSION + 1}, "test", "version"),
        ({"MAGIC": b"GSP0"}, "test", "magic"),
        ({}, "another run", "run"),
        ({"_CONTROL": 1}, "test", "shape"),
    ],
)
def test_a_frame_of_another_kind_is_counted_by_what_is_wrong(
    pair: list[Peer],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    run: str,
    kind: str,
) -> None:
    """The link stays, the message is dropped, a good peer still gets through."""
    a, b = pair
    forger = Forger(run)
    try:
        forger.claim(monkeypatch, b, **changes)
        until(lambda: b.all(Junk), b, forger)
        a.transport.send(B, Ping(2, 1))
        until(lambda: b.messages(), a, b)

        assert [(C, kind)] == [(junk.peer, junk.kind) for junk in b.all(Junk)]
        assert {kind: 1} == b.transport.counters.faults
    finally:
        forger.transport.close()


def test_a_sender_must_be_who_the_link_belongs_to(pair: list[Peer]) -> None:
    """A frame in another's name is dropped, and teaches no way to that other."""
    _, b = pair
    forger = Forger()
    try:
        forger.transport.dial(B, b.transport.control_address, "", None)
        forger.transport._me = A  # type: ignore[attr-defined] # lies about itself
        until(lambda: forger.transport.send(B, Ping(1, 1)), forger, b)
        until(lambda: b.all(Junk), b, forger)

        assert [Junk(C, "sender", f"a frame of {A}")] == b.all(Junk)
        assert not b.transport.send(A, Ping(1, 1))
    finally:
        forger.transport.close()


def test_a_chunk_longer_than_it_says_is_counted(
    pair: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame's real size decides, not what the header announces."""
    a, b = pair
    encode = frames.encode_chunk_header
    with monkeypatch.context() as patch:
        short = chunk_of(b"x" * 9)
        patch.setattr(frames, "encode_chunk_header", lambda run, me, _: encode(run, me, short))
        a.transport.send_chunk(B, chunk_of(b"x" * 10), memoryview(b"x" * 10))
    until(lambda: b.all(Junk), a, b)

    assert {"length": 1} == b.transport.counters.faults
    assert b.all(ChunkArrived) == []
