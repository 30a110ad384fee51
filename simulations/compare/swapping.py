"""One swap's bytes, as the wire's codecs make them, between rows of a stacked tensor.

Per row and block of 64 a step is learned, as in real peers: from the corrections of its swaps in
either role; doubled where its own code wrapped; all forgotten when too many did, so that the next
offer is a plain int8 code again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from gossip.codecs import (
    STEP_ELEMENTS,
    WRAP_CODECS,
    Codec,
    WrapCodec,
    check_pair,
    chunk_spans,
    make_codec,
    make_wrap_codec,
)
from gossip.codecs.blocks import next_step
from gossip.mixing.steps import FIRST_CODEC, FORGET_SHARE, PEAKS, SHARE_MIN, Growing

MOMENTUM_SHARE_MIN: Final = 2.0**-12
"""SHARE_MIN of momentum: gradients of layers differ by far more than their parameters do."""


class Swapper:
    """``share_min``: no step is below this share of its vector's mean. Raises UsageError for codecs
    that do not fit together."""

    def __init__(
        self,
        values_PN: Tensor,
        offer: str,
        reply: str,
        seed: int | None,
        share_min: float = SHARE_MIN,
    ) -> None:
        check_pair(offer, reply)
        self._wrap: WrapCodec | None = make_wrap_codec(offer) if offer in WRAP_CODECS else None
        self._plain: Codec = make_codec(FIRST_CODEC if self._wrap else offer)
        self._reply: Codec = make_codec(reply)
        self._peak = PEAKS.get(reply, 1.0)
        self._step_PB = torch.zeros(values_PN.shape[0], values_PN.shape[1] // STEP_ELEMENTS)
        self._growing: dict[tuple[int, int], Growing] = defaultdict(Growing)
        self._seed = seed
        self._share_min = share_min
        self._swaps = 0
        self._compared = 0
        self._wrapped = 0

    @property
    def wrapped_share(self) -> float:
        """Of all blocks coded against a neighbor's, those that wrapped."""
        return self._wrapped / max(1, self._compared)

    def forget(self, row: int) -> None:
        """The peer is another model now."""
        self._step_PB[row].zero_()
        for known in [key for key in self._growing if key[0] == row]:
            del self._growing[known]

    def swap_bytes(self, first: int, start: int, stop: int) -> int:
        """Both legs of a swap that ``first`` opens now."""
        offer: Codec | WrapCodec = self._plain
        if self._wrap is not None and self._knows(first, start, stop):
            offer = self._wrap
        return offer.code_bytes(stop - start) + self._reply.code_bytes(stop - start)

    def correction_n(
        self,
        pair: tuple[int, int],
        start: int,
        stop: int,
        x_n: Tensor,
        y_n: Tensor,
        clip: Callable[[Tensor], float],
    ) -> tuple[Tensor, float]:
        """Returns c = Q(clip (y - est(x))), as both sides decode it, and that clip; the steps of
        both learn from it. ``clip`` is what both sides allow of a difference, at most 1."""
        self._swaps += 1
        x_n, y_n = x_n.contiguous(), y_n.contiguous()
        est_n = torch.empty_like(x_n)
        wrapped_B = torch.zeros(x_n.numel() // STEP_ELEMENTS, dtype=torch.bool)
        own_code = self._wrap is not None and self._knows(pair[0], start, stop)
        if own_code:
            assert self._wrap is not None
            self._read_wrap(self._wrap, pair[0], start, (x_n, y_n, est_n, wrapped_B))
        else:
            self._through(self._plain, x_n, est_n, None)
        d_n, c_n = y_n - est_n, torch.empty_like(y_n)
        factor = clip(d_n)
        d_n.mul_(factor)
        self._through(self._reply, d_n, c_n, wrapped_B if own_code else None)
        if self._wrap is not None:
            self._learn(pair, start, stop, c_n, wrapped_B, own_code)
        return c_n, factor

    def _knows(self, row: int, start: int, stop: int) -> bool:
        return bool(self._step_PB[row, start // STEP_ELEMENTS : stop // STEP_ELEMENTS].any())

    def _read_wrap(
        self, codec: WrapCodec, row: int, start: int, tensors: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> None:
        x_n, y_n, est_n, wrapped_B = tensors
        for part, span in chunk_spans(codec, x_n.numel()):
            code = bytearray(span.stop - span.start)
            blocks = slice(part.start // STEP_ELEMENTS, part.stop // STEP_ELEMENTS)
            first = start // STEP_ELEMENTS
            step_B = self._step_PB[row, first + blocks.start : first + blocks.stop]
            codec.encode(x_n[part], step_B, code, self._seed_of(part.start, 0))
            codec.decode(code, y_n[part], est_n[part], wrapped_B[blocks])

    def _through(self, codec: Codec, from_n: Tensor, to_n: Tensor, skip_B: Tensor | None) -> None:
        for part, span in chunk_spans(codec, from_n.numel()):
            code = bytearray(span.stop - span.start)
            blocks = slice(part.start // STEP_ELEMENTS, part.stop // STEP_ELEMENTS)
            marks_B = None if skip_B is None else skip_B[blocks]
            codec.encode(from_n[part], code, self._seed_of(part.start, 1), marks_B)
            codec.decode(code, to_n[part])

    def _learn(
        self,
        pair: tuple[int, int],
        start: int,
        stop: int,
        c_n: Tensor,
        wrapped_B: Tensor,
        own_code: bool,
    ) -> None:
        blocks = slice(start // STEP_ELEMENTS, stop // STEP_ELEMENTS)
        assert self._wrap is not None
        if own_code:
            self._compared += wrapped_B.numel()
            self._wrapped += int(wrapped_B.sum())
        peak_B = c_n.view(-1, STEP_ELEMENTS).abs().amax(dim=1) * self._peak
        for row in pair:
            mine = own_code and row == pair[0]
            step_B = self._step_PB[row, blocks]
            if mine and float(wrapped_B.float().mean()) > FORGET_SHARE:
                step_B.zero_()
                continue
            growth = self._growing[row, start].note(peak_B, wrapped_B)
            new_B = next_step(step_B, peak_B * growth, self._wrap.bits, wrapped_B)
            if not mine:
                new_B = torch.where(wrapped_B, step_B, new_B)
            step_B.copy_(new_B.clamp_(min=self._share_min * float(new_B.mean())))

    def _seed_of(self, start: int, leg: int) -> int | None:
        return None if self._seed is None else self._seed + 4 * self._swaps + 2 * start + leg
