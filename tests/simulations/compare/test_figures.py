"""The figures that a comparison prints: bytes, latencies, pairs, the worst, and whose models count.

Baselines are held to torch's own optimizer or to their paper's recurrence, step by step.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.optim import SGD

from gossip.codecs import WRAP_CODECS, make_codec, make_wrap_codec
from gossip.mixing.flat import FlatModel, fragment_spans
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from peers.tasks.loading import load_task
from simulations.compare.arena import _Churn, _field, _honest_PN, run_job
from simulations.compare.baselines import AsyncServer, DiLoCo, all_reduce_messages
from simulations.compare.conditions import CHURN_EVERY_STEPS, Conditions
from simulations.compare.gossiping import Gossip, GossipSettings
from simulations.compare.inner import InnerSettings
from simulations.compare.links import LINKS, Machine
from simulations.compare.registry import make_method, read_spec
from simulations.compare.results import Job, Outcome
from simulations.compare.strategies import Accelerated
from simulations.compare.summary import _row
from tests.simulations.compare.fields import field_of
from tests.simulations.compare.outcomes import JOB, outcome_of

STEPS = 12
TASK_OF_JOB = load_task("digits", {})
PLAIN_SGD = InnerSettings("sgd", 0.05, beta1=0.0, decay=0.0)


def run(text: str, **changes: object) -> Outcome:
    """A short run on digits."""
    spec = read_spec(text)
    job = Job("digits", (), spec.curve, "sgd", 0.1, 4, 0, STEPS, "disjoint", ())
    return run_job(replace(job, **changes), spec)


def swap_bytes(offer: str, reply: str, fragments: int = 1) -> float:
    """Both legs of one swap of each fragment, as the wire's codecs say."""
    first = make_wrap_codec(offer) if offer in WRAP_CODECS else make_codec(offer)
    elements = field_of(Gossip(GossipSettings()), task=TASK_OF_JOB).stack.theta_PN.shape[1]
    spans = fragment_spans(elements, fragments)
    lengths = [stop - start for start, stop in spans]
    return sum(first.code_bytes(each) + make_codec(reply).code_bytes(each) for each in lengths)


@pytest.mark.parametrize("offer, reply", [("fp32", "fp32"), ("int8", "int4"), ("bf16", "int8")])
@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("early", [0.0, 0.5])
def test_a_swap_costs_what_its_codecs_cost(
    offer: str, reply: str, fragments: int, early: float
) -> None:
    """Two pairs of four peers a step, and twice as many early: each peer sends half of a swap."""
    outcome = run(f"gossip:offer={offer},reply={reply},fragments={fragments},early={early}")
    rounds = STEPS * (1.5 if early else 1.0) / fragments
    assert outcome.sent_bytes == rounds * swap_bytes(offer, reply, fragments) / 2


def test_a_swap_that_is_lost_costs_each_of_its_attempts() -> None:
    """With nearly all lost, three in place of one."""
    method = Gossip(GossipSettings(offer="int8", reply="int8"))
    field = field_of(method, conditions=Conditions(loss=0.999), task=TASK_OF_JOB)
    for step in range(4):
        method.advance(field, step)
    assert field.traffic.sent_bytes == 4 * 3 * swap_bytes("int8", "int8") / 2


@pytest.mark.parametrize("offer, reply", [("wrap4", "int4"), ("wrap3", "int2")])
def test_codes_that_wrap_cost_what_they_say_but_for_the_first(offer: str, reply: str) -> None:
    """Each peer's first offer, and those after too many wraps, are in eight bits."""
    outcome = run(f"gossip:offer={offer},reply={reply}")
    least, plain = (STEPS * swap_bytes(each, reply) / 2 for each in (offer, "int8"))
    assert min(least, plain) < outcome.sent_bytes < 0.5 * (least + plain)


def test_one_way_pushes_and_pairs_cost_a_vector_a_step() -> None:
    """In fp32, whoever it is sent to."""
    for text in ("push-sum:every=1", "gasloc:every=1", "noloco:every=1"):
        outcome = run(text)
        assert outcome.sent_bytes == pytest.approx(4.0 * outcome.parameters * STEPS)


