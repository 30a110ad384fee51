"""Dials that go wrong: names nobody knows, blocked ports, no descriptors left."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from gossip.errors import TransportError
from gossip.machine import LinkCause
from gossip.messages import Ping
from gossip.transport.addresses import Address
from gossip.transport.lines import Plane
from gossip.transport.transport import DialRefused, Junk, LinkClosed, LinkOpened
from gossip.transport.zeromq import ZeroMQTransport, links
from tests.gossip.transport.network import A, B, C, Peer, chunk_of, link, loopback, until

Resolved = list[tuple[int, int, int, str, tuple[str, int]]]


def resolve_with(monkeypatch: pytest.MonkeyPatch, found: Callable[[str], str]) -> None:
    """Names are looked up in ``found`` (host to IPv4 address); numbers stay what they are."""
    known = socket.getaddrinfo

    def look_up(host: str, port: object, *rest: int, **more: int) -> Resolved:
        if host[0].isdigit():
            return known(host, port, *rest, **more)  # type: ignore[return-value,arg-type] # only IPv4 is asked for in these tests
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (found(host), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(links, "RESOLVE_AGAIN_S", 0.1)


def port_of(peer: Peer) -> int:
    """The control port of a peer."""
    return int(peer.transport.control_address.rpartition(":")[2])


def test_a_slow_resolver_holds_up_no_other_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round trip between others takes no longer, and the answer opens the link when it comes."""
    answer = threading.Event()

    def slow(_: str) -> str:
        answer.wait(20)
        return "127.0.0.1"

    resolve_with(monkeypatch, slow)
    with loopback(A, B, C) as (a, b, c):
        for number in range(3):
            a.transport.dial(None, f"other-{number}.example:9", "", None)
        a.transport.dial(C, f"slow.example:{port_of(c)}", "", Ping(3, 1))
        link(a, b, B)
        until(lambda: LinkOpened(B) in a.events, a, b, c, deadline_s=3)
        assert a.transport.send(B, Ping(1, 1))
        until(lambda: b.messages(), a, b, c, deadline_s=3)
        assert LinkOpened(C) not in a.events
        answer.set()
        until(lambda: LinkOpened(C) in a.events and c.messages(), a, b, c)

        assert [Ping(3, 1)] == c.messages()
        assert a.all(LinkClosed) == []


def test_a_name_that_cannot_be_resolved_is_silent_until_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told once, asked again without another dial, and opened when there is an answer."""
    known: dict[str, str] = {}
    asked: list[str] = []

    def look_up(host: str) -> str:
        asked.append(host)
        if host in known:
            return known[host]
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    resolve_with(monkeypatch, look_up)
    with loopback(A, B) as (a, b):
        a.transport.dial(B, f"later.example:{port_of(b)}", "", None)
        until(lambda: asked.count("later.example") >= 3, a, b)
        assert [LinkClosed(B, LinkCause.SILENT)] == a.all(LinkClosed)
        assert [(B, "address")] == [(junk.peer, junk.kind) for junk in a.all(Junk)]
        known["later.example"] = "127.0.0.1"
        until(lambda: LinkOpened(B) in a.events, a, b)


def test_a_name_no_resolver_takes_is_silent() -> None:
    """Labels may be empty in what a neighbor says; that raises nothing."""
    with loopback(A) as (a,):
        for address in ("a..b:9", f"{'x' * 100}.example:9"):
            a.transport.dial(None, address, "", None)
            until(lambda at=address: DialRefused(at, LinkCause.SILENT) in a.events, a)


def test_a_name_is_looked_up_again_when_its_host_has_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first answer is refused, the second leads to the peer."""
    host = ["127.0.0.1"]
    resolve_with(monkeypatch, lambda _: host[0])
    with loopback(A) as (a,):
        b = Peer(ZeroMQTransport(B, 1, "test", "127.0.0.2:0"))
        try:
            a.transport.dial(B, f"moving.example:{port_of(b)}", "", None)
            until(lambda: LinkClosed(B, LinkCause.REFUSED) in a.events, a, b)
            host[0] = "127.0.0.2"
            until(lambda: LinkOpened(B) in a.events, a, b)
        finally:
            b.transport.close()


