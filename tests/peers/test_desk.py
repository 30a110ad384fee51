"""The desk: bytes in, codes and corrections out, nothing taken on trust."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossip.codecs import CODEC_NAMES, REPLY_CODECS, chunk_spans, make_codec
from gossip.codecs.digest import chunk_digest
from gossip.config import ExchangeConfig
from gossip.errors import UsageError
from gossip.machine import Applied, Apply, Compute, Computed, Release, Replace, Reserve
from gossip.messages import Blob, Chunk, ExchangeId, Leg, PeerId, Transfer
from gossip.mixing.outliers import Outliers
from peers.desk import Desk, within
from tests.peers.desks import (
    CODE,
    CORRECTION,
    EXCHANGE,
    SNAPSHOT,
    STRANGER,
    A,
    a_replica,
    copy_blob,
    corrected_n,
    offer,
    reserve,
)


@pytest.mark.parametrize("clip_bound", [math.inf, 1.0])
@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("reply_codec", CODEC_NAMES)
def test_both_sides_apply_the_same_correction(
    codec: str, reply_codec: str, clip_bound: float
) -> None:
    """Streamed or not, clipped or not: what A decodes is bit for bit what B applies."""
    replica_a, replica_b = a_replica(1), a_replica(2)
    a, b = Desk(replica_a), Desk(replica_b)
    code = offer(a, codec)
    assert b.reserve(Reserve(CODE, code, 0, codec, reply_codec, clip_bound, source=A)) is None
    assert copy_blob(a, b, CODE, code)
    correction = b.compute(Compute(CORRECTION, 0, codec, code, reply_codec, clip_bound)).blob
    assert correction is not None
    assert a.reserve(Reserve(CORRECTION, correction, 0, reply_codec, source=A)) is None
    assert copy_blob(b, a, CORRECTION, correction)
    apply = Apply(CORRECTION, 0, correction, reply_codec, 0.5)
    at_a, at_b = corrected_n(a, apply), corrected_n(b, apply)
    assert at_a is not None
    assert at_b is not None
    assert torch.equal(at_a, at_b)
    wanted_N = replica_b.phi_N - replica_a.phi_N
    if math.isinf(clip_bound):
        assert float((at_a - wanted_N).abs().max()) < 0.1
    else:
        assert float(at_a.norm()) <= clip_bound * 1.02
    again = corrected_n(b, apply)
    assert again is not None, "a refund needs the correction once more"
    assert torch.equal(at_b, again)


def test_a_damaged_chunk_is_not_taken_and_may_come_again() -> None:
    """One flipped bit fails the digest; the right bytes are then still welcome."""
    a, b = Desk(a_replica(1)), Desk(a_replica(2))
    code = offer(a, "fp32")
    b.reserve(Reserve(CODE, code, 0, "fp32", "fp32", source=A))
    found = a.payload(Chunk(CODE, 0, code.chunk_bytes))
    assert found is not None
    view, chunk = found
    damaged = bytearray(view)
    damaged[17] ^= 1
    assert not b.store(A, chunk, memoryview(damaged))
    assert b.store(A, chunk, memoryview(bytearray(view)))


@pytest.mark.parametrize(
    "blob",
    [
        Blob(b"d" * 16, 1, 1 << 20),
        Blob(b"d" * 16, 1 << 30, 1 << 20),
        Blob(b"d" * 16, 1_204_224, 4096),
    ],
)
def test_a_blob_of_the_wrong_size_costs_no_memory(blob: Blob) -> None:
    """The announced size must be what our own codec makes of our own fragment."""
    desk = Desk(a_replica(1))
    assert desk.reserve(Reserve(CODE, blob, 0, "fp32", "fp32", source=A)) == Computed(CODE, None)
    assert desk.reserve(Reserve(SNAPSHOT, blob, -1, "fp32", source=A)) == Applied(
        EXCHANGE, applied=False
    )
    assert 0 == desk.held_count


def test_an_unknown_codec_is_refused() -> None:
    """A name from a later version is an answer, not an error."""
    desk = Desk(a_replica(1))
    answer = desk.reserve(Reserve(CODE, Blob(b"d" * 16, 512, 512), 0, "int1", "int1", source=A))
    assert answer == Computed(CODE, None)


def test_bytes_never_asked_for_are_not_taken() -> None:
    """Without Reserve a chunk costs nothing and changes nothing."""
    desk = Desk(a_replica(1))
    assert not desk.store(A, Chunk(CODE, 0, 4, b"x" * 16), memoryview(bytearray(4)))


def test_values_that_are_not_finite_are_refused() -> None:
    """A NaN in the code makes no correction; a NaN in the correction is not applied."""
    replica_a = a_replica(1)
    a, b = Desk(replica_a), Desk(a_replica(2))
    replica_a.phi_N[5] = math.nan
    assert a.compute(Compute(CODE, 0, "fp32")).blob is None
    assert b.held_count == 0


def test_a_correction_that_is_not_what_was_announced_is_not_applied() -> None:
    """Right chunks, wrong announcement: decode says no."""
    a, b = Desk(a_replica(1)), Desk(a_replica(2))
    code = offer(a, "fp32")
    forged = Blob(b"f" * 16, code.size_bytes, code.chunk_bytes)
    b.reserve(Reserve(CORRECTION, forged, 0, "fp32", source=A))
    for offset in range(0, code.size_bytes, code.chunk_bytes):
        length = min(code.chunk_bytes, code.size_bytes - offset)
        found = a.payload(Chunk(CODE, offset, length))
        assert found is not None
        chunk = Chunk(CORRECTION, offset, length, found[1].digest)
        assert b.store(A, chunk, memoryview(bytearray(found[0])))
    assert corrected_n(b, Apply(CORRECTION, 0, forged, "fp32", 0.5)) is None


@pytest.mark.parametrize("reply_codec", REPLY_CODECS)
def test_a_correction_longer_than_was_asked_is_not_applied(reply_codec: str) -> None:
    """Who opened the swap told its bound; an answer that keeps it is taken, whatever the codec,
    and one by a liar that does not is refused."""
    a, b = Desk(a_replica(1)), Desk(a_replica(2))
    code = offer(a, "int8")
    for told, kept in ((1.0, True), (1e9, False)):
        transfer = Reserve(CODE, code, 0, "int8", reply_codec, told, source=A)
        assert b.reserve(transfer) is None
        assert copy_blob(a, b, CODE, code)
        correction = b.compute(Compute(CORRECTION, 0, "int8", code, reply_codec, told)).blob
        assert correction is not None
        assert a.reserve(Reserve(CORRECTION, correction, 0, reply_codec, source=A)) is None
        assert copy_blob(b, a, CORRECTION, correction)
        apply = Apply(CORRECTION, 0, correction, reply_codec, 0.5, clip_bound=1.0)
        assert (corrected_n(a, apply) is not None) is kept
        for desk in (a, b):
            desk.release(CORRECTION)
        b.release(CODE)


@pytest.mark.parametrize("least", [0.0, 0.075, 0.65, 1.0])
@pytest.mark.parametrize("reply_codec", REPLY_CODECS)
def test_rounding_makes_no_honest_correction_too_long(reply_codec: str, least: float) -> None:
    """Values nearly alike, or one large among small ones: where codes round upwards most."""
    values_n = torch.full((2560,), least)
    values_n[::64] = 1.0
    values_n /= values_n.norm()
    codec = make_codec(reply_codec)
    code, read_n = bytearray(codec.code_bytes(2560)), torch.empty(2560)
    for part, span in chunk_spans(codec, 2560):
        codec.encode(values_n[part], memoryview(code)[span])
        codec.decode(memoryview(code)[span], read_n[part])
    assert within(read_n, 1.0)
    assert not within(2.1 * values_n, 1.0)


def test_a_snapshot_is_the_whole_anchor() -> None:
    """Computed by one desk, stored by another, equal to the first one's phi."""
    replica_a = a_replica(1)
    a, b = Desk(replica_a), Desk(a_replica(2))
    blob = a.compute(Compute(SNAPSHOT, -1, "fp32")).blob
    assert blob is not None
    assert b.reserve(Reserve(SNAPSHOT, blob, -1, "fp32", source=A)) is None
    assert copy_blob(a, b, SNAPSHOT, blob)
    snapshot_N = b.snapshot_of(Replace(SNAPSHOT, blob, "fp32", b"lineage"))
    assert isinstance(snapshot_N, Tensor)
    assert torch.equal(replica_a.phi_N, snapshot_N)


