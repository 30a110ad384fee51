"""One peer's replica: live parameters theta, the fp32 anchor phi on the host, momentum m.

Two threads meet here. The trainer's thread, inside the optimizer hook, is the only writer of
theta, phi and m (gossip/README.md, rule 4): ``publish``, ``settle``, ``apply_correction``,
``replace``. The I/O thread reads phi under the fragment's lock, one chunk at a time:
``encode_fragment``, ``make_correction``, ``CorrectionStream``, ``snapshot``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator
from typing import Final

import torch
from torch import Tensor

from gossip.codecs import (
    SNAPSHOT_CODEC,
    Codec,
    chunk_count,
    chunk_span,
    chunk_spans,
    decode_vector,
    make_codec,
)
from gossip.codecs.codec import as_bytes_S, check_finite, check_length
from gossip.codecs.digest import chunk_digest
from gossip.errors import CodeError
from gossip.mixing.disagreement import PIECE_ELEMENTS, ratio, sample_slices, squared_norm
from gossip.mixing.flat import FlatModel, fragment_spans
from gossip.mixing.ledger import Ledger, NoLedger
from gossip.mixing.locks import FragmentLock, all_reading, all_writing
from gossip.mixing.outer import OuterStep, outer_step_
from gossip.mixing.staging import Staging, make_staging

PLAIN: Final = OuterStep()
"""Plain gossip averaging."""


class Replica:
    """See the module.

    Invariant: phi changes only by what the ledger is told, and outside a pending publish every
    correction moves theta and phi by the same amount. Raises UsageError when the model has fewer
    blocks than ``fragments``. phi starts as theta.
    """

    def __init__(
        self,
        model: FlatModel,
        outer: OuterStep = PLAIN,
        fragments: int = 1,
        ledger: Ledger | None = None,
        staging: Staging | None = None,
    ) -> None:
        self.model = model
        self.spans = fragment_spans(model.elements, fragments)
        self.ledger: Ledger = NoLedger() if ledger is None else ledger
        self._outer = outer
        self._locks = tuple(FragmentLock() for _ in self.spans)
        self._staging = make_staging(model) if staging is None else staging
        self._phi_N = self._staging.take(model.elements).zero_()
        self._m_n = torch.zeros(model.parameter_elements) if outer.a > 0 else None
        self._publishing = False
        self._trainer_n = torch.empty(0 if outer.plain else PIECE_ELEMENTS)
        self._reader_n = torch.empty(0)
        before_N = self._phi_N.clone() if self.ledger.keeps else None
        self._staging.capture()
        self._staging.captured(wait=True)
        self._follow(0, model.elements)
        if before_N is not None:
            self.ledger.adopt(before_N, self._phi_N)

    # ------------------------------------------------------------------ any thread

    def elements(self, fragment: int) -> int:
        """How long a fragment is, a multiple of 256."""
        start, stop = self.spans[fragment]
        return stop - start

    def take_n(self, fragment: int) -> Tensor:
        """A host vector to decode a correction of this fragment into; ``give_back`` it later."""
        return self._staging.take(self.elements(fragment))

    @property
    def takes_any_memory(self) -> bool:
        """Whether a correction may lie anywhere on the host, or only where ``take_n`` puts it."""
        return self._staging.takes_any_memory

    def give_back(self, c_n: Tensor) -> None:
        """The correction was applied, or will not be: its memory may be reused."""
        self._staging.give(c_n)

    # ------------------------------------------------------------------ the trainer's thread

    @property
    def phi_N(self) -> Tensor:
        """The anchor itself, to be read by the trainer's thread only."""
        return self._phi_N

    def publish(self) -> bool:
        """Take up what was trained; call it after the queued corrections were applied.

        Plain: phi = theta, and theta is not touched. Otherwise an outer step on the parameters,
        and phi = theta on the buffers. True: in effect now. False (accelerators): in effect when
        ``settle`` returns True; until then corrections must wait, training need not.
        """
        assert not self._publishing, "the last publish has not settled"
        self._staging.capture()
        self._publishing = True
        return self.settle()

    def settle(self, wait: bool = False) -> bool:
        """Finish a publish under way if its copy is here (with ``wait``: when it is).

        True when none is under way any more. Call it first in every hook.
        """
        if self._publishing:
            if not self._staging.captured(wait):
                return False
            self._publishing = False
            self._take_effect()
        return True

    def apply_correction(
        self, fragment: int, c_n: Tensor, signed_weight: float, exchange: Hashable = None
    ) -> None:
        """Add ``signed_weight * c_n`` to theta and phi; no publish may be under way.

        ``c_n`` must stay as it is until ``give_back``.
        """
        assert not self._publishing, "a publish is under way"
        start, stop = self.spans[fragment]
        assert c_n.numel() == stop - start, "the correction is not of this fragment"
        self._staging.add_(c_n, signed_weight, start)
        for lock, begin, end in self._pieces(start, stop):
            with lock.writing():
                self._phi_N[begin:end].add_(c_n[begin - start : end - start], alpha=signed_weight)
        if self.ledger.keeps:
            self.ledger.correct(exchange, start, c_n, signed_weight)

    def replace(self, snapshot_N: Tensor) -> None:
        """Adopt: theta = phi = snapshot, m = 0. A publish under way is dropped."""
        assert snapshot_N.numel() == self.model.elements, "the snapshot is of another model"
        before_N = self._phi_N.clone() if self.ledger.keeps else None
        self._publishing = False
        self._staging.replace_(snapshot_N)
        with all_writing(self._locks):
            self._phi_N.copy_(snapshot_N)
        if self._m_n is not None:
            self._m_n.zero_()
        if before_N is not None:
            self.ledger.adopt(before_N, self._phi_N)

    def _take_effect(self) -> None:
        before_N = self._phi_N.clone() if self.ledger.keeps else None
        if self._outer.plain:
            self._follow(0, self.model.elements)
        else:
            self._step(self.model.parameter_elements)
            self._follow(self.model.parameter_elements, self.model.elements)
        if before_N is not None:
            self.ledger.publish(before_N, self._phi_N)

    def _follow(self, start: int, stop: int) -> None:
        """Let phi be the captured theta over the range."""
        if (start, stop) == (0, self.model.elements):
            with all_writing(self._locks):
                traded_N = self._staging.trade(self._phi_N)
                if traded_N is not None:
                    self._phi_N = traded_N
                    return
        for lock, begin, end in self._pieces(start, stop):
            with lock.writing():
                self._staging.read_(self._phi_N[begin:end], begin)

    def _step(self, stop: int) -> None:
        """The outer step on the first ``stop`` elements."""
        for lock, begin, end in self._pieces(0, stop):
            theta_n = self._trainer_n[: end - begin]
            self._staging.read_(theta_n, begin)
            m_n = None if self._m_n is None else self._m_n[begin:end]
            with lock.writing():
                outer_step_(self._outer, theta_n, self._phi_N[begin:end], m_n)
            self._staging.move_(theta_n, begin)
        self._staging.flush(stop)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[FragmentLock, int, int]]:
        """Cut a range at the fragments' edges and into pieces that fit a cache."""
        for lock, (first, last) in zip(self._locks, self.spans, strict=True):
            low, high = max(first, start), min(last, stop)
            for begin in range(low, high, PIECE_ELEMENTS):
                yield lock, begin, min(begin + PIECE_ELEMENTS, high)

    # ------------------------------------------------------------------ the I/O thread

    def encode_fragment(self, fragment: int, codec: Codec, out: memoryview) -> list[bytes]:
        """Write phi's code into ``out``; the digest of each chunk, in order.

        The lock is held chunk by chunk, so a correction may fall between two chunks: the code is
        a little of both, which harms nothing, as both sides apply what the responder makes of it.
        Raises CodeError when phi is not finite.
        """
        start, stop = self.spans[fragment]
        assert len(out) == codec.code_bytes(stop - start), "out has a wrong length"
        digests: list[bytes] = []
        for elements, span in chunk_spans(codec, stop - start):
            with self._locks[fragment].reading():
                codec.encode(self._phi_N[start + elements.start : start + elements.stop], out[span])
            digests.append(chunk_digest(out[span]))
        return digests

    def difference_(self, fragment: int, elements: slice, est_n: Tensor, out_n: Tensor) -> None:
        """``out_n = phi - est_n`` over a slice of the fragment, under its lock."""
        start, _ = self.spans[fragment]
        with self._locks[fragment].reading():
            phi_n = self._phi_N[start + elements.start : start + elements.stop]
            torch.sub(phi_n, est_n, out=out_n)

    def make_correction(
        self,
        fragment: int,
        codec: Codec,
        code: memoryview,
        reply_codec: Codec,
        out: memoryview,
        clip_bound: float = math.inf,
    ) -> tuple[list[bytes], float]:
        """Write ``c = Q(clip * (phi - decode(code)))`` into ``out``.

        Returns the digests of c's chunks and clip, which is 1 unless the difference is longer
        than ``clip_bound`` (an fp32 norm, before rounding to the reply codec). Raises CodeError
        when the code is not one, phi is not finite, or the bound is negative or NaN.
        """
        if not clip_bound >= 0:
            raise CodeError(f"a clip bound of {clip_bound}")
        elements = self.elements(fragment)
        check_length(as_bytes_S(code), codec.code_bytes(elements), codec.name)
        if math.isinf(clip_bound) and CorrectionStream.fits(elements, codec, reply_codec):
            stream = CorrectionStream(self, fragment, codec, reply_codec, out)
            spans = enumerate(chunk_spans(codec, elements))
            return [stream.feed(index, code[span]) for index, (_, span) in spans], 1.0

        d_n = self.reader_scratch_n(elements)
        total = 0.0
        for part, span in chunk_spans(codec, elements):
            codec.decode(code[span], d_n[part])
            self.difference_(fragment, part, d_n[part], d_n[part])
            total += squared_norm(d_n[part])
        clip = clip_factor(math.sqrt(total), clip_bound)
        if clip < 1:
            d_n.mul_(clip)
        digests: list[bytes] = []
        for part, span in chunk_spans(reply_codec, elements):
            reply_codec.encode(d_n[part], out[span])
            digests.append(chunk_digest(out[span]))
        return digests, clip

    def decode_correction(
        self, fragment: int, codec: Codec, code: memoryview, out_n: Tensor
    ) -> None:
        """Read a whole correction into ``out_n``. Raises CodeError as ``Codec.decode`` does."""
        assert out_n.numel() == self.elements(fragment), "out_n is not of this fragment"
        decode_vector(codec, code, out_n)

    def snapshot(self, out: memoryview) -> list[bytes]:
        """Write all of phi as fp32 at one moment; the digest of each chunk, in order.

        All locks are held meanwhile, so a hook that wants to write waits for this one copy.
        Raises CodeError when phi is not finite.
        """
        codec = make_codec(SNAPSHOT_CODEC)
        spans = list(chunk_spans(codec, self.model.elements))
        assert len(out) == codec.code_bytes(self.model.elements), "out has a wrong length"
        with all_reading(self._locks):
            for elements, span in spans:
                codec.encode(self._phi_N[elements], out[span])
        return [chunk_digest(out[span]) for _, span in spans]

    def finite(self) -> bool:
        """Whether all of phi is finite; what is not is never sent, so it need not be asked."""
        for lock, begin, end in self._pieces(0, self.model.elements):
            with lock.reading():
                low, high = torch.aminmax(self._phi_N[begin:end])
            if not (math.isfinite(float(low)) and math.isfinite(float(high))):
                return False
        return True

    def swap_disagreement(self, fragment: int, c_n: Tensor) -> float:
        """What one swap tells of the swarm: ``norm(c) / norm(phi)`` over the fragment.

        c is the difference of two peers; over random partners its mean square is about twice the
        peers' mean square distance from their mean (exactly 2 N / (N - 1) times for N peers).
        Of a long fragment a sample is measured, as the whole would cost two passes over memory.
        """
        start, _ = self.spans[fragment]
        size, distance = 0.0, 0.0
        for part in sample_slices(c_n.numel()):
            with self._locks[fragment].reading():
                size += squared_norm(self._phi_N[start + part.start : start + part.stop])
            distance += squared_norm(c_n[part])
        return ratio(math.sqrt(distance), math.sqrt(size))

    def reader_scratch_n(self, elements: int) -> Tensor:
        """Memory for the I/O thread's next computation: kept, and the same at every call."""
        if self._reader_n.numel() < elements:
            self._reader_n = torch.empty(elements)
        return self._reader_n[:elements]


