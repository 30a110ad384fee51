"""Chunks on their way out: which buffers are still read from, and how much waits for whom."""

from __future__ import annotations

import weakref
from collections import deque

from gossip.messages import Chunk, PeerId, Transfer

QUEUED_BYTES_MAX = 128 << 20
"""Queued for one peer at once: two windows of the largest size, since it is noticed late which
chunks have left, and a chunk that finds no room is lost until it is asked for again. It is also
all that a withdrawn transfer may leave ahead of the next one. (Payloads that were copied are not
counted; they are small, and the library bounds their number.)"""

TRANSFERS_MAX = 256
"""Transfers remembered as being sent before those that have been are looked for."""

View = weakref.ref[memoryview]


class Sending:
    """Views handed to the sockets, each alive until its bytes have left.

    Nobody but the socket holds such a view, so a weak reference says when ZeroMQ is done with it.
    (pyzmq's MessageTracker says the same for 40 microseconds a chunk.)
    """

    def __init__(self) -> None:
        self._by_transfer: dict[Transfer, dict[int, View]] = {}
        self._by_peer: dict[PeerId, deque[tuple[View, int]]] = {}
        self._queued_bytes: dict[PeerId, int] = {}

    def holds(self, chunk: Chunk) -> bool:
        """Whether this very chunk is still being sent."""
        view = self._by_transfer.get(chunk.transfer, {}).get(chunk.offset_bytes)
        return view is not None and view() is not None

    def has_room(self, to: PeerId, length_bytes: int) -> bool:
        """Whether so much more may be queued for a peer."""
        queued = self._by_peer.get(to, deque())
        while queued and queued[0][0]() is None:
            self._queued_bytes[to] -= queued.popleft()[1]
        if not queued:
            self._by_peer.pop(to, None)
            self._queued_bytes.pop(to, None)
        return self._queued_bytes.get(to, 0) + length_bytes <= QUEUED_BYTES_MAX

    def add(self, to: PeerId, chunk: Chunk, view: memoryview) -> None:
        """A view that a socket now holds."""
        reference = weakref.ref(view)
        views = self._by_transfer.setdefault(chunk.transfer, {})
        views.pop(chunk.offset_bytes, None)
        views[chunk.offset_bytes] = reference
        self._by_peer.setdefault(to, deque()).append((reference, view.nbytes))
        self._queued_bytes[to] = self._queued_bytes.get(to, 0) + view.nbytes

    def busy(self, transfer: Transfer) -> bool:
        """Whether a chunk of this transfer is still being sent."""
        views = self._by_transfer.get(transfer, {})
        while views:
            oldest = next(iter(views))
            if views[oldest]() is not None:
                return True
            del views[oldest]
        self._by_transfer.pop(transfer, None)
        return False

    def forget_sent(self) -> None:
        """Let go of what has left, once it has become much."""
        if len(self._by_transfer) <= TRANSFERS_MAX:
            return
        for transfer in list(self._by_transfer):
            self.busy(transfer)
        for peer in list(self._by_peer):
            self.has_room(peer, 0)

    def clear(self) -> None:
        """Forget all."""
        self._by_transfer.clear()
        self._by_peer.clear()
        self._queued_bytes.clear()
