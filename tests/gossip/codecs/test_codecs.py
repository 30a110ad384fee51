"""Codecs: round trips, bounds, and bytes from strangers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codecs import (
    BLOCK_ELEMENTS,
    CHUNK_BYTES_MAX,
    CODEC_NAMES,
    Codec,
    chunk_count,
    chunk_spans,
    decode_vector,
    make_codec,
)
from gossip.codecs.codec import check_finite
from gossip.codecs.digest import blob_digest, chunk_digest
from gossip.errors import CodeError, UsageError

LAW = settings(max_examples=60, deadline=None)


def through(codec: Codec, values_N: torch.Tensor) -> torch.Tensor:
    """The values after one trip as bytes."""
    code = bytearray(codec.code_bytes(values_N.numel()))
    for elements, span in chunk_spans(codec, values_N.numel()):
        codec.encode(values_N[elements], memoryview(code)[span])
    out_N = torch.full_like(values_N, math.nan)
    decode_vector(codec, memoryview(code), out_N)
    return out_N


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_a_chunk_is_whole_blocks_and_at_most_a_mebibyte(name: str) -> None:
    """The geometry that the wire and the receiver count on."""
    codec = make_codec(name)
    assert codec.name == name
    assert codec.chunk_elements % BLOCK_ELEMENTS == 0
    assert codec.chunk_bytes == codec.code_bytes(codec.chunk_elements)
    assert CHUNK_BYTES_MAX // 2 < codec.chunk_bytes <= CHUNK_BYTES_MAX
    assert codec.chunk_bytes % 4 == 0


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_chunk_spans_cover_the_vector_and_the_code_without_gap(name: str) -> None:
    """The last chunk is shorter; all together are the whole."""
    codec = make_codec(name)
    elements = 2 * codec.chunk_elements + 3 * BLOCK_ELEMENTS
    spans = list(chunk_spans(codec, elements))
    assert chunk_count(codec, elements) == len(spans) == 3
    assert [0, *(part.stop for part, _ in spans)] == [*(part.start for part, _ in spans), elements]
    stops = [span.stop for _, span in spans]
    assert [0, *stops] == [*(span.start for _, span in spans), codec.code_bytes(elements)]


def test_fp32_is_exact_over_several_chunks() -> None:
    """Nothing is lost, in the first chunk or the short last one."""
    values_N = torch.randn(2 * 262_144 + 512)
    assert torch.equal(values_N, through(make_codec("fp32"), values_N))


def test_bf16_keeps_eight_bits_of_every_value() -> None:
    """Rounded to nearest with eight significant bits: a relative error of 2^-8 at most."""
    values_N = torch.randn(600 * 1024)
    error_N = (through(make_codec("bf16"), values_N) - values_N).abs()
    assert bool((error_N <= values_N.abs() * 2.0**-8).all())


@LAW
@given(seed=st.integers(0, 2**32), exponent=st.integers(-40, 36), blocks=st.integers(1, 40))
def test_int8_errs_by_at_most_half_a_step(seed: int, exponent: int, blocks: int) -> None:
    """Per block of 256: half of max|x| / 127, whatever the size of the numbers."""
    generator = torch.Generator().manual_seed(seed)
    values_N = torch.randn(blocks * 256, generator=generator) * 10.0**exponent
    scale_B = values_N.view(-1, 256).abs().amax(dim=1) / 127
    error_BE = (through(make_codec("int8"), values_N) - values_N).abs().view(-1, 256)
    bound_B = (scale_B * 0.5001).clamp_min(127 * 2.0**-126)
    assert bool((error_BE <= bound_B.view(-1, 1)).all())


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_zeros_stay_exactly_zero(name: str) -> None:
    """In a block of zeros and beside other values."""
    values_N = torch.zeros(1024)
    values_N[300] = 3.0
    out_N = through(make_codec(name), values_N)
    assert 1 == int(out_N.count_nonzero())
    assert 3.0 == pytest.approx(float(out_N[300]))


def test_blocks_too_small_for_an_exact_scale_are_sent_as_zeros() -> None:
    """At 190 * 2^-149 the scale would round to 2^-149, and 190 steps do not fit int8."""
    values_N = torch.full((256,), 190 * 2.0**-149)
    values_N[0] = -values_N[0]
    assert 0 == int(through(make_codec("int8"), values_N).count_nonzero())


def test_int8_keeps_blocks_apart() -> None:
    """An outlier costs its own block precision, not the next one."""
    values_N = torch.full((512,), 0.01)
    values_N[0] = 1000.0
    out_N = through(make_codec("int8"), values_N)
    assert 0.0 == float(out_N[1])
    assert 0.01 == pytest.approx(float(out_N[256]))


def test_a_codec_reused_for_a_shorter_chunk_ignores_its_old_scratch() -> None:
    """Scratch is kept between chunks of different lengths."""
    codec = make_codec("int8")
    through(codec, torch.full((4096,), 7.0))
    values_N = torch.linspace(-1, 1, 512)
    assert torch.allclose(values_N, through(codec, values_N), atol=0.5 / 127)


@pytest.mark.parametrize("name", CODEC_NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_encoding_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    """One bad value anywhere in the chunk is enough."""
    codec = make_codec(name)
    values_N = torch.randn(768)
    values_N[500] = bad
    with pytest.raises(CodeError):
        codec.encode(values_N, bytearray(codec.code_bytes(768)))


def test_a_value_that_bf16_would_round_to_infinity_is_refused() -> None:
    """The largest fp32 is beyond the largest bf16."""
    codec = make_codec("bf16")
    with pytest.raises(CodeError):
        codec.encode(torch.full((256,), torch.finfo(torch.float32).max), bytearray(512))


@pytest.mark.parametrize("name", CODEC_NAMES)
@pytest.mark.parametrize("change", [-1, 1, 4])
def test_a_code_of_the_wrong_length_is_refused(name: str, change: int) -> None:
    """Too short and too long alike, for a chunk and for a whole vector."""
    codec = make_codec(name)
    code = bytearray(codec.code_bytes(512) + change)
    with pytest.raises(CodeError):
        codec.decode(code, torch.empty(512))
    with pytest.raises(CodeError):
        decode_vector(codec, code, torch.empty(512))
    with pytest.raises(CodeError):
        codec.decode(bytearray(), torch.empty(512))


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0, 3e38, 1e37])
def test_an_int8_code_with_a_bad_scale_is_refused(scale: float) -> None:
    """Not finite, negative, or so large that the values would overflow."""
    code_S = torch.zeros(2 * 260, dtype=torch.uint8)
    code_S[:8].view(torch.float32)[1] = scale
    code_S[8:] = 127
    with pytest.raises(CodeError):
        make_codec("int8").decode(code_S, torch.empty(512))


@LAW
@given(
    name=st.sampled_from(CODEC_NAMES),
    seed=st.integers(0, 2**32),
    ends=st.sampled_from([b"", b"\x00", b"\xff", b"\x7f"]),
    change=st.sampled_from([0, 0, 0, -3, 7]),
)
def test_any_bytes_decode_to_finite_values_or_one_typed_error(
    name: str, seed: int, ends: bytes, change: int
) -> None:
    """Random bytes, runs of one byte, wrong lengths: CodeError or finite values, never else."""
    codec = make_codec(name)
    length = codec.code_bytes(512) + change
    code_S = torch.randint(
        0, 256, (length,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    if ends:
        code_S[: seed % length] = ends[0]
    out_N = torch.empty(512)
    try:
        codec.decode(code_S, out_N)
    except CodeError:
        return
    assert bool(out_N.isfinite().all())


@LAW
@given(seed=st.integers(0, 2**32))
def test_random_int8_codes_with_sane_scales_do_decode(seed: int) -> None:
    """The garbage test would also pass if decode refused everything."""
    generator = torch.Generator().manual_seed(seed)
    code_S = torch.randint(0, 256, (520,), dtype=torch.uint8, generator=generator)
    code_S[:8].view(torch.float32).copy_(torch.rand(2, generator=generator))
    out_N = torch.empty(512)
    make_codec("int8").decode(code_S, out_N)
    assert out_N.isfinite().all()


def test_an_unknown_codec_is_refused_by_name_with_the_known_ones() -> None:
    """A typing slip on the command line must be clear from one line."""
    with pytest.raises(UsageError, match=r"'int9'.*fp32, bf16, int8"):
        make_codec("int9")


def test_digests_tell_content_and_order() -> None:
    """Sixteen bytes; a blob's digest depends on its chunks and their order."""
    one, two = chunk_digest(memoryview(b"one")), chunk_digest(bytearray(b"two"))
    assert 16 == len(one) == len(blob_digest([one, two]))
    assert one != two
    assert blob_digest([one, two]) != blob_digest([two, one])
    assert chunk_digest(one + two) == blob_digest([one, two])


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_values_in_place_are_those_that_decode_reads(name: str) -> None:
    """For a code that is the values; writing them writes the code. Others have none."""
    codec = make_codec(name)
    values_N = torch.randn(512)
    code = bytearray(codec.code_bytes(512))
    codec.encode(values_N, code)

    found_N = codec.in_place(code, 512)

    assert (name == "fp32") == (found_N is not None)
    if found_N is not None:
        assert torch.equal(values_N, found_N)
        found_N.mul_(2)
        assert torch.equal(values_N * 2, through(codec, found_N))
        assert bytes(code) == bytes(found_N.view(torch.uint8).tolist())
        with pytest.raises(CodeError, match="expected"):
            codec.in_place(code, 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 511, 70_001])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(
    dtype: torch.dtype, place: int, wrong: float
) -> None:
    """Also among values so large that their sum is not finite; those alone are fine."""
    for size in (1.0, 3e38):
        values_N = torch.full((70_002,), size, dtype=dtype)
        check_finite(values_N, "fp32")
        values_N[place] = wrong
        with pytest.raises(CodeError, match="not finite"):
            check_finite(values_N, "fp32")
