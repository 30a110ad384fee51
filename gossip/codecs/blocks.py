"""What each code does to a block of values: pure functions of tensors, the tested reference.

Shape letters: B blocks of E elements. Every function takes any number of blocks, so a lab may
stack the vectors of many peers. The codecs of the wire (``small``, ``wrap``) pack what these
return; the compiled kernels (``kernels``) repeat them bit for bit.

Rounding is to nearest, ties to even, or stochastic: ``floor(y + u)`` with u uniform in [0, 1)
(``dither_BE``), which is right on average.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

SMALL_ELEMENTS: Final = 64
"""Elements per block of all codes below 8 bits: one outlier spoils 63 neighbors."""

STEP_RESOLUTION: Final = 2.0**-21
"""A step is at least this share of its block's largest value: quotients then stay within 2^21."""

STEPS_PER_OCTAVE: Final = 4
STEP_OCTAVE_MIN: Final = -48
"""Steps travel as one byte k, for 2^(k/4 - 48): from 3.6e-15 to 55,000 in ratios of 1.19."""

QUOTIENT_MAX: Final = 2.0**22
"""Up to here fp32 and the rounding trick of the compiled loops are exact. Where the receiver's own
value lies farther off, it cannot be compared: the block is skipped."""

SAFETY: Final = 1.4
"""A code reaches so many times as far as the largest difference last seen in the block. Of normal
differences one block in 30 to 90 then has an element that wraps, and nearly all are put right;
where it reaches twice as far, a swap in 3 + 2 bits leaves 60 % more. Measured on a transformer,
where large differences are more frequent: with Muon 1 % of blocks are skipped after warm-up, and
5 % with 1.25."""

PUT_RIGHT_REACH: Final = 1.25
"""A checksum that names one element is believed if that is at most so many times as far off as a
code reaches. Of normal values beyond 3.6 deviations 3 in 100 are beyond that too. Where three have
wrapped, one block in 270 is believed to have one."""

OUTER_COUNT: Final = 16
"""And if no more elements of the block than these are read in the outer half of a code's reach: of
normal values 3 to 5 of 64 are, of values that wrapped all over, 32 with a deviation of 4."""

DECAY: Final = 0.9
"""A step shrinks at most so fast per swap; it grows at once. Peers come closer as the rate falls:
with 0.95 steps stayed a third too large, with 0.8 they followed chance."""

GROWTH: Final = 2.0
"""A skipped block's step grows by this."""

SCALE_MIN: Final = 2.0**-100
"""A block with a smaller scale counts as zeros: 1 / scale must be finite and normal."""

INT4_TOP: Final = 7
INT8_TOP: Final = 127

LLOYD_MAX: Final = (0.4528, 1.510, 0.9816)
"""Inner level, outer level and threshold of the best four-level code of a normal distribution, in
standard deviations (Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6, 1960)."""

TOP_COUNT: Final = 6
"""Of 64 values those that ``topk8`` keeps: a tenth."""


def step_table() -> Tensor:
    """The 256 steps a byte may stand for, rising."""
    exponent = torch.arange(256, dtype=torch.float64) / STEPS_PER_OCTAVE + STEP_OCTAVE_MIN
    return torch.exp2(exponent).float()


def step_index_B(step_B: Tensor, largest_B: Tensor, table: Tensor) -> Tensor:
    """The byte (int64) of the smallest step in the table that is at least ``step_B`` and at least
    the block's largest value times STEP_RESOLUTION; the last one if none is. ``step_B`` that is
    not positive or not a number counts as the smallest."""
    wanted_B = torch.maximum(torch.nan_to_num(step_B, nan=0.0), largest_B * STEP_RESOLUTION)
    return torch.searchsorted(table, wanted_B.contiguous()).clamp(max=table.numel() - 1)


def dither_BE(seed: int, blocks: int, elements: int, first: int = 0) -> Tensor:
    """Uniform in [0, 1), multiples of 2^-24: the same on every machine for a seed (32 bits) and an
    element's place, counted from ``first``.

    A counter run through an integer hash of two rounds (Wellons, "Prospecting for hash
    functions", 2018: lowbias32).
    """
    place = torch.arange(first, first + blocks * elements, dtype=torch.int64)
    x = (place * 0x9E3779B1 + seed) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return ((x >> 8).float() * 2.0**-24).view(blocks, elements)


def rounded_BE(y_BE: Tensor, dither: Tensor | None) -> Tensor:
    """To whole numbers, as fp32."""
    return torch.round(y_BE) if dither is None else torch.floor(y_BE + dither)


