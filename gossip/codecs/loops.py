"""Loops that numba compiles; the only importer of numba. ``kernels`` calls them, ``blocks`` says
what they must compute, bit for bit.

Arrays: x_BE and own_BE fp32 [B, 64] ([B, 256] for int8), ``..._i`` the same memory as int32 bits,
codes uint8 (int8 for int8). The bits of non-negative fp32 numbers are in the numbers' order, with
infinity and NaN above all, so the largest magnitude of a block is found on bits: that vectorizes,
and finds what is not finite. For the same reason every sum is cut back to 32 bits at once (numba
would widen it), and no block goes through a scratch array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

Loop = TypeVar("Loop", bound=Callable[..., Any])

INFINITE: Final = np.int32(0x7F800000)
MAGNITUDE: Final = np.int32(0x7FFFFFFF)
MAGIC: Final = np.float32(12582912.0)
"""1.5 * 2^23: added to and taken from an fp32 value up to 2^22, it leaves the nearest whole number,
ties to even, in two instructions that vectorize everywhere."""
TICK: Final = np.float32(2.0**-24)
ZERO: Final = np.float32(0.0)
ONE: Final = np.float32(1.0)
SEVEN: Final = np.float32(7.0)
TOP8: Final = np.float32(127.0)
SCALE_MIN: Final = np.float32(2.0**-100)
SCALE8_MIN: Final = np.float32(2.0**-126)
FOUR: Final = np.int32(4)
EIGHT: Final = np.int32(8)
LOW4: Final = np.int32(15)
TWO: Final = np.int32(2)
THREE: Final = np.int32(3)
LEVEL_INNER: Final = np.float32(0.4528)
LEVEL_OUTER: Final = np.float32(1.510)
LEVEL_EDGE: Final = np.float32(0.9816)
SIXTY_FOURTH: Final = np.float32(1 / 64)


def compiled(loop: Loop) -> Loop:
    """Without the interpreter's lock, kept on disk, and with IEEE arithmetic as torch's."""
    return cast(Loop, numba.njit(nogil=True, cache=True, error_model="numpy")(loop))


def inlined(loop: Loop) -> Loop:
    """A part of a loop."""
    return cast(
        Loop, numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")(loop)
    )


@inlined
def nearest(y: Any) -> Any:
    """round(y) as int32, ties to even, for |y| up to 2^22."""
    return np.int32((y + MAGIC) - MAGIC)


@inlined
def below(y: Any) -> Any:
    """floor(y) as int32, for |y| below 2^22."""
    near = (y + MAGIC) - MAGIC
    return np.int32(near - (ONE if near > y else ZERO))


@inlined
def noisy(y: Any, place: Any, salt: Any) -> Any:
    """floor(y + noise) for |y| below 2^22; the noise is that of ``blocks.dither_BE``."""
    x = np.uint32(np.uint32(place) * np.uint32(0x9E3779B1) + salt)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    raised = y + np.float32(np.int32(x >> np.uint32(8))) * TICK
    near = (raised + MAGIC) - MAGIC
    return np.int32(near - (ONE if near > raised else ZERO))


@inlined
def pack(low: Any, high: Any) -> Any:
    """Two numbers' low four bits in a byte."""
    return np.uint8((low & LOW4) | ((high & LOW4) << FOUR))


@compiled
def encode_int4(
    x_BE: Any, x_i: Any, code_BS: Any, scale_B: Any, scale_i: Any, dithered: bool, seed: int
) -> None:
    """See ``blocks.levels`` with 7; nibbles as ``small`` packs them."""
    salt = np.uint32(seed)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, x_i[b, i] & MAGNITUDE)
        scale_i[b] = top
        if top >= INFINITE:
            scale_B[b] = np.float32(np.inf)
            continue
        scale_B[b] = scale_B[b] / SEVEN
        if scale_B[b] < SCALE_MIN:
            scale_B[b] = ZERO
        scale_i[b] = np.int32((np.int64(scale_i[b]) + 0xFFFF) & ~0xFFFF)
        inverse = ONE / scale_B[b] if scale_B[b] > ZERO else ZERO
        if dithered:
            for j in range(32):
                low = noisy(x_BE[b, j] * inverse, b * 64 + j, salt)
                high = noisy(x_BE[b, j + 32] * inverse, b * 64 + j + 32, salt)
                low = max(min(low, np.int32(7)), np.int32(-7))
                high = max(min(high, np.int32(7)), np.int32(-7))
                code_BS[b, j] = pack(low, high)
        else:
            for j in range(32):
                low = nearest(x_BE[b, j] * inverse)
                code_BS[b, j] = pack(low, nearest(x_BE[b, j + 32] * inverse))


