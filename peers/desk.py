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
from dataclasses import dataclass

import torch
from torch import Tensor

from gossip.codecs import (
    WRAP_CODECS,
    Codec,
    OfferCodec,
    WrapCodec,
    chunk_count,
    chunk_span,
    chunk_spans,
)
from gossip.codecs.digest import blob_digest, chunk_digest
from gossip.config import ExchangeConfig
from gossip.errors import CodeError, UsageError
from gossip.machine import Applied, Apply, Compute, Computed, Input, Replace, Reserve
from gossip.messages import Blob, Chunk, Leg, PeerId, Transfer
from gossip.mixing.correction import CorrectionStream
from gossip.mixing.disagreement import squared_norm
from gossip.mixing.dither import Seeds, seeds_of
from gossip.mixing.outliers import Outliers
from gossip.mixing.replica import Replica
from gossip.mixing.scratch import Scratch
from gossip.mixing.steps import CLIP_MIN, FIRST_CODEC, Sighting, StepBook
from peers.buffers import Buffers
from peers.mailbox import Correction
from peers.shelf import Shelf

CLIP_SLACK = 2.0
"""Rounding makes a vector longer: to two bits by half where all values are alike, to four by a
third, to eight by a hundredth. Nobody honest may be refused for it."""


@dataclass(slots=True)
class _Held:
    """One blob: its bytes if they are kept, its values if they are decoded on the way.

    ``seen`` belongs to a correction: what it shows of the blocks' differences.
    """

    blob: Blob
    digests: list[bytes]
    source: PeerId | None = None
    buffer: bytearray | None = None
    values_n: Tensor | None = None
    codec: OfferCodec | None = None
    stream: CorrectionStream | None = None
    seen: Sighting | None = None
    made: _Made | None = None
    in_place: bool = False
    broken: bool = False
    followed: bool = True


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
    seen: Sighting | None


