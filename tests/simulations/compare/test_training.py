"""P models at once: the same gradients and steps as one after another with torch's own parts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gossip.errors import UsageError
from peers.tasks.line import LineTask
from simulations.compare.baselines import (
    AsyncServer,
    DiLoCo,
    NoLoCo,
    PeriodicAverage,
    SharedBatch,
)
from simulations.compare.conditions import Conditions
from simulations.compare.feed import Feed, Split
from simulations.compare.field import Method
from simulations.compare.gossiping import Gossip, GossipSettings
from simulations.compare.inner import InnerSettings, hidden_matrices, make_inner, read_inner
from simulations.compare.partners import Meeting, Meetings
from simulations.compare.registry import make_method, read_spec
from simulations.compare.stack import Form, Stack
from tests.gossip.exchange.test_real_codecs import PAIRS
from tests.simulations.compare.fields import TASK, field_of


def test_both_forms_give_the_gradients_that_torch_gives() -> None:
    """Stacked, one by one, and plain backward: the same up to rounding."""
    stack = Stack(TASK, 3, 0)
    stack.theta_PN += 0.01 * torch.randn(stack.theta_PN.shape)
    feed = Feed(TASK, 3, Split.SHARED, 0)
    batches = [feed.batch(peer, 0) for peer in range(3)]
    found: list[torch.Tensor] = []
    for form in Form:
        stack.use(form)
        losses_P = stack.gradients(batches)
        found.append(stack.grad_PN.clone())
        for peer in range(3):
            model = stack.load(stack.theta_PN[peer])
            model.zero_grad()
            loss = TASK.loss(model, batches[peer])
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type
            assert float(losses_P[peer]) == pytest.approx(float(loss.detach()), rel=1e-5)
            for part, parameter in zip(stack.parts, model.parameters(), strict=True):
                mine = stack.view_P(stack.grad_PN, part)[peer]
                torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_chosen_peers_alone_get_gradients() -> None:
    """The other rows stay as they were."""
    stack = Stack(TASK, 4, 0)
    stack.grad_PN.fill_(7.0)
    feed = Feed(TASK, 4, Split.SHARED, 0)
    stack.use(Form.STACKED)
    stack.gradients([feed.batch(1, 0), feed.batch(3, 0)], [1, 3])
    assert bool((stack.grad_PN[[0, 2]] == 7.0).all())
    assert bool((stack.view_P(stack.grad_PN, stack.parts[0])[[1, 3]] != 7.0).all())


def torch_optimizer(name: str, parameters: Any, rate: float) -> torch.optim.Optimizer:
    """What the stacked optimizer of this name repeats."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=0.01)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    return torch.optim.Muon(
        parameters, lr=rate, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )


@pytest.mark.parametrize("name, tolerance", [("sgd", 1e-6), ("adamw", 1e-6), ("muon", 5e-3)])
def test_inner_optimizers_are_torchs(name: str, tolerance: float) -> None:
    """Six steps on drawn gradients with a falling rate. Torch's Muon iterates in bf16, ours in
    fp32: hence its tolerance."""
    generator = torch.Generator().manual_seed(1)
    stack = Stack(TASK, 2, 0)
    inner = make_inner(stack, InnerSettings(name, 0.02, beta1=0.9))
    parts = hidden_matrices(stack) if name == "muon" else stack.parts
    assert parts
    leaves = [
        [torch.nn.Parameter(stack.view_P(stack.theta_PN, part)[peer].clone()) for part in parts]
        for peer in range(2)
    ]
    theirs = [torch_optimizer(name, each, 0.02) for each in leaves]
    for step in range(6):
        stack.grad_PN.copy_(torch.randn(stack.grad_PN.shape, generator=generator))
        scale = 1 - step / 10
        inner.step_(None, scale)
        for peer, optimizer in enumerate(theirs):
            for leaf, part in zip(leaves[peer], parts, strict=True):
                leaf.grad = stack.view_P(stack.grad_PN, part)[peer].clone()
            optimizer.param_groups[0]["lr"] = 0.02 * scale
            optimizer.step()
    for peer in range(2):
        for leaf, part in zip(leaves[peer], parts, strict=True):
            mine = stack.view_P(stack.theta_PN, part)[peer]
            torch.testing.assert_close(mine, leaf.detach(), rtol=tolerance, atol=tolerance)


