"""The transport inside one process: instantaneous, thread-safe, loses nothing; for tests.

Peers are dialed by name (``mem:NAME``). Every message crosses as bytes through ``gossip.wire``,
so what arrives is what a socket would have brought, and the counters mean the same.
"""

from __future__ import annotations

import math
import threading
from collections import deque

from gossip.errors import FrameError, TransportError
from gossip.machine import LinkCause
from gossip.messages import Chunk, Message, PeerId, Transfer
from gossip.transport.lines import Plane
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    Counters,
    DialRefused,
    Event,
    Junk,
    LinkClosed,
    LinkOpened,
)
from gossip.wire import frames

SCHEME = "mem:"

EVENTS_MAX = 10_000
"""Events waiting for a peer that does not poll; over it messages to it are dropped."""


class MemoryNetwork:
    """The peers that can hear each other; any thread may use it. One lock guards all of them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.by_name: dict[str, MemoryTransport] = {}
        self.by_peer: dict[PeerId, MemoryTransport] = {}


class MemoryTransport:
    """Satisfies ``Transport`` on a ``MemoryNetwork``. Raises TransportError when ``name`` (the
    peer id unless given) is taken."""

    def __init__(
        self, network: MemoryNetwork, me: PeerId, run: str = "default", name: str = ""
    ) -> None:
        self.control_address = self.bulk_address = SCHEME + (name or me)
        self.counters = Counters()
        self._network = network
        self._me = me
        self._run = frames.run_digest(run)
        self._ways: dict[PeerId, bool] = {}  # peers this one can send to; True: it dialed them
        self._contacts: dict[str, PeerId] = {}
        self._events: deque[Event] = deque()
        self._woken = False
        self._closed = False
        with network.changed:
            if self.control_address in network.by_name:
                raise TransportError(f"{self.control_address} is in use")
            network.by_name[self.control_address] = self
            network.by_peer[me] = self

    def dial(
        self,
        peer: PeerId | None,
        control_address: str,
        bulk_address: str,  # noqa: ARG002 both planes of a peer have one name here
        greeting: Message | None,
    ) -> None:
        """See Transport.dial."""
        with self._network.changed:
            there = self._network.by_name.get(control_address)
            if there is None or there is self or peer not in (None, there._me):
                refused = LinkCause.REFUSED
                self._tell(
                    DialRefused(control_address, refused)
                    if peer is None
                    else LinkClosed(peer, refused)
                )
                return
            if peer is None:
                self._contacts[control_address] = there._me
            elif not self._ways.get(peer):
                self._ways[peer] = True
                self._tell(LinkOpened(peer))
            if greeting is not None:
                self._deliver(there, greeting)

    def hang_up(self, peer: PeerId) -> None:
        """See Transport.hang_up."""
        with self._network.changed:
            self._ways.pop(peer, None)
            for address in [each for each, there in self._contacts.items() if there == peer]:
                del self._contacts[address]

    def send(self, to: PeerId, message: Message) -> bool:
        """See Transport.send."""
        assert not isinstance(message, Chunk), "chunks travel by send_chunk"
        with self._network.changed:
            there = self._network.by_peer.get(to) if to in self._ways else None
            if there is None:
                self.counters.dropped += 1
                return False
            return self._deliver(there, message)

    def send_chunk(self, to: PeerId, chunk: Chunk, payload: memoryview) -> bool:
        """See Transport.send_chunk; here the payload is copied and never busy."""
        assert payload.nbytes == chunk.length_bytes <= frames.CHUNK_BYTES_MAX
        with self._network.changed:
            there = self._network.by_peer.get(to) if to in self._ways else None
            if there is None or len(there._events) >= EVENTS_MAX:
                self.counters.dropped += 1
                return False
            header = frames.encode_chunk_header(self._run, self._me, chunk)
            self.counters.sent(Plane.BULK, len(header), payload.nbytes)
            there._hear_chunk(header, bytes(payload))
            return True

    def busy(self, transfer: Transfer) -> bool:  # noqa: ARG002 nothing is ever under way
        """See Transport.busy."""
        return False

    def poll(self, timeout_s: float) -> list[Event]:
        """See Transport.poll."""
        with self._network.changed:
            self._network.changed.wait_for(
                lambda: bool(self._events) or self._woken or self._closed,
                None if timeout_s == math.inf else max(0.0, timeout_s),
            )
            self._woken = False
            control = [each for each in self._events if not isinstance(each, ChunkArrived)]
            chunks = [each for each in self._events if isinstance(each, ChunkArrived)]
            self._events.clear()
            return [*control, *chunks]

    def wake(self) -> None:
        """See Transport.wake."""
        with self._network.changed:
            self._woken = True
            self._network.changed.notify_all()

    def close(self) -> None:
        """See Transport.close. Peers that dialed this one hear that it closed, and that a fresh
        dial is refused."""
        with self._network.changed:
            if self._closed:
                return
            self._closed = True
            del self._network.by_name[self.control_address]
            if self._network.by_peer.get(self._me) is self:
                del self._network.by_peer[self._me]
            for other in self._network.by_name.values():
                if other._ways.pop(self._me, False):
                    for cause in (LinkCause.CLOSED, LinkCause.REFUSED):
                        other._tell(LinkClosed(self._me, cause))
            self._network.changed.notify_all()

    # Called with the lock held, some by other peers' threads.

    def _deliver(self, there: MemoryTransport, message: Message) -> bool:
        try:
            assert not isinstance(message, Chunk), "chunks travel by send_chunk"
            frame = frames.encode_control(self._run, self._me, message)
        except FrameError:
            self.counters.oversized += 1
            return False
        if len(there._events) >= EVENTS_MAX:
            self.counters.dropped += 1
            return False
        self.counters.sent(Plane.CONTROL, len(frame))
        there._hear(frame)
        return True

    def _hear(self, frame: bytes) -> None:
        self.counters.received(Plane.CONTROL, len(frame))
        try:
            sender, message = frames.decode_control(self._run, frame)
        except FrameError as wrong:
            self._junk(wrong)
            return
        self._learn(sender)
        self._tell(Arrived(sender, message))

    def _hear_chunk(self, header: bytes, payload: bytes) -> None:
        self.counters.received(Plane.BULK, len(header), len(payload))
        try:
            sender, chunk = frames.decode_chunk(self._run, header, len(payload))
        except FrameError as wrong:
            self._junk(wrong)
            return
        self._learn(sender)
        self._tell(ChunkArrived(sender, chunk, memoryview(payload)))

    def _learn(self, sender: PeerId) -> None:
        """A valid frame shows the way back, and who a contact is."""
        if sender in self._contacts.values() and not self._ways.get(sender):
            self._ways[sender] = True
            self._tell(LinkOpened(sender))
        self._ways.setdefault(sender, False)

    def _junk(self, wrong: FrameError) -> None:
        self.counters.faults[wrong.kind] += 1
        self._tell(Junk(None, wrong.kind, str(wrong)))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._network.changed.notify_all()
