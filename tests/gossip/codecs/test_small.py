"""Codecs in blocks of 64: geometry, marks, hostile bytes, compiled loops against the reference."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codecs import (
    CHUNK_BYTES_MAX,
    OFFER_CODECS,
    REPLY_CODECS,
    STEP_ELEMENTS,
    WRAP_CODECS,
    Codec,
    WrapCodec,
    check_pair,
    kernels,
    make_codec,
    make_wrap_codec,
)
from gossip.codecs.blocks import step_table
from gossip.errors import CodeError, UsageError

LAW = settings(max_examples=40, deadline=None)
SMALL = ("int4", "int2", "sign", "topk8")
MARKING = ("int8", *SMALL)
BITS = {
    "int4": 4.25,
    "int2": 2.25,
    "sign": 1.25,
    "topk8": 1.75,
    "wrap3": 3.25,
    "wrap4": 4.25,
    "wrap8": 8.25,
}
ERROR_MAX = {"int8": 0.01, "int4": 0.13, "int2": 0.36, "sign": 0.62, "topk8": 0.8}
"""Relative root mean square error on normal values."""

needs_loops = pytest.mark.skipif(
    not kernels.AVAILABLE, reason="numba is not installed: there is nothing compiled to compare"
)


def awkward(seed: int, blocks: int) -> torch.Tensor:
    """Values over many magnitudes, with zeros of both signs, denormals and whole zero blocks."""
    generator = torch.Generator().manual_seed(seed)
    size_B = torch.exp2(torch.randint(-60, 30, (blocks, 1), generator=generator).float())
    x_BE = torch.randn(blocks, 64, generator=generator) * size_B
    x_BE[:, 3] = 0.0
    x_BE[:, 5] = -0.0
    x_BE[0] = 0.0
    x_BE[-1] = 1e-40
    return x_BE.flatten()


def coded(codec: Codec, values_N: torch.Tensor, seed: int | None = None) -> bytearray:
    """One chunk's code."""
    code = bytearray(codec.code_bytes(values_N.numel()))
    codec.encode(values_N, memoryview(code), seed)
    return code


def values_of(codec: Codec, code: bytearray, elements: int) -> torch.Tensor:
    """What a chunk's code stands for."""
    out_N = torch.full((elements,), math.nan)
    codec.decode(memoryview(code), out_N)
    return out_N


def any_codec(name: str) -> Codec | WrapCodec:
    """Either kind, by name."""
    return make_wrap_codec(name) if name in WRAP_CODECS else make_codec(name)


@pytest.mark.parametrize("name", BITS)
def test_the_geometry_is_as_the_table_says(name: str) -> None:
    """Bits a value, chunk within a mebibyte, and all cut alike, so that replies are streamed."""
    codec = any_codec(name)
    assert codec.name == name
    assert codec.code_bytes(4096) * 8 / 4096 == BITS[name]
    assert codec.chunk_elements == make_codec("int4").chunk_elements
    assert codec.chunk_bytes == codec.code_bytes(codec.chunk_elements) <= CHUNK_BYTES_MAX
    assert codec.chunk_bytes % 4 == 0


@pytest.mark.parametrize("name", MARKING)
def test_normal_values_come_back_as_well_as_stated(name: str) -> None:
    """The relative error of one trip."""
    values_N = torch.randn(1 << 16, generator=torch.Generator().manual_seed(1))
    codec = make_codec(name)
    out_N = values_of(codec, coded(codec, values_N), 1 << 16)
    assert float((out_N - values_N).norm() / values_N.norm()) < ERROR_MAX[name]


@pytest.mark.parametrize("name", MARKING)
@LAW
@given(seed=st.integers(0, 2**32), dithered=st.booleans())
def test_no_value_grows_beyond_its_block(name: str, seed: int, dithered: bool) -> None:
    """Finite for finite, and at most 1.6 times the block's largest (the outer of four levels)."""
    values_N = awkward(seed, 8)
    codec = make_codec(name)
    out_N = values_of(codec, coded(codec, values_N, 9 if dithered else None), values_N.numel())
    width = 256 if name == "int8" else 64
    largest_B = values_N.view(-1, width).abs().amax(dim=1, keepdim=True)
    assert bool((out_N.view(-1, width).abs() <= 1.6 * largest_B).all())


