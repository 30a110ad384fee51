"""What a swap may leave undone, element by element: what its codes cannot say, and no more.

Shape letters: B blocks of 64 elements. A swap of ``first`` and ``second``, whose anchors differ by
``d = second - first``, moves them by ``c / 2`` and ``-c / 2``: to their mean, but for half of
``c - d``. With ``est`` what the first one's code says of it, ``c`` is ``second - est`` rounded by
the reply's codec, so ``c - d`` is at most

- what the offer is rounded by: nothing in fp32, half a level in int8, half a step in wrap-around
  codes, of the steps that were sent (their first bytes);
- and what the reply is rounded by, where what it rounds is ``d`` or larger by the first.

A wrap-around code of b bits is read right where the anchors are less than ``2^(b - 1) - 1/2`` steps
apart. Where one element of a block is farther it is read as ``2^(b - 1)`` steps away, or all of
``d`` is left; the reply says so. Where two are, all is left. Of three and more the checksum tells
no more than by chance, and what is read may be that far off in the wrong direction.

So what is left in all is as small as steps are fine. They are learned: ``Memory`` bounds them from
both sides by the differences that a peer's swaps have shown, each swap's less by DECAY with every
swap after it.
No constant here was measured; fp32 rounds all of this by a few units of its last place. All these
bounds are attained: of 414 drawn swarms (293,000 rounds) the worst came to 1.000 of them with
wrap-around codes (the median round to 0.95 with wrap4), to 0.9995 with int8, and none beyond.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossip.codecs import STEP_ELEMENTS, OfferCodec, WrapCodec
from gossip.codecs.blocks import (
    DECAY,
    GROWTH,
    LLOYD_MAX,
    SAFETY,
    STEP_RESOLUTION,
    STEPS_PER_OCTAVE,
    step_table,
)
from gossip.mixing.steps import FORGET_SHARE, PEAKS, REACH, SHARE_MIN

BF16 = 1 + 2.0**-7
"""Scales of replies are rounded up to bf16."""

FP32 = 2.0**-21
"""Of the largest value: what fp32 rounds by on the way from two anchors to two others."""

CHANCE_COUNT = 3
"""A checksum always differs where fewer elements have wrapped than these; see ``checksum_B``."""

TABLE = step_table()


def peak_B(x_n: Tensor) -> Tensor:
    """The largest magnitude of each block."""
    return x_n.abs().view(-1, STEP_ELEMENTS).amax(dim=1)


def spread_n(x_B: Tensor) -> Tensor:
    """Each block's value, for each of its elements."""
    return x_B.repeat_interleave(STEP_ELEMENTS)


def sent_step_B(offer: OfferCodec, code: bytearray, elements: int) -> Tensor:
    """The steps that a code was made with; zero of one that has none."""
    blocks = elements // STEP_ELEMENTS
    if not isinstance(offer, WrapCodec):
        return torch.zeros(blocks, dtype=torch.float64)
    return TABLE[torch.frombuffer(code, dtype=torch.uint8)[:blocks].long()].double()


def undone_at_most_n(
    offer: OfferCodec,
    code: bytearray,
    reply: str,
    skipped_B: Tensor,
    anchors: tuple[Tensor, Tensor],
) -> Tensor:
    """A bound of ``abs(c - d)`` for the anchors (fp64) of the first and the second; see the
    module. ``skipped_B``: which blocks the reply calls skipped."""
    first_n, second_n = anchors
    d_n = second_n - first_n
    step_B = sent_step_B(offer, code, d_n.numel())
    rounded_n = _offer_rounded_n(offer, spread_n(step_B), first_n)
    most_n = rounded_n + _reply_rounded_n(reply, d_n, rounded_n)
    if isinstance(offer, WrapCodec):
        step_n, reach = spread_n(step_B), 2.0 ** (offer.bits - 1)
        far_n = d_n.abs() > (reach - 0.5) * (1 - FP32) * step_n
        far_B = far_n.view(-1, STEP_ELEMENTS).sum(dim=1)
        most_n += (d_n.abs() - reach * step_n - rounded_n).clamp_(min=0)
        misread_n = d_n.abs() + reach * step_n
        misread_n += _reply_rounded_n(reply, torch.zeros_like(d_n), reach * step_n)
        most_n = torch.where(spread_n(far_B >= CHANCE_COUNT), misread_n, most_n)
        most_n = torch.where(spread_n(skipped_B & (far_B > 0)), d_n.abs(), most_n)
    return most_n + FP32 * torch.maximum(first_n.abs(), second_n.abs()).amax()


