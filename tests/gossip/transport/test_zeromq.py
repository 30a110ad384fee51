"""Real sockets on loopback: both planes, losses, links that come and go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from gossip.errors import FrameError, TransportError, UsageError
from gossip.machine import LinkCause
from gossip.messages import (
    Blob,
    ExchangeId,
    Gossip,
    Hello,
    Leg,
    Phase,
    Ping,
    Progress,
    Record,
    Rumors,
    Status,
    Transfer,
    Want,
)
from gossip.transport.sending import QUEUED_BYTES_MAX
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    DialRefused,
    Junk,
    LinkClosed,
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
    port_of,
    transfer,
    until,
)


def hello() -> Hello:
    """A's greeting."""
    record = Record(A, 1, 0, Status.ALIVE, "127.0.0.1:1", "127.0.0.1:2")
    return Hello(record, Progress(A, 1, 0, 0, b"", Phase.JOINING), b"layout", 1)


def test_messages_cross_both_ways_on_one_link(pair: list[Peer]) -> None:
    """The side that was dialed answers over the link that reached it."""
    a, b = pair

    assert a.transport.send(B, Ping(1, 1))
    until(lambda: b.messages(), a, b)
    assert b.transport.send(A, Gossip(Rumors()))
    until(lambda: a.messages(), a, b)

    assert [Arrived(A, Ping(1, 1))] == b.events
    assert Arrived(B, Gossip(Rumors())) in a.events


def test_chunks_cross_both_ways_byte_for_byte(pair: list[Peer]) -> None:
    """One mebibyte each way, the way back over the link of the side that dialed."""
    a, b = pair
    payload = os.urandom(1 << 20)
    got: list[bytes] = []

    a.transport.send(B, Ping(1, 1))
    until(lambda: b.messages(), a, b)
    for sender, receiver, to in ((a, b, B), (b, a, A)):
        until(
            lambda s=sender, t=to: s.transport.send_chunk(
                t, chunk_of(payload), memoryview(payload)
            ),
            a,
            b,
        )
        until(lambda r=receiver: r.all(ChunkArrived), a, b)
        got.append(bytes(receiver.all(ChunkArrived)[0].payload))

    assert [payload, payload] == got
    assert chunk_of(payload) == b.all(ChunkArrived)[0].chunk


def test_a_buffer_is_busy_until_its_chunks_have_left(pair: list[Peer]) -> None:
    """Then it may be used again; other transfers never were busy."""
    a, b = pair
    payload = bytearray(1 << 20)

    sent = 0
    while a.transport.send_chunk(B, chunk_of(payload, 1, sent), memoryview(payload)):
        sent += 1  # until the queue is full: nobody receives yet
    assert a.transport.busy(transfer(1))
    assert not a.transport.busy(transfer(2))
    until(lambda: not a.transport.busy(transfer(1)), a, b)


def test_control_does_not_wait_behind_bulk(pair: list[Peer]) -> None:
    """A ping sent behind 64 MiB of chunks arrives before most of them."""
    a, b = pair
    payload = memoryview(bytearray(1 << 20))
    sent = 0
    chunks_before_ping = -1
    a.transport.send(B, Ping(0, 1))
    until(lambda: b.messages(), a, b)

    def step() -> bool:
        nonlocal sent, chunks_before_ping
        while sent < 64 and a.transport.send_chunk(B, chunk_of(payload, sent), payload):
            sent += 1
            if sent == 16:  # 16 MiB are ahead on the other plane, and more to come
                assert a.transport.send(B, Ping(1, 1))
        if chunks_before_ping < 0 and len(b.messages()) == 2:
            chunks_before_ping = len(b.all(ChunkArrived))
        return len(b.all(ChunkArrived)) == 64

    until(step, a, b)
    assert 0 <= chunks_before_ping <= 32


def test_a_full_queue_drops_and_counts_instead_of_waiting(pair: list[Peer]) -> None:
    """Nobody polls the receiver: sending ends with False, never blocks."""
    a, _ = pair
    payload = memoryview(bytearray(1 << 20))

    taken = 0
    while a.transport.send_chunk(B, chunk_of(payload, 1, taken), payload):
        taken += 1
        assert taken < 1000

    assert a.transport.counters.dropped == 1
    assert a.transport.send(B, Ping(1, 1))