def test_released_blobs_are_gone_and_their_memory_is_reused() -> None:
    """Release is harmless twice, and a buffer still being sent is not handed out again."""
    busy: list[Transfer] = []
    desk = Desk(a_replica(1), lambda transfer: transfer in busy)
    offer(desk, "fp32")
    assert 1 == desk.held_count
    busy.append(CODE)
    desk.release(Release(CODE).transfer)
    desk.release(CODE)
    assert desk.payload(Chunk(CODE, 0, 4)) is None
    first = desk._pool.buffers[0][0]
    assert first is not desk._pool.take(len(first), desk._is_busy)
    busy.clear()
    assert first is desk._pool.take(len(first), desk._is_busy)


def test_a_stranger_cannot_spoil_a_transfer() -> None:
    """Chunks are taken from the peer they were asked of, and of nobody else."""
    a, b = Desk(a_replica(1)), Desk(a_replica(2))
    code = offer(a, "fp32")
    b.reserve(reserve(CODE, code, "fp32"))
    found = a.payload(Chunk(CODE, 0, code.chunk_bytes))
    assert found is not None
    view, chunk = found
    assert not b.store(STRANGER, chunk, memoryview(bytearray(view)))
    assert b.expects(CODE)
    assert not b.expects(CORRECTION)
    assert b.store(A, chunk, memoryview(bytearray(view)))


