"""What training in a swarm comes to: the known answer, plain training alone, DiLoCo in step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossip.codecs import make_codec
from gossip.config import ExchangeConfig
from gossip.messages import PeerId
from gossip.mixing.flat import FlatModel
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from gossip.topology.schedule import one_peer_exponential
from peers.cli.flags import USUAL_REPLIES
from peers.loading import ShardLoader
from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from simulations import checks
from simulations.seeds import derive
from simulations.workload import TensorBody, train_step
from simulations.world import World
from tests.simulations.worlds import TOLERANCE, check_sums, finish, line_plan


def check_known_answer(peers: int, seed: int, codec: str, loss: float) -> None:
    """So many peers learn line together, and their sums match.

    Its cut shards make a peer depend on the others, so learning takes swaps, not only steps: some
    45 a peer bring the error to a fourth of the tolerance. At 30 % loss (each pull needs two
    frames in a row, each retry waits 50 ms) a peer settles 3 a second, without loss 14.
    """
    reply_codec = USUAL_REPLIES.get(codec, codec)
    world = World(line_plan(seed, codec, loss, step_s=0.02, reply_codec=reply_codec))
    world.start_together(peers)
    world.run(24.0)

    assert finish(world)

    assert checks.worst_error(world.lives) <= TOLERANCE[codec]
    assert checks.spread(world.lives) <= TOLERANCE[codec]
    check_sums(world)


@pytest.mark.timeout(300)  # seconds; half a minute of computing, where all is busy
@settings(max_examples=4)
@given(
    peers=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    codec=st.sampled_from(tuple(TOLERANCE)),
    loss=st.sampled_from((0.0, 0.1, 0.3)),
)
def test_every_peer_comes_to_the_known_answer(
    peers: int, seed: int, codec: str, loss: float
) -> None:
    """Any number of peers, any codec, up to 30 % of all frames lost: all of them learn line."""
    check_known_answer(peers, seed, codec, loss)


@pytest.mark.parametrize(
    ("peers", "seed", "codec", "loss"),
    [
        (3, 4, "fp32", 0.3),
        (8, 3026530898, "fp32", 0.3),
        (8, 6, "wrap4", 0.0),
        (8, 6, "wrap4", 0.3),
    ],
)
def test_those_for_whom_it_is_hard_come_to_it_too(
    peers: int, seed: int, codec: str, loss: float
) -> None:
    """Slowest of all, or with blocks that wrap. A test each: together they take minutes."""
    check_known_answer(peers, seed, codec, loss)


def digits_losses(codec: str, reply_codec: str, loss: float) -> list[float]:
    """What eight peers that see two or three digits each come to, after finishing in the same
    codecs. The network drops the same frames whatever they carry."""
    plan = line_plan(2, codec, loss, step_s=0.02, reply_codec=reply_codec)
    world = World(replace(plan, task=DigitsTask()))
    world.start_together(8)
    world.run(10.0)
    assert finish(world)
    check_sums(world)
    return [DigitsTask().evaluate(body.model)["loss"] for _, body in checks.bodies(world.lives)]


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_four_bits_train_as_well_as_thirty_two(loss: float) -> None:
    """Same peers, batches and partners. The codes' noise makes one run a little better or worse
    than another; what comes out differs by a few percent."""
    plain = digits_losses("fp32", "fp32", loss)
    coded = digits_losses("wrap4", "int4", loss)

    assert sum(coded) < 1.12 * sum(plain)
    assert max(coded) < 1.15 * max(plain)


def test_two_bits_train_worse_but_never_go_astray() -> None:
    """Far fewer bits than the differences need: every peer still learns, and none blows up."""
    coded = digits_losses("wrap4", "int2", 0.0)

    assert max(coded) < 0.3, "without training it is 2.3"


def test_lost_frames_slow_swaps_down_but_do_not_stall_them() -> None:
    """With 30 % lost an attempt fails every second time; more than a fifth of the swaps remain."""

    def swaps(seed: int, loss: float) -> int:
        world = World(line_plan(seed, loss=loss, step_s=0.02))
        world.start_together(3)
        world.run(16.0)
        return sum(life.swaps_applied() for life in world.lives)

    seeds = (4, 5, 6)
    assert sum(swaps(seed, 0.3) for seed in seeds) > 0.2 * sum(swaps(seed, 0.0) for seed in seeds)


def test_no_peer_finds_the_answer_without_the_others() -> None:
    """The test above shows mixing: as fast as that, a peer with its own shards alone does not."""
    task = LineTask()
    body = TensorBody(task, 3, 5, OuterStep(), ExchangeConfig(), line_plan(0).cadence)

    for _ in range(600):
        body.step((0, 4))

    assert task.evaluate(body.model)["error"] > 0.2


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_one_peer_alone_is_plain_training_bit_for_bit(seed: int) -> None:
    """Same model, same batches, same steps: the swarm of one adds nothing and takes nothing."""
    world = World(line_plan(seed))
    alone = world.start(0)
    world.run(3.0)

    task = LineTask()
    model = task.model(derive(seed, "model", 0, 1) % (1 << 31))
    optimizer = task.optimizer(model)
    loader = ShardLoader(task, derive(seed, "order"))
    loader.set_shards(range(task.shards))
    for _ in range(alone.steps):
        batch = loader.next_batch()
        assert batch is not None
        train_step(task, model, optimizer, batch)

    assert isinstance(alone.body, TensorBody)
    assert alone.steps > 40
    for expected, actual in zip(model.parameters(), alone.body.model.parameters(), strict=True):
        assert torch.equal(expected, actual)


class _Pupil:
    """One peer of a swarm in lock-step: a vector, and gradients towards a target of its own."""

    def __init__(self, start_N: torch.Tensor, target_N: torch.Tensor, outer: OuterStep) -> None:
        self.w_N = nn.Parameter(start_N.clone())
        self.target_N = target_N
        self.replica = Replica(FlatModel([("w", self.w_N)]), outer)

    def inner_steps(self) -> None:
        """A few local steps of SGD."""
        optimizer = torch.optim.SGD([self.w_N], lr=0.1)
        for _ in range(5):
            self.w_N.grad = self.w_N.detach() - self.target_N
            optimizer.step()


def _swap(one: Replica, two: Replica) -> None:
    codec = make_codec("fp32")
    elements = one.elements(0)
    code = memoryview(bytearray(codec.code_bytes(elements)))
    correction = memoryview(bytearray(codec.code_bytes(elements)))
    one.encode_fragment(0, codec, code)
    two.make_correction(0, codec, code, codec, correction)
    c_N = torch.empty(elements)
    two.decode_correction(0, codec, correction, c_N)
    two.apply_correction(0, c_N, -0.5)
    one.apply_correction(0, c_N, 0.5)


def _diloco(
    start_N: torch.Tensor, targets_PN: list[torch.Tensor], outer: OuterStep, rounds: int
) -> torch.Tensor:
    """DiLoCo: inner SGD everywhere, one Nesterov step on the mean outer gradient."""
    shared_N = nn.Parameter(start_N.clone())
    outer_optimizer = torch.optim.SGD([shared_N], lr=outer.b, momentum=outer.a, nesterov=True)
    for _ in range(rounds):
        ends_PN = []
        for target_N in targets_PN:
            pupil = _Pupil(shared_N.detach(), target_N, outer)
            pupil.inner_steps()
            ends_PN.append(pupil.w_N.detach())
        shared_N.grad = shared_N.detach() - torch.stack(ends_PN).mean(dim=0)
        outer_optimizer.step()
    return shared_N.detach()


@pytest.mark.parametrize("doublings", [1, 2, 3])
def test_full_exponential_rounds_after_each_outer_step_are_diloco(doublings: int) -> None:
    """N = 2^k peers that mix fully by the schedule of topology/ follow DiLoCo's shared model."""
    outer, rounds, elements = OuterStep(a=0.8, b=0.7), 6, 256
    peers = [PeerId(f"{number:016x}") for number in range(2**doublings)]
    generator = torch.Generator().manual_seed(doublings)
    start_N = torch.randn(elements, generator=generator)
    targets_PN = [torch.randn(elements, generator=generator) for _ in peers]
    pupils = [_Pupil(start_N, target_N, outer) for target_N in targets_PN]

    for _ in range(rounds):
        for pupil in pupils:
            pupil.inner_steps()
            assert pupil.replica.publish()
        for round_ in range(doublings):
            for number, peer in enumerate(peers):
                partner = one_peer_exponential(peers, peer, round_)
                assert partner is not None
                if peer < partner:
                    _swap(pupils[number].replica, pupils[peers.index(partner)].replica)

    expected_N = _diloco(start_N, targets_PN, outer, rounds)
    for pupil in pupils:
        torch.testing.assert_close(pupil.w_N.detach(), expected_N, rtol=1e-4, atol=1e-5)
