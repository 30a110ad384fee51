"""The tests' own proxy by itself: what it promises to slow down is slow, and what it holds waits.

Lower bounds only: a busy machine can make all of it slower, but nothing faster than modelled.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.lab.proxy import Path as NetworkPath
from tests.lab.proxy import Proxy
from tests.simulations.local_runs import wait_until

pytestmark = pytest.mark.timeout(60)

LIMIT_S = 20.0
"""Far above what anything waited for takes."""
LATENCY_S = 0.08
BYTES_PER_S = 20e6 / 8
HOME, DIALER = "a" * 16, "b" * 16
HELLO = f"{DIALER}:1:{'0' * 16}".encode()
"""What tells the proxy who dials, as in a ZMTP handshake."""
CLOCK_S = 0.001
"""Timers of an event loop may ring so much early: its clock has ticks."""
MANY = bytes(1_000_000)


class Echo:
    """What stands behind the proxy: sends back what it hears, when ``answers``; counts it."""

    def __init__(self, connection: socket.socket, answers: bool) -> None:
        self.heard_bytes = 0
        self._connection = connection
        self._answers = answers
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._connection:
            while piece := self._connection.recv(1 << 16):
                self.heard_bytes += len(piece)
                if self._answers:
                    self._connection.sendall(piece)


@contextmanager
def way(proxy: Proxy, answers: bool = True) -> Iterator[tuple[socket.socket, Echo]]:
    """A connection through the proxy, whose dialer has said its name, and what is behind it."""
    door = proxy.door(HOME)
    host, port = door.advertise.rsplit(":", 1)
    with ExitStack() as stack:
        inner = stack.enter_context(socket.create_server(("127.0.0.1", door.inner)))
        inner.settimeout(LIMIT_S)
        dialer = stack.enter_context(socket.create_connection((host, int(port)), LIMIT_S))
        dialer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialer.sendall(HELLO)
        accepted, _ = inner.accept()
        echo = Echo(accepted, answers)
        if answers:
            hear(dialer, len(HELLO))
        else:
            wait_until(lambda: echo.heard_bytes == len(HELLO), "the name is heard", LIMIT_S)
        yield dialer, echo


def hear(dialer: socket.socket, size: int) -> None:
    """Read so many bytes."""
    while size:
        piece = dialer.recv(min(size, 1 << 16))
        assert piece, "the connection ended"
        size -= len(piece)


def round_trip_s(dialer: socket.socket) -> float:
    """How long one byte takes there and back."""
    began_s = time.monotonic()
    dialer.sendall(b"?")
    hear(dialer, 1)
    return time.monotonic() - began_s


def test_a_round_trip_takes_the_latency_of_both_directions() -> None:
    """Each of several, not only the first of a connection."""
    with Proxy(NetworkPath(latency_s=LATENCY_S)) as proxy, way(proxy) as (dialer, _):
        trips_s = [round_trip_s(dialer) for _ in range(4)]

    assert min(trips_s) >= 2 * (LATENCY_S - CLOCK_S)


def test_bytes_take_their_time_on_a_narrow_path() -> None:
    """20 Mbit/s: a megabyte is there after 0.4 s and the latency, and not earlier."""
    path = NetworkPath(latency_s=LATENCY_S, bytes_per_s=BYTES_PER_S)
    with Proxy(path) as proxy, way(proxy, answers=False) as (dialer, echo):
        began_s = time.monotonic()
        dialer.sendall(MANY)
        whole = len(HELLO) + len(MANY)
        wait_until(lambda: echo.heard_bytes == whole, "all is heard", LIMIT_S)
        took_s = time.monotonic() - began_s

    assert took_s >= len(MANY) / BYTES_PER_S + LATENCY_S - CLOCK_S
    assert proxy.carried_bytes == whole


def test_each_direction_has_its_own_width() -> None:
    """What is sent back is as slow as what was sent."""
    path = NetworkPath(bytes_per_s=BYTES_PER_S)
    with Proxy(path) as proxy, way(proxy) as (dialer, _):
        began_s = time.monotonic()
        sending = threading.Thread(target=dialer.sendall, args=(MANY,))
        sending.start()
        hear(dialer, len(MANY))
        took_s = time.monotonic() - began_s
        sending.join(LIMIT_S)

    assert took_s >= len(MANY) / BYTES_PER_S - CLOCK_S


def test_a_stall_holds_what_comes_up_to_its_end() -> None:
    """So it looks to TCP when a segment is lost until it is sent again."""
    path = NetworkPath(stall_every_s=1e-6, stall_s=(0.2, 0.2))
    with Proxy(path) as proxy, way(proxy) as (dialer, _):
        before = proxy.stalls
        took_s = round_trip_s(dialer)
        stalls = proxy.stalls - before

    assert stalls == 2  # one each way
    assert took_s >= stalls * (0.2 - CLOCK_S)


def test_what_is_held_in_one_direction_comes_after_the_heal() -> None:
    """The other direction is as open as before; nothing is lost."""
    with Proxy() as proxy, way(proxy) as (dialer, echo):
        proxy.hold(HOME, DIALER)
        dialer.sendall(b"?")
        wait_until(lambda: echo.heard_bytes == len(HELLO) + 1, "it is heard", LIMIT_S)
        dialer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            dialer.recv(1)

        dialer.settimeout(LIMIT_S)
        proxy.heal()
        hear(dialer, 1)
