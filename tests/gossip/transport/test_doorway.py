"""Who ended a connection, told with plain sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gossip.transport.doorway import Doorway


class Door:
    """A listening socket, a doorway that follows it, and connections as the monitor tells them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.doorway = Doorway(self.address[1], handshake_s=4.0)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of a new connection, theirs first."""
        theirs = socket.create_connection(self.address)
        ours, _ = self.listener.accept()
        self.doorway.accepted(ours.fileno(), now_s=0.0)
        return theirs, ours

    def end(self, ours: socket.socket, now_s: float = 1.0) -> str | None:
        """Our end is closed; what the doorway says to it."""
        descriptor = ours.fileno()
        ours.close()
        return self.doorway.disconnected(descriptor, now_s)


@pytest.fixture
def door() -> Iterator[Door]:
    """A fresh one, closed afterwards."""
    made = Door()
    yield made
    made.doorway.close()
    made.listener.close()


def test_a_connection_cut_after_its_handshake_was_too_long(door: Door) -> None:
    """The far end is still there: it was us."""
    theirs, ours = door.connect()
    door.doorway.settled()

    assert door.end(ours) == "length"
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_connection_the_far_end_closed_is_no_fault(door: Door) -> None:
    """An orderly end."""
    theirs, ours = door.connect()
    door.doorway.settled()
    theirs.close()
    ours.recv(1)

    assert door.end(ours) is None


def test_a_connection_cut_in_its_handshake_is_told_apart(door: Door) -> None:
    """Also while others have long settled."""
    settled, settled_ours = door.connect()
    door.doorway.settled()
    theirs, ours = door.connect()

    assert door.end(ours) == "handshake"
    assert door.end(settled_ours) == "length"
    theirs.close()
    settled.close()


def test_a_failure_the_monitor_told_is_not_counted_twice(door: Door) -> None:
    """Its disconnect comes next and says nothing new."""
    theirs, ours = door.connect()
    door.doorway.failed()

    assert door.end(ours) is None
    theirs.close()


def test_what_never_settled_is_forgotten_after_the_handshake_time(door: Door) -> None:
    """A miscounted handshake does not blur later faults for ever."""
    stuck, stuck_ours = door.connect()
    theirs, ours = door.connect()
    door.doorway.settled()

    assert door.end(ours, now_s=100.0) == "length"
    for each in (stuck, stuck_ours, theirs):
        each.close()


def test_a_descriptor_that_is_no_connection_of_ours_is_left_alone(door: Door) -> None:
    """Numbers are given away again at once."""
    other = socket.create_server(("127.0.0.1", 0))
    with open("/dev/null", "rb") as file:
        for descriptor in (other.fileno(), file.fileno(), 1 << 20):
            door.doorway.accepted(descriptor, now_s=0.0)
            assert door.doorway.disconnected(descriptor, 0.1) == "handshake"
        assert file.read() == b""
    other.close()
