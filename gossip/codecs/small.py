"""Codes of differences below 8 bits, in blocks of 64 with one scale of 16 bits each.

A chunk is ``[scales: B x bf16][codes: B x bytes per block]``. The sign bit of a scale marks a
block that its sender could not compare: its values are zero, and ``skipped`` reads the marks back.

    name   bits a value   numbers in a block
    int4   4.25           64 x 4 bits: byte j holds elements j (low) and j + 32 (high)
    int2   2.25           64 x 2 bits: byte j holds elements j, j + 16, j + 32, j + 48, low to high
    sign   1.25           64 x 1 bit: byte j holds elements j, j + 8, ... j + 56, low to high
    topk8  1.75           6 places (rising), then 6 values of 8 bits

They are made for the difference of two peers, whose lost part is still there at the next swap. On
the weights themselves 4 bits cost 4.2 % of loss (measured in a pilot), so no offer is coded so.
"""

from __future__ import annotations

from typing import Final, Protocol

import torch
from torch import Tensor

from gossip.codecs import blocks, kernels
from gossip.codecs.blocks import SMALL_ELEMENTS, TOP_COUNT
from gossip.codecs.codec import Buffer, as_bytes_S, check_elements, check_length, check_magnitude
from gossip.errors import CodeError

SCALE_BYTES: Final = 2
CHUNK_ELEMENTS: Final = 1 << 18
"""1 MiB of fp32 on either side of a code: what fits a core's cache."""
SCALE_MAX: Final = 2.0**120
"""Times 127 it is still finite, so no byte string decodes to infinity."""