@pytest.mark.parametrize("name", MARKING)
@LAW
@given(seed=st.integers(0, 2**32))
def test_marks_come_back_and_marked_blocks_are_zero(name: str, seed: int) -> None:
    """Exactly the marked blocks of 64; with int8, their whole block of 256."""
    values_N = torch.randn(1024, generator=torch.Generator().manual_seed(seed))
    skip_B = torch.rand(16, generator=torch.Generator().manual_seed(seed + 1)) < 0.2
    codec = make_codec(name)
    code = bytearray(codec.code_bytes(1024))
    codec.encode(values_N, memoryview(code), None, skip_B)

    expected_B = skip_B
    if name == "int8":
        expected_B = skip_B.view(-1, 4).any(dim=1).repeat_interleave(4)
    assert torch.equal(codec.skipped(memoryview(code), 1024), expected_B)
    out_BE = values_of(codec, code, 1024).view(16, 64)
    assert not out_BE[expected_B].any()
    plain_BE = values_of(codec, coded(codec, values_N), 1024).view(16, 64)
    assert torch.equal(out_BE[~expected_B], plain_BE[~expected_B])


@pytest.mark.parametrize("name", MARKING)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
def test_what_is_not_finite_or_too_large_is_refused(name: str, bad: float) -> None:
    """In any place; the error names the codec."""
    codec = make_codec(name)
    for place in (0, 63, 64, 255):
        values_N = torch.ones(256)
        values_N[place] = bad
        if bad == 1e38 and name != "topk8" and name != "int4" and name != "int8":
            continue  # a mean over the block may still be small enough
        if bad == 1e38:
            values_N[place] = 2.0**127
        with pytest.raises(CodeError, match=name):
            coded(codec, values_N)


@pytest.mark.parametrize("name", SMALL)
@LAW
@given(data=st.data())
def test_any_bytes_decode_to_finite_values_or_one_typed_error(
    name: str, data: st.DataObject
) -> None:
    """Bytes from strangers."""
    codec = make_codec(name)
    code = bytearray(
        data.draw(st.binary(min_size=codec.code_bytes(256), max_size=codec.code_bytes(256)))
    )
    try:
        out_N = values_of(codec, code, 256)
    except CodeError:
        return
    assert bool(out_N.isfinite().all())


@pytest.mark.parametrize("name", BITS)
def test_a_wrong_length_is_refused(name: str) -> None:
    """One byte more or less, before anything is read."""
    codec = any_codec(name)
    own_N, out_N = torch.zeros(256), torch.zeros(256)
    rest = (own_N, out_N, torch.zeros(4, dtype=torch.bool))
    for size in (codec.code_bytes(256) - 1, codec.code_bytes(256) + 1):
        with pytest.raises(CodeError):
            codec.decode(bytearray(size), *(rest if isinstance(codec, WrapCodec) else rest[:1]))


def wrap_trip(
    codec: WrapCodec, x_N: torch.Tensor, own_N: torch.Tensor, step_B: torch.Tensor, seed: int | None
) -> tuple[bytes, torch.Tensor, torch.Tensor]:
    """Code, estimate and wrapped blocks."""
    code = bytearray(codec.code_bytes(x_N.numel()))
    codec.encode(x_N, step_B, memoryview(code), seed)
    est_N = torch.full_like(own_N, math.nan)
    wrapped_B = torch.zeros(step_B.numel(), dtype=torch.bool)
    codec.decode(memoryview(code), own_N, est_N, wrapped_B)
    return bytes(code), est_N, wrapped_B


