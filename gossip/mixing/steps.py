"""The steps of wrap-around codes: how fine a peer rounds each block of its anchor.

A step must be fine, as half of it is the code's error, and coarse enough that a code of b bits
tells apart all values within the difference of two peers, 2^b steps wide. So each peer learns
one step per block of 64 elements from the corrections of its swaps, in either role.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

import torch
from torch import Tensor

from gossip.codecs import STEP_ELEMENTS, Codec
from gossip.codecs.blocks import GROWTH, STEP_OCTAVE_MIN, STEP_RESOLUTION, next_step
from gossip.mixing.disagreement import PIECE_ELEMENTS
from gossip.mixing.scratch import Scratch

FIRST_CODEC: Final = "int8"
"""What an anchor is offered in while nothing is known of its distance to others."""

PEAKS: Final = {"int2": 1.72, "sign": 3.26}
"""Codecs that level a block out, and how many times larger than all they tell of it its largest
value is: of 64 normal values 2.598 sigma, told as 1.510 sigma or as their mean of 0.798 sigma."""

SHARE_MIN: Final = 2.0**-4
"""No step is below this share of its fragment's mean. Where two peers agreed for long (rows of an
embedding that were not trained) steps would vanish, and take a swap for each doubling when the
block moves again; so they need four at most, and the error stays far below the others'."""

FORGET_SHARE: Final = 0.25
"""When more than this share of a code's blocks wrapped, its sender's steps are forgotten and the
next code is a plain one. While the rate warms up, peers part faster than steps grow: doubling alone
left half of all blocks unmixed for the first fifth of a run, and cost 4 % of loss. With a tenth
instead, AdamW's large differences in few elements made a sixth of all codes plain ones."""

CLIP_MIN: Final = 2.0**-20
"""A correction shortened further than this says nothing of the difference: it may round to 0."""

REACH: Final = 16.0
"""Peers hardly differ by more than this many times their largest value."""

STEP_MIN: Final = 2.0**STEP_OCTAVE_MIN
"""Of a block of zeros: what is below it is sent as it, so doubling has to start there."""


def blocks_of(part: slice) -> slice:
    """The blocks of 64 that a slice of elements covers."""
    return slice(part.start // STEP_ELEMENTS, part.stop // STEP_ELEMENTS)


def block_peaks_(values_N: Tensor, out_B: Tensor, scratch: Scratch) -> None:
    """The largest absolute value of each block of 64, in pieces that fit a cache."""
    for start in range(0, values_N.numel(), PIECE_ELEMENTS):
        piece_n = values_N[start : start + PIECE_ELEMENTS]
        abs_n = torch.abs(piece_n, out=scratch.take("peaks", piece_n.numel()))
        blocks = blocks_of(slice(start, start + piece_n.numel()))
        torch.amax(abs_n.view(-1, STEP_ELEMENTS), dim=1, out=out_B[blocks])


def bound_steps_(step_B: Tensor, values_N: Tensor, bits: int, scratch: Scratch) -> None:
    """Bring steps within what the values they will code allow, in place.

    At least STEP_RESOLUTION times the block's largest value. At most so large that a code reaches
    REACH times as far as the largest value of all: a neighbor that lies about wrapped blocks can
    make the code say next to nothing, but only until the steps have come down from there.
    Steps are left alone where a value is not finite: the codec refuses those.
    """
    peak_B = scratch.take("block peaks", step_B.numel())
    block_peaks_(values_N, peak_B, scratch)
    largest = float(peak_B.amax())
    if math.isfinite(largest):
        step_B.clamp_(max=REACH * largest / (1 << (bits - 1)))
        torch.maximum(step_B, peak_B.mul_(STEP_RESOLUTION).clamp_(min=STEP_MIN), out=step_B)


class Sighting:
    """What the corrections of one swap show of a fragment: B blocks of 64.

    ``peak_B``: the largest difference. ``skipped_B``: the receiver could not compare.
    """

    def __init__(self, elements: int, scratch: Scratch) -> None:
        self.peak_B = torch.zeros(elements // STEP_ELEMENTS)
        self.skipped_B = torch.zeros(elements // STEP_ELEMENTS, dtype=torch.bool)
        self._scratch = scratch

    def note(self, part: slice, codec: Codec, code: memoryview, c_n: Tensor) -> None:
        """Take in one chunk: the slice of the fragment it covers, its code and its values."""
        assert c_n.numel() == part.stop - part.start, "the values are not of this slice"
        peak_B = self.peak_B[blocks_of(part)]
        block_peaks_(c_n, peak_B, self._scratch)
        peak_B.mul_(PEAKS.get(codec.name, 1.0))
        if codec.carries_mask:
            self.skipped_B[blocks_of(part)] = codec.skipped(code, c_n.numel())


class Growing:
    """Whether the differences of a fragment grow from swap to swap, as they do while the rate warms
    up: then the next one will be larger again.

    Partners differ: only what is larger than at each of the last two swaps has grown.
    """

    def __init__(self) -> None:
        self._before = (0.0, 0.0)

    def note(self, peak_B: Tensor, skipped_B: Tensor) -> float:
        """By how much the finite peaks that could be read grew on average, from 1 to GROWTH."""
        if bool(skipped_B.all()):
            return 1.0
        now = float(peak_B[~skipped_B].mean(dtype=torch.float64))
        before = max(self._before)
        self._before = (self._before[1], now)
        return min(max(now / before, 1.0), GROWTH) if before > 0 else 1.0


class StepBook:
    """All steps of one peer, for codes of ``bits``; of one thread.

    Invariant: every step is finite and not negative. It is brought within the bounds of the values
    when they are encoded (``bounded_``), so a neighbor's lies cannot make it useless for ever.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._step_B: dict[int, Tensor] = {}
        self._growing: dict[int, Growing] = defaultdict(Growing)

    def steps_of(self, fragment: int) -> Tensor | None:
        """The steps for the next code of this fragment, to be used in place; None: not met yet."""
        return self._step_B.get(fragment)

    def learn(self, fragment: int, seen: Sighting, own_code: bool, clip: float = 1.0) -> None:
        """Take in a swap's correction; ``own_code``: it answers a code of this peer.

        ``clip`` is the factor by which the difference was shortened: a step has to reach all of it.

        Blocks of its own that were skipped have wrapped, so their steps double; those of a
        partner's code say nothing of this peer's steps. If more than FORGET_SHARE of its own have,
        the peer has moved too far away: the steps are forgotten, and the next code is a plain one.
        What it shows is still compared with what was read last: it grew.
        """
        blocks = seen.skipped_B.numel()
        skipped = int(seen.skipped_B.sum())
        if own_code and skipped > FORGET_SHARE * blocks:
            self._step_B.pop(fragment, None)
            return
        if clip < CLIP_MIN:
            return
        step_B = self._step_B.get(fragment)
        if step_B is None:
            if skipped:
                return
            step_B = torch.zeros(blocks)
        peak_B = (seen.peak_B / clip).clamp_(max=torch.finfo(torch.float32).max)
        growth = self._growing[fragment].note(peak_B, seen.skipped_B)
        new_B = next_step(step_B, peak_B * growth, self._bits, seen.skipped_B)
        if not own_code:
            new_B = torch.where(seen.skipped_B, step_B, new_B)
        new_B.clamp_(max=torch.finfo(torch.float32).max)
        new_B.clamp_(min=SHARE_MIN * float(new_B.mean(dtype=torch.float64)))
        self._step_B[fragment] = new_B

    def forget_all(self) -> None:
        """This peer is another model now: what it knew of its distance to others is void."""
        self._step_B.clear()
        self._growing.clear()
