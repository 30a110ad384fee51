"""Desks whose offers are coded against what the other one is: they learn, forget and fall back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gossip.codecs import REPLY_CODECS, WRAP_CODECS, make_codec
from gossip.config import ExchangeConfig
from gossip.machine import Apply, Compute, Computed, Replace, Reserve
from gossip.messages import Blob, ExchangeId, Leg, Transfer
from gossip.mixing.replica import Replica
from peers.desk import Desk
from tests.peers.desks import (
    CODE,
    ELEMENTS,
    SNAPSHOT,
    A,
    a_replica,
    copy_blob,
    corrected_n,
)


def near_desks(
    codec: str, reply_codec: str, apart: float = 0.1, dither: bool = False
) -> tuple[Desk, Desk, Replica, Replica]:
    """Two desks of replicas that differ by about ``apart`` in every value."""
    a, b = a_replica(1), a_replica(1)
    noise_N = torch.randn(b.phi_N.numel(), generator=torch.Generator().manual_seed(2))
    b.phi_N.add_(noise_N, alpha=apart)
    config = ExchangeConfig(codec=codec, reply_codec=reply_codec, dither=dither)
    return Desk(a, config=config), Desk(b, config=config), a, b


def whole_swap(
    a: Desk, b: Desk, codec: str, reply_codec: str, seq: int, clip_bound: float = math.inf
) -> tuple[str, Tensor, Tensor]:
    """A offers, B answers, both decode: the codec A really used, and c as either side has it.

    Nothing is applied, so that the peers stay as far apart as they are.
    """
    exchange = ExchangeId(A, 1, seq)
    there, back = Transfer(exchange, Leg.CODE), Transfer(exchange, Leg.CORRECTION)
    made = a.compute(Compute(there, 0, codec))
    assert made.blob is not None
    used = made.codec or codec
    reserve = Reserve(there, made.blob, 0, used, reply_codec, clip_bound, source=A)
    assert b.reserve(reserve) is None
    assert copy_blob(a, b, there, made.blob)
    answer = b.compute(Compute(back, 0, used, made.blob, reply_codec, clip_bound)).blob
    assert answer is not None
    at_b = corrected_n(b, Apply(back, 0, answer, reply_codec, -0.5))
    assert a.reserve(Reserve(back, answer, 0, reply_codec, source=A)) is None
    assert copy_blob(b, a, back, answer)
    at_a = corrected_n(a, Apply(back, 0, answer, reply_codec, 0.5))
    assert at_a is not None
    assert at_b is not None
    at_a, at_b = at_a.clone(), at_b.clone()
    for desk in (a, b):
        desk.release(there)
        desk.release(back)
    return used, at_a, at_b


MASKED = [name for name in REPLY_CODECS if make_codec(name).carries_mask]


@pytest.mark.parametrize("clip_bound", [math.inf, 1.0])
@pytest.mark.parametrize("reply_codec", MASKED)
@pytest.mark.parametrize("codec", WRAP_CODECS)
def test_who_has_met_nobody_offers_int8_and_then_wraps(
    codec: str, reply_codec: str, clip_bound: float
) -> None:
    """The first swap teaches the steps; both sides apply the same bytes before and after."""
    a, b, replica_a, replica_b = near_desks(codec, reply_codec)
    first, at_a, at_b = whole_swap(a, b, codec, reply_codec, 1, clip_bound)
    assert first == "int8"
    assert torch.equal(at_a, at_b)
    second, at_a, at_b = whole_swap(a, b, codec, reply_codec, 2, clip_bound)
    assert second == codec
    assert torch.equal(at_a, at_b)
    if math.isinf(clip_bound):
        d_N = replica_b.phi_N - replica_a.phi_N
        left = float((at_a - d_N).norm() / d_N.norm())
        assert left < 0.9, "what wrap-around codes tell is the difference"


def test_a_responder_learns_too() -> None:
    """After one swap that the other began, its own first offer needs no int8."""
    a, b, _, _ = near_desks("wrap4", "int4")
    assert "int8" == whole_swap(a, b, "wrap4", "int4", 1)[0]
    assert "wrap4" == whole_swap(b, a, "wrap4", "int4", 2)[0]


def test_an_adoption_makes_the_next_offer_a_plain_one() -> None:
    """The distance to others that was learned is another model's."""
    a, b, _, _ = near_desks("wrap4", "int4")
    whole_swap(a, b, "wrap4", "int4", 1)
    assert "wrap4" == whole_swap(a, b, "wrap4", "int4", 2)[0]
    blob = b.compute(Compute(SNAPSHOT, -1, "fp32")).blob
    assert blob is not None
    assert a.reserve(Reserve(SNAPSHOT, blob, -1, "fp32", source=A)) is None
    assert copy_blob(b, a, SNAPSHOT, blob)
    assert a.snapshot_of(Replace(SNAPSHOT, blob, "fp32", b"lineage")) is not None
    assert "int8" == whole_swap(a, b, "wrap4", "int4", 3)[0]


def test_who_has_drifted_out_of_reach_is_met_again_by_a_plain_offer() -> None:
    """All blocks wrap, nothing moves; the swap after it is int8 and brings them together."""
    a, b, _, replica_b = near_desks("wrap4", "int4", apart=1e-6)
    whole_swap(a, b, "wrap4", "int4", 1)
    for seq in range(2, 80):
        whole_swap(a, b, "wrap4", "int4", seq)
    replica_b.phi_N[:ELEMENTS] += 1.0 + torch.rand(ELEMENTS)
    used, at_a, at_b = whole_swap(a, b, "wrap4", "int4", 100)
    assert used == "wrap4"
    assert torch.equal(at_a, at_b)
    assert float((at_a != 0).float().mean()) < 0.02
    used, at_a, _ = whole_swap(a, b, "wrap4", "int4", 101)
    assert used == "int8"
    assert float(at_a[:ELEMENTS].mean()) > 1.0


@pytest.mark.parametrize(
    "codec, reply_codec",
    [("wrap4", "fp32"), ("wrap8", "bf16"), ("int4", "int4"), ("fp32", "wrap4")],
)
def test_codecs_that_do_not_go_together_are_refused(codec: str, reply_codec: str) -> None:
    """Whatever a neighbor's settings are: an answer, and no memory."""
    desk = Desk(a_replica(1))
    blob = Blob(b"d" * 16, 512, 512)
    assert Computed(CODE, None) == desk.reserve(
        Reserve(CODE, blob, 0, codec, reply_codec, source=A)
    )
    assert 0 == desk.held_count


def test_random_rounding_is_the_same_for_the_same_exchange() -> None:
    """So a run can be repeated; and without ``dither`` nothing is random."""

    def second_swap(dither: bool, seq: int) -> Tensor:
        a, b, _, _ = near_desks("wrap4", "int4", dither=dither)
        whole_swap(a, b, "wrap4", "int4", 1)
        return whole_swap(a, b, "wrap4", "int4", seq)[1]

    assert torch.equal(second_swap(dither=True, seq=2), second_swap(dither=True, seq=2))
    assert not torch.equal(second_swap(dither=True, seq=2), second_swap(dither=True, seq=3))
    assert torch.equal(second_swap(dither=False, seq=2), second_swap(dither=False, seq=3))