class Packing(Protocol):
    """How the numbers of a block become bytes. All tensors are of B blocks."""

    name: str
    block_bytes: int

    def encode(self, x_BE: Tensor, seed: int | None, out_BS: Tensor, scale_B: Tensor) -> None:
        """Write the codes and the scales (fp32 that bf16 holds; not finite if a value is not)."""
        ...

    def decode(self, code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
        """Write the values. Raises CodeError when the bytes are no code."""
        ...


class SmallCodec:
    """See the module, and Codec. Scratch: a scale for each block of a chunk."""

    carries_mask = True
    chunk_elements = CHUNK_ELEMENTS

    def __init__(self, packing: Packing) -> None:
        self.name = packing.name
        self._packing = packing
        self._block_bytes = SCALE_BYTES + packing.block_bytes
        self.chunk_bytes = self.code_bytes(CHUNK_ELEMENTS)
        self._scale_B = torch.empty(CHUNK_ELEMENTS // SMALL_ELEMENTS)

    def code_bytes(self, elements: int) -> int:
        """Bytes of the code of ``elements`` values."""
        return elements // SMALL_ELEMENTS * self._block_bytes

    def encode(
        self,
        values_N: Tensor,
        out: Buffer,
        seed: int | None = None,
        skip_B: Tensor | None = None,
    ) -> None:
        """See Codec.encode."""
        elements = values_N.numel()
        check_elements(elements)
        assert elements <= CHUNK_ELEMENTS, "more than one chunk"
        out_S = as_bytes_S(out)
        assert out_S.numel() == self.code_bytes(elements), "out has a wrong length"
        x_BE = values_N.view(-1, SMALL_ELEMENTS)
        count = x_BE.shape[0]
        code_BS = out_S[count * SCALE_BYTES :].view(count, self._packing.block_bytes)
        scale_B = self._scale_B[:count]
        self._packing.encode(x_BE, seed, code_BS, scale_B)
        check_magnitude(scale_B, SCALE_MAX, self.name)
        if skip_B is not None:
            scale_B.masked_fill_(skip_B, -0.0)
        out_S[: count * SCALE_BYTES].view(torch.bfloat16).copy_(scale_B)

    def decode(self, code: Buffer, out_N: Tensor) -> None:
        """See Codec.decode. Skipped blocks are zero."""
        code_S, coded_B = self._opened(code, out_N.numel())
        scale_B = self._scale_B[: coded_B.numel()].copy_(coded_B)
        check_magnitude(scale_B, SCALE_MAX, self.name)
        if float(scale_B.amin()) < 0:
            raise CodeError(f"{self.name}: a negative scale")
        count = scale_B.numel()
        code_BS = code_S[count * SCALE_BYTES :].view(count, self._packing.block_bytes)
        self._packing.decode(code_BS, scale_B, out_N.view(-1, SMALL_ELEMENTS))

    def skipped(self, code: Buffer, elements: int) -> Tensor:
        """Which blocks of 64 were marked as not compared (bool). Raises CodeError on a length."""
        return torch.signbit(self._opened(code, elements)[1])

    def in_place(self, code: Buffer, elements: int) -> Tensor | None:  # noqa: ARG002 (the protocol)
        """See Codec.in_place: never."""
        return None

    def _opened(self, code: Buffer, elements: int) -> tuple[Tensor, Tensor]:
        check_elements(elements)
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(elements), self.name)
        count = elements // SMALL_ELEMENTS
        return code_S, code_S[: count * SCALE_BYTES].view(torch.bfloat16)


class Int4:
    """15 even levels."""

    name = "int4"
    block_bytes = SMALL_ELEMENTS // 2

    def encode(self, x_BE: Tensor, seed: int | None, out_BS: Tensor, scale_B: Tensor) -> None:
        """See Packing."""
        if kernels.AVAILABLE:
            kernels.encode_int4(x_BE, out_BS, scale_B, seed)
            return
        dither = None if seed is None else blocks.dither_BE(seed, *x_BE.shape)
        number_BE, coded_B = blocks.levels(x_BE, blocks.INT4_TOP, dither)
        pack_nibbles_(number_BE.to(torch.int32), out_BS)
        scale_B.copy_(coded_B)

    def decode(self, code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
        """See Packing. A nibble of 8 reads as -8: nobody sends it, and it harms nobody."""
        if kernels.AVAILABLE:
            kernels.decode_int4(code_BS, scale_B, out_BE)
            return
        number_BE = ((unpack_nibbles(code_BS) + 8) & 15) - 8
        torch.mul(number_BE.float(), scale_B[:, None], out=out_BE)


class Int2:
    """Four levels at the places that suit a normal distribution best."""

    name = "int2"
    block_bytes = SMALL_ELEMENTS // 4

    def encode(self, x_BE: Tensor, seed: int | None, out_BS: Tensor, scale_B: Tensor) -> None:
        """See Packing; its levels are uneven, so a dither would not make it right on average."""
        del seed
        if kernels.AVAILABLE:
            kernels.encode_int2(x_BE, out_BS, scale_B)
            return
        number_BE, coded_B = blocks.four_levels(x_BE)
        # 0: inner, 1: outer; 2 added for negative ones.
        pack_pairs_((number_BE.abs() - 1 + 2 * (number_BE < 0)).to(torch.int32), out_BS)
        scale_B.copy_(coded_B)

    def decode(self, code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
        """See Packing."""
        if kernels.AVAILABLE:
            kernels.decode_int2(code_BS, scale_B, out_BE)
            return
        code_BE = unpack_pairs(code_BS)
        number_BE = (1 + (code_BE & 1)) * (1 - (code_BE & 2))
        out_BE.copy_(blocks.of_four_levels(number_BE, scale_B))


class Sign:
    """One bit: the mean magnitude of the block, up or down."""

    name = "sign"
    block_bytes = SMALL_ELEMENTS // 8

    def encode(self, x_BE: Tensor, seed: int | None, out_BS: Tensor, scale_B: Tensor) -> None:
        """See Packing; there is nothing to round."""
        del seed
        number_BE, coded_B = blocks.signs(x_BE)
        pack_bits_((number_BE < 0).to(torch.int32), out_BS)
        scale_B.copy_(coded_B)

    def decode(self, code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
        """See Packing."""
        torch.mul((1 - 2 * unpack_bits(code_BS)).float(), scale_B[:, None], out=out_BE)


class TopK8:
    """The tenth of the values that are largest, in 8 bits; the rest is left for later swaps."""

    name = "topk8"
    block_bytes = 2 * TOP_COUNT

    def encode(self, x_BE: Tensor, seed: int | None, out_BS: Tensor, scale_B: Tensor) -> None:
        """See Packing; the values kept are rounded to nearest."""
        del seed
        place_BK, number_BK, coded_B = blocks.largest(x_BE, TOP_COUNT)
        out_BS[:, :TOP_COUNT] = place_BK.to(torch.uint8)
        out_BS[:, TOP_COUNT:] = number_BK.view(torch.uint8)
        scale_B.copy_(coded_B)

    def decode(self, code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
        """See Packing. Raises CodeError on places outside the block or not rising."""
        place_BK = code_BS[:, :TOP_COUNT].to(torch.int64)
        in_order = bool((place_BK[:, 1:] > place_BK[:, :-1]).all())
        if not in_order or int(place_BK.amax()) >= SMALL_ELEMENTS:
            raise CodeError("topk8: places outside the block or out of order")
        number_BK = code_BS[:, TOP_COUNT:].contiguous().view(torch.int8)
        out_BE.zero_().scatter_(1, place_BK, number_BK.float() * scale_B[:, None])


def pack_nibbles_(number_BE: Tensor, out_BS: Tensor) -> None:
    """Two numbers a byte (int32, of which the low four bits count)."""
    half = number_BE.shape[1] // 2
    out_BS.copy_((number_BE[:, :half] & 15) | (number_BE[:, half:] & 15) << 4)


def unpack_nibbles(code_BS: Tensor) -> Tensor:
    """The inverse (int32, 0 to 15)."""
    code = code_BS.to(torch.int32)
    return torch.cat([code & 15, code >> 4], dim=1)


def pack_pairs_(number_BE: Tensor, out_BS: Tensor) -> None:
    """Four numbers a byte (int32, of which the low two bits count)."""
    quarters = (number_BE & 3).view(-1, 4, number_BE.shape[1] // 4)
    out_BS.copy_(quarters[:, 0] | quarters[:, 1] << 2 | quarters[:, 2] << 4 | quarters[:, 3] << 6)


def unpack_pairs(code_BS: Tensor) -> Tensor:
    """The inverse (int32, 0 to 3)."""
    code = code_BS.to(torch.int32)
    return torch.cat([(code >> shift) & 3 for shift in (0, 2, 4, 6)], dim=1)


def pack_bits_(number_BE: Tensor, out_BS: Tensor) -> None:
    """Eight numbers a byte (int32, of which the lowest bit counts)."""
    eighths = (number_BE & 1).view(-1, 8, number_BE.shape[1] // 8)
    packed = eighths[:, 0].clone()
    for bit in range(1, 8):
        packed |= eighths[:, bit] << bit
    out_BS.copy_(packed)


def unpack_bits(code_BS: Tensor) -> Tensor:
    """The inverse (int32, 0 or 1)."""
    code = code_BS.to(torch.int32)
    return torch.cat([(code >> bit) & 1 for bit in range(8)], dim=1)


PACKINGS: Final[dict[str, type[Int4] | type[Int2] | type[Sign] | type[TopK8]]] = {
    packing.name: packing for packing in (Int4, Int2, Sign, TopK8)
}
