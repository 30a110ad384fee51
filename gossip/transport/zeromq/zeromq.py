"""The transport over TCP: routes, links and queues on top of the sockets.

Each peer listens with two ROUTER sockets, control and bulk, and dials others with one DEALER per
plane. Both DEALERs of a link carry the same routing id, ``peer:boot:nonce``, so a peer that
cannot be dialed is answered over its own link, on both planes, once one frame of it arrived. Its
routing id ends in ``:hidden``, and whoever it dialed is told of that link as of one of its own.

All sockets are used by the thread that calls ``poll``. Another thread may construct the object
(binding fails early, where the owner sees it) and hand it over by starting the thread or through
a queue: both are the full memory fence ZeroMQ asks for when sockets change threads.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

import zmq

from gossip.errors import FrameError, TransportError, UsageError
from gossip.machine import LinkCause
from gossip.messages import Chunk, Message, PeerId, Transfer
from gossip.transport.addresses import (
    Address,
    Caller,
    dialable_addresses,
    listen_address,
    read_address,
    read_routing_id,
)
from gossip.transport.descriptors import allow_all_descriptors
from gossip.transport.doorway import Doorway
from gossip.transport.keys import CurveKeys
from gossip.transport.lines import Link, Plane
from gossip.transport.sending import Sending
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    Counters,
    Event,
    Junk,
    LinkClosed,
    LinkOpened,
)
from gossip.transport.zeromq.links import Links
from gossip.transport.zeromq.sockets import (
    FAILED,
    HANDSHAKE_S,
    Sockets,
    ZSocket,
)
from gossip.wire import frames

PER_POLL_BYTES = {Plane.CONTROL: 4 << 20, Plane.BULK: 1 << 20}
"""Read from all sockets of a plane before a poll returns; the message that goes over it is the
last. Control: what one decodes into stays bounded. Bulk: little, so that few received chunks are
alive at once and their memory is used again while it is warm; a poll with nothing to wait for
costs microseconds."""

MESSAGE_BYTES = 1 << 10
"""What a message counts in that sum beside its frames, so that empty ones are bounded too."""

ROUTES_MAX = 100_000
"""Peers whose way back is remembered; over it the one learned first is forgotten."""


class ZeroMQTransport:
    """Satisfies ``Transport`` over TCP.

    ``listen`` is HOST:PORT: control at PORT and bulk at PORT + 1, or both anywhere when PORT is
    0. ``advertise`` (HOST or HOST:PORT) is what others dial where that differs. With ``curve``
    only holders of the same key get a word in. A peer that is not ``dialable`` has no
    addresses for others, who answer it over the links that it opens. Raises UsageError for an
    address that is none and TransportError when it cannot be listened on; then nothing stays open.
    """

    def __init__(
        self,
        me: PeerId,
        boot: int,
        run: str,
        listen: str,
        advertise: str | None = None,
        curve: CurveKeys | None = None,
        dialable: bool = True,
    ) -> None:
        where = listen_address(listen)
        allow_all_descriptors()
        self.counters = Counters(curve is not None)
        self._me = me
        self._run = frames.run_digest(run)
        self._listeners: dict[Plane, ZSocket] = {}
        self._doorways: dict[ZSocket, tuple[Doorway, Plane]] = {}
        self._routes: dict[PeerId, tuple[int, bytes]] = {}
        self._visitors: dict[PeerId, int] = {}  # hidden peers, by descriptor of their control link
        self._sending = Sending()
        self._turn = 0
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._sockets = Sockets(curve, self._wake_out)
        caller = Caller(me, boot, hidden=not dialable)
        self._links = Links(caller, self._sockets, self.counters, self.wake)
        self._events = self._links.events
        try:
            port = self._listen(Plane.CONTROL, where)
            beside = where._replace(port=where.port + 1 if where.port else 0)
            bulk_port = self._listen(Plane.BULK, beside)
            control, bulk = dialable_addresses(where._replace(port=port), bulk_port, advertise)
        except (TransportError, UsageError):
            self.close()
            raise
        self.control_address = str(control) if dialable else ""
        self.bulk_address = str(bulk) if dialable else ""

    def dial(
        self,
        peer: PeerId | None,
        control_address: str,
        bulk_address: str,
        greeting: Message | None,
    ) -> None:
        """See Transport.dial."""
        control, bulk = read_address(control_address), read_address(bulk_address)
        if control is None or control.port == 0 or (bulk_address and bulk is None):
            self._junk(peer, "address", f"cannot dial {control_address[:64]!r}")
            self._links.tell_lost(peer, control_address, LinkCause.REFUSED)
            return
        link = self._links.open(peer, control, bulk)
        if greeting is not None:
            link.greeting = self._encode(greeting)
            self._links.greet(link)

    def hang_up(self, peer: PeerId) -> None:
        """See Transport.hang_up."""
        self._links.hang_up(peer)
        self._routes.pop(peer, None)
        self._visitors.pop(peer, None)

    def send(self, to: PeerId, message: Message) -> bool:
        """See Transport.send."""
        frame = self._encode(message)
        if frame is None:
            return False
        for target, route in self._ways(to, Plane.CONTROL):
            if self._sockets.queue(target, [*route, frame]):
                self.counters.sent(Plane.CONTROL, len(frame))
                return True
        self.counters.dropped += 1
        return False

    def send_chunk(self, to: PeerId, chunk: Chunk, payload: memoryview) -> bool:
        """See Transport.send_chunk. Payloads below 64 KiB are copied (pyzmq's threshold)."""
        assert payload.nbytes == chunk.length_bytes <= frames.CHUNK_BYTES_MAX
        if self._sending.holds(chunk):
            return True
        if not self._sending.has_room(to, payload.nbytes):
            self.counters.dropped += 1
            return False
        header = frames.encode_chunk_header(self._run, self._me, chunk)
        view = memoryview(payload)
        for target, route in self._ways(to, Plane.BULK):
            if self._sockets.queue(target, [*route, header], view):
                self._sending.add(to, chunk, view)
                self.counters.sent(Plane.BULK, len(header), payload.nbytes)
                return True
        self.counters.dropped += 1
        return False

    def busy(self, transfer: Transfer) -> bool:
        """See Transport.busy."""
        return self._sending.busy(transfer)

    def poll(self, timeout_s: float) -> list[Event]:
        """See Transport.poll."""
        self._sending.forget_sent()
        timeout_s = 0.0 if self._events else min(max(0.0, timeout_s), self._links.look_in_s())
        ready = self._sockets.ready(timeout_s)
        for monitor in ready:
            if monitor in self._doorways:
                self._watch_doorway(monitor)
            else:
                self._links.watch(monitor)
        # After the monitors: who was starved here must not judge by what it has not read yet.
        self._links.take_answers()
        self._links.look()
        self._turn += 1
        self._take(Plane.CONTROL, ready, self._take_message)
        self._take(Plane.BULK, ready, self._take_chunk)
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """See Transport.wake."""
        with contextlib.suppress(OSError):  # full: a wake is pending; closed: nobody waits
            self._wake_in.send(b"\0")

    def close(self) -> None:
        """See Transport.close; waits 0.3 s at most. Calling it again does nothing."""
        self._links.close()
        for monitor, (doorway, plane) in self._doorways.items():
            self._sockets.close(self._listeners[plane], monitor)
            doorway.close()
        self._doorways.clear()
        self._listeners.clear()
        self._sockets.close_all()
        self._sending.clear()
        self._wake_in.close()
        self._wake_out.close()

    # Listening and finding the way.

    def _listen(self, plane: Plane, where: Address) -> int:
        self._listeners[plane], monitor, port = self._sockets.listen(plane, where)
        self._doorways[monitor] = (Doorway(port, HANDSHAKE_S), plane)
        return port

    def _ways(self, to: PeerId, plane: Plane) -> Iterator[tuple[ZSocket, list[bytes]]]:
        """Sockets that lead to a peer, best first, each with the frames that name the route."""
        link = self._links.to(to)
        line = link.usable(plane, up=True) if link is not None else None
        if line is not None:
            yield line.socket, []
        if to in self._routes:
            yield self._listeners[plane], [self._routes[to][1]]
        line = link.usable(plane, up=False) if link is not None else None
        if line is not None:
            yield line.socket, []

    def _encode(self, message: Message) -> bytes | None:
        """A control frame, or None (counted) when the message is too large for one."""
        assert not isinstance(message, Chunk), "chunks travel by send_chunk"
        try:
            return frames.encode_control(self._run, self._me, message)
        except FrameError:
            self.counters.oversized += 1
            return None

    # What the monitors tell.

    def _watch_doorway(self, monitor: ZSocket) -> None:
        doorway, plane = self._doorways[monitor]
        for event, value in self._sockets.monitor_events(monitor):
            now_s = time.monotonic()
            if event == zmq.Event.ACCEPTED:
                doorway.accepted(value, now_s)
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                doorway.settled()
                self.counters.shook_hands(plane)
            elif event & FAILED:
                doorway.failed()
                self._junk(None, "handshake", f"on the {plane.name.lower()} port")
            elif event == zmq.Event.DISCONNECTED:
                fault = doorway.disconnected(value, now_s)
                if fault is not None:
                    self._junk(None, fault, f"cut on the {plane.name.lower()} port")
                if plane is Plane.CONTROL:
                    self._visitor_gone(value)

    def _visitor_gone(self, descriptor: int) -> None:
        """A control connection of others has ended: report it if a hidden peer came by it."""
        for peer in [each for each, by in self._visitors.items() if by == descriptor]:
            del self._visitors[peer]
            self._events.append(LinkClosed(peer, LinkCause.CLOSED))

    def _visited(self, sender: PeerId, descriptor: int) -> None:
        """A valid control frame of a hidden peer came by this connection."""
        if self._visitors.get(sender) == descriptor:
            return
        self._visitors[sender] = descriptor
        self._events.append(LinkOpened(sender))
        if len(self._visitors) > ROUTES_MAX:
            del self._visitors[next(iter(self._visitors))]

    # What arrives.

    def _take(self, plane: Plane, ready: list[ZSocket], take_one: Callable[[ZSocket], int]) -> None:
        """Some messages of a plane, one at a time from each socket in turn."""
        waiting = deque(
            each
            for each in ready
            if each is self._listeners[plane] or self._links.of(each, plane) is not None
        )
        waiting.rotate(self._turn)
        left_bytes = PER_POLL_BYTES[plane]
        while waiting and left_bytes > 0:
            source = waiting.popleft()
            with contextlib.suppress(zmq.Again):
                left_bytes -= take_one(source) + MESSAGE_BYTES
                waiting.append(source)
        for source in waiting:
            self._sockets.touch(source)

    def _take_message(self, source: ZSocket) -> int:
        """Receive one control message; returns its size in bytes. Raises zmq.Again when none is
        there."""
        link = self._links.of(source, Plane.CONTROL)
        received = source.recv_multipart(zmq.NOBLOCK, copy=False)
        descriptor = -1
        route = b""
        if link is None:
            head = received.pop(0)
            route, descriptor = head.bytes, int(head.get(zmq.SRCFD))
        parts = [each.bytes for each in received]
        sizes = [len(each) for each in parts]
        self.counters.received(Plane.CONTROL, *sizes)
        claimed = _claimed(link, route)
        try:
            if len(parts) != 1:
                raise FrameError(f"{len(parts)} control frames")
            sender, message = frames.decode_control(self._run, parts[0])
        except FrameError as wrong:
            self._junk(claimed, wrong.kind, str(wrong))
        else:
            if self._accepts(sender, claimed, link, route):
                caller = read_routing_id(route)
                if caller is not None and caller.hidden:
                    self._visited(sender, descriptor)
                self._events.append(Arrived(sender, message))
        return sum(sizes)

    def _take_chunk(self, source: ZSocket) -> int:
        """Receive one bulk message; returns its size in bytes. Raises zmq.Again when none is
        there. The payload stays in the buffer ZeroMQ received it into."""
        link = self._links.of(source, Plane.BULK)
        received = source.recv_multipart(zmq.NOBLOCK, copy=False)
        route = received.pop(0).bytes if link is None else b""
        sizes = [len(each) for each in received]
        self.counters.received(Plane.BULK, *sizes)
        claimed = _claimed(link, route)
        try:
            if len(received) != 2:
                raise FrameError(f"{len(received)} bulk frames")
            sender, chunk = frames.decode_chunk(self._run, received[0].buffer, sizes[1])
        except FrameError as wrong:
            self._junk(claimed, wrong.kind, str(wrong))
        else:
            if self._accepts(sender, claimed, link, route):
                payload = received[1].buffer
                self._events.append(ChunkArrived(sender, chunk, payload))
        return sum(sizes)

    def _accepts(
        self, sender: PeerId, claimed: PeerId | None, link: Link[ZSocket] | None, route: bytes
    ) -> bool:
        """Whether a valid frame came the way its sender's frames may come; learns the way."""
        if sender == self._me:
            self._junk(None, "self", "a frame of this peer's own")
            return False
        if claimed != sender and (link is None or link.peer is not None):
            self._junk(claimed, "sender", f"a frame of {sender}")
            return False
        if link is None:
            known_boot, known_route = self._routes.get(sender, (0, b""))
            if route == known_route:
                return True
            caller = read_routing_id(route) or Caller(sender, 0)
            if caller.boot >= known_boot:
                self._routes[sender] = (caller.boot, route)
            if len(self._routes) > ROUTES_MAX:
                del self._routes[next(iter(self._routes))]
        elif link.peer is None:
            self._links.learn(link, sender)
        return True

    def _junk(self, peer: PeerId | None, kind: str, detail: str) -> None:
        self.counters.faults[kind] += 1
        self._events.append(Junk(peer, kind, detail))


def _claimed(link: Link[ZSocket] | None, route: bytes) -> PeerId | None:
    """Whom the link leads to, or who the dialing side says it is."""
    if link is not None:
        return link.peer
    caller = read_routing_id(route)
    return caller.peer if caller else None