def test_a_chunk_on_its_way_is_not_queued_again(pair: list[Peer]) -> None:
    """Asked for twice before it left, it crosses once; once it has left, it crosses again."""
    a, b = pair
    payload = bytearray(1 << 20)

    for _ in range(50):
        for offset in range(40):
            assert a.transport.send_chunk(B, chunk_of(payload, 1, offset), memoryview(payload))
    until(lambda: not a.transport.busy(transfer(1)), a, b)
    until(lambda: len(b.all(ChunkArrived)) >= 40, a, b)
    assert a.transport.send_chunk(B, chunk_of(payload, 1, 0), memoryview(payload))
    until(lambda: len(b.all(ChunkArrived)) >= 41, a, b)

    offsets = [event.chunk.offset_bytes for event in b.all(ChunkArrived)]
    assert list(range(40)) == sorted(set(offsets))
    assert len(offsets) < 100  # what left at once may be repeated; what waited is not


def test_what_waits_for_a_slow_link_is_bounded_in_bytes(pair: list[Peer]) -> None:
    """Whatever is asked for, the next transfer does not queue behind more than that."""
    a, b = pair
    payload = memoryview(bytearray(1 << 20))
    most = QUEUED_BYTES_MAX >> 20

    sent = [a.transport.send_chunk(B, chunk_of(payload, 1, each), payload) for each in range(200)]
    assert sent.count(True) <= most + 32  # what the system's and ZeroMQ's buffers took at once
    assert sent.count(False) == a.transport.counters.dropped
    until(lambda: not a.transport.busy(transfer(1)), a, b)
    assert a.transport.send_chunk(B, chunk_of(payload, 2), payload)


def test_a_message_that_came_before_a_send_is_not_overlooked(pair: list[Peer]) -> None:
    """Sending on a socket may swallow the signal that there is something to read."""
    a, b = pair
    sockets = a.transport._sockets  # type: ignore[attr-defined] # to wait without reading
    a.transport.send(B, Ping(0, 1))
    until(lambda: b.messages(), a, b)
    for count in range(1, 21):
        assert b.transport.send(A, Ping(count, 1))
        assert sockets._selector.select(10)
        assert a.transport.send(B, Ping(count, 1))
        until(lambda n=count: len(a.messages()) == n, a, deadline_s=2)


def test_one_poll_reads_a_bounded_amount_from_all_in_turn(pair: list[Peer]) -> None:
    """A flood of large control frames is taken in portions, and holds up nobody else's."""
    a, b = pair
    record = Record(A, 1, 0, Status.ALIVE, "x" * 4000, "x" * 4000)
    flood = Gossip(Rumors((record,) * 100))
    with loopback(C) as (c,):
        link(c, b, B)
        until(lambda: LinkOpened(B) in c.events, b, c)
        for _ in range(80):
            assert a.transport.send(B, flood)
        portions_bytes: list[int] = []
        answered_after = 0

        def step() -> bool:
            nonlocal answered_after
            before_bytes = b.transport.counters.control_received_bytes
            b.poll()
            portions_bytes.append(b.transport.counters.control_received_bytes - before_bytes)
            if sum(map(bool, portions_bytes)) == 1 and portions_bytes[-1]:
                assert c.transport.send(B, Ping(1, 1))
            if not answered_after and Ping(1, 1) in b.messages():
                answered_after = len(b.messages())
            return len(b.messages()) == 81

        until(step)

    assert sum(portions_bytes) > 60 << 20
    assert max(portions_bytes) < 6 << 20
    assert 0 < answered_after < 81


def test_without_a_way_nothing_is_sent(pair: list[Peer]) -> None:
    """Neither dialed nor heard of."""
    a, _ = pair

    assert not a.transport.send(C, Ping(1, 1))
    assert not a.transport.send_chunk(C, chunk_of(b"x"), memoryview(b"x"))
    assert a.transport.counters.dropped == 2