@pytest.mark.parametrize("peers, messages", [(2, 2), (3, 4), (4, 4), (8, 6), (9, 8), (16, 8)])
def test_an_all_reduce_halves_and_doubles(peers: int, messages: int) -> None:
    """2 log2 N messages one after another (Thakur et al. 2005, section 4.5)."""
    assert all_reduce_messages(peers) == messages


def test_diloco_takes_torchs_own_nesterov_steps_on_the_mean_progress() -> None:
    """Algorithm 1 of Douillard et al.: SGD with Nesterov momentum, the outer gradient being the
    anchor less the mean of all models."""
    method = DiLoCo(every=2, a=0.9, b=0.7)
    field, twin = field_of(method), field_of(DiLoCo(every=2, a=0.9, b=0.7))
    anchor_N = torch.nn.Parameter(twin.stack.theta_PN[0].clone())
    outer = SGD([anchor_N], lr=0.7, momentum=0.9, nesterov=True)
    for step in range(8):
        method.advance(field, step)
        twin.local_steps(step)
        if step % 2:
            anchor_N.grad = anchor_N.detach() - twin.stack.theta_PN.mean(dim=0)
            outer.step()
            twin.stack.theta_PN.copy_(anchor_N.detach().expand_as(twin.stack.theta_PN))
        torch.testing.assert_close(field.stack.theta_PN, twin.stack.theta_PN)


def test_an_asynchronous_server_takes_gradients_where_peers_last_looked() -> None:
    """Plain SGD, four peers in turn: each one's gradient is of the model that the server had when
    that peer was answered last, three updates of others ago."""
    method = AsyncServer()
    field, twin = (field_of(each, inner=PLAIN_SGD) for each in (method, AsyncServer()))
    server_N = twin.stack.theta_PN[0].clone()
    looked_at = [server_N.clone() for _ in range(4)]
    for step in range(3):
        method.advance(field, step)
        for peer in range(4):
            twin.stack.theta_PN[0] = looked_at[peer]
            twin.stack.gradients([twin.feed.batch(peer, step)], [0])
            rate = PLAIN_SGD.rate * twin.schedule.scale(step + peer / 4) / 4
            server_N = server_N - rate * twin.stack.grad_PN[0]
            looked_at[peer] = server_N.clone()
        torch.testing.assert_close(field.stack.theta_PN[0], server_N)


