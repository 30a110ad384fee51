"""Corrections from wrap-around codes: one reading of phi, marks, streamed or at once."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gossip.codecs import (
    REPLY_CODECS,
    STEP_ELEMENTS,
    WRAP_CODECS,
    WrapCodec,
    chunk_spans,
    make_codec,
    make_wrap_codec,
)
from gossip.errors import CodeError
from gossip.messages import ExchangeId, Leg, PeerId, Transfer
from gossip.mixing.correction import CorrectionStream
from gossip.mixing.dither import Seeds, seeds_of
from gossip.mixing.replica import Replica
from tests.gossip.mixing.swaps import replica_of

ELEMENTS = 4096
APART = 1e-3
PAIRS = [
    (offer, reply)
    for offer, reply in itertools.product(WRAP_CODECS, REPLY_CODECS)
    if make_codec(reply).carries_mask
]
EXCHANGE = ExchangeId(PeerId("0" * 16), 1, 7)


def near_pair(elements: int = ELEMENTS, seed: int = 1) -> tuple[Replica, Replica]:
    """Two replicas of weights near 1 that differ by about APART in each."""
    generator = torch.Generator().manual_seed(seed)
    x_N = torch.randn(elements, generator=generator)
    y_N = x_N + APART * torch.randn(elements, generator=generator)
    return replica_of(x_N)[0], replica_of(y_N)[0]


def offered(
    replica: Replica, codec: WrapCodec, step: float, seeds: Seeds | None = None
) -> bytearray:
    """The code of a replica's only fragment, one step for all blocks."""
    elements = replica.elements(0)
    code = bytearray(codec.code_bytes(elements))
    step_B = torch.full((elements // STEP_ELEMENTS,), step)
    replica.encode_wrapped(0, codec, step_B, memoryview(code), seeds)
    return code


def answered(
    replica: Replica,
    codec: WrapCodec,
    code: bytearray,
    reply: str,
    clip_bound: float = math.inf,
    seeds: Seeds | None = None,
) -> tuple[bytearray, Tensor, Tensor]:
    """The correction as bytes, as values, and the marks of its blocks."""
    made = make_codec(reply)
    out = bytearray(made.code_bytes(replica.elements(0)))
    replica.make_correction(0, codec, memoryview(code), made, memoryview(out), clip_bound, seeds)
    c_N = torch.empty(replica.elements(0))
    replica.decode_correction(0, made, memoryview(out), c_N)
    spans = list(chunk_spans(made, c_N.numel()))
    marks = [made.skipped(out[span], part.stop - part.start) for part, span in spans]
    return out, c_N, torch.cat(marks)


@pytest.mark.parametrize("offer, reply", PAIRS)
def test_a_small_difference_is_read_from_the_low_bits_of_large_weights(
    offer: str, reply: str
) -> None:
    """The correction is the difference but for half a step and the reply's own rounding."""
    one, two = near_pair()
    codec = make_wrap_codec(offer)
    step = 8 * APART / (1 << (codec.bits - 1))
    _, c_N, marks_B = answered(two, codec, offered(one, codec, step), reply)
    assert not bool(marks_B.any())
    d_N = two.phi_N - one.phi_N
    left = float((c_N - d_N).norm() / d_N.norm())
    rounding = {"int8": 0.02, "int4": 0.15, "int2": 0.4, "sign": 0.65, "topk8": 0.75}[reply]
    # A step travels as one of a table, up to 2^(1/4) larger; its rounding is uniform.
    assert left < rounding + 1.2 * 0.29 * step / APART


@pytest.mark.parametrize("offer, reply", PAIRS)
def test_blocks_that_wrapped_are_marked_and_left_alone(offer: str, reply: str) -> None:
    """By the bytes, so that both sides see the same marks and move nothing there."""
    one, two = near_pair()
    codec = make_wrap_codec(offer)
    step = 8 * APART / (1 << (codec.bits - 1))
    far_n = slice(5 * STEP_ELEMENTS, 6 * STEP_ELEMENTS)
    two.phi_N[far_n] += 40 * APART
    _, c_N, marks_B = answered(two, codec, offered(one, codec, step), reply)
    assert bool(marks_B[5])
    width = 4 if reply == "int8" else 1
    assert width == int(marks_B.sum())
    assert 0.0 == float(c_N.view(-1, STEP_ELEMENTS)[marks_B].abs().max())
    assert bool((c_N.view(-1, STEP_ELEMENTS)[~marks_B].abs().amax(dim=1) > 0).all())


@pytest.mark.parametrize("reply", ["int4", "int8"])
def test_streamed_and_whole_corrections_of_several_chunks_are_the_same(reply: str) -> None:
    """Chunk by chunk in any order, all at once, and through a bound nothing reaches."""
    codec = make_wrap_codec("wrap4")
    one, two = near_pair(2 * codec.chunk_elements + 512)
    two.phi_N[codec.chunk_elements : codec.chunk_elements + 300] += 1.0
    code = offered(one, codec, APART)
    whole, c_N, marks_B = answered(two, codec, code, reply)
    bounded, _, _ = answered(two, codec, code, reply, clip_bound=1e9)
    assert whole == bounded
    assert bool(marks_B.any())
    made = make_codec(reply)
    if CorrectionStream.fits(c_N.numel(), codec, made):
        streamed = bytearray(len(whole))
        stream = CorrectionStream(two, 0, codec, made, memoryview(streamed))
        for index, (_, span) in reversed(list(enumerate(chunk_spans(codec, c_N.numel())))):
            stream.feed(index, memoryview(code)[span])
        assert whole == streamed
    clipped, short_N, short_B = answered(two, codec, code, reply, clip_bound=0.1)
    assert clipped != whole
    assert float(short_N.norm()) <= 0.1 * 1.1
    assert torch.equal(marks_B, short_B)


def test_the_codecs_of_four_bits_stream() -> None:
    """A correction is made while its code arrives only where both cut a fragment alike."""
    elements = 3 * make_wrap_codec("wrap4").chunk_elements
    for offer, reply in itertools.product(WRAP_CODECS, ("int4", "int2", "sign", "topk8")):
        assert CorrectionStream.fits(elements, make_wrap_codec(offer), make_codec(reply))


def test_a_correction_applied_while_a_code_is_read_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The code is decoded next to phi, and the difference formed, at one and the same moment."""
    one, two = near_pair()
    codec = make_wrap_codec("wrap8")
    code = offered(one, codec, APART / 16)
    before, _, _ = answered(two, codec, code, "int8")
    decode = codec.decode

    def meddled(*arguments: Any) -> None:
        decode(*arguments)
        two.apply_correction(0, torch.full((ELEMENTS,), 3 * APART), 1.0)

    monkeypatch.setattr(codec, "decode", meddled)
    amid, _, _ = answered(two, codec, code, "int8")
    assert before == amid


def test_a_receiver_that_is_not_finite_makes_no_correction() -> None:
    """Its own values are what the code is read next to."""
    one, two = near_pair()
    codec = make_wrap_codec("wrap4")
    code = offered(one, codec, APART)
    two.phi_N[100] = math.nan
    with pytest.raises(CodeError):
        answered(two, codec, code, "int4")


def test_random_rounding_follows_from_the_exchange_alone() -> None:
    """The same exchange rounds alike, other legs, exchanges and chunks differently; unbiased."""
    one, two = near_pair(64 * 256)
    codec = make_wrap_codec("wrap4")
    code_seeds = seeds_of(Transfer(EXCHANGE, Leg.CODE))
    code = offered(one, codec, APART, code_seeds)
    assert code == offered(one, codec, APART, seeds_of(Transfer(EXCHANGE, Leg.CODE)))
    assert code != offered(one, codec, APART)
    assert code != offered(one, codec, APART, seeds_of(Transfer(EXCHANGE, Leg.CORRECTION)))
    assert code != offered(
        one, codec, APART, seeds_of(Transfer(EXCHANGE._replace(seq=8), Leg.CODE))
    )
    assert code_seeds(0) != code_seeds(1)
    assert 0 <= code_seeds(0) < 1 << 32
    total_N = torch.zeros(one.elements(0), dtype=torch.float64)
    for seq in range(64):
        seeds = seeds_of(Transfer(EXCHANGE._replace(seq=seq), Leg.CORRECTION))
        total_N += answered(two, codec, offered(one, codec, APART, seeds), "int8")[1]
    d_N = (two.phi_N - one.phi_N).double()
    assert float((total_N / 64 - d_N).norm() / d_N.norm()) < 0.1