def test_a_message_over_the_frame_limit_is_counted_not_sent(pair: list[Peer]) -> None:
    """The peer would cut the link for it."""
    a, _ = pair
    record = Record(A, 1, 0, Status.ALIVE, "x" * 4000, "x" * 4000)

    assert not a.transport.send(B, Gossip(Rumors((record,) * 1000)))
    assert a.transport.counters.oversized == 1


def test_a_contact_becomes_a_peer_with_its_first_answer() -> None:
    """The greeting waits for the link, and its answer names the peer."""
    with loopback(A, B) as (a, b):
        a.transport.dial(None, b.transport.control_address, "", hello())
        until(lambda: b.messages(), a, b)
        assert LinkOpened(B) not in a.events
        b.transport.send(A, Gossip(Rumors()))
        until(lambda: a.messages(), a, b)

        assert [LinkOpened(B), Arrived(B, Gossip(Rumors()))] == a.events
        assert a.transport.send(B, Ping(1, 1))
        until(lambda: Ping(1, 1) in b.messages(), a, b)


def test_dialing_again_greets_again_over_the_same_link() -> None:
    """Each dial of a contact sends its greeting once."""
    with loopback(A, B) as (a, b):
        for count in (1, 2, 3):
            a.transport.dial(None, b.transport.control_address, "", hello())
            until(lambda n=count: len(b.messages()) == n, a, b)

        assert [hello()] * 3 == b.messages()
        assert b.transport.counters.faults == {}


def test_a_contact_nobody_listens_at_is_refused() -> None:
    """Told once per dial, with the cause."""
    with loopback(A) as (a,), socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: the system refuses connections
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for count in (1, 2):
            a.transport.dial(None, address, "", hello())
            until(lambda n=count: len(a.all(DialRefused)) == n, a)

        assert [DialRefused(address, LinkCause.REFUSED)] * 2 == a.events


def test_a_host_name_that_does_not_exist_is_silent() -> None:
    """It is looked up elsewhere: polling goes on meanwhile."""
    with loopback(A) as (a,):
        a.transport.dial(None, "no-such-host.invalid:9", "", hello())
        until(lambda: a.all(Junk), a)

        assert [DialRefused("no-such-host.invalid:9", LinkCause.SILENT)] == a.all(DialRefused)
        assert ["address"] == a.junk_kinds()


@pytest.mark.parametrize(
    "address",
    [
        *("", "host", "host:0", "host:99999", "ipc:///tmp/x", "a;b:1"),
        *("-a:80", "_a:80", ".a:80", "[:::]:80"),
    ],
)
def test_an_address_that_cannot_be_dialed_is_junk(address: str) -> None:
    """A neighbor's record cannot make us raise, or open another kind of socket."""
    with loopback(A) as (a,):
        a.transport.dial(B, address, "", None)
        a.poll()

        assert ["address"] == a.junk_kinds()
        assert [LinkClosed(B, LinkCause.REFUSED)] == a.all(LinkClosed)


OTHER_SIDE = """
import sys
from gossip.messages import PeerId
from gossip.transport.zeromq import ZeroMQTransport
there = ZeroMQTransport(PeerId(sys.argv[1]), 1, "test", "127.0.0.1:0")
print(there.control_address, there.bulk_address, flush=True)
while True:
    there.poll(1.0)
"""


def test_the_kill_of_the_other_side_closes_the_link() -> None:
    """First closed, then refused: the process is gone, not frozen."""
    with loopback(A) as (a,):
        command = [sys.executable, "-c", OTHER_SIDE, B]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                a.transport.dial(B, *process.stdout.readline().split(), None)
                until(lambda: LinkOpened(B) in a.events, a)
            finally:
                process.kill()
        until(lambda: len(a.all(LinkClosed)) == 2, a)

        causes = [LinkCause.CLOSED, LinkCause.REFUSED]
        assert [LinkOpened(B), *[LinkClosed(B, cause) for cause in causes]] == a.events


def test_a_link_opens_again_when_the_peer_is_back() -> None:
    """Redialed without being asked, and messages cross again."""
    with loopback(A, B) as (a, b):
        link(a, b, B)
        until(lambda: LinkOpened(B) in a.events, a, b)
        address = b.transport.control_address
        b.transport.close()
        until(lambda: a.all(LinkClosed), a)
        # The bulk port was the system's choice, so only control is there again.
        again = Peer(ZeroMQTransport(B, 2, "test", address))
        try:
            until(lambda: len(a.all(LinkOpened)) == 2, a, again)
            assert a.transport.send(B, Ping(2, 2))
            until(lambda: again.messages(), a, again)
        finally:
            again.transport.close()