class Desk:
    """See the module. One thread only.

    ``is_busy`` tells whether a transfer's bytes are in use; of ``config`` the codecs and ``dither``
    are read. Where codes wrap around, the desk keeps their steps (``gossip.mixing.steps``): it
    sees every correction. So it asks ``outliers``, if given, whom this peer follows. Raises
    UsageError for codecs that do not go together.
    """

    def __init__(
        self,
        replica: Replica,
        is_busy: Callable[[Transfer], bool] = lambda _: False,
        config: ExchangeConfig | None = None,
        outliers: Outliers | None = None,
    ) -> None:
        config = config or ExchangeConfig()
        self._outliers = outliers
        self._replica = replica
        self._is_busy = is_busy
        self._dither = config.dither
        self._shelf = Shelf()
        # Now, not when the first swap wants them on the I/O thread: the first codec of a process
        # compiles its loops, which would hold up training.
        if self._shelf.pair(config.codec, config.reply_codec) is None:
            raise UsageError(f"no codecs {config.codec!r} and {config.reply_codec!r} for a swap")
        wraps = config.codec in WRAP_CODECS
        self._steps = StepBook(self._shelf.wrap(config.codec).bits) if wraps else None
        self._scratch = Scratch()
        self._held: dict[Transfer, _Held] = {}
        self._pool = Buffers()
        self.disagreement = math.nan

    @property
    def held_count(self) -> int:
        """Blobs held now."""
        return len(self._held)

    def reserve(self, effect: Reserve) -> Input | None:
        """Make room for a neighbor's blob; an answer for the core when its size cannot be right."""
        elements = self._elements(effect.fragment)
        blob, leg = effect.blob, effect.transfer.leg
        codec = self._codec_of(effect)
        fits = codec is not None and blob.size_bytes == codec.code_bytes(elements)
        if codec is None or not fits or blob.chunk_bytes != codec.chunk_bytes:
            if leg is Leg.SNAPSHOT:
                return Applied(effect.transfer.exchange, applied=False)
            return Computed(effect.transfer, None)
        digests = [b""] * chunk_count(codec, elements)
        held = _Held(blob, digests, source=effect.source, codec=codec)
        if leg is Leg.CODE:
            self._await_code(held, codec, effect)
        else:
            held.values_n = self._values(effect.fragment)
            held.seen = self._sighting(elements) if leg is Leg.CORRECTION else None
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
                    return self._encode(effect)
                case Leg.CORRECTION:
                    return self._correct(effect)
                case Leg.SNAPSHOT:
                    return Computed(effect.transfer, self._snapshot(effect))
        except CodeError:
            return Computed(effect.transfer, None)

    def correction(self, effect: Apply) -> Correction | None:
        """The correction as values, for the hook, lent until ``release``: the core asks for that
        only after the hook has answered. An undo is not answered, so its vector is the hook's own
        to give back to the replica.

        None when the bytes are not what was announced, not finite, or longer than the bound. One of
        a peer that is not followed says so, and so does its undo.
        """
        held = self._held.get(effect.transfer)
        if held is None or held.broken or blob_digest(held.digests) != effect.blob.digest:
            return None
        values_n = None if effect.undo else held.values_n
        if values_n is None:
            codec = self._shelf.reply(effect.codec)
            if codec is None or held.buffer is None:
                return None
            values_n = self._decode_whole(held, codec, effect)
        if not within(values_n, effect.clip_bound):
            return None
        if held.seen is not None and self._steps is not None and not effect.undo:
            own_code = held.source is not None
            self._steps.learn(effect.fragment, held.seen, own_code, effect.clip)
            held.seen = None
        shown = self._replica.swap_disagreement(effect.fragment, values_n)
        apart = shown / max(effect.clip, CLIP_MIN)
        self.disagreement = math.inf if math.isnan(apart) else apart
        if self._outliers is not None and not effect.undo:
            of = (effect.fragment, effect.partner)
            held.followed = self._outliers.follows(*of, self.disagreement)
        return Correction(
            effect.transfer.exchange,
            effect.fragment,
            values_n,
            effect.signed_weight,
            effect.undo,
            self.disagreement,
            held.followed,
        )

    def snapshot_of(self, effect: Replace) -> Tensor | None:
        """The snapshot as values; None when its bytes are not what was announced."""
        held = self._held.get(effect.transfer)
        if held is None or held.broken or blob_digest(held.digests) != effect.blob.digest:
            return None
        if self._steps is not None:
            self._steps.forget_all()
        if self._outliers is not None:
            self._outliers.forget_all()
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

    def _codec_of(self, effect: Reserve) -> OfferCodec | None:
        """What a neighbor's blob is written in; None if it is nothing we would take."""
        match effect.transfer.leg:
            case Leg.CODE:
                pair = self._shelf.pair(effect.codec, effect.reply_codec)
                return None if pair is None else pair[0]
            case Leg.CORRECTION:
                return self._shelf.reply(effect.codec)
            case Leg.SNAPSHOT:
                return self._shelf.snapshot(effect.codec)

    def _await_code(self, held: _Held, codec: OfferCodec, effect: Reserve) -> None:
        """Room for a code: for its bytes, or where it can be, for the correction they become."""
        elements = self._replica.elements(effect.fragment)
        reply_codec = self._shelf.reply(effect.reply_codec)
        assert reply_codec is not None, "the pair was looked at before"
        fits = CorrectionStream.fits(elements, codec, reply_codec)
        if not (fits and math.isinf(effect.clip_bound)):
            held.buffer = self._pool.take(held.blob.size_bytes, self._is_busy)
            return
        held.made = self._start_correction(effect.fragment, reply_codec)
        held.stream = CorrectionStream(
            self._replica,
            effect.fragment,
            codec,
            reply_codec,
            memoryview(held.made.buffer),
            self._seeds(Transfer(effect.transfer.exchange, Leg.CORRECTION)),
        )

    def _seeds(self, transfer: Transfer) -> Seeds | None:
        return seeds_of(transfer) if self._dither else None

    def _sighting(self, elements: int) -> Sighting | None:
        return None if self._steps is None else Sighting(elements, self._scratch)

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
        in_place = values_n is not None
        if values_n is None:
            values_n = self._replica.take_n(fragment)
        return _Made(buffer, digests, codec, values_n, in_place, self._sighting(elements))

    def _take(self, held: _Held, index: int, payload: memoryview) -> None:
        assert held.codec is not None
        if held.stream is not None and held.made is not None:
            made = held.made
            made.digests[index] = held.stream.feed(index, payload)
            part, span = chunk_span(made.codec, made.values_n.numel(), index)
            code = memoryview(made.buffer)[span]
            if not made.in_place:
                made.codec.decode(code, made.values_n[part])
            if made.seen is not None:
                made.seen.note(part, made.codec, code, made.values_n[part])
        elif held.values_n is not None:
            assert not isinstance(held.codec, WrapCodec), "only a code of an anchor wraps"
            part, _ = chunk_span(held.codec, held.values_n.numel(), index)
            held.codec.decode(payload, held.values_n[part])
            if held.seen is not None:
                held.seen.note(part, held.codec, payload, held.values_n[part])
        else:
            assert held.buffer is not None
            start = index * held.blob.chunk_bytes
            held.buffer[start : start + len(payload)] = payload

    def _decode_whole(self, held: _Held, codec: Codec, effect: Apply) -> Tensor:
        """A correction that was made all at once, and is kept as bytes only."""
        assert held.buffer is not None
        view = memoryview(held.buffer)
        values_n = self._replica.take_n(effect.fragment)
        self._replica.decode_correction(effect.fragment, codec, view, values_n)
        if not effect.undo:
            held.values_n = values_n
            held.seen = self._sighting(values_n.numel())
        if held.seen is not None and not effect.undo:
            for part, span in chunk_spans(codec, values_n.numel()):
                held.seen.note(part, codec, view[span], values_n[part])
        return values_n

    def _encode(self, effect: Compute) -> Computed:
        """The code of an anchor; a plain one while there are no steps for one that wraps."""
        name, fragment, transfer = effect.codec, effect.fragment, effect.transfer
        step_B = None
        if name in WRAP_CODECS:
            assert self._steps is not None, f"{name} is not the codec of this peer's config"
            step_B = self._steps.steps_of(fragment)
            name = FIRST_CODEC if step_B is None else name
        codec = self._shelf.offer(name)
        assert codec is not None, f"our own codec {name!r} is unknown"
        buffer = self._pool.take(codec.code_bytes(self._replica.elements(fragment)), self._is_busy)
        view, seeds = memoryview(buffer), self._seeds(transfer)
        if isinstance(codec, WrapCodec):
            assert step_B is not None
            digests = self._replica.encode_wrapped(fragment, codec, step_B, view, seeds)
        else:
            digests = self._replica.encode_fragment(fragment, codec, view, seeds)
        blob = self._keep(transfer, buffer, digests, codec)
        return Computed(transfer, blob, "" if name == effect.codec else name)

    def _correct(self, effect: Compute) -> Computed:
        source = self._held.get(Transfer(effect.transfer.exchange, Leg.CODE))
        pair = self._shelf.pair(effect.codec, effect.reply_codec)
        if source is None or source.broken or pair is None:
            raise CodeError("the code is not here")
        if blob_digest(source.digests) != source.blob.digest:
            raise CodeError("the code is not the one announced")
        codec, reply_codec = pair
        if source.made is not None:
            made, source.made, source.stream = source.made, None, None
            blob = self._keep(effect.transfer, made.buffer, made.digests, reply_codec)
            kept = self._held[effect.transfer]
            kept.values_n, kept.in_place, kept.seen = made.values_n, made.in_place, made.seen
            return Computed(effect.transfer, blob)
        assert source.buffer is not None
        elements = self._replica.elements(effect.fragment)
        buffer = self._pool.take(reply_codec.code_bytes(elements), self._is_busy)
        digests, clip = self._replica.make_correction(
            effect.fragment,
            codec,
            memoryview(source.buffer),
            reply_codec,
            memoryview(buffer),
            effect.clip_bound,
            self._seeds(effect.transfer),
        )
        blob = self._keep(effect.transfer, buffer, digests, reply_codec)
        return Computed(effect.transfer, blob, clip=clip)

    def _snapshot(self, effect: Compute) -> Blob:
        codec = self._shelf.snapshot(effect.codec)
        assert codec is not None, f"our own codec {effect.codec!r} is no codec of snapshots"
        buffer = self._pool.take(codec.code_bytes(self._replica.model.elements), self._is_busy)
        digests = self._replica.snapshot(memoryview(buffer))
        return self._keep(effect.transfer, buffer, digests, codec)

    def _keep(
        self, transfer: Transfer, buffer: bytearray, digests: list[bytes], codec: OfferCodec
    ) -> Blob:
        blob = Blob(blob_digest(digests), len(buffer), codec.chunk_bytes)
        self._held[transfer] = _Held(blob, digests, buffer=buffer)
        return blob


def within(c_n: Tensor, clip_bound: float) -> bool:
    """Whether a correction is as short as was asked, but for the rounding of its codec."""
    if math.isinf(clip_bound):
        return True
    return math.sqrt(squared_norm(c_n)) <= CLIP_SLACK * clip_bound
