"""Dialed links: opening, closing, and what their monitors tell."""

from __future__ import annotations

import math
import os
import time

import zmq

from gossip.machine import LinkCause
from gossip.messages import PeerId
from gossip.transport.addresses import Address, routing_id
from gossip.transport.lines import Line, Link, Plane
from gossip.transport.probe import Probes
from gossip.transport.transport import Counters, DialRefused, Event, Junk, LinkClosed, LinkOpened
from gossip.transport.zeromq.sockets import (
    FAILED,
    HANDSHAKE_S,
    Sockets,
    ZSocket,
)


class Links:
    """All links this peer dialed. What happens to them is appended to ``events``.

    Invariant: every open line is in ``_dealers`` by its socket and in ``_monitors`` by its
    monitor; a link is in ``_links`` under its peer, in ``_contacts`` under its address, or both.
    """

    def __init__(
        self, me: PeerId, boot: int, sockets: Sockets, counters: Counters, probes: Probes
    ) -> None:
        self.events: list[Event] = []
        self._me = me
        self._boot = boot
        self._sockets = sockets
        self._counters = counters
        self._probes = probes
        self._links: dict[PeerId, Link[ZSocket]] = {}
        self._contacts: dict[Address, Link[ZSocket]] = {}
        self._dealers: dict[ZSocket, tuple[Link[ZSocket], Plane]] = {}
        self._monitors: dict[ZSocket, tuple[Link[ZSocket], Plane]] = {}

    def to(self, peer: PeerId) -> Link[ZSocket] | None:
        """The link that leads to a peer."""
        return self._links.get(peer)

    def of(self, source: ZSocket, plane: Plane) -> Link[ZSocket] | None:
        """The link whose line on this plane is ``source``."""
        found = self._dealers.get(source)
        return found[0] if found is not None and found[1] is plane else None

    def open(self, peer: PeerId | None, address: Address, bulk: Address | None) -> Link[ZSocket]:
        """The link to a peer or contact, opened or opened anew where it has to be. Raises
        TransportError when sockets have run out."""
        link = self._contacts.get(address) if peer is None else self._links.get(peer)
        if link is None or link.address != address or link.broken:
            link = self._open_anew(link, peer, address)
        if bulk is not None and bulk.port != 0:
            self._open_bulk(link, bulk)
        link.told.clear()
        return link

    def hang_up(self, peer: PeerId) -> None:
        """Close every link that leads to a peer."""
        for link in self._all():
            if link.peer == peer:
                self._close_link(link)

    def close(self) -> None:
        """Close all."""
        for link in self._all():
            self._close_link(link)

    def learn(self, link: Link[ZSocket], sender: PeerId) -> None:
        """A contact answered: from now on its link leads to ``sender``, unless another does."""
        link.peer = sender
        if self._links.setdefault(sender, link) is link:
            self.events.append(LinkOpened(sender))

    def greet(self, link: Link[ZSocket]) -> None:
        """Send the waiting greeting if the link is up; otherwise it waits for that."""
        line = link.usable(Plane.CONTROL, up=True)
        if line is None or link.greeting is None:
            return
        if self._sockets.queue(line.socket, [link.greeting]):
            self._counters.sent(Plane.CONTROL, len(link.greeting))
        link.greeting = None

    def tell_lost(self, peer: PeerId | None, address: str, cause: LinkCause) -> None:
        """Report a link or contact that is lost or was never reached."""
        self.events.append(DialRefused(address, cause) if peer is None else LinkClosed(peer, cause))

    def watch(self, monitor: ZSocket) -> None:
        """Read a monitor, if it is that of a line."""
        if monitor not in self._monitors:
            return
        link, plane = self._monitors[monitor]
        line = link.lines[plane]
        for event, _ in self._sockets.monitor_events(monitor):
            if event == zmq.Event.CONNECTED:
                line.connected_at_s = time.monotonic()
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                line.up = line.ever_up = True
                self._counters.shook_hands(plane)
                if plane is Plane.CONTROL:
                    self._opened(link)
            elif event == zmq.Event.CONNECT_RETRIED:
                if line.connected_at_s is None and plane is Plane.CONTROL:
                    self._ask_why(link)
                line.connected_at_s = None
            else:
                self._failed(link, line, plane, event)

    def _opened(self, link: Link[ZSocket]) -> None:
        link.told.clear()
        if link.peer is not None and self._links.get(link.peer) is link:
            self.events.append(LinkOpened(link.peer))
        self.greet(link)

    def _ask_why(self, link: Link[ZSocket]) -> None:
        """Find out why nobody accepts, unless that was told already."""
        if not link.told & {LinkCause.REFUSED, LinkCause.SILENT}:
            self._probes.start(link.address)

    def _failed(
        self, link: Link[ZSocket], line: Line[ZSocket], plane: Plane, event: zmq.Event
    ) -> None:
        """A connection ended, in its handshake or later."""
        was_up, line.up = line.up, False
        since_s = time.monotonic() - (line.connected_at_s or math.inf)
        if event & FAILED & ~zmq.Event.HANDSHAKE_FAILED_NO_DETAIL:
            link.broken = True  # the library gives such a connection up for good
            self._counters.faults["handshake"] += 1
            self.events.append(Junk(link.peer, "handshake", f"dialing {line.address}"))
        if plane is Plane.BULK:
            return
        if event & FAILED:
            silent = since_s >= 0.9 * HANDSHAKE_S
            self._lost(link, LinkCause.SILENT if silent else LinkCause.CLOSED)
        elif was_up:
            self._lost(link, LinkCause.CLOSED)

    def _lost(self, link: Link[ZSocket], cause: LinkCause) -> None:
        second = link.peer is not None and self._links.get(link.peer) is not link
        if cause not in link.told and not second:
            link.told.add(cause)
            self.tell_lost(link.peer, str(link.address), cause)

    def take_answers(self) -> None:
        """Report what the probes found out about links that are still not up."""
        for address, cause in self._probes.answers():
            for link in self._all():
                down = link.usable(Plane.CONTROL, up=True) is None
                if cause is not None and link.address == address and down:
                    self._lost(link, cause)

    def _all(self) -> list[Link[ZSocket]]:
        """Every link; one that is both a peer's and a contact's comes twice."""
        return [*self._links.values(), *self._contacts.values()]

    def _open_anew(
        self, stale: Link[ZSocket] | None, peer: PeerId | None, address: Address
    ) -> Link[ZSocket]:
        if stale is not None:
            self._close_link(stale)
        link: Link[ZSocket] = Link(address, routing_id(self._me, self._boot, os.urandom(8)), peer)
        self._open(link, Plane.CONTROL, address)
        if peer is None:
            self._contacts[address] = link
        else:
            self._links[peer] = link
        return link

    def _open_bulk(self, link: Link[ZSocket], address: Address) -> None:
        line = link.lines.get(Plane.BULK)
        if line is not None and line.address == address:
            return
        if line is not None:
            self._close_line(link, Plane.BULK)
        self._open(link, Plane.BULK, address)

    def _open(self, link: Link[ZSocket], plane: Plane, address: Address) -> None:
        line = self._sockets.dial(plane, address, link.routing)
        link.lines[plane] = line
        self._dealers[line.socket] = (link, plane)
        self._monitors[line.monitor] = (link, plane)

    def _close_line(self, link: Link[ZSocket], plane: Plane) -> None:
        line = link.lines.pop(plane)
        del self._dealers[line.socket], self._monitors[line.monitor]
        self._sockets.close(line.socket, line.monitor)

    def _close_link(self, link: Link[ZSocket]) -> None:
        for plane in list(link.lines):
            self._close_line(link, plane)
        if self._contacts.get(link.address) is link:
            del self._contacts[link.address]
        if link.peer is not None and self._links.get(link.peer) is link:
            del self._links[link.peer]
