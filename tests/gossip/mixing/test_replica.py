"""One peer's replica: publishing, corrections, conservation, clipping, adoption."""

from __future__ import annotations

import itertools
import math
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossip.codecs import CODEC_NAMES, chunk_spans, decode_vector, make_codec
from gossip.codecs.digest import chunk_digest
from gossip.errors import CodeError, UsageError
from gossip.mixing.correction import CorrectionStream, clip_factor
from gossip.mixing.flat import FlatModel
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from tests.gossip.mixing.swaps import dyadic_n, replica_of, swap, theta_N

LAW = settings(max_examples=30, deadline=None)
PAIRS = list(itertools.product(CODEC_NAMES, CODEC_NAMES))


def train(replica: Replica, seed: int) -> None:
    """Stand-in for local steps: any change of theta."""
    generator = torch.Generator().manual_seed(seed)
    change_N = torch.randn(replica.model.elements, generator=generator)
    replica.model.add_(change_N, 0.1)


def test_plain_publishing_leaves_theta_untouched_bit_for_bit() -> None:
    """Alone, a peer trains exactly as without us: not a write, not a version bump."""
    model = nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    replica = Replica(FlatModel.from_module(model), fragments=3)
    for _ in range(3):
        assert replica.publish()
    assert versions == [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor), name
    assert torch.equal(theta_N(replica), replica.phi_N)


def test_publishing_takes_up_training_in_every_fragment() -> None:
    """After a publish phi is theta again, and the ledger knows by how much it moved."""
    replica, ledger = replica_of(torch.randn(5000), fragments=4)
    train(replica, 1)
    assert not torch.equal(theta_N(replica), replica.phi_N)
    replica.publish()
    assert torch.equal(theta_N(replica), replica.phi_N)
    assert 1e-6 > ledger.balance_error(replica.phi_N)
    assert 0 < float(ledger.published_N.abs().sum())


def test_an_outer_step_moves_parameters_and_only_follows_buffers() -> None:
    """Momentum and rate are for parameters; running statistics are taken as they are."""
    model = nn.BatchNorm1d(4)
    replica = Replica(FlatModel.from_module(model), OuterStep(0.5, 0.5))
    with torch.no_grad():
        model.weight += 1.0
        model.running_mean += 1.0
    replica.publish()
    # m = 0.5; z = 1 + 0.5 + 0.25
    assert torch.equal(torch.full((4,), 1.75), model.weight.detach())
    assert torch.equal(torch.ones(4), model.running_mean)
    assert torch.equal(theta_N(replica), replica.phi_N)


def test_a_correction_moves_theta_and_phi_alike_and_keeps_training_done_meanwhile() -> None:
    """Theta minus phi, the peer's own progress, is the same before and after."""
    replica, ledger = replica_of(dyadic_n(2000, 1), fragments=2)
    replica.model.add_(dyadic_n(replica.model.elements, 2), 1.0)
    progress_N = theta_N(replica) - replica.phi_N
    phi_N = replica.phi_N.clone()
    start, stop = replica.spans[1]
    c_n = dyadic_n(stop - start, 3)
    c_n[2000 - start :] = 0
    replica.apply_correction(1, c_n, -0.5, "x")
    assert torch.equal(progress_N, theta_N(replica) - replica.phi_N)
    assert torch.equal(phi_N[start:] - c_n / 2, replica.phi_N[start:])
    assert torch.equal(phi_N[:start], replica.phi_N[:start])
    assert 0.0 == ledger.balance_error(replica.phi_N)
    assert ["x"] == [entry.exchange for entry in ledger.corrections]


@pytest.mark.parametrize("codec, reply_codec", PAIRS)
def test_a_swap_conserves_the_sum_for_every_pair_of_codecs(codec: str, reply_codec: str) -> None:
    """The code's error enters both sides alike: exact for fp32, within ulps otherwise."""
    one, first = replica_of(dyadic_n(3000, 1), fragments=2)
    two, second = replica_of(dyadic_n(3000, 2), fragments=2)
    total_N = one.phi_N.double() + two.phi_N.double()
    apart = float((one.phi_N - two.phi_N).norm())
    for fragment in (0, 1, 0):
        swap(one, two, codec, reply_codec, fragment)
    error_N = (one.phi_N.double() + two.phi_N.double() - total_N).abs()
    exact = (codec, reply_codec) == ("fp32", "fp32")
    assert (0.0 if exact else 6 * 2**-19) >= float(error_N.max())
    assert (0.0 if exact else 6 * 2**-19) >= first.balance_error(one.phi_N)
    assert 0.03 * apart >= float((one.phi_N - two.phi_N).norm())
    booked_N = first.corrected_N() + second.corrected_N()
    assert 0.0 == float(booked_N.abs().max())