def test_the_rest_learns_at_a_share_of_muons_rate() -> None:
    """AdamW steps of that rate where there is no hidden matrix, Muon's own where there is."""
    generator = torch.Generator().manual_seed(1)
    stacks = [Stack(TASK, 2, 0) for _ in range(3)]
    inners = [
        make_inner(stacks[0], InnerSettings("muon", 0.02, rest=0.25)),
        make_inner(stacks[1], InnerSettings("muon", 0.02)),
        make_inner(stacks[2], InnerSettings("adamw", 0.005)),
    ]
    gradient_PN = torch.randn(stacks[0].grad_PN.shape, generator=generator)
    for stack, inner in zip(stacks, inners, strict=True):
        stack.grad_PN.copy_(gradient_PN)
        inner.step_(None, 1.0)
    hidden = hidden_matrices(stacks[0])
    for part in stacks[0].parts:
        mine, *others = (stack.view_P(stack.theta_PN, part) for stack in stacks)
        assert torch.equal(mine, others[0] if part in hidden else others[1])


@pytest.mark.parametrize(
    "text", ["adamw:rest=0.5", "muon:", "muon:0.5", "muon:rest=0", "muon:rest=much"]
)
def test_an_inner_optimizer_that_makes_no_sense_is_refused(text: str) -> None:
    """``rest`` is Muon's alone, and a share."""
    with pytest.raises(UsageError, match="rest"):
        read_inner(text)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_chosen_peers_step_alone_and_newcomers_start_afresh(name: str) -> None:
    """A step of some rows leaves the others; a reset row steps as a new optimizer does."""
    stack = Stack(TASK, 3, 0)
    inner = make_inner(stack, InnerSettings(name, 0.02))
    stack.grad_PN.copy_(torch.randn(stack.grad_PN.shape))
    inner.step_(None, 1.0)
    before_PN = stack.theta_PN.clone()
    inner.step_(torch.tensor([0, 2]), 1.0)
    assert torch.equal(stack.theta_PN[1], before_PN[1])
    assert not torch.equal(stack.theta_PN[0], before_PN[0])

    inner.reset_(1)
    stack.theta_PN[1] = before_PN[1]
    fresh = Stack(TASK, 1, 0)
    fresh.theta_PN[0] = before_PN[1]
    fresh.grad_PN[0] = stack.grad_PN[1]
    make_inner(fresh, InnerSettings(name, 0.02)).step_(None, 1.0)
    inner.step_(torch.tensor([1]), 1.0)
    torch.testing.assert_close(stack.theta_PN[1], fresh.theta_PN[0])


def test_a_shared_batch_is_the_mean_of_all_gradients() -> None:
    """DDP: one model's gradient on the union is the mean of the peers' on their batches."""
    field = field_of(SharedBatch(1.5, 6))
    field.stack.gradients([field.feed.union(3)], [0])
    union_N = field.stack.grad_PN[0].clone()
    single_N = torch.zeros_like(union_N)
    for peer in range(4):
        field.stack.gradients([field.feed.batch(peer, 3)], [0])
        single_N += field.stack.grad_PN[0] / 4
    torch.testing.assert_close(union_N, single_N, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PeriodicAverage(5),
        lambda: DiLoCo(5, 0.0, 1.0),
        lambda: PeriodicAverage(5, group=4),
    ],
)
def test_averaging_all_is_what_several_methods_come_to(make: Callable[[], Method]) -> None:
    """Local SGD, DiLoCo without momentum at rate 1, and groups of everybody: one trajectory."""
    reference = field_of(PeriodicAverage(5))
    method = make()
    field = field_of(method)
    baseline = PeriodicAverage(5)
    baseline.start(reference)
    for step in range(10):
        baseline.advance(reference, step)
        method.advance(field, step)
    torch.testing.assert_close(field.stack.theta_PN, reference.stack.theta_PN)


def test_bytes_of_the_baselines_are_those_of_their_papers() -> None:
    """Per peer, of a model of V bytes: DDP 2 (N - 1) / N V a step, DiLoCo the same every H,
    NoLoCo V every H, groups of four in 8 bits 1.5 V / 4 every H."""
    for method, expected in (
        (SharedBatch(1.5, 6), 1.5 * 10),
        (DiLoCo(5, 0.9, 0.7), 1.5 * 2),
        (NoLoCo(5, 0.5, 0.7), 2),
        (PeriodicAverage(5, 4, 1.0), 1.5 / 4 * 2),
        (AsyncServer(), 10),
    ):
        field = field_of(method)
        for step in range(10):
            method.advance(field, step)
        assert field.traffic.sent_bytes == pytest.approx(expected * field.vector_bytes)