# The wrap-around code.


def quotients_BE(x_BE: Tensor, step_B: Tensor, dither: Tensor | None = None) -> Tensor:
    """``round(x / step)`` as int32 (x times the fp32 reciprocal, as the kernels do it)."""
    y_BE = x_BE * step_B.reciprocal()[:, None]
    return rounded_BE(y_BE, dither).to(torch.int32)


def wrap_code_BE(quotient_BE: Tensor, bits: int) -> Tensor:
    """The low ``bits`` of each quotient: what is sent."""
    return quotient_BE & ((1 << bits) - 1)


def checksum_B(quotient_BE: Tensor, bits: int) -> Tensor:
    """One byte (int32) over what is not sent: ``sum of w_i (q_i >> bits)`` modulo 256, with w_i of
    2 i + 1, but 129 for the last of 64.

    The weights are odd, different, and no two of them add up to 256. So the sum always differs
    where one or two elements are wrong by one turn, and where an odd number of them is by odd
    numbers of turns (which differences are taken for one element's, ``unwrap`` decides). They add
    up to 4098, so it differs for a block that moved as a whole (biases, gains), unless by a
    multiple of 128 turns. Any other error passes by chance: 1 in 256 over random ones, 1 in 128
    over those by one turn in an even number of elements, four or more.
    """
    elements = quotient_BE.shape[1]
    weight_E = 2 * torch.arange(elements, dtype=torch.int32) + 1
    weight_E[-1] += 2
    return ((quotient_BE >> bits) * weight_E).sum(dim=1, dtype=torch.int32) & 0xFF