@LAW
@given(
    seed=st.integers(0, 999),
    codec=st.sampled_from(CODEC_NAMES),
    reply_codec=st.sampled_from(CODEC_NAMES),
    bound=st.sampled_from([0.0, 0.5, 10.0, 1e9]),
)
def test_clipping_never_amplifies(seed: int, codec: str, reply_codec: str, bound: float) -> None:
    """The correction is no longer than the bound, nor than the difference (but for rounding)."""
    one, _ = replica_of(dyadic_n(700, seed))
    two, _ = replica_of(dyadic_n(700, seed + 1))
    apart = float((one.phi_N - two.phi_N).norm())
    c_n = swap(one, two, codec, reply_codec, clip_bound=bound)
    assert min(bound, apart) * 1.02 + 1e-6 >= float(c_n.norm())
    assert bound > apart or bound * 0.98 <= float(c_n.norm())


@LAW
@given(norm=st.floats(0, 1e30), bound=st.floats(0, 1e30) | st.just(math.inf))
def test_a_clip_factor_is_at_most_one(norm: float, bound: float) -> None:
    """And leaves a norm within the bound."""
    clip = clip_factor(norm, bound)
    assert 0 <= clip <= 1
    assert clip * norm <= bound * (1 + 1e-15)
    assert clip == 1 or norm > bound


@pytest.mark.parametrize("bound", [math.nan, -1.0, -math.inf])
def test_a_senseless_clip_bound_is_the_neighbors_error(bound: float) -> None:
    """It came over the wire: a typed error, not a wrong correction."""
    one, _ = replica_of(torch.randn(256))
    two, _ = replica_of(torch.randn(256))
    with pytest.raises(CodeError, match="clip bound"):
        swap(one, two, clip_bound=bound)


def test_corrections_across_chunks_are_the_same_streamed_and_whole() -> None:
    """Two chunks of fp32 fed last first, and the same at once; also through unlike codecs."""
    elements = 262_144 + 512
    one, _ = replica_of(torch.randn(elements))
    two, _ = replica_of(torch.randn(elements))
    fp32, bf16 = make_codec("fp32"), make_codec("bf16")
    code = memoryview(bytearray(4 * elements))
    digests = one.encode_fragment(0, fp32, code)
    spans = [span for _, span in chunk_spans(fp32, elements)]
    assert [chunk_digest(code[span]) for span in spans] == digests
    whole, streamed = bytearray(4 * elements), bytearray(4 * elements)
    made, clip = two.make_correction(0, fp32, code, fp32, memoryview(whole))
    assert 1.0 == clip
    stream = CorrectionStream(two, 0, fp32, fp32, memoryview(streamed))
    late = stream.feed(1, code[spans[1]])
    assert [stream.feed(0, code[spans[0]]), late] == made
    assert whole == streamed
    c_n, narrow_n = torch.empty(elements), torch.empty(elements)
    decode_vector(fp32, whole, c_n)
    assert torch.equal(two.phi_N - one.phi_N, c_n)

    assert not CorrectionStream.fits(elements, fp32, bf16)
    narrow = bytearray(2 * elements)
    two.make_correction(0, fp32, code, bf16, memoryview(narrow))
    decode_vector(bf16, narrow, narrow_n)
    assert torch.equal(c_n.bfloat16(), narrow_n.bfloat16())


def test_a_bad_code_is_a_typed_error_and_changes_nothing() -> None:
    """Wrong length, empty, and values that are not finite."""
    replica, _ = replica_of(torch.randn(512))
    phi_N = replica.phi_N.clone()
    fp32 = make_codec("fp32")
    out = memoryview(bytearray(2048))
    for code in (bytearray(2047), bytearray(), bytearray(b"\xff" * 2048)):
        with pytest.raises(CodeError):
            replica.make_correction(0, fp32, memoryview(code), fp32, out)
        with pytest.raises(CodeError):
            replica.decode_correction(0, fp32, memoryview(code), torch.empty(512))
    assert torch.equal(phi_N, replica.phi_N)


def test_an_anchor_that_is_not_finite_is_never_sent() -> None:
    """A diverged peer says so instead of spreading it."""
    replica, _ = replica_of(torch.randn(512))
    assert replica.finite()
    replica.apply_correction(0, torch.full((512,), math.inf), 0.5)
    assert not replica.finite()
    out = memoryview(bytearray(2048))
    with pytest.raises(CodeError):
        replica.encode_fragment(0, make_codec("fp32"), out)
    with pytest.raises(CodeError):
        replica.snapshot(out)


