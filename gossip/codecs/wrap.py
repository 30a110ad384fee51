"""Wrap-around codes: the low bits of ``round(x / step)``, read next to the receiver's own values.

What they cost depends on how far two peers differ, not on how large the weights are, so 4 bits do
what 8 do. A chunk is ``[steps: B bytes][checksums: B bytes][codes: B x 8 bits bytes]`` in blocks of
64; a step is one byte of the table in ``blocks.step_table``. 3.25, 4.25 or 8.25 bits a value; codes
are packed as in ``small`` (3 bits: the low two as int2 does, then the third as sign does).

Source of the idea: modulo quantization with side information at the receiver (Lu and De Sa,
"Moniqua", ICML 2020; Davies et al., "New bounds for distributed mean estimation", ICLR 2021); here
with a learned step per block and a checksum that finds wraps, and where one element of a block
wrapped puts that right.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from gossip.codecs import blocks, kernels
from gossip.codecs.blocks import QUOTIENT_MAX, SMALL_ELEMENTS, STEP_RESOLUTION
from gossip.codecs.codec import (
    Buffer,
    as_bytes_S,
    check_elements,
    check_finite,
    check_length,
    check_magnitude,
)
from gossip.codecs.small import (
    CHUNK_ELEMENTS,
    pack_bits_,
    pack_nibbles_,
    pack_pairs_,
    unpack_bits,
    unpack_nibbles,
    unpack_pairs,
)

WRAP_BITS: Final = (8, 4, 3)

HEAD_BYTES: Final = 2
"""Of each block: step and checksum."""


class WrapCodec:
    """See the module. Needs a step per block to encode, and the receiver's own values to decode."""

    chunk_elements = CHUNK_ELEMENTS

    def __init__(self, bits: int) -> None:
        assert bits in WRAP_BITS, "3, 4 or 8 bits"
        self.name = f"wrap{bits}"
        self.bits = bits
        self._code_bytes = SMALL_ELEMENTS * bits // 8
        self.chunk_bytes = self.code_bytes(CHUNK_ELEMENTS)
        self._table = blocks.step_table()
        self._steps = kernels.Steps(self._table, 1 / STEP_RESOLUTION, QUOTIENT_MAX)
        self._reach = float(self._table[-1]) / STEP_RESOLUTION

    def code_bytes(self, elements: int) -> int:
        """Bytes of the code of ``elements`` values."""
        return elements // SMALL_ELEMENTS * (HEAD_BYTES + self._code_bytes)

    def encode(
        self, values_N: Tensor, step_B: Tensor, out: Buffer, seed: int | None = None
    ) -> None:
        """Write one chunk. Steps are taken to the next one of the table, and to what keeps
        quotients exact. Raises CodeError when a value is not finite or beyond 1e11; ``out``
        is then undefined."""
        elements = values_N.numel()
        check_elements(elements)
        assert elements <= CHUNK_ELEMENTS, "more than one chunk"
        assert step_B.numel() * SMALL_ELEMENTS == elements, "not a step for each block"
        out_S = as_bytes_S(out)
        assert out_S.numel() == self.code_bytes(elements), "out has a wrong length"
        x_BE = values_N.view(-1, SMALL_ELEMENTS)
        heads, code_BS = self._split(out_S, x_BE.shape[0])
        if kernels.AVAILABLE:
            if not kernels.encode_wrap(x_BE, step_B, self._steps, self.bits, heads, code_BS, seed):
                check_magnitude(values_N, self._reach, self.name)
            return
        check_magnitude(values_N, self._reach, self.name)
        index_B = blocks.step_index_B(step_B, x_BE.abs().amax(dim=1), self._table)
        dither = None if seed is None else blocks.dither_BE(seed, *x_BE.shape)
        quotient_BE = blocks.quotients_BE(x_BE, self._table[index_B], dither)
        heads[0].copy_(index_B)
        heads[1].copy_(blocks.checksum_B(quotient_BE, self.bits))
        pack_(blocks.wrap_code_BE(quotient_BE, self.bits), self.bits, code_BS)

    def decode(self, code: Buffer, own_N: Tensor, est_N: Tensor, wrapped_B: Tensor) -> None:
        """Read one chunk next to the receiver's own values: the sender's values into ``est_N``, and
        which blocks wrapped, where ``est_N`` is the receiver's own. A block in which one element
        wrapped, and was put right, is not among them.

        Raises CodeError on a wrong length or own values that are not finite. Any bytes of the right
        length decode to finite values within ``2^(bits - 1)`` steps of the own ones.
        """
        elements = own_N.numel()
        check_elements(elements)
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(elements), self.name)
        check_finite(own_N, self.name)
        own_BE = own_N.view(-1, SMALL_ELEMENTS)
        heads, code_BS = self._split(code_S, own_BE.shape[0])
        est_BE = est_N.view(-1, SMALL_ELEMENTS)
        if kernels.AVAILABLE:
            kernels.decode_wrap(own_BE, self._steps, self.bits, heads, code_BS, est_BE, wrapped_B)
            return
        code_BE = unpack(code_BS, self.bits)
        step_B = self._table[heads[0].to(torch.int64)]
        read_BE, read_B = blocks.unwrap(
            code_BE, heads[1].to(torch.int32), step_B, own_BE, self.bits
        )
        est_BE.copy_(read_BE)
        wrapped_B.copy_(read_B)

    def _split(self, code_S: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Steps and checksums, and the codes."""
        codes = code_S[count * HEAD_BYTES :].view(count, self._code_bytes)
        return (code_S[:count], code_S[count : 2 * count]), codes


def pack_(code_BE: Tensor, bits: int, out_BS: Tensor) -> None:
    """Codes (int32) as bytes."""
    match bits:
        case 3:
            pack_pairs_(code_BE, out_BS[:, : SMALL_ELEMENTS // 4])
            pack_bits_(code_BE >> 2, out_BS[:, SMALL_ELEMENTS // 4 :])
        case 4:
            pack_nibbles_(code_BE, out_BS)
        case _:
            out_BS.copy_(code_BE)


def unpack(code_BS: Tensor, bits: int) -> Tensor:
    """The inverse."""
    match bits:
        case 3:
            low_BE = unpack_pairs(code_BS[:, : SMALL_ELEMENTS // 4])
            return low_BE | unpack_bits(code_BS[:, SMALL_ELEMENTS // 4 :]) << 2
        case 4:
            return unpack_nibbles(code_BS)
        case _:
            return code_BS.to(torch.int32)