def _offer_rounded_n(offer: OfferCodec, step_n: Tensor, first_n: Tensor) -> Tensor:
    if isinstance(offer, WrapCodec):
        return step_n / 2
    if offer.name == "int8":
        return _levels_n(first_n.abs(), 256, 127)
    assert offer.name == "fp32", "no bound is known of this codec"
    return torch.zeros_like(first_n)


def _reply_rounded_n(reply: str, d_n: Tensor, more_n: Tensor) -> Tensor:
    """Of what is ``d_n``, or differs from it by up to ``more_n``."""
    if reply == "fp32":
        return torch.zeros_like(d_n)
    if reply == "int8":
        return _levels_n(d_n.abs() + more_n, 256, 127)
    if reply == "int4":
        return BF16 * _levels_n(d_n.abs() + more_n, STEP_ELEMENTS, 7)
    assert reply == "int2", "no bound is known of this codec"
    inner, outer, edge = LLOYD_MAX
    mean_B = d_n.square().view(-1, STEP_ELEMENTS).mean(dim=1).sqrt()
    more_B = peak_B(more_n)
    low_B, high_B = (mean_B - more_B).clamp(min=0), BF16 * (mean_B + more_B)
    beyond_B = peak_B(d_n) + more_B - outer * low_B
    return spread_n(torch.maximum(max(edge - inner, outer - edge) * high_B, beyond_B))


def _levels_n(x_n: Tensor, elements: int, top: int) -> Tensor:
    """Half a level of each block of so many elements, with the largest value at the top."""
    half_B = x_n.view(-1, elements).amax(dim=1) / top / 2
    return half_B.repeat_interleave(elements)


class Memory:
    """The differences that one peer's swaps of a fragment have shown, and so how far its codes of
    so many bits may reach, and must.

    They reach SAFETY times the largest difference of a block, and up to GROWTH times that while
    those grow; with every swap that is less by DECAY. A skipped block of its own code was farther
    away than that reached, and its step grows by GROWTH; of a partner's it says nothing. No block
    reaches less far than SHARE_MIN of the mean. When more than FORGET_SHARE of its own code was
    skipped nothing is remembered, nor by who became another, until a swap skips nothing.
    """

    def __init__(self, blocks: int, bits: int, reply: str) -> None:
        self._most_B = torch.zeros(blocks, dtype=torch.float64)
        self._least_B = torch.zeros(blocks, dtype=torch.float64)
        self._steps = 2.0 ** (bits - 1)
        self._safety = SAFETY * PEAKS.get(reply, 1.0)

    def used(self, offer: OfferCodec, code: bytearray, values_n: Tensor) -> tuple[float, float]:
        """How far a code of these values reaches, as the largest share of how far it may; and how
        far it must, as the largest share of that. Both are at most 1, but for what fp32 rounds.
        Steps travel as whole powers of 2^(1/4), and are never below what keeps quotients exact."""
        if not isinstance(offer, WrapCodec):
            return 0.0, 0.0
        reach_B = self._steps * sent_step_B(offer, code, values_n.numel())
        finest_B = self._steps * STEP_RESOLUTION * peak_B(values_n)
        most_B = 2 ** (1 / STEPS_PER_OCTAVE) * torch.maximum(self._most_B, finest_B)
        self._least_B.clamp_(max=REACH * float(values_n.abs().amax()))
        return float((reach_B / most_B).amax()), float((self._least_B / reach_B).amax())

    def note(
        self, c_n: Tensor, anchors: tuple[Tensor, Tensor], skipped_B: Tensor, own: bool
    ) -> None:
        """A swap that answers a code of this peer's (``own``), or of its partner's."""
        if own and float(skipped_B.double().mean()) > FORGET_SHARE:
            self.forget()
            return
        shown_B = self._safety * peak_B(c_n).double()
        beyond_B = peak_B(anchors[1] - anchors[0]) * self._steps / (self._steps - 0.5)
        skips = GROWTH if own else 1.0
        most_B = torch.maximum(DECAY * self._most_B, GROWTH * shown_B)
        if own:
            most_B = torch.where(skipped_B, torch.maximum(most_B, GROWTH * beyond_B), most_B)
        else:
            most_B = torch.where(skipped_B, self._most_B, most_B)
        self._most_B = most_B.clamp_(min=SHARE_MIN * float(most_B.mean()))
        if bool(self._least_B.any()) or not bool(skipped_B.any()):
            least_B = torch.maximum(DECAY * self._least_B, shown_B)
            self._least_B = torch.where(skipped_B, skips * self._least_B, least_B)

    def forget(self) -> None:
        """This peer became another."""
        self._most_B.zero_()
        self._least_B.zero_()
