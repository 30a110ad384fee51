"""The receiving end of one blob: what is missing, what is asked for, what to ask again.

The receiver pulls, so it sets the pace, and the holder keeps no state about it. Chunks may come
twice, late and in any order; the driver has checked each one's digest before it is told here.
"""

from __future__ import annotations

from gossip.messages import Blob, Chunk, Transfer, Want

CHUNK_BYTES_MAX = 1 << 20
CHUNK_BYTES_MIN = 256


def is_sane(blob: Blob, blob_bytes_max: int) -> bool:
    """Whether a blob announced by a neighbor is one we could ever pull."""
    if len(blob.digest) != 16 or not 0 < blob.size_bytes <= blob_bytes_max:
        return False
    return CHUNK_BYTES_MIN <= blob.chunk_bytes <= CHUNK_BYTES_MAX


class Pull:
    """One blob on its way to us.

    Invariant: ``arrived_bytes`` counts each chunk once; asked minus arrived stays within the
    window except after ``ask_again``.
    """

    def __init__(self, transfer: Transfer, blob: Blob, window_bytes: int) -> None:
        self.transfer = transfer
        self.blob = blob
        self.arrived_bytes = 0
        self._chunks = -(-blob.size_bytes // blob.chunk_bytes)
        self._window_chunks = max(1, window_bytes // blob.chunk_bytes)
        self._have = bytearray(self._chunks)
        self._arrived = 0
        self._asked = 0

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is here."""
        return self._arrived == self._chunks

    def ask(self) -> list[Want]:
        """Extend the window; a full or half window at a time, so that Wants stay few."""
        outstanding = self._asked - self._arrived
        left = self._chunks - self._asked
        room = self._window_chunks - outstanding
        if left == 0 or room <= 0 or (room < (self._window_chunks + 1) // 2 and room < left):
            return []
        first, count = self._asked, min(room, left)
        self._asked += count
        return [self._want(first, count)]

    def ask_again(self) -> list[Want]:
        """After silence: ask once more for what was asked and did not come, as runs of chunks."""
        wants: list[Want] = []
        first: int | None = None
        budget = self._window_chunks
        for index in range(self._asked + 1):
            missing = index < self._asked and not self._have[index] and budget > 0
            if missing:
                budget -= 1
                first = index if first is None else first
            elif first is not None:
                wants.append(self._want(first, index - first))
                first = None
        return wants or self.ask()

    def take(self, chunk: Chunk) -> bool | None:
        """Note a stored chunk: True if new, False if known, None if it breaks the rules."""
        index, rest = divmod(chunk.offset_bytes, self.blob.chunk_bytes)
        if rest or not 0 <= index < self._chunks or chunk.length_bytes != self._length(index):
            return None
        if self._have[index]:
            return False
        self._have[index] = 1
        self._arrived += 1
        self._asked = max(self._asked, self._arrived)
        self.arrived_bytes += chunk.length_bytes
        return True

    def _length(self, index: int) -> int:
        return min(self.blob.chunk_bytes, self.blob.size_bytes - index * self.blob.chunk_bytes)

    def _want(self, first: int, count: int) -> Want:
        start = first * self.blob.chunk_bytes
        stop = min((first + count) * self.blob.chunk_bytes, self.blob.size_bytes)
        return Want(self.transfer, start, stop - start)