@pytest.mark.parametrize("name", WRAP_CODECS)
@LAW
@given(seed=st.integers(0, 2**32))
def test_neighbors_read_each_other_through_the_wire(name: str, seed: int) -> None:
    """With steps that reach: no wraps, errors of a step at most (the table rounds steps up)."""
    generator = torch.Generator().manual_seed(seed)
    codec = make_wrap_codec(name)
    x_N = torch.randn(1024, generator=generator) * 5
    difference_N = torch.randn(1024, generator=generator) * 1e-3
    peak_B = difference_N.view(-1, STEP_ELEMENTS).abs().amax(dim=1)
    step_B = 2 * peak_B / (1 << (codec.bits - 1))

    _, est_N, wrapped_B = wrap_trip(codec, x_N, x_N + difference_N, step_B, None)

    assert not wrapped_B.any()
    bound_B = torch.maximum(step_B, torch.tensor(2.0**-20 * 25))
    assert bool(((est_N - x_N).view(-1, 64).abs() <= bound_B[:, None]).all())


@pytest.mark.parametrize("name", WRAP_CODECS)
def test_hopeless_steps_are_survived(name: str) -> None:
    """Zero, negative, NaN, infinite steps: coded with what the table has, and read to the step."""
    codec = make_wrap_codec(name)
    x_N = torch.randn(256, generator=torch.Generator().manual_seed(2))
    step_B = torch.tensor([0.0, -1.0, math.nan, math.inf])
    _, est_N, wrapped_B = wrap_trip(codec, x_N, x_N, step_B, None)
    assert bool(est_N.isfinite().all())
    assert not wrapped_B.any()


@pytest.mark.parametrize("name", WRAP_CODECS)
def test_values_no_step_can_code_are_refused(name: str) -> None:
    """NaN, infinity, and what lies beyond 2^21 of the largest steps."""
    codec = make_wrap_codec(name)
    for bad in (math.nan, -math.inf, 1e30):
        x_N = torch.zeros(256)
        x_N[200] = bad
        with pytest.raises(CodeError, match=name):
            wrap_trip(codec, x_N, torch.zeros(256), torch.ones(4), None)


FORMS = [pytest.param(True, marks=needs_loops, id="compiled"), pytest.param(False, id="torch")]


@pytest.mark.parametrize("compiled", FORMS)
@pytest.mark.parametrize("name", WRAP_CODECS)
@LAW
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_any_bytes_stay_within_reach_of_the_own_values(
    compiled: bool, name: str, data: st.DataObject, seed: int
) -> None:
    """A stranger's code moves no value by more than half of its reach, 2^(b - 1) steps, and never
    to infinity; where own values lie too far off to be compared with its steps, by nothing."""
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "AVAILABLE", compiled)
        codec = make_wrap_codec(name)
        code = bytearray(rng.randbytes(codec.code_bytes(256)))
        for block in range(data.draw(st.integers(0, 4))):
            code[block] = rng.choice((0, 255))
        own_N = awkward(seed, 4)
        est_N = torch.full_like(own_N, math.nan)
        wrapped_B = torch.zeros(4, dtype=torch.bool)
        codec.decode(memoryview(code), own_N, est_N, wrapped_B)
    step_B = step_table()[torch.tensor(list(code[:4]))]
    reach_N = ((1 << (codec.bits - 1)) * step_B).repeat_interleave(64)
    assert bool(est_N.isfinite().all())
    assert torch.equal(est_N.view(4, 64)[wrapped_B], own_N.view(4, 64)[wrapped_B])
    assert bool(((est_N - own_N).abs() <= reach_N * (1 + 1e-6) + own_N.abs() * 1e-6).all())
    far_B = own_N.view(4, 64).abs().amax(dim=1) > 2.0**23 * step_B
    assert bool(wrapped_B[far_B].all())


