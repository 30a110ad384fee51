"""The sending end of all blobs: chunks wait here for their turn and for the byte budget."""

from __future__ import annotations

import math
from collections import deque

from gossip.exchange.budget import TokenBucket
from gossip.machine import Effect, Send
from gossip.messages import CHUNK_BYTES_MAX, Blob, Chunk, PeerId, Seconds, Transfer, Want

QUEUED_CHUNKS_MAX = 4096

SERVINGS_MAX = 3
"""A blob is served this many times over, repetitions included: enough where every second chunk is
lost, and the end of whoever keeps an exchange open with Wants alone."""

SERVED_CHUNKS_MIN = 4
"""A shorter blob is served as often as one of this many chunks."""


def asked_bytes(want: Want, blob: Blob) -> int:
    """What serving a Want costs: whole chunks, at least one."""
    return max(1, -(-want.length_bytes // blob.chunk_bytes)) * blob.chunk_bytes


def is_too_much(total_bytes: int, blob: Blob) -> bool:
    """Whether no honest receiver asks for so much of one blob."""
    return total_bytes > SERVINGS_MAX * max(blob.size_bytes, SERVED_CHUNKS_MIN * blob.chunk_bytes)


class Uploads:
    """First come, first served, within the budget.

    Invariant: a chunk is queued at most once per asking peer; the queue never exceeds
    QUEUED_CHUNKS_MAX (a Want beyond it is forgotten: its owner asks again).
    """

    __slots__ = ("_bucket", "_queue", "_queued")

    def __init__(self, bytes_per_s: float, now: Seconds) -> None:
        self._bucket = TokenBucket(bytes_per_s, CHUNK_BYTES_MAX, now)
        self._queue: deque[tuple[PeerId, Chunk]] = deque()
        self._queued: dict[tuple[PeerId, Transfer, int], None] = {}

    def serve(self, to: PeerId, want: Want, blob: Blob) -> bool:
        """Queue the chunks of a Want; False if it asks for bytes the blob does not have."""
        start, stop = want.offset_bytes, want.offset_bytes + want.length_bytes
        inside = 0 <= start < stop <= blob.size_bytes
        if not inside or start % blob.chunk_bytes:
            return False
        for offset in range(start, stop, blob.chunk_bytes):
            key = (to, want.transfer, offset)
            if key in self._queued or len(self._queue) >= QUEUED_CHUNKS_MAX:
                continue
            length = min(blob.chunk_bytes, blob.size_bytes - offset)
            self._queue.append((to, Chunk(want.transfer, offset, length)))
            self._queued[key] = None
        return True

    def forget(self, transfer: Transfer) -> None:
        """Drop what is queued of a transfer that was released."""
        if not any(chunk.transfer == transfer for _, chunk in self._queue):
            return
        self._queue = deque(item for item in self._queue if item[1].transfer != transfer)
        self._queued = {key: None for key in self._queued if key[1] != transfer}

    def pump(self, now: Seconds) -> list[Effect]:
        """Send what the budget allows now."""
        effects: list[Effect] = []
        while self._queue and self._bucket.take(self._queue[0][1].length_bytes, now):
            to, chunk = self._queue.popleft()
            del self._queued[(to, chunk.transfer, chunk.offset_bytes)]
            effects.append(Send(to, chunk))
        return effects

    def deadline(self) -> Seconds:
        """When the next queued chunk may go, or ``math.inf``."""
        if not self._queue:
            return math.inf
        return self._bucket.ready_at(self._queue[0][1].length_bytes)
