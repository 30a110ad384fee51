"""Compiled loops of the wrap-around codes; see ``loops`` for how all of them are written.

``steps`` to encode: the table, its bits, the bits of the largest value each step can code; to
decode: the table, and the bits of what lies too far off. ``heads``: the bytes of steps and sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gossip.codecs.loops import (
    EIGHT,
    FOUR,
    INFINITE,
    LOW4,
    MAGNITUDE,
    ONE,
    THREE,
    TWO,
    compiled,
    inlined,
    nearest,
    noisy,
    pack,
)


@inlined
def turn_weight(quotient: Any, bits: Any, weight: Any) -> Any:
    """A quotient's part of the checksum. The last element's weight is 2 more than the row's
    (``blocks.checksum_B``); that is added after the loop, which would be half as fast with it."""
    return np.int32(np.int32(quotient >> bits) * np.int32(weight))


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
                low = noisy(x_BE[b, j] * inverse, b * 64 + j, salt)
                high = noisy(x_BE[b, j + 32] * inverse, b * 64 + j + 32, salt)
                turned = turn_weight(low, FOUR, 2 * j + 1) + turn_weight(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                code_BS[b, j] = pack(low, high)
        else:
            for j in range(32):
                low = nearest(x_BE[b, j] * inverse)
                high = nearest(x_BE[b, j + 32] * inverse)
                turned = turn_weight(low, FOUR, 2 * j + 1) + turn_weight(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                code_BS[b, j] = pack(low, high)
        if dithered:
            last = noisy(x_BE[b, 63] * inverse, b * 64 + 63, salt)
        else:
            last = nearest(x_BE[b, 63] * inverse)
        total = np.int32(total + turn_weight(last, FOUR, 2))
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
                quotient = noisy(x_BE[b, i] * inverse, b * 64 + i, salt)
                total = np.int32(total + turn_weight(quotient, EIGHT, 2 * i + 1))
                code_BS[b, i] = np.uint8(quotient)
        else:
            for i in range(64):
                quotient = nearest(x_BE[b, i] * inverse)
                total = np.int32(total + turn_weight(quotient, EIGHT, 2 * i + 1))
                code_BS[b, i] = np.uint8(quotient)
        if dithered:
            last = noisy(x_BE[b, 63] * inverse, b * 64 + 63, salt)
        else:
            last = nearest(x_BE[b, 63] * inverse)
        total = np.int32(total + turn_weight(last, EIGHT, 2))
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
                quotient[i] = noisy(x_BE[b, i] * inverse, b * 64 + i, salt)
        else:
            for i in range(64):
                quotient[i] = nearest(x_BE[b, i] * inverse)
        total = np.int32(0)
        for i in range(64):
            total = np.int32(total + turn_weight(quotient[i], THREE, 2 * i + 1))
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
        total = np.int32(total + turn_weight(quotient[63], THREE, 2))
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
                low = _read4(byte & LOW4, nearest(own_BE[b, j] * inverse))
                high = _read4(byte >> FOUR, nearest(own_BE[b, j + 32] * inverse))
                turned = turn_weight(low, FOUR, 2 * j + 1) + turn_weight(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                est_BE[b, j] = np.float32(low) * step
                est_BE[b, j + 32] = np.float32(high) * step
            last = _read4(np.int32(code_BS[b, 31]) >> FOUR, nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + turn_weight(last, FOUR, 2))
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
                own = nearest(own_BE[b, i] * inverse)
                quotient = _read8(np.int32(code_BS[b, i]), own)
                total = np.int32(total + turn_weight(quotient, EIGHT, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read8(np.int32(code_BS[b, 63]), nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + turn_weight(last, EIGHT, 2))
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
                quotient = _read3(code[i], nearest(own_BE[b, i] * inverse))
                total = np.int32(total + turn_weight(quotient, THREE, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read3(code[63], nearest(own_BE[b, 63] * inverse))
            total = np.int32(total + turn_weight(last, THREE, 2))
            wrapped = np.uint8(total & np.int32(255)) != sum_B[b]
        wrapped_B[b] = wrapped
        if wrapped:
            for i in range(64):
                est_BE[b, i] = own_BE[b, i]
