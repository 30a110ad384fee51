"""Dialed links: opening, closing, and what their monitors tell."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

import zmq

from gossip.errors import TransportError
from gossip.machine import LinkCause
from gossip.messages import PeerId
from gossip.transport.addresses import Address, Caller, is_numeric, routing_id
from gossip.transport.inquiries import Inquiries, resolve, why_unreachable
from gossip.transport.lines import Line, Link, Plane
from gossip.transport.transport import Counters, DialRefused, Event, Junk, LinkClosed, LinkOpened
from gossip.transport.zeromq.sockets import (
    FAILED,
    OutOfDescriptors,
    Sockets,
    ZSocket,
)

RESOLVE_AGAIN_S = 2.0
"""A host name whose dial failed, or that was not resolved, is looked up again after this."""

OPEN_AGAIN_S = 1.0
"""Lines there were no descriptors for are tried again after this."""

ANSWER_S = 0.7
"""A connection that the kernel accepted, and whose process has not shaken hands by then, leads to a
frozen process: its I/O thread takes milliseconds, even while the interpreter is held. (A few round
trips of a slow path fit in; one that takes longer is told open right after.)"""

REDIAL_S = 0.3
"""The library connects again 0.1 to 0.2 s after a loss. Where that was not accepted by then, the
operating system is asked why; a refusal is noticed at once and asked about sooner."""

ASK_AGAIN_S = 3.0
"""While the library retries in vain, the operating system is asked this often whether the cause is
still the same."""

CAUSES_MAX = 64
"""So many are asked about together: when a path breaks, all behind it are lost at once."""

BULK_FAILURES = 3
"""Attempts to connect bulk that fail while control is up, before it is told: once may be a peer
that is just starting."""


class Links:
    """All links this peer dialed. What happens to them is appended to ``events``.

    Invariant: every open line is in ``_dealers`` by its socket and in ``_monitors`` by its
    monitor; a link is in ``_links`` under its peer, in ``_contacts`` under its address, or both.
    A plane in a link's ``wanted`` has a line, or waits in ``_nameless`` until its host's name is
    resolved or in ``_short`` until there are descriptors; or the library refused its address.
    ``_looks`` says when to look at a link whose control line was lost or is shaking hands.
    ``wake`` is called from other threads when something was found out.
    """

    def __init__(
        self,
        me: Caller,
        sockets: Sockets,
        counters: Counters,
        wake: Callable[[], None],
    ) -> None:
        self.events: list[Event] = []
        self._me = me
        self._sockets = sockets
        self._counters = counters
        self._causes = Inquiries(why_unreachable, wake, CAUSES_MAX)
        self._names = Inquiries(resolve, wake)
        self._links: dict[PeerId, Link[ZSocket]] = {}
        self._contacts: dict[Address, Link[ZSocket]] = {}
        self._dealers: dict[ZSocket, tuple[Link[ZSocket], Plane]] = {}
        self._monitors: dict[ZSocket, tuple[Link[ZSocket], Plane]] = {}
        self._nameless: dict[tuple[Link[ZSocket], Plane], Address] = {}
        self._short: dict[tuple[Link[ZSocket], Plane], tuple[Address, Address]] = {}
        self._short_until_s = 0.0
        self._looks: dict[Link[ZSocket], float] = {}

    def to(self, peer: PeerId) -> Link[ZSocket] | None:
        """The link that leads to a peer."""
        return self._links.get(peer)

    def of(self, source: ZSocket, plane: Plane) -> Link[ZSocket] | None:
        """The link whose line on this plane is ``source``."""
        found = self._dealers.get(source)
        return found[0] if found is not None and found[1] is plane else None

    def open(self, peer: PeerId | None, address: Address, bulk: Address | None) -> Link[ZSocket]:
        """The link to a peer or contact, opened or opened anew where it has to be; its lines may
        come later."""
        link = self._contacts.get(address) if peer is None else self._links.get(peer)
        if link is None or link.address != address or link.broken:
            link = self._open_anew(link, peer, address)
        else:
            link.told = None
        if bulk is not None and bulk.port != 0 and link.wanted.get(Plane.BULK) != bulk:
            link.bulk_failures = 0
            self._want(link, Plane.BULK, bulk)
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
                line.connected = True
                if plane is Plane.CONTROL:
                    self._looks[link] = time.monotonic() + ANSWER_S
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                line.up = line.ever_up = True
                self._counters.shook_hands(plane)
                if plane is Plane.CONTROL:
                    self._opened(link)
                else:
                    link.bulk_failures = 0
            elif event == zmq.Event.CONNECT_RETRIED:
                self._retried(link, line, plane)
            else:
                self._failed(link, line, plane, event)

    def _opened(self, link: Link[ZSocket]) -> None:
        link.told = None
        self._looks.pop(link, None)
        if link.bulk_failures < BULK_FAILURES:
            link.bulk_failures = 0
        if link.peer is not None and self._links.get(link.peer) is link:
            self.events.append(LinkOpened(link.peer))
        self.greet(link)

    def _retried(self, link: Link[ZSocket], line: Line[ZSocket], plane: Plane) -> None:
        """The library will connect once more. Find out why nobody accepts, at once unless that was
        told already; and whether the host has moved."""
        accepted, line.connected = line.connected, False
        if not is_numeric(line.address.host):
            self._names.start(line.address.host, RESOLVE_AGAIN_S)
        if accepted:
            return
        if plane is Plane.BULK:
            self._bulk_failed(link)
        else:
            self._ask(link, line)

    def _ask(self, link: Link[ZSocket], line: Line[ZSocket]) -> None:
        """Have the operating system asked why nobody accepts."""
        settled = link.told in (LinkCause.REFUSED, LinkCause.SILENT)
        if not self._causes.start(line.endpoint, ASK_AGAIN_S if settled else 0.0):
            self._looks[link] = time.monotonic() + REDIAL_S

    def _bulk_failed(self, link: Link[ZSocket]) -> None:
        """Bulk did not come up once more. Where control is up that has to be told, once."""
        if link.usable(Plane.CONTROL, up=True) is None:
            return
        link.bulk_failures += 1
        if link.bulk_failures == BULK_FAILURES:
            self._junk(link.peer, "bulk", f"{link.wanted[Plane.BULK]} cannot be reached")

    def _failed(
        self, link: Link[ZSocket], line: Line[ZSocket], plane: Plane, event: zmq.Event
    ) -> None:
        """A connection ended, in its handshake or later."""
        was_up, line.up = line.up, False
        if event & FAILED & ~zmq.Event.HANDSHAKE_FAILED_NO_DETAIL:
            link.broken = True  # the library gives such a connection up for good
            self._junk(link.peer, "handshake", f"dialing {line.address}")
        if plane is Plane.BULK:
            if event & FAILED:
                self._bulk_failed(link)
            return
        if was_up or (event & FAILED and link.told is None):
            self._lost(link, LinkCause.CLOSED)
        if was_up:  # ``connected`` ends with the retry that the library announces next
            self._looks[link] = time.monotonic() + REDIAL_S

    def _lost(self, link: Link[ZSocket], cause: LinkCause) -> bool:
        """Report a lost link, unless that was told last; returns whether it was not."""
        second = link.peer is not None and self._links.get(link.peer) is not link
        if cause is link.told or second:
            return False
        link.told = cause
        self.tell_lost(link.peer, str(link.address), cause)
        return True

    def look_in_s(self) -> float:
        """How long until ``look`` has something to do (inf: nothing is due)."""
        if not self._looks:
            return math.inf
        return max(0.0, min(self._looks.values()) - time.monotonic())

    def look(self) -> None:
        """Judge the links whose time is over, by what their monitors have told until now: one
        accepted without a handshake is frozen, one not even accepted is asked about."""
        now_s = time.monotonic()
        for link in [each for each, at_s in self._looks.items() if at_s <= now_s]:
            del self._looks[link]
            line = link.lines.get(Plane.CONTROL)
            if line is None or line.up or link.broken:
                continue
            if line.connected:
                self._lost(link, LinkCause.FROZEN)
            else:
                self._ask(link, line)

    def _junk(self, peer: PeerId | None, kind: str, detail: str) -> None:
        self._counters.faults[kind] += 1
        self.events.append(Junk(peer, kind, detail))

    def take_answers(self) -> None:
        """Take in what was found out beside: why links are still not up, where hosts are. Open
        the lines that waited for it, and try again those that wait for anything else."""
        for endpoint, cause in self._causes.answers():
            for link in self._all():
                line = link.lines.get(Plane.CONTROL)
                down = line is not None and line.endpoint == endpoint and not line.up
                if cause is not None and down and line is not None and not line.connected:
                    self._lost(link, cause)
        for host, found in self._names.answers():
            if found:
                self._resolved(host, found)
            else:
                self._unresolved(host)
        for address in self._nameless.values():
            self._names.start(address.host, RESOLVE_AGAIN_S)
        self._open_short()

    def _resolved(self, host: str, found: tuple[str, ...]) -> None:
        """Open the lines that waited for a host, and anew those whose host is elsewhere now."""
        for (link, plane), address in list(self._nameless.items()):
            if address.host == host:
                del self._nameless[link, plane]
                self._open(link, plane, address, address._replace(host=found[0]))
        for link, plane in list(self._dealers.values()):
            line = link.lines[plane]
            moved = line.address.host == host and line.endpoint.host not in found
            if moved and not line.up:
                self._close_line(link, plane)
                self._open(link, plane, line.address, line.address._replace(host=found[0]))

    def _unresolved(self, host: str) -> None:
        """Report the lines that wait for a host nobody knows, and queue them behind the others."""
        for (link, plane), address in list(self._nameless.items()):
            if address.host != host:
                continue
            self._nameless[link, plane] = self._nameless.pop((link, plane))
            if plane is Plane.BULK:
                self._bulk_failed(link)
            elif self._lost(link, LinkCause.SILENT):
                self._junk(link.peer, "address", f"cannot resolve {host[:64]!r}")

    def _open_short(self) -> None:
        """Try the lines there were no descriptors for, until one fails again."""
        if time.monotonic() < self._short_until_s:
            return
        for key, (address, endpoint) in list(self._short.items()):
            if not self._open(*key, address, endpoint):
                return

    def _all(self) -> list[Link[ZSocket]]:
        """Every link; one that is both a peer's and a contact's comes twice."""
        return [*self._links.values(), *self._contacts.values()]

    def _open_anew(
        self, stale: Link[ZSocket] | None, peer: PeerId | None, address: Address
    ) -> Link[ZSocket]:
        if stale is not None:
            self._close_link(stale)
        link: Link[ZSocket] = Link(address, routing_id(self._me, os.urandom(8)), peer)
        if peer is None:
            self._contacts[address] = link
        else:
            self._links[peer] = link
        self._want(link, Plane.CONTROL, address)
        return link

    def _want(self, link: Link[ZSocket], plane: Plane, address: Address) -> None:
        """Open a line in the place of any other of its plane, once its host's name is resolved."""
        self._drop(link, plane)
        link.wanted[plane] = address
        if is_numeric(address.host):
            self._open(link, plane, address, address)
        else:
            self._nameless[link, plane] = address
            self._names.start(address.host)

    def _open(self, link: Link[ZSocket], plane: Plane, address: Address, endpoint: Address) -> bool:
        """Open a line; False (reported) when the library refuses, or descriptors have run out:
        then it waits for some."""
        try:
            line = self._sockets.dial(plane, address, endpoint, link.routing)
        except OutOfDescriptors as wrong:
            first = not self._short
            self._short.pop((link, plane), None)
            self._short[link, plane] = (address, endpoint)
            self._short_until_s = time.monotonic() + OPEN_AGAIN_S
            if plane is Plane.CONTROL:
                self._lost(link, LinkCause.SILENT)
            if first:
                self._junk(link.peer, "descriptors", str(wrong))
            return False
        except TransportError as wrong:
            self._short.pop((link, plane), None)
            if plane is Plane.CONTROL:
                link.broken = True
                self._lost(link, LinkCause.SILENT)
            self._junk(link.peer, "address", str(wrong))
            return True
        self._short.pop((link, plane), None)
        link.lines[plane] = line
        self._dealers[line.socket] = (link, plane)
        self._monitors[line.monitor] = (link, plane)
        return True

    def _close_line(self, link: Link[ZSocket], plane: Plane) -> None:
        line = link.lines.pop(plane)
        del self._dealers[line.socket], self._monitors[line.monitor]
        self._sockets.close(line.socket, line.monitor)

    def _drop(self, link: Link[ZSocket], plane: Plane) -> None:
        """Close a line, or stop waiting for it."""
        self._nameless.pop((link, plane), None)
        self._short.pop((link, plane), None)
        if plane in link.lines:
            self._close_line(link, plane)

    def _close_link(self, link: Link[ZSocket]) -> None:
        self._looks.pop(link, None)
        for plane in Plane:
            self._drop(link, plane)
        if self._contacts.get(link.address) is link:
            del self._contacts[link.address]
        if link.peer is not None and self._links.get(link.peer) is link:
            del self._links[link.peer]