@compiled
def decode_int4(code_BS: Any, scale_B: Any, out_BE: Any) -> None:
    """Signed nibbles times the scale."""
    for b in range(code_BS.shape[0]):
        scale = scale_B[b]
        for j in range(32):
            byte = np.int32(code_BS[b, j])
            low = np.int32((np.int32(byte + EIGHT) & LOW4) - EIGHT)
            high = np.int32((np.int32((byte >> FOUR) + EIGHT) & LOW4) - EIGHT)
            out_BE[b, j] = np.float32(low) * scale
            out_BE[b, j + 32] = np.float32(high) * scale


@inlined
def _up_to_16_bits(b: Any, scale_B: Any, scale_i: Any) -> Any:
    """See ``blocks.up_to_bf16``."""
    if scale_B[b] < SCALE_MIN:
        scale_B[b] = ZERO
    scale_i[b] = np.int32((np.int64(scale_i[b]) + 0xFFFF) & ~0xFFFF)


@inlined
def _two_bits(x: Any, edge: Any) -> Any:
    """0: inner, 1: outer, 2 added for negative ones."""
    size = np.int32(1) if abs(x) > edge else np.int32(0)
    return np.int32(size + (TWO if x < ZERO else np.int32(0)))


@compiled
def encode_int2(x_BE: Any, x_i: Any, code_BS: Any, scale_B: Any, scale_i: Any) -> None:
    """See ``blocks.four_levels``; pairs of bits as ``small`` packs them."""
    square = np.empty(32, np.float32)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, x_i[b, i] & MAGNITUDE)
        if top >= INFINITE:
            scale_B[b] = np.float32(np.inf)
            continue
        for i in range(32):
            square[i] = x_BE[b, i] * x_BE[b, i] + x_BE[b, i + 32] * x_BE[b, i + 32]
        half = 16
        while half > 0:
            for i in range(half):
                square[i] = square[i] + square[i + half]
            half //= 2
        scale_B[b] = np.sqrt(square[0] * SIXTY_FOURTH)
        if scale_i[b] >= INFINITE:
            continue
        _up_to_16_bits(b, scale_B, scale_i)
        edge = scale_B[b] * LEVEL_EDGE
        for j in range(16):
            low = _two_bits(x_BE[b, j], edge) | (_two_bits(x_BE[b, j + 16], edge) << TWO)
            high = _two_bits(x_BE[b, j + 32], edge) | (_two_bits(x_BE[b, j + 48], edge) << TWO)
            code_BS[b, j] = np.uint8(low | (high << FOUR))


@inlined
def _of_two_bits(code: Any, inner: Any, outer: Any) -> Any:
    size = outer if code & np.int32(1) else inner
    return -size if code & TWO else size


@compiled
def decode_int2(code_BS: Any, scale_B: Any, out_BE: Any) -> None:
    """See ``blocks.of_four_levels``."""
    for b in range(code_BS.shape[0]):
        inner, outer = LEVEL_INNER * scale_B[b], LEVEL_OUTER * scale_B[b]
        for j in range(16):
            byte = np.int32(code_BS[b, j])
            out_BE[b, j] = _of_two_bits(byte, inner, outer)
            out_BE[b, j + 16] = _of_two_bits(byte >> TWO, inner, outer)
            out_BE[b, j + 32] = _of_two_bits(byte >> FOUR, inner, outer)
            out_BE[b, j + 48] = _of_two_bits(byte >> np.int32(6), inner, outer)


@compiled
def encode_int8(
    x_BE: Any, x_i: Any, code_BE: Any, scale_B: Any, scale_i: Any, dithered: bool, seed: int
) -> None:
    """As ``int8`` does it on torch: a true division, so that the largest value is 127 exactly."""
    salt = np.uint32(seed)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(256):
            top = max(top, x_i[b, i] & MAGNITUDE)
        scale_i[b] = top
        if top >= INFINITE:
            scale_B[b] = np.float32(np.inf)
            continue
        scale_B[b] = scale_B[b] / TOP8
        if scale_B[b] < SCALE8_MIN:
            scale_B[b] = ZERO
        divisor = scale_B[b] if scale_B[b] > ZERO else np.float32(np.inf)
        if dithered:
            for i in range(256):
                number = noisy(x_BE[b, i] / divisor, b * 256 + i, salt)
                code_BE[b, i] = np.int8(max(min(number, np.int32(127)), np.int32(-127)))
        else:
            for i in range(256):
                code_BE[b, i] = np.int8(nearest(x_BE[b, i] / divisor))


@compiled
def decode_int8(code_BE: Any, scale_B: Any, out_BE: Any) -> None:
    """Numbers times the scale."""
    for b in range(code_BE.shape[0]):
        scale = scale_B[b]
        for i in range(256):
            out_BE[b, i] = np.float32(code_BE[b, i]) * scale