@pytest.mark.parametrize("a, b", [(0.5, 0.7), (0.9, 0.3), (0.0, 0.5)])
def test_the_outer_step_of_swaps_is_that_of_real_replicas(a: float, b: float) -> None:
    """Published three times, with progress of one's own between."""
    method = Gossip(GossipSettings(a=a, b=b))
    field = field_of(method, peers=2)
    theta_PN = field.stack.theta_PN
    mine_N = theta_PN[0].clone()
    replica = Replica(FlatModel([("theta", mine_N)]), OuterStep(a, b))
    for seed in range(3):
        moved_N = torch.randn(mine_N.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            mine_N += moved_N
            theta_PN[0] += moved_N
            replica.publish()
            method._publish(theta_PN)
        torch.testing.assert_close(theta_PN[0], replica.phi_N[: mine_N.numel()])


def test_mixing_with_acceleration_moves_no_mean() -> None:
    """What peers hold together moves by their own steps alone: here there are none."""
    method = Accelerated(every=1, mu=0.5)
    field = field_of(method, inner=InnerSettings("sgd", 1e-12))
    theta_PN = field.stack.theta_PN
    with torch.no_grad():
        theta_PN += torch.randn(theta_PN.shape, generator=torch.Generator().manual_seed(1))
    method.start(field)
    before_N = theta_PN.mean(dim=0).clone()
    for step in range(5):
        method.advance(field, step)
    torch.testing.assert_close(theta_PN.mean(dim=0), before_N, rtol=1e-4, atol=1e-5)


def test_all_methods_see_the_same_data_and_start_from_the_same_model() -> None:
    """Under one seed, whatever the method, its rate and its conditions; under another, others."""
    job = Job("digits", (), "", "sgd", 0.1, 4, 0, STEPS, "disjoint", ())
    fields = [
        _field(replace(job, rate=rate, seed=seed), load_task("digits", {}), make_method(spec, 4))
        for spec, rate, seed in (
            (read_spec("ddp"), 0.1, 0),
            (read_spec("gossip"), 0.2, 0),
            (read_spec("diloco"), 0.1, 0),
            (read_spec("gossip"), 0.1, 1),
        )
    ]
    first, *others = fields
    for other, same in zip(others, (True, True, False), strict=True):
        assert torch.equal(first.stack.theta_PN[0], other.stack.theta_PN[0]) is same
        for peer in range(4):
            mine, theirs = (each.feed.batch(peer, 3) for each in (first, other))
            assert torch.equal(mine[0], theirs[0]) is same


def test_gaps_are_of_runs_of_the_same_seed() -> None:
    """Losses that vary tenfold from seed to seed, all a tenth above DDP's: no interval at all."""
    losses = (1.0, 10.0, 3.0)
    mine = [outcome_of(replace(JOB, seed=at), 1.1 * each) for at, each in enumerate(losses)]
    ddp = [outcome_of(replace(JOB, seed=at), each) for at, each in enumerate(losses)]
    row = _row(read_spec("diloco"), mine, ddp, Machine(), LINKS, 1.0)
    assert row.gap == pytest.approx(0.1)
    assert row.gap_half == pytest.approx(0.0, abs=1e-9)


def test_the_worst_peer_is_worse_than_the_mean_of_all() -> None:
    """Peers that never mix, each with labels of its own."""
    outcome = run(f"local-sgd:every={2 * STEPS}")
    assert outcome.worst > outcome.typical > outcome.loss


def test_attackers_models_count_for_nothing() -> None:
    """They are the last rows; a method with one model for all has none."""
    theta_PN = field_of(Gossip(GossipSettings())).stack.theta_PN
    for attackers in (0, 1, 2):
        conditions = Conditions(attackers=attackers)
        field = field_of(Gossip(GossipSettings()), conditions=conditions)
        assert _honest_PN(field).shape[0] == 4 - attackers
        shared = field_of(AsyncServer(), conditions=conditions)
        assert _honest_PN(shared).shape == theta_PN[:1].shape


def test_churn_puts_a_copy_of_another_in_a_peers_place() -> None:
    """Once in CHURN_EVERY_STEPS; the method and the optimizer are told."""
    method = Gossip(GossipSettings())
    field = field_of(method, conditions=Conditions(churn=0.999))
    told: list[tuple[int, int]] = []
    afresh: list[int] = []
    field.inner.reset_ = afresh.append
    method.replaced = lambda _, row, source: told.append((row, source))
    churn, theta_PN = _Churn(field, method), field.stack.theta_PN
    with torch.no_grad():
        theta_PN += torch.arange(4.0)[:, None]
        for tick in range(CHURN_EVERY_STEPS - 1):
            churn.after(tick)
        assert told == []
        before_PN = theta_PN.clone()
        churn.after(CHURN_EVERY_STEPS - 1)
    assert [row for row, _ in told] == afresh == [0, 1, 2, 3]
    assert all(row != source for row, source in told)
    assert torch.equal(theta_PN[0], before_PN[told[0][1]])
    assert not torch.equal(theta_PN, before_PN)


def test_a_clip_keeps_both_sides_bounds() -> None:
    """Whoever opens the swap, the one that moves less by itself sets it."""
    method = Gossip(GossipSettings(clip=1.0, offer="int8"))
    field_of(method)
    d_n = torch.full((64,), 1.0)
    for usual, row in ((1.0, 0), (0.5, 1)):
        method._clips[row][0].note(usual)
    factors = [method._clip(pair, 0, d_n) for pair in ((0, 1), (1, 0))]
    assert factors == pytest.approx([0.5 / (0.5 * 8.0)] * 2)
