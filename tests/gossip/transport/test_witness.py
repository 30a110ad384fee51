"""What a lost link says about the other side: real processes, stopped, killed, starved, cut off."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gossip.machine import LinkCause
from gossip.messages import Ping
from gossip.transport.lines import Plane
from gossip.transport.transport import DialRefused, LinkClosed, LinkOpened
from gossip.transport.zeromq.sockets import PING_S
from tests.gossip.transport.network import A, B, Peer, loopback, until
from tests.lab.proxy import Proxy

OTHER_SIDE = """
import ctypes, sys
from gossip.messages import Ack, PeerId, Ping, Rumors
from gossip.transport.transport import Arrived
from gossip.transport.zeromq import ZeroMQTransport
me, listen, advertise = PeerId(sys.argv[1]), sys.argv[2], sys.argv[3] or None
there = ZeroMQTransport(me, 1, "test", listen, advertise)
print(there.control_address, there.bulk_address, flush=True)
while True:
    for event in there.poll(1.0):
        match event:
            case Arrived(sender, Ping(probe)):
                if probe > 1000:
                    ctypes.PyDLL(None).usleep((probe - 1000) * 1000)  # PyDLL keeps the GIL
                there.send(sender, Ack(probe, 1, 0, Rumors()))
"""
"""Answers each Ping; one numbered 1000 + n only after it has held its interpreter for n ms."""


@contextmanager
def linked(
    listen: str = "127.0.0.1:0", advertise: str = ""
) -> Iterator[tuple[Peer, subprocess.Popen[str], str]]:
    """A, with an open link to B in a process of its own, and B's control address."""
    command = [sys.executable, "-c", OTHER_SIDE, B, listen, advertise]
    with (
        loopback(A) as (a,),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            control, bulk = process.stdout.readline().split()
            a.transport.dial(B, control, bulk, None)
            until(lambda: LinkOpened(B) in a.events, a)
            yield a, process, control
        finally:
            process.kill()


def told(a: Peer) -> list[str]:
    """What A was told of the link, in words."""
    return [
        event.cause.name if isinstance(event, LinkClosed) else "OPENED"
        for event in a.events
        if isinstance(event, LinkClosed | LinkOpened)
    ]


def seconds_until(condition: Callable[[], object], a: Peer) -> float:
    """How long it took."""
    began_s = time.monotonic()
    until(condition, a)
    return time.monotonic() - began_s


def listen_on(a: Peer) -> None:
    """Take in what else is told in the next second: some tests assert that it is nothing."""
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        a.poll(0.1)


def test_a_stopped_process_is_frozen_and_opens_again_when_it_goes_on() -> None:
    """Its kernel takes the fresh dial, and nobody shakes hands."""
    with linked() as (a, process, _):
        process.send_signal(signal.SIGSTOP)
        until(lambda: "FROZEN" in told(a), a)
        listen_on(a)
        process.send_signal(signal.SIGCONT)
        until(lambda: told(a)[-1] == "OPENED", a)
        assert a.transport.send(B, Ping(7, 1))
        until(lambda: a.messages(), a)

        assert ["OPENED", "CLOSED", "FROZEN", "OPENED"] == told(a)


def test_a_stopped_process_that_is_killed_is_refused_after_all() -> None:
    """A change of cause is told; the old one is not told again."""
    with linked() as (a, process, _):
        process.send_signal(signal.SIGSTOP)
        until(lambda: "FROZEN" in told(a), a)
        process.kill()
        until(lambda: "REFUSED" in told(a), a)
        listen_on(a)

        assert ["OPENED", "CLOSED", "FROZEN", "REFUSED"] == told(a)


def test_a_killed_process_is_closed_and_refused_at_once() -> None:
    """Long before any ping is missed."""
    with linked() as (a, process, _):
        process.kill()
        took_s = seconds_until(lambda: "REFUSED" in told(a), a)

        assert ["OPENED", "CLOSED", "REFUSED"] == told(a)
        assert took_s < PING_S[Plane.CONTROL][1]


def test_a_process_whose_interpreter_is_held_keeps_its_link() -> None:
    """ZeroMQ's own thread answers its pings: six seconds of silence are not a loss."""
    with linked() as (a, _, _):
        assert a.transport.send(B, Ping(1000 + 6000, 1))
        took_s = seconds_until(lambda: a.messages(), a)

        assert took_s > 2 * PING_S[Plane.CONTROL][1]
        assert ["OPENED"] == told(a)


def test_a_dial_to_a_held_interpreter_opens() -> None:
    """The handshake too is the business of ZeroMQ's thread."""
    with linked() as (a, _, there):
        assert a.transport.send(B, Ping(1000 + 2000, 1))
        a.transport.hang_up(B)
        a.transport.dial(B, there, "", None)
        until(lambda: len(told(a)) == 2, a)

        assert ["OPENED", "OPENED"] == told(a)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what Linux ignores")
def test_a_host_that_answers_nothing_is_silent_until_it_is_back() -> None:
    """Bytes vanish and no new connection is answered; then everything is there again."""
    with Proxy() as proxy:
        door = proxy.door(B)
        with linked(door.listen, door.advertise) as (a, _, _):
            assert a.transport.send(B, Ping(1, 1))
            until(lambda: a.messages(), a)
            proxy.hold(A, B)
            proxy.hold(B, A)
            proxy.shut([B])
            until(lambda: "SILENT" in told(a), a)
            listen_on(a)
            proxy.heal()
            until(lambda: told(a)[-1] == "OPENED", a)
            assert a.transport.send(B, Ping(2, 1))
            until(lambda: len(a.messages()) == 2, a)

            assert ["OPENED", "CLOSED", "SILENT", "OPENED"] == told(a)


def test_a_contact_that_only_listens_is_frozen() -> None:
    """A kernel that accepts is not yet a peer."""
    with loopback(A) as (a,), socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        a.transport.dial(None, address, "", None)
        until(lambda: a.events, a)

        assert [DialRefused(address, LinkCause.FROZEN)] == a.events
