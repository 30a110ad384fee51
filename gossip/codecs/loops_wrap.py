"""Compiled loops of the wrap-around codes; see ``loops`` for how all of them are written.

``steps`` to encode: the table, its bits, the bits of the largest value each step can code; to
decode: the table, and the bits of what lies too far off. ``heads``: the bytes of steps and sums.
"""

from __future__ import annotations

from typing import Any, Final

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
    below,
    compiled,
    inlined,
    nearest,
    noisy,
    pack,
)

REACH3: Final = np.float32(4.0)
REACH4: Final = np.float32(8.0)
REACH8: Final = np.float32(128.0)
"""So many steps codes of 3, 4 and 8 bits reach."""
FARTHER: Final = np.float32(1.25)
"""``blocks.PUT_RIGHT_REACH``."""
OUTER_COUNT: Final = np.int32(16)
"""The same of ``blocks``."""


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
def _read3(code: Any, y: Any) -> Any:
    """The whole number next to ``y`` whose low three bits are ``code``."""
    under = below(y)
    ahead = np.int32(np.int32(np.int32(code - under) + THREE) & np.int32(7))
    return np.int32(under + np.int32(ahead - THREE))


@inlined
def _read4(code: Any, y: Any) -> Any:
    """The whole number next to ``y`` whose low four bits are ``code``."""
    under = below(y)
    ahead = np.int32(np.int32(np.int32(code - under) + np.int32(7)) & LOW4)
    return np.int32(under + np.int32(ahead - np.int32(7)))


@inlined
def _read8(code: Any, y: Any) -> Any:
    """The whole number next to ``y`` whose low eight bits are ``code``."""
    under = below(y)
    ahead = np.int32(np.int32(np.int32(code - under) + np.int32(127)) & np.int32(255))
    return np.int32(under + np.int32(ahead - np.int32(127)))


@inlined
def _missed(missing: Any) -> Any:
    """Which element a checksum misses that is an odd ``missing`` short, and whether it has to turn
    forward; see ``blocks._named``."""
    forward = missing < np.int32(126) or missing == np.int32(129)
    weight = missing if forward else np.int32(256) - missing
    return min((weight - np.int32(1)) // TWO, np.int32(63)), forward


@inlined
def _put_right(read: Any, y: Any, forward: Any, reach: Any) -> Any:
    """Where the element that a checksum names is read, in steps; and whether it may be there."""
    ahead = reach if forward else -reach
    near = abs((np.float32(read) + np.float32(2.0) * ahead) - y) <= FARTHER * reach
    return y + ahead, near


@inlined
def _is_like_own(own_BE: Any, est_BE: Any, b: Any, half: Any) -> Any:
    """Whether few elements differ by more than half of what a code reaches."""
    count = np.int32(0)
    for i in range(64):
        count = np.int32(
            count + (np.int32(1) if abs(est_BE[b, i] - own_BE[b, i]) > half else np.int32(0))
        )
    return count <= OUTER_COUNT


@inlined
def _keep_own(own_BE: Any, est_BE: Any, b: Any) -> Any:
    """Of a block that wrapped the receiver's own values are left."""
    for i in range(64):
        est_BE[b, i] = own_BE[b, i]


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
                low = _read4(byte & LOW4, own_BE[b, j] * inverse)
                high = _read4(byte >> FOUR, own_BE[b, j + 32] * inverse)
                turned = turn_weight(low, FOUR, 2 * j + 1) + turn_weight(high, FOUR, 2 * j + 65)
                total = np.int32(total + np.int32(turned))
                est_BE[b, j] = np.float32(low) * step
                est_BE[b, j + 32] = np.float32(high) * step
            last = _read4(np.int32(code_BS[b, 31]) >> FOUR, own_BE[b, 63] * inverse)
            total = np.int32(total + turn_weight(last, FOUR, 2))
            missing = np.int32(np.int32(sum_B[b]) - total) & np.int32(255)
            if missing & np.int32(1):
                i, forward = _missed(missing)
                byte = np.int32(code_BS[b, i & np.int32(31)])
                y = own_BE[b, i] * inverse
                read = _read4(byte & LOW4 if i < np.int32(32) else byte >> FOUR, y)
                there, near = _put_right(read, y, forward, REACH4)
                if near and _is_like_own(own_BE, est_BE, b, step * (REACH4 / np.float32(2.0))):
                    est_BE[b, i] = there * step
                    missing = np.int32(0)
            wrapped = missing != np.int32(0)
        wrapped_B[b] = wrapped
        if wrapped:
            _keep_own(own_BE, est_BE, b)


@compiled
def decode_wrap8(
    own_BE: Any, own_i: Any, steps: Any, heads: Any, code_BS: Any, est_BE: Any, wrapped_B: Any
) -> None:
    """See ``decode_wrap4``."""
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
                quotient = _read8(np.int32(code_BS[b, i]), own_BE[b, i] * inverse)
                total = np.int32(total + turn_weight(quotient, EIGHT, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read8(np.int32(code_BS[b, 63]), own_BE[b, 63] * inverse)
            total = np.int32(total + turn_weight(last, EIGHT, 2))
            missing = np.int32(np.int32(sum_B[b]) - total) & np.int32(255)
            if missing & np.int32(1):
                i, forward = _missed(missing)
                y = own_BE[b, i] * inverse
                read = _read8(np.int32(code_BS[b, i]), y)
                there, near = _put_right(read, y, forward, REACH8)
                if near and _is_like_own(own_BE, est_BE, b, step * (REACH8 / np.float32(2.0))):
                    est_BE[b, i] = there * step
                    missing = np.int32(0)
            wrapped = missing != np.int32(0)
        wrapped_B[b] = wrapped
        if wrapped:
            _keep_own(own_BE, est_BE, b)


@compiled
def decode_wrap3(
    own_BE: Any, own_i: Any, steps: Any, heads: Any, code_BS: Any, est_BE: Any, wrapped_B: Any
) -> None:
    """See ``decode_wrap4``."""
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
                quotient = _read3(code[i], own_BE[b, i] * inverse)
                total = np.int32(total + turn_weight(quotient, THREE, 2 * i + 1))
                est_BE[b, i] = np.float32(quotient) * step
            last = _read3(code[63], own_BE[b, 63] * inverse)
            total = np.int32(total + turn_weight(last, THREE, 2))
            missing = np.int32(np.int32(sum_B[b]) - total) & np.int32(255)
            if missing & np.int32(1):
                i, forward = _missed(missing)
                y = own_BE[b, i] * inverse
                there, near = _put_right(_read3(code[i], y), y, forward, REACH3)
                if near and _is_like_own(own_BE, est_BE, b, step * (REACH3 / np.float32(2.0))):
                    est_BE[b, i] = there * step
                    missing = np.int32(0)
            wrapped = missing != np.int32(0)
        wrapped_B[b] = wrapped
        if wrapped:
            _keep_own(own_BE, est_BE, b)