def test_a_newcomer_becomes_its_source_and_forgets_its_momentum() -> None:
    """Theta = phi = snapshot, m = 0, in one piece over all fragments."""
    source, _ = replica_of(torch.randn(3000), OuterStep(0.8, 0.7), fragments=3)
    newcomer, ledger = replica_of(torch.randn(3000), OuterStep(0.8, 0.7), fragments=2)
    train(newcomer, 1)
    newcomer.publish()
    code = memoryview(bytearray(4 * source.model.elements))
    digests = source.snapshot(code)
    assert [chunk_digest(code)] == digests
    snapshot_N = torch.empty(source.model.elements)
    decode_vector(make_codec("fp32"), code, snapshot_N)
    newcomer.replace(snapshot_N)
    assert torch.equal(source.phi_N, newcomer.phi_N)
    assert torch.equal(source.phi_N, theta_N(newcomer))
    assert 1e-6 > ledger.balance_error(newcomer.phi_N)
    newcomer.publish()
    assert torch.equal(source.phi_N, newcomer.phi_N)  # old momentum would have moved it


@pytest.mark.parametrize("peers", [2, 8])
def test_full_hypercube_rounds_after_each_outer_step_are_diloco(peers: int) -> None:
    """N = 2^k peers, k swaps each with partner i xor 2^r, against DiLoCo's one mean and buffer."""
    a, b = 0.8, 0.7
    start_N = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    replicas = [replica_of(start_N, OuterStep(a, b))[0] for _ in range(peers)]
    mean_N, m_N = start_N.double(), torch.zeros(1024, dtype=torch.float64)
    for outer_round in range(4):
        deltas = []
        for index, replica in enumerate(replicas):
            train(replica, 100 * outer_round + index)
            deltas.append(theta_N(replica).double() - mean_N)
            replica.publish()
        delta_N = torch.stack(deltas).mean(dim=0)
        m_N = a * m_N + b * delta_N
        mean_N = mean_N + b * delta_N + a * m_N
        for bit in range(peers.bit_length() - 1):
            for index in range(peers):
                if index < index ^ (1 << bit):
                    swap(replicas[index], replicas[index ^ (1 << bit)])
        for replica in replicas:
            assert torch.allclose(mean_N, replica.phi_N.double(), atol=1e-5)
            assert torch.allclose(mean_N, theta_N(replica).double(), atol=1e-5)


def test_the_disagreement_seen_in_a_swap_is_the_distance_over_the_size() -> None:
    """The estimate a peer can make from its own correction."""
    replica, _ = replica_of(torch.full((512,), 2.0), fragments=2)
    assert 0.5 == pytest.approx(replica.swap_disagreement(1, torch.ones(256)))


def test_more_fragments_than_blocks_are_refused() -> None:
    """A usage error, with the limit."""
    with pytest.raises(UsageError, match="between 1 and 2"):
        replica_of(torch.randn(512), fragments=3)


def test_a_snapshot_waits_for_a_writer_and_holds_every_fragment_meanwhile() -> None:
    """One moment of all fragments: what is being written anywhere is in it, or not begun."""
    replica, _ = replica_of(torch.zeros(1024), fragments=4)
    code = bytearray(4096)
    reader = threading.Thread(target=replica.snapshot, args=(memoryview(code),))
    first, last = replica._locks[0], replica._locks[-1]
    with last.writing():
        reader.start()
        give_up_s = time.monotonic() + 10
        while not first._lock.locked():
            assert time.monotonic() < give_up_s, "the snapshot does not hold the first fragment"
        replica.phi_N[-256:] = 1.0
    reader.join(10)
    assert not reader.is_alive()
    out_N = torch.frombuffer(code, dtype=torch.float32)
    assert 256.0 == float(out_N.sum()) == float(out_N[-256:].sum())


def test_an_adoption_waits_until_it_holds_every_fragment() -> None:
    """A reader in the last fragment keeps the first one from changing."""
    replica, _ = replica_of(torch.zeros(1024), fragments=4)
    writer = threading.Thread(target=replica.replace, args=(torch.ones(1024),))
    first, last = replica._locks[0], replica._locks[-1]
    with last.reading():
        writer.start()
        give_up_s = time.monotonic() + 10
        while not first._lock.locked():
            assert time.monotonic() < give_up_s, "the adoption does not hold the first fragment"
        assert 0.0 == float(replica.phi_N.sum())
    writer.join(10)
    assert not writer.is_alive()
    assert torch.equal(torch.ones(1024), replica.phi_N)


def test_snapshots_beside_adoptions_are_never_torn() -> None:
    """Every snapshot taken while another thread replaces everything is one of the models."""
    replica, _ = replica_of(torch.zeros(1024), fragments=4)
    stop = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        code = bytearray(4096)
        while not stop.is_set():
            replica.snapshot(memoryview(code))
            out_N = torch.frombuffer(code, dtype=torch.float32)
            seen.append(bool((out_N == out_N[0]).all()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for value in range(300):
            replica.replace(torch.full((1024,), float(value)))
    finally:
        stop.set()
        reader.join(10)
    assert not reader.is_alive()
    assert seen
    assert all(seen)
