"""The hot loops of the codecs, compiled by numba where it is installed (extra ``fast``).

Each is the reference of ``blocks`` bit for bit, in one pass over memory. They release the
interpreter's lock, so a codec on the I/O thread does not hold the trainer's thread up. Compiled
code is kept on disk; ``warm_up`` compiles what is missing, seconds once per machine, so that it
happens before a peer trains. Tensors are on the host, contiguous, fp32 unless said.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

try:
    from gossip.codecs import loops, loops_wrap

    _installed = True
except ImportError:  # numba is an extra: without it the codecs run on torch alone, and slower
    _installed = False

SWITCH: Final = "GOSSIP_KERNELS"
AVAILABLE = _installed and os.environ.get(SWITCH, "1") != "0"
"""Set GOSSIP_KERNELS=0 to run on torch alone."""


def encode_int4(x_BE: Tensor, code_BS: Tensor, scale_B: Tensor, seed: int | None) -> None:
    """``small.Int4.encode``; a block with a value that is not finite gets a scale that is not."""
    loops.encode_int4(
        _numbers(x_BE), _numbers(x_BE.view(torch.int32)), _numbers(code_BS), *_both(scale_B),
        *_dither(seed),
    )  # fmt: skip


def decode_int4(code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
    """``small.Int4.decode``."""
    loops.decode_int4(_numbers(code_BS), _numbers(scale_B), _numbers(out_BE))


def encode_int2(x_BE: Tensor, code_BS: Tensor, scale_B: Tensor) -> None:
    """``small.Int2.encode``; a block with a value that is not finite gets a scale that is not."""
    loops.encode_int2(
        _numbers(x_BE), _numbers(x_BE.view(torch.int32)), _numbers(code_BS), *_both(scale_B)
    )


def decode_int2(code_BS: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
    """``small.Int2.decode``."""
    loops.decode_int2(_numbers(code_BS), _numbers(scale_B), _numbers(out_BE))


def encode_int8(x_BE: Tensor, code_BE: Tensor, scale_B: Tensor, seed: int | None) -> None:
    """The loop of ``Int8Codec.encode``; a block with a value that is not finite gets a scale that
    is not."""
    loops.encode_int8(
        _numbers(x_BE), _numbers(x_BE.view(torch.int32)), _numbers(code_BE), *_both(scale_B),
        *_dither(seed),
    )  # fmt: skip


def decode_int8(code_BE: Tensor, scale_B: Tensor, out_BE: Tensor) -> None:
    """The loop of ``Int8Codec.decode``."""
    loops.decode_int8(_numbers(code_BE), _numbers(scale_B), _numbers(out_BE))


class Steps:
    """The table of steps, and what each reaches, as the loops take them.

    ``reach``: the largest value whose quotient is exact; ``far``: where it cannot be compared.
    """

    def __init__(self, table: Tensor, reach: float, far: float) -> None:
        numbers = _numbers(table)
        reach_i = _numbers((table * reach).view(torch.int32))
        self.for_encoding = numbers, _numbers(table.view(torch.int32)), reach_i
        self.for_decoding = numbers, _numbers((table * far).view(torch.int32))


Heads = tuple[Tensor, Tensor]
"""The bytes of a wrap-around chunk's steps and checksums."""


def encode_wrap(
    x_BE: Tensor,
    step_B: Tensor,
    steps: Steps,
    bits: int,
    heads: Heads,
    code_BS: Tensor,
    seed: int | None,
) -> bool:
    """``WrapCodec.encode``; False when a value is not finite or beyond all steps."""
    encode = {3: loops_wrap.encode_wrap3, 4: loops_wrap.encode_wrap4, 8: loops_wrap.encode_wrap8}[
        bits
    ]
    fits: bool = encode(
        _numbers(x_BE), _numbers(x_BE.view(torch.int32)), _numbers(step_B.view(torch.int32)),
        steps.for_encoding, _arrays(heads), _numbers(code_BS), *_dither(seed),
    )  # fmt: skip
    return fits


def decode_wrap(
    own_BE: Tensor,
    steps: Steps,
    bits: int,
    heads: Heads,
    code_BS: Tensor,
    est_BE: Tensor,
    wrapped_B: Tensor,
) -> None:
    """``WrapCodec.decode``."""
    decode = {3: loops_wrap.decode_wrap3, 4: loops_wrap.decode_wrap4, 8: loops_wrap.decode_wrap8}[
        bits
    ]
    decode(
        _numbers(own_BE), _numbers(own_BE.view(torch.int32)), steps.for_decoding, _arrays(heads),
        _numbers(code_BS), _numbers(est_BE), _numbers(wrapped_B),
    )  # fmt: skip


@lru_cache(maxsize=1)
def warm_up() -> None:
    """Compile, or load from disk, every loop; once per process."""
    if not AVAILABLE:
        return
    x_BE, out_BE = torch.ones(4, 64), torch.empty(4, 64)
    scale_B = torch.ones(4)
    nibbles_BS = torch.zeros(4, 32, dtype=torch.uint8)
    heads = torch.zeros(4, dtype=torch.uint8), torch.zeros(4, dtype=torch.uint8)
    wrapped_B = torch.zeros(4, dtype=torch.bool)
    encode_int4(x_BE, nibbles_BS, scale_B, None)
    decode_int4(nibbles_BS, scale_B, out_BE)
    pairs_BS = torch.zeros(4, 16, dtype=torch.uint8)
    encode_int2(x_BE, pairs_BS, scale_B)
    decode_int2(pairs_BS, scale_B, out_BE)
    wide, wide_BE = torch.ones(1, 256), torch.zeros(1, 256, dtype=torch.int8)
    encode_int8(wide, wide_BE, scale_B[:1], None)
    decode_int8(wide_BE, scale_B[:1], wide)
    steps = Steps(torch.ones(256), 1.0, 1.0)
    for bits in (3, 4, 8):
        code_BS = torch.zeros(4, 8 * bits, dtype=torch.uint8)
        encode_wrap(x_BE, scale_B, steps, bits, heads, code_BS, None)
        decode_wrap(x_BE, steps, bits, heads, code_BS, out_BE, wrapped_B)


def _numbers(tensor: Tensor) -> Any:
    """The tensor's memory as the array that compiled loops take."""
    return tensor.numpy()


def _arrays(heads: Heads) -> tuple[Any, Any]:
    return _numbers(heads[0]), _numbers(heads[1])


def _both(scale_B: Tensor) -> tuple[Any, Any]:
    """Scales as numbers and as bits: one memory."""
    return _numbers(scale_B), _numbers(scale_B.view(torch.int32))


def _dither(seed: int | None) -> tuple[bool, int]:
    """Whether to round stochastically, and the seed's 32 bits."""
    return seed is not None, 0 if seed is None else seed & 0xFFFFFFFF