@needs_loops
@pytest.mark.parametrize("name", ["int8", "int4", "int2", *WRAP_CODECS])
@LAW
@given(seed=st.integers(0, 2**32), dither=st.none() | st.integers(0, 2**32), close=st.booleans())
def test_compiled_loops_are_the_reference_bit_for_bit(
    name: str, seed: int, dither: int | None, close: bool
) -> None:
    """Codes, values and marks, for values of all sizes and both kinds of rounding."""
    x_N = awkward(seed, 12)
    difference_N = 0.01 * x_N.flip(0) if close else 3 * x_N.roll(7)
    own_N = x_N + difference_N
    step_B = difference_N.view(-1, 64).abs().amax(dim=1) * 0.1
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for compiled in (True, False):
            patch.setattr(kernels, "AVAILABLE", compiled)
            codec = any_codec(name)
            if isinstance(codec, WrapCodec):
                results.append(wrap_trip(codec, x_N, own_N, step_B, dither))
            else:
                code = coded(codec, x_N, dither)
                out_N = values_of(codec, code, x_N.numel())
                results.append((bytes(code), out_N, codec.skipped(code, x_N.numel())))
    (code, out_N, marks_B), (code_too, out_too_N, marks_too_B) = results
    assert code == code_too
    assert torch.equal(out_N, out_too_N)
    assert torch.equal(marks_B, marks_too_B)


def normal_trip(
    codec: WrapCodec, seed: int, reach_sigma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """64 blocks whose differences are normal, read in steps that reach so many deviations: the
    estimate, the blocks that wrapped, and those with an element well beyond reach."""
    generator = torch.Generator().manual_seed(seed)
    own_N = torch.randn(64 * 64, generator=generator)
    x_N = own_N + 1e-3 * torch.randn(64 * 64, generator=generator)
    step_B = torch.full((64,), 1e-3 * reach_sigma / (1 << (codec.bits - 1)))
    _, est_N, wrapped_B = wrap_trip(codec, x_N, own_N, step_B, None)
    beyond_BE = (x_N - own_N).view(64, 64).abs() > 1.2e-3 * reach_sigma
    return est_N, wrapped_B, beyond_BE.any(dim=1)


@needs_loops
@pytest.mark.parametrize("name", WRAP_CODECS)
@LAW
@given(seed=st.integers(0, 2**32), reach_sigma=st.floats(2.0, 3.2))
def test_compiled_loops_put_the_same_elements_right(
    name: str, seed: int, reach_sigma: float
) -> None:
    """In some blocks one element is beyond reach, in some more are, in some none."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for compiled in (True, False):
            patch.setattr(kernels, "AVAILABLE", compiled)
            found.append(normal_trip(make_wrap_codec(name), seed, reach_sigma))
    (est_N, wrapped_B, _), (est_too_N, wrapped_too_B, _) = found
    assert torch.equal(est_N, est_too_N)
    assert torch.equal(wrapped_B, wrapped_too_B)


@needs_loops
def test_loops_and_reference_believe_the_same() -> None:
    """Their constants are written down twice, as numba wants them."""
    from gossip.codecs import blocks, loops_wrap

    assert [loops_wrap.REACH3, loops_wrap.REACH4, loops_wrap.REACH8] == [4, 8, 128]
    assert loops_wrap.FARTHER == blocks.PUT_RIGHT_REACH
    assert loops_wrap.OUTER_COUNT == blocks.OUTER_COUNT


@pytest.mark.parametrize("name", WRAP_CODECS)
def test_some_blocks_are_put_right_and_some_are_skipped(name: str) -> None:
    """So that the law above is not about nothing."""
    _, wrapped_B, beyond_B = normal_trip(make_wrap_codec(name), 1, 2.4)
    assert bool((beyond_B & ~wrapped_B).any())
    assert bool((beyond_B & wrapped_B).any())


def test_only_pairs_that_make_sense_are_taken() -> None:
    """And what is wrong is said, with what would be right."""
    for offer in OFFER_CODECS:
        for reply in REPLY_CODECS:
            if offer in WRAP_CODECS and reply in ("fp32", "bf16"):
                with pytest.raises(UsageError, match="int8 or int4"):
                    check_pair(offer, reply)
            else:
                check_pair(offer, reply)
    with pytest.raises(UsageError, match="differences"):
        check_pair("int4", "int4")
    with pytest.raises(UsageError, match="unknown codec 'int5'"):
        check_pair("int5", "int4")
    with pytest.raises(UsageError, match="unknown codec 'wrap4' for replies"):
        check_pair("wrap4", "wrap4")
    with pytest.raises(UsageError, match="wrap8, wrap4, wrap3"):
        make_wrap_codec("int8")