@pytest.mark.parametrize("offer, reply", PAIRS)
def test_gossip_conserves_the_sum_and_brings_peers_together(offer: str, reply: str) -> None:
    """Without training a swap moves no mass, whatever the codec; disagreement shrinks, the less
    the fewer bits an answer has."""
    method = Gossip(GossipSettings(fragments=2, offer=offer, reply=reply))
    field = field_of(method)
    field.stack.theta_PN += 0.05 * torch.randn(
        field.stack.theta_PN.shape, generator=torch.Generator().manual_seed(2)
    )
    sum_N = field.stack.theta_PN.double().sum(dim=0)
    spread = float(field.stack.theta_PN.std(dim=0).norm())
    for _ in range(24):
        method._swap(field, method._swaps, method._swaps % 2)
        method._swaps += 1
    after_N = field.stack.theta_PN.double().sum(dim=0)
    torch.testing.assert_close(after_N, sum_N, rtol=0, atol=1e-5)
    left = 0.9 if reply in ("sign", "topk8") else 0.2
    assert float(field.stack.theta_PN.std(dim=0).norm()) < left * spread


def test_slow_and_fast_peers_take_equal_steps_in_all() -> None:
    """With a spread of four the fastest takes four times the steps of the slowest, and the
    total is that of equal peers."""
    method = Gossip(GossipSettings())
    field = field_of(method, conditions=Conditions(spread=4.0))
    tick = 0
    while field.progress < 20:
        method.advance(field, tick)
        tick += 1
    assert sum(field.taken) == pytest.approx(4 * 20, abs=4)
    assert field.taken[-1] == pytest.approx(4 * field.taken[0], abs=4)


def test_a_slow_peer_opens_fewer_swaps() -> None:
    """With a spread of four, peers swap as often per local step as equal ones do."""
    sent: list[float] = []
    for spread in (1.0, 4.0):
        method = Gossip(GossipSettings(offer="int8", reply="int8"))
        field = field_of(method, conditions=Conditions(spread=spread))
        tick = 0
        while field.progress < 60:
            method.advance(field, tick)
            tick += 1
        sent.append(field.traffic.sent_bytes)
    assert sent[1] == pytest.approx(sent[0], rel=0.1)


def test_a_barrier_makes_slow_and_fast_peers_take_equal_steps() -> None:
    """Time passes instead; who waits for nobody takes as many steps as it can."""
    fields = [
        field_of(method, conditions=Conditions(spread=4.0))
        for method in (DiLoCo(5, 0.9, 0.7), AsyncServer())
    ]
    for method, field in zip((DiLoCo(5, 0.9, 0.7), AsyncServer()), fields, strict=True):
        method.start(field)
        for step in range(20):
            method.advance(field, step)
    assert fields[0].taken == [20] * 4
    assert fields[1].taken == [5, 10, 15, 20]


def test_a_delayed_swap_moves_its_peers_when_its_messages_arrive() -> None:
    """Opened after step 4: the one that answers moves after step 6, the opener after step 8, by
    the same amount; the sum is what it was."""
    method = Gossip(GossipSettings(every=4, delay=2, offer="fp32", reply="fp32"))
    field = field_of(method, peers=2)
    field.stack.theta_PN[1] += 0.5
    sum_N = field.stack.theta_PN.double().sum(dim=0)
    moved: list[list[bool]] = []
    with torch.no_grad():
        before_PN = field.stack.theta_PN.clone()
        method._swap(field, 3, 0)
        for step in range(4, 8):
            method._arrive(field, step)
            moved.append(
                [bool((field.stack.theta_PN[row] != before_PN[row]).any()) for row in (0, 1)]
            )
    assert [sum(each) for each in moved] == [0, 1, 1, 2]
    torch.testing.assert_close(field.stack.theta_PN[0], field.stack.theta_PN[1])
    torch.testing.assert_close(field.stack.theta_PN.double().sum(dim=0), sum_N, rtol=0, atol=1e-5)


def test_a_newcomer_drops_the_swaps_under_way() -> None:
    """They were its predecessor's."""
    method = Gossip(GossipSettings(every=4, delay=2))
    field = field_of(method)
    with torch.no_grad():
        method._swap(field, 3, 0)
        assert len(method._offers) == 2
        method.replaced(field, method._offers[0].pair[0], 0)
        assert len(method._offers) == 1


