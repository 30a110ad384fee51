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
def _nearest(y: Any) -> Any:
    return np.int32((y + MAGIC) - MAGIC)


@inlined
def _noisy(y: Any, place: Any, salt: Any) -> Any:
    """floor(y + noise) for |y| below 2^22; the noise is that of ``blocks.dither_BE``."""
    x = np.uint32(np.uint32(place) * np.uint32(0x9E3779B1) + salt)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    raised = y + np.float32(np.int32(x >> np.uint32(8))) * TICK
    near = (raised + MAGIC) - MAGIC
    return np.int32(near - (ONE if near > raised else ZERO))


@inlined
def _pack(low: Any, high: Any) -> Any:
    return np.uint8((low & LOW4) | ((high & LOW4) << FOUR))


@inlined
def _turned(quotient: Any, bits: Any, weight: Any) -> Any:
    """A quotient's part of the checksum. The last element's weight is 2 more than the row's
    (``blocks.checksum_B``); that is added after the loop, which would be half as fast with it."""
    return np.int32(np.int32(quotient >> bits) * np.int32(weight))


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
                low = _noisy(x_BE[b, j] * inverse, b * 64 + j, salt)
                high = _noisy(x_BE[b, j + 32] * inverse, b * 64 + j + 32, salt)
                low = max(min(low, np.int32(7)), np.int32(-7))
                high = max(min(high, np.int32(7)), np.int32(-7))
                code_BS[b, j] = _pack(low, high)
        else:
            for j in range(32):
                low = _nearest(x_BE[b, j] * inverse)
                code_BS[b, j] = _pack(low, _nearest(x_BE[b, j + 32] * inverse))


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
                number = _noisy(x_BE[b, i] / divisor, b * 256 + i, salt)
                code_BE[b, i] = np.int8(max(min(number, np.int32(127)), np.int32(-127)))
        else:
            for i in range(256):
                code_BE[b, i] = np.int8(_nearest(x_BE[b, i] / divisor))


@compiled
def decode_int8(code_BE: Any, scale_B: Any, out_BE: Any) -> None:
    """Numbers times the scale."""
    for b in range(code_BE.shape[0]):
        scale = scale_B[b]
        for i in range(256):
            out_BE[b, i] = np.float32(code_BE[b, i]) * scale


@inlined
def _step_index(wanted_i: Any, top: Any, table_i: Any, reach_i: Any) -> Any:
    """The first step of the table that is at least the one wanted, and reaches ``top``."""
    low, high = 0, 255
    while low < high:
        middle = (low + high) // 2
        if table_i[middle] < wanted_i or reach_i[middle] < top:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _finite_step(step_i: Any) -> Any:
    """The step's bits; those of zero for what is negative or not a number."""
    return step_i if np.int32(0) <= step_i <= INFINITE else np.int32(0)


