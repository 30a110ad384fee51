"""int8 in blocks of 256 with one fp32 scale each: 1.016 bytes a value.

A chunk is ``[scales: B x fp32][values: 256 B x int8]`` and ``x = scale * value``, with
``scale = max|x| / 127`` over the block. The error is at most half a scale. Blocks are small so
that one outlier costs the precision of 255 neighbors only (Dettmers et al., "8-bit optimizers
via block-wise quantization", ICLR 2022, there with 2048).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from gossip.codecs import blocks as small
from gossip.codecs import kernels
from gossip.codecs.codec import (
    BLOCK_ELEMENTS,
    Buffer,
    as_bytes_S,
    check_elements,
    check_length,
    check_magnitude,
)
from gossip.errors import CodeError
from gossip.messages import CHUNK_BYTES_MAX

SKIP_BLOCKS: Final = BLOCK_ELEMENTS // small.SMALL_ELEMENTS
"""Blocks of 64, the unit of marks, in a block of this codec: one of them skipped skips all."""
SCALE_BYTES: Final = 4
BLOCK_BYTES: Final = SCALE_BYTES + BLOCK_ELEMENTS
STEPS: Final = 127.0
SCALE_MIN: Final = 2.0**-126
"""Smallest normal fp32. Below it a scale has few bits, and 127 steps of it may not reach max|x|;
such a block is sent as zeros."""
SCALE_MAX: Final = 2.0**120
"""128 * SCALE_MAX is still finite, so no byte string decodes to infinity."""


class Int8Codec:
    """See the module. Scratch: one chunk in fp32, made at the first encode and kept."""

    name = "int8"
    carries_mask = True
    chunk_elements = CHUNK_BYTES_MAX // BLOCK_BYTES * BLOCK_ELEMENTS
    chunk_bytes = CHUNK_BYTES_MAX // BLOCK_BYTES * BLOCK_BYTES

    def __init__(self) -> None:
        self._scratch_N = torch.empty(0)
        self._scale_B = torch.empty(0)
        self._divisor_B = torch.empty(0)

    def code_bytes(self, elements: int) -> int:
        """Bytes of the code of ``elements`` values."""
        return elements // BLOCK_ELEMENTS * BLOCK_BYTES

    def encode(
        self,
        values_N: Tensor,
        out: Buffer,
        seed: int | None = None,
        skip_B: Tensor | None = None,
    ) -> None:
        """See Codec.encode. A zero stays exactly zero."""
        elements = values_N.numel()
        check_elements(elements)
        assert elements <= self.chunk_elements, "more than one chunk"
        out_S = as_bytes_S(out)
        assert out_S.numel() == self.code_bytes(elements), "out has a wrong length"
        if self._scratch_N.numel() < elements:
            self._scratch_N = torch.empty(elements)
            self._scale_B = torch.empty(elements // BLOCK_ELEMENTS)
            self._divisor_B = torch.empty(elements // BLOCK_ELEMENTS)
        blocks = elements // BLOCK_ELEMENTS
        scratch_N = self._scratch_N[:elements]
        scratch_BE = scratch_N.view(blocks, BLOCK_ELEMENTS)
        scale_B, divisor_B = self._scale_B[:blocks], self._divisor_B[:blocks]

        code_BE = out_S[blocks * SCALE_BYTES :].view(torch.int8).view(blocks, BLOCK_ELEMENTS)
        if kernels.AVAILABLE:
            kernels.encode_int8(values_N.view_as(scratch_BE), code_BE, scale_B, seed)
            check_magnitude(scale_B, SCALE_MAX, self.name)
        else:
            torch.abs(values_N, out=scratch_N)
            torch.amax(scratch_BE, dim=1, out=scale_B)
            scale_B.div_(STEPS)
            check_magnitude(scale_B, SCALE_MAX, self.name)
            scale_B.masked_fill_(scale_B < SCALE_MIN, 0.0)
            # A block of zeros is divided by infinity: all its values become zero, none NaN.
            divisor_B.copy_(scale_B).masked_fill_(scale_B == 0, torch.inf)
            torch.div(values_N.view_as(scratch_BE), divisor_B.view(blocks, 1), out=scratch_BE)
            round_(scratch_BE, seed)
            code_BE.copy_(scratch_BE)
        if skip_B is not None:
            skipped_B = skip_B.view(blocks, SKIP_BLOCKS).any(dim=1)
            scale_B.masked_fill_(skipped_B, -0.0)
            code_BE[skipped_B] = 0
        out_S[: blocks * SCALE_BYTES].view(torch.float32).copy_(scale_B)

    def skipped(self, code: Buffer, elements: int) -> Tensor:
        """Which blocks of 64 were marked as not compared (bool). Raises CodeError on a length."""
        check_elements(elements)
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(elements), self.name)
        scale_B = code_S[: elements // BLOCK_ELEMENTS * SCALE_BYTES].view(torch.float32)
        return torch.signbit(scale_B).repeat_interleave(SKIP_BLOCKS)

    def in_place(self, code: Buffer, elements: int) -> Tensor | None:  # noqa: ARG002 (the protocol)
        """See Codec.in_place: never."""
        return None

    def decode(self, code: Buffer, out_N: Tensor) -> None:
        """See Codec.decode."""
        elements = out_N.numel()
        check_elements(elements)
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(elements), self.name)
        blocks = elements // BLOCK_ELEMENTS
        scale_B = code_S[: blocks * SCALE_BYTES].view(torch.float32)
        check_magnitude(scale_B, SCALE_MAX, self.name)
        if float(scale_B.amin()) < 0:
            raise CodeError("int8: a negative scale")
        code_BE = code_S[blocks * SCALE_BYTES :].view(torch.int8).view(blocks, BLOCK_ELEMENTS)
        if kernels.AVAILABLE:
            kernels.decode_int8(code_BE, scale_B, out_N.view(blocks, BLOCK_ELEMENTS))
            return
        out_N.view(blocks, BLOCK_ELEMENTS).copy_(code_BE).mul_(scale_B.view(blocks, 1))


def round_(values_BE: Tensor, seed: int | None) -> None:
    """To whole numbers in place: to nearest, or stochastically."""
    if seed is None:
        values_BE.round_()
    else:
        values_BE.add_(small.dither_BE(seed, *values_BE.shape)).floor_().clamp_(-STEPS, STEPS)
