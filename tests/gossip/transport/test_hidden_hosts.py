"""The link of a peer that only dials out, as whoever it dialed sees it: real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gossip.machine import LinkCause
from gossip.messages import Ping
from gossip.transport.lines import Plane
from gossip.transport.transport import LinkClosed, LinkOpened
from gossip.transport.zeromq.sockets import PING_S
from tests.gossip.transport.network import A, B, Peer, loopback, until

HIDDEN_SIDE = """
import ctypes, os, signal, socket, struct, sys
from gossip.messages import PeerId, Ping
from gossip.transport.transport import Arrived
from gossip.transport.zeromq import ZeroMQTransport
me, to, address, host_goes = PeerId(sys.argv[1]), PeerId(sys.argv[2]), sys.argv[3], sys.argv[4]
here = ZeroMQTransport(me, 1, "test", "127.0.0.1:0", dialable=False)
here.dial(to, address, "", None)
heard = False
while not heard:
    here.send(to, Ping(1, 1))
    heard = any(isinstance(event, Arrived) for event in here.poll(0.1))
drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
program = struct.pack("HL", 1, ctypes.addressof(drop_all))
for name in os.listdir("/proc/self/fd") if host_goes == "yes" else ():
    try:
        found = socket.socket(fileno=os.dup(int(name)))
        if found.family == socket.AF_INET and found.type == socket.SOCK_STREAM:
            found.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
    except OSError:
        continue
os.kill(os.getpid(), signal.SIGSTOP)
"""
"""Says something, hears an answer, and stands still; if its host goes too, that host's kernel takes
nothing of what comes for this process any more, so that nothing is acknowledged."""


@contextmanager
def hidden(host_goes: bool) -> Iterator[Peer]:
    """B, dialed by A in a process of its own that stands still by now."""
    with loopback(B) as (b,):
        command = [sys.executable, "-c", HIDDEN_SIDE, A, B, b.transport.control_address]
        with subprocess.Popen([*command, "yes" if host_goes else "no"]) as process:
            try:
                until(lambda: LinkOpened(A) in b.events, b)
                assert b.transport.send(A, Ping(2, 1))
                until(lambda: _is_stopped(process.pid), b)
                yield b
            finally:
                process.kill()


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as status:
        return status.read().rpartition(")")[2].split()[0] == "T"


linux = pytest.mark.skipif(sys.platform != "linux", reason="filters of sockets are Linux's")


@linux
def test_a_host_that_vanishes_under_a_hidden_peer_is_noticed() -> None:
    """Nobody can dial it to find out, and it pings no more; the kernel asks after it."""
    with hidden(host_goes=True) as b:
        began_s = time.monotonic()
        until(lambda: b.all(LinkClosed), b)

        assert [LinkClosed(A, LinkCause.CLOSED)] == b.all(LinkClosed)
        # The kernel looks when it would send again, after 3 or after 6 seconds.
        assert time.monotonic() - began_s < 4 * PING_S[Plane.CONTROL][1]


@linux
def test_a_hidden_process_that_stands_still_keeps_its_link() -> None:
    """Its kernel answers for it: it is not gone, however long it says nothing."""
    with hidden(host_goes=False) as b:
        assert b.transport.send(A, Ping(3, 1))
        end_s = time.monotonic() + 2 * PING_S[Plane.CONTROL][1]
        while time.monotonic() < end_s:
            b.poll()

        assert [] == b.all(LinkClosed)
