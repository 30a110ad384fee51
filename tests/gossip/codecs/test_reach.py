"""What a wrap-around code can do to its receiver: no value is moved by more than its step allows.

Codes, checksums and steps are a stranger's; own values lie anywhere, also where quotients are not
exact any more. Every law is about both the reference on torch and the compiled loops.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codecs import STEP_ELEMENTS, WRAP_CODECS, WrapCodec, blocks, kernels, make_wrap_codec
from gossip.codecs.wrap import pack_

LAW = settings(max_examples=40, deadline=None)
SUMS = 256
"""All that a checksum can be: each block comes with every one of them."""

OCTAVES_AWAY = (-2.0, 3.0, 10.0, 18.0, 21.9, 22.0, 22.1, 24.0, 40.0)
"""How far the largest own value of a block is from zero: 2^this steps. From 22 on it cannot be
compared."""

ROUNDED_STEPS_MAX = 2 / 3
"""Of the quotient (twice, an eighth each), the reciprocal in it (0.144 for the worst in the table)
and the estimate (a quarter), 2^22 steps from zero; 0.34 together is the most that was seen."""

needs_loops = pytest.mark.skipif(
    not kernels.AVAILABLE, reason="numba is not installed: there is nothing compiled to test"
)
ways = pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_loops)])


def hostile(codec: WrapCodec, seed: int, index: int, close: bool) -> tuple[bytearray, torch.Tensor]:
    """A chunk of random codes in steps of this index of the table, and the own values next to
    which it is read: for each of OCTAVES_AWAY one block, SUMS times. ``close``: most codes are
    those of nearly the own values, so that a block in which one wrapped is believed."""
    generator = torch.Generator().manual_seed(seed)
    shape, step = (len(OCTAVES_AWAY), STEP_ELEMENTS), float(blocks.step_table()[index])
    own_BE = 2 * torch.rand(shape, generator=generator) - 1
    own_BE[:, seed % STEP_ELEMENTS] = 1.0 if seed % 2 else -1.0
    own_BE *= (step * torch.tensor(OCTAVES_AWAY).exp2())[:, None]
    reach = 1 << (codec.bits - 1)
    off_BE = torch.randint(1 - reach, reach, shape, generator=generator)
    if close:
        near_BE = torch.rand(shape, generator=generator) < 0.75
        off_BE = torch.where(near_BE, off_BE // 4, off_BE)
    quotient_BE = (own_BE.double() / step).floor().to(torch.int64) + off_BE
    code_BS = torch.empty(shape[0], STEP_ELEMENTS * codec.bits // 8, dtype=torch.uint8)
    pack_((quotient_BE & (2 * reach - 1)).to(torch.int32), codec.bits, code_BS)
    index_B = torch.full((shape[0] * SUMS,), index, dtype=torch.uint8)
    sum_B = torch.arange(SUMS).to(torch.uint8).repeat(shape[0])
    parts = (index_B, sum_B, code_BS.repeat_interleave(SUMS, dim=0).flatten())
    return bytearray(torch.cat(parts).numpy()), own_BE.repeat_interleave(SUMS, dim=0).flatten()


def read(
    codec: WrapCodec, code: bytearray, own_N: torch.Tensor, compiled: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate and wrapped blocks."""
    est_N = torch.full_like(own_N, math.nan)
    wrapped_B = torch.zeros(own_N.numel() // STEP_ELEMENTS, dtype=torch.bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "AVAILABLE", compiled)
        codec.decode(memoryview(code), own_N, est_N, wrapped_B)
    return est_N, wrapped_B


@ways
@pytest.mark.parametrize("name", WRAP_CODECS)
@LAW
@given(seed=st.integers(0, 2**32), index=st.integers(0, 255), close=st.booleans())
def test_no_code_moves_a_value_farther_than_it_reaches(
    name: str, compiled: bool, seed: int, index: int, close: bool
) -> None:
    """By 2^(b - 1) steps at most, and what four fp32 operations round by: two thirds of a step
    where quotients are largest. What was skipped, and what lies 2^22 steps away or farther, stays
    as it is to the bit."""
    codec = make_wrap_codec(name)
    code, own_N = hostile(codec, seed, index, close)
    est_N, wrapped_B = read(codec, code, own_N, compiled)

    step = float(blocks.step_table()[index])
    moved_BE = (est_N.double() - own_N.double()).abs().view(-1, STEP_ELEMENTS)
    reach = (1 << (codec.bits - 1)) * step
    rounded_BE = (own_N.double().abs().view_as(moved_BE) + reach) * 4 * 2.0**-24
    assert bool((moved_BE <= reach + rounded_BE.clamp(max=ROUNDED_STEPS_MAX * step)).all())
    assert not moved_BE[wrapped_B].any()
    far_O = torch.tensor(OCTAVES_AWAY) >= 22
    wrapped_OS = wrapped_B.view(-1, SUMS)
    assert bool(wrapped_OS[far_O].all())
    assert bool((~wrapped_OS[~far_O]).any(dim=1).all()), "a checksum fits, or it says nothing"


@ways
@pytest.mark.parametrize("name", WRAP_CODECS)
def test_some_hostile_codes_are_put_right(name: str, compiled: bool) -> None:
    """So that the law above is about these, too: each fits one checksum, and some fit more."""
    codec = make_wrap_codec(name)
    code, own_N = hostile(codec, 1, 100, True)
    _, wrapped_B = read(codec, code, own_N, compiled)
    near = sum(octaves < 22 for octaves in OCTAVES_AWAY)
    assert int((~wrapped_B).sum()) > 2 * near


@needs_loops
@pytest.mark.parametrize("name", WRAP_CODECS)
@LAW
@given(seed=st.integers(0, 2**32), index=st.integers(0, 255), close=st.booleans())
def test_compiled_loops_read_hostile_codes_as_the_reference_does(
    name: str, seed: int, index: int, close: bool
) -> None:
    """Bit for bit, near and far; also where each block has a step of its own that is random."""
    codec = make_wrap_codec(name)
    code, own_N = hostile(codec, seed, index, close)
    generator = torch.Generator().manual_seed(seed)
    count = own_N.numel() // STEP_ELEMENTS
    anything = bytearray(code)
    indices_B = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8)
    anything[:count] = bytes(indices_B.tolist())
    for each in (code, anything):
        est_N, wrapped_B = read(codec, each, own_N, compiled=True)
        est_too_N, wrapped_too_B = read(codec, each, own_N, compiled=False)
        assert torch.equal(est_N.view(torch.int32), est_too_N.view(torch.int32))
        assert torch.equal(wrapped_B, wrapped_too_B)