def unwrap(
    code_BE: Tensor, sum_B: Tensor, step_B: Tensor, own_BE: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """The sender's values as the receiver reads them next to its own, and which blocks wrapped.

    Of all whole numbers with these low bits the one nearest to the receiver's own quotient is read.
    Where the checksum then names one element that may be a little farther off, that one is read as
    far as a code reaches, its way. Where it disagrees otherwise, or the receiver's own quotient is
    beyond QUOTIENT_MAX, the block has wrapped: its estimate is the receiver's own values.
    Whatever is sent, no element is read farther than ``2^(bits - 1)`` steps from its own (and what
    fp32 rounds: where that is 2^22 of them away from zero, two thirds of a step at most, and a
    third was seen). Blocks are of 64.
    """
    near_B = own_BE.abs().amax(dim=1) < step_B * QUOTIENT_MAX
    y_BE = torch.where(near_B[:, None], own_BE * step_B.reciprocal()[:, None], 0.0)
    below_BE = torch.floor(y_BE).to(torch.int32)
    reach, turn = 1 << (bits - 1), 1 << bits
    ahead_BE = ((code_BE - below_BE + reach - 1) & (turn - 1)) - (reach - 1)
    quotient_BE = below_BE + ahead_BE
    missing_B = (sum_B - checksum_B(quotient_BE, bits)) & 0xFF
    estimate_BE = quotient_BE.float() * step_B[:, None]
    place_B, ahead_B, named_B = _named(quotient_BE, y_BE, missing_B, reach)
    block_B = named_B.nonzero()[:, 0]
    off_BE = (estimate_BE[block_B] - own_BE[block_B]).abs()
    outer_B = (off_BE > (step_B[block_B] * (reach / 2))[:, None]).sum(dim=1)
    block_B = block_B[outer_B <= OUTER_COUNT]
    at_B = place_B[block_B]
    estimate_BE[block_B, at_B] = (y_BE[block_B, at_B] + ahead_B[block_B]) * step_B[block_B]
    wrapped_B = (missing_B != 0) | ~near_B
    wrapped_B[block_B] = ~near_B[block_B]
    return torch.where(wrapped_B[:, None], own_BE, estimate_BE), wrapped_B


def _named(
    quotient_BE: Tensor, y_BE: Tensor, missing_B: Tensor, reach: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The element of each block that its checksum names, a code's reach in its direction (in
    steps, fp32), and whether it may be there.

    ``missing_B`` is what the sum read is short of the sum sent, modulo 256: an odd number is one
    element's weight, or what that lacks to 256.
    """
    forward_B = (missing_B < 126) | (missing_B == 129)
    weight_B = torch.where(forward_B, missing_B, 256 - missing_B)
    place_B = ((weight_B - 1) // 2).clamp(0, quotient_BE.shape[1] - 1).to(torch.int64)
    ahead_B = torch.where(forward_B, float(reach), -float(reach))
    read_B = quotient_BE.gather(1, place_B[:, None])[:, 0].float()
    off_B = ((read_B + 2 * ahead_B) - y_BE.gather(1, place_B[:, None])[:, 0]).abs()
    return place_B, ahead_B, (missing_B & 1 == 1) & (off_B <= PUT_RIGHT_REACH * reach)


def next_step(
    step_B: Tensor,
    max_c_B: Tensor,
    bits: int,
    skipped_B: Tensor,
    safety: float = SAFETY,
    decay: float = DECAY,
) -> Tensor:
    """Each block's step for the next code, from the largest difference just seen in it.

    Up at once to ``safety`` times what would just reach, down slowly; a skipped block, whose
    difference nobody could read, grows by GROWTH.
    """
    wanted_B = max_c_B * (safety / (1 << (bits - 1)))
    return torch.where(skipped_B, step_B * GROWTH, torch.maximum(wanted_B, step_B * decay))


# Codes of differences. Each returns whole numbers (int8) and one scale a block; the value is
# number times scale, and a scale is what sixteen bits hold (bf16, rounded up).


def up_to_bf16(scale_B: Tensor) -> Tensor:
    """The smallest bf16 not below each non-negative fp32 value, as fp32; 0 below SCALE_MIN, and
    what is not finite stays so."""
    bits_B = scale_B.contiguous().view(torch.int32).to(torch.int64)
    rounded_B = ((bits_B + 0xFFFF) & ~0xFFFF).to(torch.int32).view(torch.float32)
    finite_B = torch.where(scale_B < SCALE_MIN, 0.0, rounded_B)
    return torch.where(torch.isfinite(scale_B), finite_B, torch.inf)


def reciprocal_B(scale_B: Tensor) -> Tensor:
    """1 / scale, and 0 for a scale of 0."""
    return torch.where(scale_B > 0, scale_B.reciprocal(), 0.0)


def block_sum_B(x_BE: Tensor) -> Tensor:
    """Sums in one fixed order, so that every machine and loop gets the same bits: the upper half of
    a block is added to the lower until one number is left."""
    while x_BE.shape[1] > 1:
        half = x_BE.shape[1] // 2
        x_BE = x_BE[:, :half] + x_BE[:, half:]
    return x_BE[:, 0]


def levels(x_BE: Tensor, top: int, dither: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Even levels from -top to top (int4: 7, int8: 127), the largest value at the top."""
    scale_B = up_to_bf16(x_BE.abs().amax(dim=1) / top)
    y_BE = x_BE * reciprocal_B(scale_B)[:, None]
    number_BE = rounded_BE(y_BE, dither).clamp_(-top, top)
    return torch.nan_to_num(number_BE, nan=0.0).to(torch.int8), scale_B


def four_levels(x_BE: Tensor) -> tuple[Tensor, Tensor]:
    """-2, -1, 1, 2 for -outer, -inner, inner, outer of LLOYD_MAX; the scale is the block's root
    mean square. Zeros count as positive."""
    scale_B = up_to_bf16((block_sum_B(x_BE * x_BE) * (1 / x_BE.shape[1])).sqrt())
    outer_BE = x_BE.abs() > (scale_B * LLOYD_MAX[2])[:, None]
    magnitude_BE = torch.where(outer_BE, 2, 1)
    return torch.where(x_BE < 0, -magnitude_BE, magnitude_BE).to(torch.int8), scale_B


def of_four_levels(number_BE: Tensor, scale_B: Tensor) -> Tensor:
    """The values that ``four_levels`` stands for."""
    inner, outer, _ = LLOYD_MAX
    magnitude_BE = torch.where(number_BE.abs() > 1, outer, inner)
    return torch.sign(number_BE) * (magnitude_BE * scale_B[:, None])


def signs(x_BE: Tensor) -> tuple[Tensor, Tensor]:
    """-1 or 1 (zeros count as positive); the scale is the block's mean magnitude, which loses the
    least in the mean square."""
    scale_B = up_to_bf16(block_sum_B(x_BE.abs()) / x_BE.shape[1])
    return torch.where(x_BE < 0, -1, 1).to(torch.int8), scale_B


def largest(x_BE: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The places [B, count] (rising) of the largest magnitudes, their int8 levels, the scale."""
    place_BK = x_BE.abs().topk(count, dim=1).indices.sort(dim=1).values
    number_BK, scale_B = levels(x_BE.gather(1, place_BK), INT8_TOP)
    return place_BK, number_BK, scale_B
