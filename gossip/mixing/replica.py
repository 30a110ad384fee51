"""One peer's replica: live parameters theta, the fp32 anchor phi on the host, momentum m.

Two threads meet here. The trainer's thread, inside the optimizer hook, is the only writer of
theta, phi and m (gossip/README.md, rule 4): ``publish``, ``settle``, ``apply_correction``,
``replace``. The I/O thread reads phi under the fragment's lock, one chunk at a time:
``encode_fragment``, ``encode_wrapped``, ``compare_`` (for corrections), ``snapshot``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Final

import torch
from torch import Tensor

from gossip.codecs import (
    SNAPSHOT_CODEC,
    STEP_ELEMENTS,
    Codec,
    OfferCodec,
    WrapCodec,
    chunk_spans,
    decode_vector,
    make_codec,
)
from gossip.codecs.digest import chunk_digest
from gossip.mixing.correction import make_correction
from gossip.mixing.disagreement import PIECE_ELEMENTS, ratio, sample_slices, squared_norm
from gossip.mixing.dither import Seeds
from gossip.mixing.flat import FlatModel, fragment_spans
from gossip.mixing.ledger import Ledger, NoLedger
from gossip.mixing.locks import FragmentLock, all_reading, all_writing
from gossip.mixing.outer import OuterStep, outer_step_
from gossip.mixing.scratch import Scratch
from gossip.mixing.staging import Staging, make_staging
from gossip.mixing.steps import blocks_of, bound_steps_

PLAIN: Final = OuterStep()
"""Plain gossip averaging."""


class Replica:
    """See the module.

    Invariant: phi changes only by what the ledger is told, and outside a pending publish every
    correction moves theta and phi by the same amount. Raises UsageError when the model has fewer
    blocks than ``fragments``. phi starts as theta. With ``measures``, ``update_norm`` is how far
    training alone moved the parameters between the last two publishes (NaN before the first).
    """

    def __init__(
        self,
        model: FlatModel,
        outer: OuterStep = PLAIN,
        fragments: int = 1,
        ledger: Ledger | None = None,
        staging: Staging | None = None,
        measures: bool = False,
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
        self._measures = measures
        self.update_norm = math.nan
        self._trainer_n = torch.empty(0 if outer.plain and not measures else PIECE_ELEMENTS)
        self.scratch = Scratch()
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
        if self._measures:
            self.update_norm = self._own_update()
        before_N = self._phi_N.clone() if self.ledger.keeps else None
        if self._outer.plain:
            self._follow(0, self.model.elements)
        else:
            self._step(self.model.parameter_elements)
            self._follow(self.model.parameter_elements, self.model.elements)
        if before_N is not None:
            self.ledger.publish(before_N, self._phi_N)

    def _own_update(self) -> float:
        """How far training moved the parameters since the last publish: norm(theta - phi)."""
        total = 0.0
        for _, begin, end in self._pieces(0, self.model.parameter_elements):
            theta_n = self._trainer_n[: end - begin]
            self._staging.read_(theta_n, begin)
            total += squared_norm(theta_n.sub_(self._phi_N[begin:end]))
        return math.sqrt(total)

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

    def encode_fragment(
        self, fragment: int, codec: Codec, out: memoryview, seeds: Seeds | None = None
    ) -> list[bytes]:
        """Write phi's code into ``out``; the digest of each chunk, in order.

        The lock is held chunk by chunk, so a correction may fall between two chunks: the code is
        a little of both, which harms nothing, as both sides apply what the responder makes of it.
        With ``seeds`` the codec rounds at random where it can. Raises CodeError when phi is not
        finite.
        """
        start, stop = self.spans[fragment]
        assert len(out) == codec.code_bytes(stop - start), "out has a wrong length"
        digests: list[bytes] = []
        for index, (part, span) in enumerate(chunk_spans(codec, stop - start)):
            seed = None if seeds is None else seeds(index)
            with self._locks[fragment].reading():
                codec.encode(self._phi_N[start + part.start : start + part.stop], out[span], seed)
            digests.append(chunk_digest(out[span]))
        return digests

    def encode_wrapped(
        self,
        fragment: int,
        codec: WrapCodec,
        step_B: Tensor,
        out: memoryview,
        seeds: Seeds | None = None,
    ) -> list[bytes]:
        """Write phi's wrap-around code into ``out``; otherwise as ``encode_fragment``.

        ``step_B``, one step per block of 64, is first brought within the bounds of the values, in
        place (``bound_steps_``), so that what is learned of it later starts from what was used.
        """
        start, stop = self.spans[fragment]
        assert len(out) == codec.code_bytes(stop - start), "out has a wrong length"
        digests: list[bytes] = []
        for index, (part, span) in enumerate(chunk_spans(codec, stop - start)):
            step_b = step_B[blocks_of(part)]
            seed = None if seeds is None else seeds(index)
            with self._locks[fragment].reading():
                phi_n = self._phi_N[start + part.start : start + part.stop]
                bound_steps_(step_b, phi_n, codec.bits, self.scratch)
                codec.encode(phi_n, step_b, out[span], seed)
            digests.append(chunk_digest(out[span]))
        return digests

    def make_correction(
        self,
        fragment: int,
        codec: OfferCodec,
        code: memoryview,
        reply_codec: Codec,
        out: memoryview,
        clip_bound: float = math.inf,
        seeds: Seeds | None = None,
    ) -> tuple[list[bytes], float]:
        """Write ``c = Q(clip * (phi - decode(code)))`` into ``out``.

        Returns the digests of c's chunks and clip, which is 1 unless the difference is longer
        than ``clip_bound`` (an fp32 norm, before rounding to the reply codec). With ``seeds`` the
        reply codec rounds at random. Raises CodeError when the code is not one, phi is not finite,
        or the bound is negative or NaN.
        """
        codecs = (codec, code, reply_codec)
        return make_correction(self, fragment, *codecs, out, clip_bound, seeds)

    def compare_(
        self, fragment: int, part: slice, codec: OfferCodec, code: memoryview, out_n: Tensor
    ) -> Tensor | None:
        """``out_n = phi - est`` over a slice of the fragment, est being what ``code`` says.

        A wrap-around code is read against phi, and the difference formed, from one copy of phi:
        a correction applied between would be taken for a difference. Returns the marks of the
        blocks that could not be compared, whose difference is zero (B of them; memory of the I/O
        thread, until the next call), or None for a code that never wraps.
        Raises CodeError when the code is not one; ``out_n`` is then undefined.
        """
        start, _ = self.spans[fragment]
        here = slice(start + part.start, start + part.stop)
        if isinstance(codec, WrapCodec):
            own_n = self.scratch.take("own", out_n.numel())
            wrapped_B = self.scratch.take("wrapped", out_n.numel() // STEP_ELEMENTS, torch.bool)
            with self._locks[fragment].reading():
                own_n.copy_(self._phi_N[here])
            codec.decode(code, own_n, out_n, wrapped_B)
            torch.sub(own_n, out_n, out=out_n)
            return wrapped_B
        est_n = codec.in_place(code, out_n.numel())
        if est_n is None:
            codec.decode(code, out_n)
            est_n = out_n
        with self._locks[fragment].reading():
            torch.sub(self._phi_N[here], est_n, out=out_n)
        return None

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