def test_what_others_moved_is_no_update_of_ones_own() -> None:
    """A delayed correction arrives between two swaps: the clip's usual update does not grow."""
    method = Gossip(GossipSettings(every=4, delay=1, offer="fp32", reply="fp32", clip=1.0))
    field = field_of(method, peers=2)
    with torch.no_grad():
        method._swap(field, 3, 0)
        field.stack.theta_PN[1] += 5.0
        method._after_PN = field.stack.theta_PN.clone()
        for step in range(4, 8):
            method._arrive(field, step)
        assert torch.equal(method._after_PN, field.stack.theta_PN)


@pytest.mark.parametrize(("every", "plain", "early"), [(1, 8, 12), (2, 4, 6), (3, 2, 3)])
def test_early_swaps_are_twice_as_many_until_their_share_is_over(
    every: int, plain: int, early: int
) -> None:
    """Eight steps, the first four with twice as many swaps; the fragments still take turns."""
    for share, swaps in ((0.0, plain), (0.5, early)):
        method = Gossip(GossipSettings(every, fragments=4, early=share))
        field = field_of(method, peers=2, steps=8)
        for step in range(8):
            method.advance(field, step)
        assert swaps == field.traffic.events == method._swaps


@pytest.mark.parametrize("meeting", [Meeting.NEIGHBORS, Meeting.RECENT])
def test_a_lost_meeting_is_made_up_for_first(meeting: Meeting) -> None:
    """Whoever did not come to swap is met before those met since."""
    meetings = Meetings(4, meeting, random.Random(0))
    first = meetings.next()
    meetings.forget(first[0])
    met = {frozenset(pair) for pair in first[1:]}
    for _ in range(3):
        met |= {frozenset(pair) for pair in meetings.next()}
    assert frozenset(first[0]) in met


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_neighbors_that_keep_step_meet_as_in_the_exponential_graph(k: int) -> None:
    """Without an agreement: the exact mean after every sweep, though all choose for themselves."""
    meetings = Meetings(2**k, Meeting.NEIGHBORS, random.Random(k))
    values = torch.eye(2**k)
    for _ in range(3):
        values += torch.diag(torch.arange(2.0**k))
        for _ in range(k):
            for pair in meetings.next():
                values[[*pair]] = values[[*pair]].mean(dim=0)
        assert torch.allclose(values, values.mean(dim=0).expand_as(values))


@pytest.mark.parametrize("peers", [1, 2, 3, 4, 5, 8])
def test_a_ring_is_closed_whatever_the_number_of_peers(peers: int) -> None:
    """Each meets its two neighbors and nobody else, as often as any other does."""
    meetings = Meetings(peers, Meeting.RING, random.Random(0))
    met = Counter(frozenset(pair) for _ in range(2 * peers) for pair in meetings.next())
    edges = {frozenset((each, (each + 1) % peers)) for each in range(peers)} if peers > 1 else set()
    assert edges == met.keys()
    assert len(set(met.values())) <= 1


def test_a_feed_depends_on_seed_peer_and_step_alone() -> None:
    """The same batch for every method; disjoint peers see disjoint samples."""
    one, two = (Feed(LineTask(), 4, Split.DISJOINT, 5) for _ in range(2))
    for first, second in zip(one.batch(2, 7), two.batch(2, 7), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(one.batch(2, 7)[0], one.batch(2, 8)[0])
    seen = [set(map(tuple, one.batch(peer, 0)[0].tolist())) for peer in range(4)]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("name", ["gasloc", "push-sum", "pull", "pull:rule=nearest"])
def test_other_strategies_learn_and_come_together(name: str) -> None:
    """Forty steps on digits, a third of messages lost where any can be: the loss falls, and peers
    agree far better than they would alone."""
    alone, together = PeriodicAverage(1_000), make_method(read_spec(name), 6)
    fields = [field_of(method, 6, 40, Conditions(loss=0.3)) for method in (alone, together)]
    for method, field in zip((alone, together), fields, strict=True):
        first = TASK.evaluate(field.stack.load(field.stack.theta_PN[0]))["loss"]
        for step in range(40):
            method.advance(field, step)
        assert TASK.evaluate(field.stack.load(field.stack.theta_PN.mean(dim=0)))["loss"] < first
    spread = [float(field.stack.theta_PN.std(dim=0).norm()) for field in fields]
    assert spread[1] < 0.5 * spread[0]