@compiled
def encode_wrap4(
    x_BE: Any, x_i: Any, step_i: Any, steps: Any, heads: Any, code_BS: Any, dithered: bool,
    seed: int,
) -> bool:  # fmt: skip
    """See ``blocks.wrap_code_BE`` and ``checksum_B``; False when a value is out of reach.

    ``steps``: the table, its bits, the bits of the largest value each step can code. ``heads``: the
    bytes of steps and checksums.
    """
    table, table_i, reach_i = steps
    index_B, sum_B = heads
    salt = np.uint32(seed)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, x_i[b, i] & MAGNITUDE)
        if top > reach_i[255]:
            return False
        index = _step_index(_finite_step(step_i[b]), top, table_i, reach_i)
        inverse = ONE / table[index]
        total = np.int32(0)
        if dithered:
            for j in range(32):
                low = _noisy(x_BE[b, j] * inverse, b * 64 + j, salt)
                high = _noisy(x_BE[b, j + 32] * inverse, b * 64 + j + 32, salt)
                turned = _turned(low, FOUR, 2 * j + 1) + _turned(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                code_BS[b, j] = _pack(low, high)
        else:
            for j in range(32):
                low = _nearest(x_BE[b, j] * inverse)
                high = _nearest(x_BE[b, j + 32] * inverse)
                turned = _turned(low, FOUR, 2 * j + 1) + _turned(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                code_BS[b, j] = _pack(low, high)
        if dithered:
            last = _noisy(x_BE[b, 63] * inverse, b * 64 + 63, salt)
        else:
            last = _nearest(x_BE[b, 63] * inverse)
        total = np.int32(total + _turned(last, FOUR, 2))
        index_B[b] = np.uint8(index)
        sum_B[b] = np.uint8(total & np.int32(255))
    return True


@compiled
def encode_wrap8(
    x_BE: Any, x_i: Any, step_i: Any, steps: Any, heads: Any, code_BS: Any, dithered: bool,
    seed: int,
) -> bool:  # fmt: skip
    """As ``encode_wrap4``, with a byte an element."""
    table, table_i, reach_i = steps
    index_B, sum_B = heads
    salt = np.uint32(seed)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, x_i[b, i] & MAGNITUDE)
        if top > reach_i[255]:
            return False
        index = _step_index(_finite_step(step_i[b]), top, table_i, reach_i)
        inverse = ONE / table[index]
        total = np.int32(0)
        if dithered:
            for i in range(64):
                quotient = _noisy(x_BE[b, i] * inverse, b * 64 + i, salt)
                total = np.int32(total + _turned(quotient, EIGHT, 2 * i + 1))
                code_BS[b, i] = np.uint8(quotient)
        else:
            for i in range(64):
                quotient = _nearest(x_BE[b, i] * inverse)
                total = np.int32(total + _turned(quotient, EIGHT, 2 * i + 1))
                code_BS[b, i] = np.uint8(quotient)
        if dithered:
            last = _noisy(x_BE[b, 63] * inverse, b * 64 + 63, salt)
        else:
            last = _nearest(x_BE[b, 63] * inverse)
        total = np.int32(total + _turned(last, EIGHT, 2))
        index_B[b] = np.uint8(index)
        sum_B[b] = np.uint8(total & np.int32(255))
    return True


@compiled
def encode_wrap3(
    x_BE: Any, x_i: Any, step_i: Any, steps: Any, heads: Any, code_BS: Any, dithered: bool,
    seed: int,
) -> bool:  # fmt: skip
    """As ``encode_wrap4``; the low two bits in pairs, then the third ones."""
    table, table_i, reach_i = steps
    index_B, sum_B = heads
    salt = np.uint32(seed)
    quotient = np.empty(64, np.int32)
    for b in range(x_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, x_i[b, i] & MAGNITUDE)
        if top > reach_i[255]:
            return False
        index = _step_index(_finite_step(step_i[b]), top, table_i, reach_i)
        inverse = ONE / table[index]
        if dithered:
            for i in range(64):
                quotient[i] = _noisy(x_BE[b, i] * inverse, b * 64 + i, salt)
        else:
            for i in range(64):
                quotient[i] = _nearest(x_BE[b, i] * inverse)
        total = np.int32(0)
        for i in range(64):
            total = np.int32(total + _turned(quotient[i], THREE, 2 * i + 1))
        for j in range(16):
            low = (quotient[j] & THREE) | ((quotient[j + 16] & THREE) << TWO)
            high = (quotient[j + 32] & THREE) | ((quotient[j + 48] & THREE) << TWO)
            code_BS[b, j] = np.uint8(low | (high << FOUR))
        for j in range(8):
            byte = np.int32(0)
            for k in range(8):
                bit = (quotient[j + 8 * k] >> TWO) & np.int32(1)
                byte = byte | np.int32(bit << np.int32(k))
            code_BS[b, 16 + j] = np.uint8(byte)
        total = np.int32(total + _turned(quotient[63], THREE, 2))
        index_B[b] = np.uint8(index)
        sum_B[b] = np.uint8(total & np.int32(255))
    return True


@inlined
def _read3(code: Any, own: Any) -> Any:
    """The quotient next to ``own`` whose low three bits are ``code``."""
    ahead = np.int32(np.int32(np.int32(code - own) + FOUR) & np.int32(7))
    return np.int32(own + np.int32(ahead - FOUR))


@inlined
def _read4(code: Any, own: Any) -> Any:
    """The quotient next to ``own`` whose low four bits are ``code``."""
    ahead = np.int32(np.int32(np.int32(code - own) + EIGHT) & LOW4)
    return np.int32(own + np.int32(ahead - EIGHT))


@inlined
def _read8(code: Any, own: Any) -> Any:
    """The quotient next to ``own`` whose low eight bits are ``code``."""
    ahead = np.int32(np.int32(np.int32(code - own) + np.int32(128)) & np.int32(255))
    return np.int32(own + np.int32(ahead - np.int32(128)))


@compiled
def decode_wrap4(
    own_BE: Any, own_i: Any, steps: Any, heads: Any, code_BS: Any, est_BE: Any, wrapped_B: Any
) -> None:
    """See ``blocks.unwrap``; ``steps``: the table, and the bits of what lies too far off."""
    table, far_i = steps
    index_B, sum_B = heads
    for b in range(own_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, own_i[b, i] & MAGNITUDE)
        wrapped = top >= far_i[index_B[b]]
        if not wrapped:
            step = table[index_B[b]]
            inverse = ONE / step
            total = np.int32(0)
            for j in range(32):
                byte = np.int32(code_BS[b, j])
                low = _read4(byte & LOW4, _nearest(own_BE[b, j] * inverse))
                high = _read4(byte >> FOUR, _nearest(own_BE[b, j + 32] * inverse))
                turned = _turned(low, FOUR, 2 * j + 1) + _turned(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                est_BE[b, j] = np.float32(low) * step
                est_BE[b, j + 32] = np.float32(high) * step
            last = _read4(np.int32(code_BS[b, 31]) >> FOUR, _nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + _turned(last, FOUR, 2))
            wrapped = np.uint8(total & np.int32(255)) != sum_B[b]
        wrapped_B[b] = wrapped
        if wrapped:
            for i in range(64):
                est_BE[b, i] = own_BE[b, i]


@compiled
def decode_wrap8(
    own_BE: Any, own_i: Any, steps: Any, heads: Any, code_BS: Any, est_BE: Any, wrapped_B: Any
) -> None:
    """See ``blocks.unwrap``; ``steps``: the table, and the bits of what lies too far off."""
    table, far_i = steps
    index_B, sum_B = heads
    for b in range(own_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, own_i[b, i] & MAGNITUDE)
        wrapped = top >= far_i[index_B[b]]
        if not wrapped:
            step = table[index_B[b]]
            inverse = ONE / step
            total = np.int32(0)
            for i in range(64):
                own = _nearest(own_BE[b, i] * inverse)
                quotient = _read8(np.int32(code_BS[b, i]), own)
                total = np.int32(total + _turned(quotient, EIGHT, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read8(np.int32(code_BS[b, 63]), _nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + _turned(last, EIGHT, 2))
            wrapped = np.uint8(total & np.int32(255)) != sum_B[b]
        wrapped_B[b] = wrapped
        if wrapped:
            for i in range(64):
                est_BE[b, i] = own_BE[b, i]


@compiled
def decode_wrap3(
    own_BE: Any, own_i: Any, steps: Any, heads: Any, code_BS: Any, est_BE: Any, wrapped_B: Any
) -> None:
    """See ``blocks.unwrap``."""
    table, far_i = steps
    index_B, sum_B = heads
    code = np.empty(64, np.int32)
    for b in range(own_BE.shape[0]):
        top = np.int32(0)
        for i in range(64):
            top = max(top, own_i[b, i] & MAGNITUDE)
        wrapped = top >= far_i[index_B[b]]
        if not wrapped:
            for j in range(16):
                byte = np.int32(code_BS[b, j])
                code[j] = byte & THREE
                code[j + 16] = (byte >> TWO) & THREE
                code[j + 32] = (byte >> FOUR) & THREE
                code[j + 48] = byte >> np.int32(6)
            for k in range(8):
                for j in range(8):
                    bit = (np.int32(code_BS[b, 16 + j]) >> np.int32(k)) & np.int32(1)
                    code[j + 8 * k] = code[j + 8 * k] | np.int32(bit << TWO)
            step = table[index_B[b]]
            inverse = ONE / step
            total = np.int32(0)
            for i in range(64):
                quotient = _read3(code[i], _nearest(own_BE[b, i] * inverse))
                total = np.int32(total + _turned(quotient, THREE, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read3(code[63], _nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + _turned(last, THREE, 2))
            wrapped = np.uint8(total & np.int32(255)) != sum_B[b]
        wrapped_B[b] = wrapped
        if wrapped:
            for i in range(64):
                est_BE[b, i] = own_BE[b, i]
