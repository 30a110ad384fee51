"""The receiving end of one blob: what is missing, what is asked for, what to ask again.

The receiver pulls, so it sets the pace, and the holder keeps no state about it. Chunks may come
twice, late and in any order; the driver has checked each one's digest before it is told here.
"""

from __future__ import annotations

from gossip.messages import CHUNK_BYTES_MAX, Blob, Chunk, Seconds, Transfer, Want

CHUNK_BYTES_MIN = 256

WINDOW_S = 0.1
"""A window grows while a whole one arrives within this, so what is asked for in advance never
holds up others for much longer: about 10 MB at 100 MB/s, but enough to keep a fast link full."""

SLOW_WINDOW_S = 1.0
"""Up to ``window_bytes`` a window begins with, or grows to, what arrives within this, and shrinks
where it takes longer: on a slow link little is asked for in advance, and the holder hears Wants."""

START_BYTES = 1 << 20
"""The first window while the link's rate is unknown: the longest chunk there is. What was asked
for cannot be called back, and where others pull from the same holder it waits behind theirs."""

LEAST_BYTES = 1 << 19
"""A window that takes too long shrinks to this, at least two chunks: one on its way while the next
is asked for."""


def is_sane(blob: Blob, blob_bytes_max: int) -> bool:
    """Whether a blob announced by a neighbor is one we could ever pull."""
    if len(blob.digest) != 16 or not 0 < blob.size_bytes <= blob_bytes_max:
        return False
    return CHUNK_BYTES_MIN <= blob.chunk_bytes <= CHUNK_BYTES_MAX


class Pull:
    """One blob on its way to us.

    Invariant: ``arrived_bytes`` counts each chunk once; asked minus arrived stays within the
    window except after ``ask_again``. The window starts at what arrives in SLOW_WINDOW_S at
    ``bytes_per_s``, between START_BYTES and ``window_bytes``. Known chunks count as a sign of
    life no more often than the blob has chunks, so nobody lives on repetitions for ever.
    """

    __slots__ = (
        "_answered",
        "_arrived",
        "_asked",
        "_chunks",
        "_first_chunks",
        "_have",
        "_least_chunks",
        "_mark",
        "_repeats",
        "_sounding",
        "_usual_chunks",
        "_window_chunks",
        "arrived_bytes",
        "blob",
        "transfer",
    )

    def __init__(
        self, transfer: Transfer, blob: Blob, window_bytes: int, bytes_per_s: float = 0.0
    ) -> None:
        self.transfer = transfer
        self.blob = blob
        self.arrived_bytes = 0
        self._chunks = -(-blob.size_bytes // blob.chunk_bytes)
        start_bytes = min(window_bytes, max(START_BYTES, int(bytes_per_s * SLOW_WINDOW_S)))
        self._window_chunks = max(1, start_bytes // blob.chunk_bytes)
        self._first_chunks = max(1, min(window_bytes, START_BYTES) // blob.chunk_bytes)
        least_chunks = max(2, LEAST_BYTES // blob.chunk_bytes)
        self._least_chunks = min(self._first_chunks, least_chunks)
        self._usual_chunks = max(1, window_bytes // blob.chunk_bytes)
        self._mark: tuple[int, Seconds] | None = None
        self._have = bytearray(self._chunks)
        self._arrived = 0
        self._asked = 0
        self._repeats = 0
        self._sounding: int | None = None
        self._answered = False

    @property
    def chunk_bytes(self) -> int:
        """Length of the longest chunk."""
        return self._length(0)

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is here."""
        return self._arrived == self._chunks

    @property
    def may_repeat(self) -> bool:
        """Whether a known chunk still counts as a sign of life."""
        return self._repeats <= self._chunks

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

    def widen(self, now: Seconds, window_max_bytes: int) -> None:
        """After a new chunk: see how long the last whole window took.

        Within ``SLOW_WINDOW_S`` it doubles up to ``window_bytes``, within ``WINDOW_S`` on to
        ``window_max_bytes``; slower, it is halved.
        """
        arrived, since = self._mark or (self._arrived, now)
        self._mark = (arrived, since)
        if self._arrived - arrived < self._window_chunks:
            return
        self._mark = (self._arrived, now)
        most = self._usual_chunks
        if now - since <= WINDOW_S:
            most = max(most, window_max_bytes // self.blob.chunk_bytes)
        if now - since > SLOW_WINDOW_S:
            self._window_chunks = max(self._least_chunks, self._window_chunks // 2)
        elif self._window_chunks < most:
            self._window_chunks = min(2 * self._window_chunks, most)

    def ask_again(self) -> list[Want]:
        """After silence: halve the window, and ask once more for what was asked and did not come.

        At first only for the first chunk that is missing, since the others may just be slow. Once
        that one has come and it is silent again, for up to a window of them, as runs of chunks.
        """
        halved = max(self._first_chunks, self._window_chunks // 2)
        self._window_chunks = min(self._window_chunks, halved)
        self._mark = None
        wants: list[Want] = []
        first: int | None = None
        budget = self._window_chunks if self._answered else 1
        self._answered = False
        self._sounding = self._have.find(0)
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
            self._repeats += 1
            return False
        self._have[index] = 1
        self._answered = self._answered or index == self._sounding
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
