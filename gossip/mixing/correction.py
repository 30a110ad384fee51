"""The responder's work: from the chunks of A's code to the chunks of c = Q(phi_B - est_A)."""

from __future__ import annotations

import math
import sys
from typing import Protocol

import torch
from torch import Tensor

from gossip.codecs import STEP_ELEMENTS, Codec, OfferCodec, chunk_count, chunk_span, chunk_spans
from gossip.codecs.codec import as_bytes_S, check_finite, check_length
from gossip.codecs.digest import chunk_digest
from gossip.errors import CodeError
from gossip.mixing.disagreement import squared_norm
from gossip.mixing.dither import Seeds
from gossip.mixing.scratch import Scratch
from gossip.mixing.steps import blocks_of


class Anchor(Protocol):
    """phi as the I/O thread may read it."""

    @property
    def scratch(self) -> Scratch:
        """The I/O thread's memory."""
        ...

    def elements(self, fragment: int) -> int:
        """How long a fragment is, a multiple of 256."""
        ...

    def compare_(
        self, fragment: int, part: slice, codec: OfferCodec, code: memoryview, out_n: Tensor
    ) -> Tensor | None:
        """``out_n = phi - est`` over a slice of the fragment; see ``Replica.compare_``."""
        ...


def clip_factor(norm: float, bound: float) -> float:
    """At most 1, and such that ``clip * norm <= bound``. Raises CodeError on a norm not finite."""
    if not math.isfinite(norm):
        raise CodeError("the difference is not finite")
    if norm <= bound:
        return 1.0
    clip = bound / norm
    # Too small to be exact, it could leave the norm above the bound; in fp32 it is zero anyway.
    return clip if clip >= sys.float_info.min else 0.0


def make_correction(
    anchor: Anchor,
    fragment: int,
    codec: OfferCodec,
    code: memoryview,
    reply_codec: Codec,
    out: memoryview,
    clip_bound: float,
    seeds: Seeds | None,
) -> tuple[list[bytes], float]:
    """``c = Q(clip * (phi - decode(code)))``, all at once; see ``Replica.make_correction``."""
    if not clip_bound >= 0:
        raise CodeError(f"a clip bound of {clip_bound}")
    elements = anchor.elements(fragment)
    check_length(as_bytes_S(code), codec.code_bytes(elements), codec.name)
    if math.isinf(clip_bound) and CorrectionStream.fits(elements, codec, reply_codec):
        stream = CorrectionStream(anchor, fragment, codec, reply_codec, out, seeds)
        spans = enumerate(chunk_spans(codec, elements))
        return [stream.feed(index, code[span]) for index, (_, span) in spans], 1.0

    d_n = anchor.scratch.take("difference", elements)
    skip_B = anchor.scratch.take("skipped", elements // STEP_ELEMENTS, torch.bool)
    skips = False
    total = 0.0
    for part, span in chunk_spans(codec, elements):
        wrapped_B = anchor.compare_(fragment, part, codec, code[span], d_n[part])
        if wrapped_B is not None:
            skip_B[blocks_of(part)] = wrapped_B
            skips = True
        total += squared_norm(d_n[part])
    clip = clip_factor(math.sqrt(total), clip_bound)
    if clip < 1:
        d_n.mul_(clip)
    digests: list[bytes] = []
    for index, (part, span) in enumerate(chunk_spans(reply_codec, elements)):
        seed = None if seeds is None else seeds(index)
        marks_B = skip_B[blocks_of(part)] if skips else None
        reply_codec.encode(d_n[part], out[span], seed, marks_B)
        digests.append(chunk_digest(out[span]))
    return digests, clip


class CorrectionStream:
    """A correction made chunk by chunk, as the chunks of the other's code arrive, in any order.

    Only for unclipped corrections between codecs that cut the fragment alike (see ``fits``).
    """

    def __init__(
        self,
        anchor: Anchor,
        fragment: int,
        codec: OfferCodec,
        reply_codec: Codec,
        out: memoryview,
        seeds: Seeds | None = None,
    ) -> None:
        self._anchor = anchor
        self._fragment = fragment
        self._codec = codec
        self._reply_codec = reply_codec
        self._out = out
        self._seeds = seeds
        self._elements = anchor.elements(fragment)
        assert self.fits(self._elements, codec, reply_codec), "the chunks do not match"
        assert len(out) == reply_codec.code_bytes(self._elements), "out has a wrong length"

    @staticmethod
    def fits(elements: int, codec: OfferCodec, reply_codec: Codec) -> bool:
        """Whether both codecs cut ``elements`` into the same chunks."""
        if codec.chunk_elements == reply_codec.chunk_elements:
            return True
        return chunk_count(codec, elements) == chunk_count(reply_codec, elements) == 1

    def feed(self, index: int, code_chunk: memoryview) -> bytes:
        """Take chunk ``index`` of the code, write that chunk of the correction, return its digest.

        Raises CodeError when the chunk is not a code or phi is not finite.
        """
        part, _ = chunk_span(self._codec, self._elements, index)
        _, span = chunk_span(self._reply_codec, self._elements, index)
        elements = part.stop - part.start
        out = self._out[span]
        c_n = self._reply_codec.in_place(out, elements)
        if c_n is None:
            d_n = self._anchor.scratch.take("difference", elements)
            skip_B = self._anchor.compare_(self._fragment, part, self._codec, code_chunk, d_n)
            seed = None if self._seeds is None else self._seeds(index)
            self._reply_codec.encode(d_n, out, seed, skip_B)
        else:
            self._anchor.compare_(self._fragment, part, self._codec, code_chunk, c_n)
            # Not finite if either of its terms is not, so this looks at both.
            check_finite(c_n, self._reply_codec.name)
        return chunk_digest(out)