@pytest.mark.parametrize("reply_codec", ["fp32", "bf16"])
def test_a_chunk_of_the_wrong_length_changes_nothing(reply_codec: str) -> None:
    """Neither a short first chunk nor an overlong last one is taken, whatever its digest."""
    a, b = Desk(a_replica(1)), Desk(a_replica(2))
    code = offer(a, "fp32")
    b.reserve(reserve(CODE, code, reply_codec))
    last = code.size_bytes // code.chunk_bytes * code.chunk_bytes
    for offset, length in ((0, 1024), (last, code.chunk_bytes)):
        payload = bytearray(length)
        chunk = Chunk(CODE, offset, length, chunk_digest(payload))
        assert not b.store(A, chunk, memoryview(payload))
    assert copy_blob(a, b, CODE, code), "the honest chunks are still welcome"
    assert b.compute(Compute(CORRECTION, 0, "fp32", code, reply_codec)).blob is not None


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_a_correction_stays_as_it_is_until_it_is_released(codec: str) -> None:
    """Other swaps go on meanwhile; only then is its memory used again, and an undo has its own."""
    replica = a_replica(2)
    a, b = Desk(a_replica(1)), Desk(replica)
    code = offer(a, codec)
    seqs = iter(range(2, 20))

    def another_swap() -> None:
        other = Transfer(ExchangeId(A, 1, next(seqs)), Leg.CODE)
        b.reserve(Reserve(other, code, 0, codec, codec, source=A))
        for offset in range(0, code.size_bytes, code.chunk_bytes):
            length = min(code.chunk_bytes, code.size_bytes - offset)
            found = a.payload(Chunk(CODE, offset, length))
            assert found is not None
            view, chunk = found
            assert b.store(A, replace(chunk, transfer=other), memoryview(bytearray(view)))
        replica.give_back(replica.take_n(0).fill_(7.0))

    b.reserve(Reserve(CODE, code, 0, codec, codec, source=A))
    copy_blob(a, b, CODE, code)
    correction = b.compute(Compute(CORRECTION, 0, codec, code, codec)).blob
    assert correction is not None
    b.release(CODE)
    lent_n = corrected_n(b, Apply(CORRECTION, 0, correction, codec, -0.5))
    undo_n = corrected_n(b, Apply(CORRECTION, 0, correction, codec, 0.5, undo=True))
    assert lent_n is not None
    assert undo_n is not None
    as_lent_n = lent_n.clone()
    replica.apply_correction(0, lent_n, -0.5)  # so that other swaps make other corrections

    for _ in range(6):
        another_swap()
    assert torch.equal(as_lent_n, lent_n)
    b.release(CORRECTION)
    for _ in range(6):
        another_swap()
    assert torch.equal(as_lent_n, undo_n)
    assert not torch.equal(as_lent_n, lent_n), "its memory is used again"


def test_an_undo_of_what_was_not_followed_undoes_nothing() -> None:
    """The refund has the weight that the move had."""
    outliers = Outliers()
    for number in range(3):
        outliers.follows(0, PeerId(f"{number:016x}"), 1e-6)
    for follows in (True, False):
        a = Desk(a_replica(1))
        b = Desk(a_replica(2), outliers=None if follows else outliers)
        code = offer(a, "fp32")
        assert b.reserve(reserve(CODE, code, "int8")) is None
        assert copy_blob(a, b, CODE, code)
        correction = b.compute(Compute(CORRECTION, 0, "fp32", code, "int8")).blob
        assert correction is not None
        move = Apply(CORRECTION, 0, correction, "int8", -0.5, partner=STRANGER)
        moved, undone = (
            b.correction(move),
            b.correction(replace(move, signed_weight=0.5, undo=True)),
        )
        assert moved is not None
        assert undone is not None
        assert moved.followed is undone.followed is follows


def test_codecs_are_made_before_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one in a process compiles its loops: not on the I/O thread beside training."""
    desk = Desk(a_replica(1), config=ExchangeConfig(codec="wrap4", reply_codec="int4"))

    def too_late() -> None:
        raise AssertionError("made when the first swap wants it")

    monkeypatch.setattr("gossip.codecs.kernels.warm_up", too_late)
    assert desk._shelf.pair("wrap4", "int4") is not None
    with pytest.raises(UsageError):
        Desk(a_replica(1), config=ExchangeConfig(codec="wrap4", reply_codec="fp32"))