def clip_factor(norm: float, bound: float) -> float:
    """At most 1, and such that ``clip * norm <= bound``. Raises CodeError on a norm not finite."""
    if not math.isfinite(norm):
        raise CodeError("the difference is not finite")
    if norm <= bound:
        return 1.0
    clip = bound / norm
    # Too small to be exact, it could leave the norm above the bound; in fp32 it is zero anyway.
    return clip if clip >= sys.float_info.min else 0.0


class CorrectionStream:
    """A correction made chunk by chunk, as the chunks of the other's code arrive, in any order.

    Only for unclipped corrections between codecs that cut the fragment alike (see ``fits``).
    """

    def __init__(
        self,
        replica: Replica,
        fragment: int,
        codec: Codec,
        reply_codec: Codec,
        out: memoryview,
    ) -> None:
        self._replica = replica
        self._fragment = fragment
        self._codec = codec
        self._reply_codec = reply_codec
        self._out = out
        self._elements = replica.elements(fragment)
        assert self.fits(self._elements, codec, reply_codec), "the chunks do not match"
        assert len(out) == reply_codec.code_bytes(self._elements), "out has a wrong length"

    @staticmethod
    def fits(elements: int, codec: Codec, reply_codec: Codec) -> bool:
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
        scratch_n = self._replica.reader_scratch_n(elements)
        est_n = self._codec.in_place(code_chunk, elements)
        if est_n is None:
            est_n = scratch_n
            self._codec.decode(code_chunk, est_n)
        c_n = self._reply_codec.in_place(out, elements)
        if c_n is None:
            self._replica.difference_(self._fragment, part, est_n, scratch_n)
            self._reply_codec.encode(scratch_n, out)
        else:
            # Not finite if either of its terms is not, so this looks at both.
            self._replica.difference_(self._fragment, part, est_n, c_n)
            check_finite(c_n, self._reply_codec.name)
        return chunk_digest(out)