def test_an_ipv6_literal_is_dialed() -> None:
    """Brackets mean a number, which nobody has to look up."""
    try:
        b = Peer(ZeroMQTransport(B, 1, "test", "[::1]:0"))
    except TransportError:
        pytest.skip("no IPv6 here")
    with loopback(A) as (a,):
        try:
            link(a, b, B)
            until(lambda: LinkOpened(B) in a.events, a, b)
        finally:
            b.transport.close()


def test_a_dial_the_library_refuses_leaves_nothing_behind() -> None:
    """The next poll does not look at a closed socket."""
    with loopback(A, B) as (a, b):
        sockets = a.transport._sockets  # type: ignore[attr-defined] # reached by no address we let in
        wrong = Address("-a", 80)
        for plane in Plane:
            with pytest.raises(TransportError, match="cannot dial -a:80"):
                sockets.dial(plane, wrong, wrong, b"route")
        link(a, b, B)
        until(lambda: LinkOpened(B) in a.events, a, b)


def test_a_blocked_bulk_port_is_named_once() -> None:
    """Control is up, so it is not the peer; who looks at the faults reads which port it is."""
    with loopback(A, B) as (a, b), socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refused
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        for _ in range(3):
            a.transport.dial(B, b.transport.control_address, address, None)
            until(lambda: a.all(Junk), a, b)
        until(lambda: a.transport.poll(0.5) == [], a, b)

        assert [LinkOpened(B), Junk(B, "bulk", f"{address} cannot be reached")] == a.events
        assert {"bulk": 1} == a.transport.counters.faults


def test_a_bulk_port_that_opens_a_little_later_is_no_fault() -> None:
    """Only what stays closed is told."""
    with loopback(A) as (a,), socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        free = port.getsockname()[1]
        a.transport.dial(B, f"127.0.0.1:{free}", f"127.0.0.1:{free + 1}", None)
        until(lambda: a.all(LinkClosed), a)
        port.close()
        b = Peer(ZeroMQTransport(B, 1, "test", f"127.0.0.1:{free}"))
        try:
            until(lambda: LinkOpened(B) in a.events, a, b)
            until(lambda: a.transport.send_chunk(B, chunk_of(b"x"), memoryview(b"x")), a, b)
            until(lambda: len(b.events) > 0, a, b)
        finally:
            b.transport.close()

        assert a.all(Junk) == []


WITHOUT_DESCRIPTORS = """
import json, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from collections import Counter
from gossip.messages import PeerId, Ping
from gossip.transport.transport import LinkClosed, Junk
from tests.gossip.transport.network import A, B, link, loopback, until
from gossip.transport.transport import LinkOpened
with loopback(A, B) as (a, b):
    link(a, b, B)
    until(lambda: LinkOpened(B) in a.events, a, b)
    others = [PeerId(f"{number:016x}") for number in range(100, 140)]
    for other in others:
        a.transport.dial(other, "127.0.0.1:1", "127.0.0.1:2", None)
    until(lambda: set(others) <= {event.peer for event in a.all(LinkClosed)}, a, b)
    a.transport.send(B, Ping(1, 1))
    until(lambda: b.messages(), a, b)
    kinds = Counter(a.junk_kinds())
    closed = Counter(event.peer for event in a.all(LinkClosed) if event.cause.name == "SILENT")
    last = others.pop()
    for other in others:
        a.transport.hang_up(other)
    there = b.transport.control_address
    a.transport.dial(last, there, "", None)
    until(lambda: LinkOpened(last) in a.events, a, b)
print(json.dumps([kinds, max(closed.values())]))
"""


def _run(script: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.stderr == ""
    return finished.stdout


def test_without_descriptors_dials_fail_and_everything_else_goes_on() -> None:
    """One Junk for the whole spell, one LinkClosed per peer, and links again afterwards."""
    kinds, closed_most = json.loads(_run(WITHOUT_DESCRIPTORS))

    assert {"descriptors": 1} == kinds
    assert closed_most == 1


def test_a_transport_asks_for_all_the_descriptors_it_may_have() -> None:
    """The soft limit becomes the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 4096) if hard != resource.RLIM_INFINITY else 4096
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {most}))
from tests.gossip.transport.network import A, loopback
with loopback(A):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""

    assert f"{most} {most}\n" == _run(script)