def one_element(
    sent: torch.Tensor, own: torch.Tensor, place: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks of zeros but for one element, of which ``sent`` steps are sent and ``own`` are the
    receiver's: their quotients, and the own values in steps of one."""
    quotient_BE = torch.zeros(sent.numel(), STEP_ELEMENTS, dtype=torch.int32)
    own_BE = torch.zeros(sent.numel(), STEP_ELEMENTS)
    quotient_BE[:, place], own_BE[:, place] = sent.to(torch.int32), own
    return quotient_BE, own_BE


def all_pairs(bits: int, base: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every code, and every own value within two times 2^bits steps of ``base``, in quarters."""
    span = 2 << bits
    sent = base + torch.arange(1 << bits)
    own = base + torch.arange(-4 * span, 4 * span + 1) / 4
    pairs = torch.cartesian_prod(sent.float(), own)
    return pairs[:, 0], pairs[:, 1]


def as_it_is_read(sent: float, own: float, reach: int) -> tuple[float, bool]:
    """What is said of one element, case by case, and whether its block wrapped: it is read where
    it is within reach, as far as a code reaches where it is a quarter farther off, or not at
    all."""
    ahead = sent - own
    if -reach < ahead <= reach:
        return sent, False
    if abs(ahead) <= blocks.PUT_RIGHT_REACH * reach:
        return own + math.copysign(reach, ahead), False
    return own, True


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("place", [0, 1, 31, 62, 63])
@pytest.mark.parametrize("base", [0, -1_000, 1 << 20])
def test_every_code_next_to_every_own_value_is_read_as_said(
    bits: int, place: int, base: int
) -> None:
    """All of them for one element of a block, in any place that the checksum treats unlike."""
    sent, own = all_pairs(bits, base)
    quotient_BE, own_BE = one_element(sent, own, place)
    code_BE, sum_B = blocks.wrap_code_BE(quotient_BE, bits), blocks.checksum_B(quotient_BE, bits)
    est_BE, wrapped_B = blocks.unwrap(code_BE, sum_B, torch.ones(sent.numel()), own_BE, bits)

    said = [
        as_it_is_read(*pair, 1 << (bits - 1))
        for pair in zip(sent.tolist(), own.tolist(), strict=True)
    ]
    assert est_BE[:, place].tolist() == [value for value, _ in said]
    assert wrapped_B.tolist() == [wrapped for _, wrapped in said]
    est_BE[:, place] = 0
    assert not est_BE.any()


@pytest.mark.parametrize("bits", [2, 3])
def test_no_checksum_makes_any_code_reach_farther(bits: int) -> None:
    """Every code, every own value, every checksum: within 2^(b - 1) steps, exactly."""
    sent, own = all_pairs(bits, 0)
    quotient_BE, own_BE = one_element(sent, own, 5)
    code_BE, step_B = blocks.wrap_code_BE(quotient_BE, bits), torch.ones(sent.numel())
    passed = 0
    for lying in range(SUMS):
        lying_B = torch.full((sent.numel(),), lying, dtype=torch.int32)
        est_BE, wrapped_B = blocks.unwrap(code_BE, lying_B, step_B, own_BE, bits)
        assert float((est_BE - own_BE).abs().amax()) <= 1 << (bits - 1)
        assert torch.equal(est_BE[wrapped_B], own_BE[wrapped_B])
        passed += int((~wrapped_B).sum())
    assert passed >= sent.numel(), "one checksum fits each"
