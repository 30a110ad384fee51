"""Where one peer's blobs lie and its codes are made: carries out the core's byte effects.

Used by the I/O thread of a real peer and by the simulated world alike. Work is done chunk by chunk
while a chunk is in cache: a correction is made as the other's code arrives, and decoded as it is
made or received, so no pass over the whole vector waits at the end of a transfer.

Invariant: memory is taken only in ``reserve`` (sizes checked against our own codec first) and in
``compute``; ``release`` gives it back to a small pool, since fresh memory is slower than any copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossip.codecs import Codec, chunk_count, chunk_span, make_codec
from gossip.codecs.digest import blob_digest, chunk_digest
from gossip.errors import CodeError, UsageError
from gossip.machine import Applied, Apply, Compute, Computed, Input, Replace, Reserve
from gossip.messages import Blob, Chunk, Leg, PeerId, Transfer
from gossip.mixing.replica import CorrectionStream, Replica

POOL_BUFFERS_MAX = 4


@dataclass(slots=True)
class _Held:
    """One blob: its bytes if they are kept, its values if they are decoded on the way."""

    blob: Blob
    digests: list[bytes]
    source: PeerId | None = None
    buffer: bytearray | None = None
    values_n: Tensor | None = None
    codec: Codec | None = None
    stream: CorrectionStream | None = None
    made: _Made | None = None
    in_place: bool = False
    broken: bool = False


@dataclass(slots=True)
class _Made:
    """A correction in the making: its bytes, chunk digests and decoded values.

    ``in_place``: the bytes are the values, so there is one memory for both.
    """

    buffer: bytearray
    digests: list[bytes]
    codec: Codec
    values_n: Tensor
    in_place: bool


@dataclass(slots=True)
class _Pool:
    """A few buffers of the sizes in use; one still being sent is not handed out again."""

    buffers: list[tuple[bytearray, Transfer | None]] = field(default_factory=list)

    def take(self, size_bytes: int, is_busy: Callable[[Transfer], bool]) -> bytearray:
        for index, (buffer, last) in enumerate(self.buffers):
            if len(buffer) == size_bytes and (last is None or not is_busy(last)):
                del self.buffers[index]
                return buffer
        return bytearray(size_bytes)

    def give(self, buffer: bytearray, last: Transfer) -> None:
        self.buffers.append((buffer, last))
        del self.buffers[:-POOL_BUFFERS_MAX]


class Desk:
    """See the module. One thread only; ``is_busy`` tells whether a transfer's bytes are in use."""

    def __init__(
        self, replica: Replica, is_busy: Callable[[Transfer], bool] = lambda _: False
    ) -> None:
        self._replica = replica
        self._is_busy = is_busy
        self._codecs: dict[str, Codec] = {}
        self._held: dict[Transfer, _Held] = {}
        self._pool = _Pool()
        self.disagreement = math.nan

    @property
    def held_count(self) -> int:
        """Blobs held now."""
        return len(self._held)

    def reserve(self, effect: Reserve) -> Input | None:
        """Make room for a neighbor's blob; an answer for the core when its size cannot be right."""
        codec = self._codec(effect.codec)
        elements = self._elements(effect.fragment)
        blob = effect.blob
        fits = codec is not None and blob.size_bytes == codec.code_bytes(elements)
        if codec is None or not fits or blob.chunk_bytes != codec.chunk_bytes:
            if effect.transfer.leg is Leg.SNAPSHOT:
                return Applied(effect.transfer.exchange, applied=False)
            return Computed(effect.transfer, None)
        digests = [b""] * chunk_count(codec, elements)
        held = _Held(blob, digests, source=effect.source, codec=codec)
        reply_codec = self._codec(effect.reply_codec)
        streams = reply_codec is not None and CorrectionStream.fits(elements, codec, reply_codec)
        if effect.transfer.leg is not Leg.CODE:
            held.values_n = self._values(effect.fragment)
        elif streams and reply_codec is not None and math.isinf(effect.clip_bound):
            held.made = self._start_correction(effect.fragment, reply_codec)
            held.stream = CorrectionStream(
                self._replica,
                effect.fragment,
                codec,
                reply_codec,
                memoryview(held.made.buffer),
            )
        else:
            held.buffer = self._pool.take(blob.size_bytes, self._is_busy)
        self._held[effect.transfer] = held
        return None

    def expects(self, transfer: Transfer) -> bool:
        """Whether room was made for a neighbor's bytes of this transfer."""
        held = self._held.get(transfer)
        return held is not None and held.codec is not None

    def store(self, sender: PeerId, chunk: Chunk, payload: memoryview) -> bool:
        """Check and take one chunk; False when it is damaged, misplaced, or was not reserved."""
        held = self._held.get(chunk.transfer)
        if held is None or held.codec is None or held.source != sender:
            return False
        index, rest = divmod(chunk.offset_bytes, held.blob.chunk_bytes)
        if rest or not 0 <= index < len(held.digests):
            return False
        left_bytes = held.blob.size_bytes - chunk.offset_bytes
        if not len(payload) == chunk.length_bytes == min(held.blob.chunk_bytes, left_bytes):
            return False
        digest = chunk_digest(payload)
        if digest != chunk.digest:
            return False
        if not held.digests[index]:
            held.digests[index] = digest
            try:
                self._take(held, index, payload)
            except CodeError:
                held.broken = True
        return True

    def payload(self, chunk: Chunk) -> tuple[memoryview, Chunk] | None:
        """The bytes a chunk stands for, and the chunk with their digest; None if let go."""
        held = self._held.get(chunk.transfer)
        if held is None or held.buffer is None:
            return None
        start = chunk.offset_bytes
        view = memoryview(held.buffer)[start : start + chunk.length_bytes]
        digest = held.digests[start // held.blob.chunk_bytes]
        return view, Chunk(chunk.transfer, start, chunk.length_bytes, digest)

    def compute(self, effect: Compute) -> Computed:
        """Make a code, a correction or a snapshot; a Computed without blob when it cannot be."""
        try:
            match effect.transfer.leg:
                case Leg.CODE:
                    blob = self._encode(effect)
                case Leg.CORRECTION:
                    blob = self._correct(effect)
                case Leg.SNAPSHOT:
                    blob = self._snapshot(effect)
        except CodeError:
            blob = None
        return Computed(effect.transfer, blob)

    def decode(self, effect: Apply) -> Tensor | None:
        """The correction as values, for the hook, lent until ``release``: the core asks for that
        only after the hook has answered. An undo is not answered, so its vector is the hook's own
        to give back to the replica.

        None when the bytes are not what was announced, or not finite.
        """
        held = self._held.get(effect.transfer)
        if held is None or held.broken or blob_digest(held.digests) != effect.blob.digest:
            return None
        values_n = None if effect.undo else held.values_n
        if values_n is None:
            codec = self._codec(effect.codec)
            if codec is None or held.buffer is None:
                return None
            values_n = self._replica.take_n(effect.fragment)
            view = memoryview(held.buffer)
            self._replica.decode_correction(effect.fragment, codec, view, values_n)
            if not effect.undo:
                held.values_n = values_n
        self.disagreement = self._replica.swap_disagreement(effect.fragment, values_n)
        return values_n

    def snapshot_of(self, effect: Replace) -> Tensor | None:
        """The snapshot as values; None when its bytes are not what was announced."""
        held = self._held.get(effect.transfer)
        if held is None or held.broken or blob_digest(held.digests) != effect.blob.digest:
            return None
        return held.values_n

    def release(self, transfer: Transfer) -> None:
        """Let go of a blob; unknown ones are ignored."""
        held = self._held.pop(transfer, None)
        if held is None:
            return
        if held.buffer is not None and transfer.leg is not Leg.SNAPSHOT:
            self._pool.give(held.buffer, transfer)
        if held.values_n is not None and transfer.leg is Leg.CORRECTION and not held.in_place:
            self._replica.give_back(held.values_n)
        if held.made is not None:
            self._pool.give(held.made.buffer, transfer)
            if not held.made.in_place:
                self._replica.give_back(held.made.values_n)

    def _codec(self, name: str) -> Codec | None:
        if name not in self._codecs:
            try:
                self._codecs[name] = make_codec(name)
            except UsageError:
                return None
        return self._codecs[name]

    def _elements(self, fragment: int) -> int:
        if fragment < 0:
            return self._replica.model.elements
        return self._replica.elements(fragment)

    def _values(self, fragment: int) -> Tensor:
        if fragment < 0:
            return torch.empty(self._replica.model.elements)
        return self._replica.take_n(fragment)

    def _start_correction(self, fragment: int, codec: Codec) -> _Made:
        elements = self._replica.elements(fragment)
        buffer = self._pool.take(codec.code_bytes(elements), self._is_busy)
        digests = [b""] * chunk_count(codec, elements)
        values_n = codec.in_place(buffer, elements) if self._replica.takes_any_memory else None
        if values_n is not None:
            return _Made(buffer, digests, codec, values_n, in_place=True)
        return _Made(buffer, digests, codec, self._replica.take_n(fragment), in_place=False)

    def _take(self, held: _Held, index: int, payload: memoryview) -> None:
        assert held.codec is not None
        if held.stream is not None and held.made is not None:
            made = held.made
            made.digests[index] = held.stream.feed(index, payload)
            if not made.in_place:
                part, span = chunk_span(made.codec, made.values_n.numel(), index)
                made.codec.decode(memoryview(made.buffer)[span], made.values_n[part])
        elif held.values_n is not None:
            part, _ = chunk_span(held.codec, held.values_n.numel(), index)
            held.codec.decode(payload, held.values_n[part])
        else:
            assert held.buffer is not None
            start = index * held.blob.chunk_bytes
            held.buffer[start : start + len(payload)] = payload

    def _encode(self, effect: Compute) -> Blob:
        codec = self._codec(effect.codec)
        assert codec is not None, f"our own codec {effect.codec!r} is unknown"
        elements = self._replica.elements(effect.fragment)
        buffer = self._pool.take(codec.code_bytes(elements), self._is_busy)
        digests = self._replica.encode_fragment(effect.fragment, codec, memoryview(buffer))
        return self._keep(effect.transfer, buffer, digests, codec)

    def _correct(self, effect: Compute) -> Blob:
        source = self._held.get(Transfer(effect.transfer.exchange, Leg.CODE))
        codec, reply_codec = self._codec(effect.codec), self._codec(effect.reply_codec)
        if source is None or source.broken or codec is None or reply_codec is None:
            raise CodeError("the code is not here")
        if blob_digest(source.digests) != source.blob.digest:
            raise CodeError("the code is not the one announced")
        if source.made is not None:
            made, source.made, source.stream = source.made, None, None
            blob = self._keep(effect.transfer, made.buffer, made.digests, reply_codec)
            kept = self._held[effect.transfer]
            kept.values_n, kept.in_place = made.values_n, made.in_place
            return blob
        assert source.buffer is not None
        elements = self._replica.elements(effect.fragment)
        buffer = self._pool.take(reply_codec.code_bytes(elements), self._is_busy)
        digests, _ = self._replica.make_correction(
            effect.fragment,
            codec,
            memoryview(source.buffer),
            reply_codec,
            memoryview(buffer),
            effect.clip_bound,
        )
        return self._keep(effect.transfer, buffer, digests, reply_codec)

    def _snapshot(self, effect: Compute) -> Blob:
        codec = self._codec(effect.codec)
        assert codec is not None, f"our own codec {effect.codec!r} is unknown"
        buffer = self._pool.take(codec.code_bytes(self._replica.model.elements), self._is_busy)
        digests = self._replica.snapshot(memoryview(buffer))
        return self._keep(effect.transfer, buffer, digests, codec)

    def _keep(
        self, transfer: Transfer, buffer: bytearray, digests: list[bytes], codec: Codec
    ) -> Blob:
        blob = Blob(blob_digest(digests), len(buffer), codec.chunk_bytes)
        self._held[transfer] = _Held(blob, digests, buffer=buffer)
        return blob