def test_hanging_up_ends_the_link_and_its_retries(pair: list[Peer]) -> None:
    """Nothing leads to the peer any more."""
    a, b = pair
    a.transport.hang_up(B)

    assert not a.transport.send(B, Ping(1, 1))
    a.transport.hang_up(C)
    assert b.transport.counters.faults == {}


def test_a_port_in_use_is_an_error_that_names_it(pair: list[Peer]) -> None:
    """For either plane; nothing stays open behind it."""
    a, _ = pair
    control = port_of(a.transport.control_address)

    with pytest.raises(TransportError, match=f"port {control} is in use"):
        ZeroMQTransport(C, 1, "test", f"127.0.0.1:{control}")
    with pytest.raises(TransportError, match=f"port {control} is in use"):
        ZeroMQTransport(C, 1, "test", f"127.0.0.1:{control - 1}")


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:65535", "tcp://127.0.0.1:1"])
def test_a_listen_address_that_is_none_is_the_callers_error(listen: str) -> None:
    """Said before a socket is opened."""
    with pytest.raises(UsageError):
        ZeroMQTransport(C, 1, "test", listen)


def test_wake_ends_a_poll_from_another_thread(pair: list[Peer]) -> None:
    """Also when it comes first, and after the end."""
    a, _ = pair
    a.poll(0)
    woken = threading.Event()
    waker = threading.Thread(target=lambda: (woken.wait(10), a.transport.wake()))
    waker.start()
    woken.set()
    started_s = time.monotonic()
    a.transport.poll(30)
    waker.join()
    a.transport.wake()
    a.transport.poll(30)

    assert time.monotonic() - started_s < 20
    a.transport.close()
    a.transport.wake()


def test_its_own_contact_address_brings_a_peer_nothing_but_a_count() -> None:
    """All peers may be started with the same list of contacts."""
    with loopback(A) as (a,):
        a.transport.dial(None, a.transport.control_address, "", hello())
        until(lambda: a.all(Junk), a)

        assert ["self"] == a.junk_kinds()
        assert a.messages() == []


def test_bytes_on_both_planes_are_counted_on_both_sides(pair: list[Peer]) -> None:
    """What one sent the other received, framing included."""
    a, b = pair
    want = Want(Transfer(ExchangeId(A, 1, 1), Leg.CODE), 0, 9)
    payload = bytes(1 << 20)
    a.transport.send(B, want)
    until(lambda: a.transport.send_chunk(B, chunk_of(payload), memoryview(payload)), a, b)
    until(lambda: b.all(ChunkArrived) and b.messages(), a, b)

    sent, received = a.transport.counters, b.transport.counters
    assert sent.control_sent_bytes == received.control_received_bytes
    assert sent.bulk_sent_bytes == received.bulk_received_bytes
    assert (1 << 20) + 100 < sent.bulk_sent_bytes < (1 << 20) + 500
    assert sent.sent_bytes == sent.control_sent_bytes + sent.bulk_sent_bytes


def test_advertised_addresses_are_what_others_dial() -> None:
    """Host alone keeps the ports; host and port put bulk one above."""
    for advertise, control, bulk in (
        ("example.org", None, None),
        ("example.org:5000", "example.org:5000", "example.org:5001"),
    ):
        there = ZeroMQTransport(A, 1, "test", "127.0.0.1:0", advertise)
        there.close()
        assert there.control_address.startswith("example.org:")
        assert control in (None, there.control_address)
        assert bulk in (None, there.bulk_address)
        assert there.control_address != there.bulk_address
    with pytest.raises(UsageError):
        ZeroMQTransport(A, 1, "test", "127.0.0.1:0", "not a host")


def test_a_blob_travels_by_reference_only() -> None:
    """No message has room for bulk bytes: a digest over its limit is refused by the wire."""
    with pytest.raises(FrameError):
        frames.pack(Blob, Blob(bytes(5000), 1, 1))
