"""Bookkeeping of dialed links: what is open, what is up, what the owner was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

from gossip.machine import LinkCause
from gossip.messages import PeerId
from gossip.transport.addresses import Address

Socket = TypeVar("Socket")


class Plane(IntEnum):
    """Small and urgent, or large and patient."""

    CONTROL = 0
    BULK = 1


@dataclass(slots=True, eq=False)
class Line(Generic[Socket]):
    """One dialed socket. ``address`` is what was asked for, ``endpoint`` the same with a number
    for the host. ``connected`` says that the kernel over there accepted the present attempt."""

    socket: Socket
    monitor: Socket
    address: Address
    endpoint: Address
    up: bool = False
    ever_up: bool = False
    connected: bool = False


@dataclass(slots=True, eq=False)
class Link(Generic[Socket]):
    """The lines to one address. ``peer`` is unknown for a contact that has not answered yet.

    ``told`` is the cause reported last since the link was last up or dialed, so that endless
    retries are told once. A ``broken`` link is not retried: the next dial opens a new one.
    ``wanted`` has the address of every plane, also of those that have no line yet.
    ``bulk_failures`` counts attempts to connect bulk since it or control was last up.
    """

    address: Address
    routing: bytes
    peer: PeerId | None
    lines: dict[Plane, Line[Socket]] = field(default_factory=dict)
    greeting: bytes | None = None
    told: LinkCause | None = None
    broken: bool = False
    wanted: dict[Plane, Address] = field(default_factory=dict)
    bulk_failures: int = 0

    def usable(self, plane: Plane, *, up: bool) -> Line[Socket] | None:
        """The line of this plane if it is up; or, with ``up`` False, one never up yet (what is
        queued there will leave with the first connection, and cannot be stale)."""
        line = self.lines.get(plane)
        if line is None or self.broken or (not line.up if up else line.ever_up):
            return None
        return line
