"""One table of strategies, and the laws each row must obey; then what is particular to one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossip.errors import CodeError, UsageError
from gossip.mixing.gasloc import AcceleratedStep, accelerated_step_
from gossip.mixing.noloco import NoLoCoStep, noloco_step_
from gossip.mixing.outer import OuterStep, outer_step_
from gossip.mixing.push_sum import PushSum
from gossip.mixing.robust import SelfClip, nearest_mean_N, trimmed_mean_N

LAW = settings(max_examples=40, deadline=None)
N = 16


def pair_mean_PN(theta_PN: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Both of each pair at its mean, the rest as they are."""
    mixed_PN = theta_PN.clone()
    for pair in pairs:
        mixed_PN[list(pair)] = theta_PN[list(pair)].mean(dim=0, keepdim=True)
    return mixed_PN


@dataclass
class Swarm:
    """Peers under one strategy: ``round_`` takes what each trained and who met whom."""

    theta_PN: Tensor
    round_: Callable[[Tensor, list[tuple[int, int]]], None]


def outer_swarm(step: OuterStep, start_PN: Tensor) -> Swarm:
    """Publish, then swap anchors: gossip-average and gossip-nesterov."""
    theta_PN, phi_PN = start_PN.clone(), start_PN.clone()
    m_PN = torch.zeros_like(start_PN) if step.a else None

    def round_(trained_PN: Tensor, pairs: list[tuple[int, int]]) -> None:
        theta_PN.add_(trained_PN)
        outer_step_(step, theta_PN, phi_PN, m_PN)
        phi_PN.copy_(pair_mean_PN(phi_PN, pairs))
        theta_PN.copy_(phi_PN)

    return Swarm(theta_PN, round_)


def noloco_swarm(step: NoLoCoStep, start_PN: Tensor) -> Swarm:
    """Lock-step pairs."""
    theta_PN, phi_PN, m_PN = start_PN.clone(), start_PN.clone(), torch.zeros_like(start_PN)

    def round_(trained_PN: Tensor, pairs: list[tuple[int, int]]) -> None:
        noloco_step_(step, phi_PN, m_PN, pair_mean_PN(theta_PN + trained_PN, pairs))
        theta_PN.copy_(phi_PN)

    return Swarm(theta_PN, round_)


def accelerated_swarm(step: AcceleratedStep, start_PN: Tensor) -> Swarm:
    """Momentum between mixings."""
    theta_PN, last_PN = start_PN.clone(), start_PN.clone()

    def round_(trained_PN: Tensor, pairs: list[tuple[int, int]]) -> None:
        theta_PN.copy_(pair_mean_PN(theta_PN + trained_PN, pairs))
        accelerated_step_(step, theta_PN, last_PN)

    return Swarm(theta_PN, round_)


STRATEGIES: dict[str, Callable[[Tensor], Swarm]] = {
    "gossip-average": lambda start: outer_swarm(OuterStep(), start),
    "gossip-nesterov": lambda start: outer_swarm(OuterStep(0.8, 0.7), start),
    "noloco": lambda start: noloco_swarm(NoLoCoStep(0.5, 0.7), start),
    "gasloc": lambda start: accelerated_swarm(AcceleratedStep(0.3), start),
}


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal values in fp64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pairs_of(peers: int, rng: random.Random) -> list[tuple[int, int]]:
    """A random matching."""
    order = list(range(peers))
    rng.shuffle(order)
    return list(zip(order[::2], order[1::2], strict=False))


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@given(seed=st.integers(0, 2**32), peers=st.integers(2, 9))
def test_mixing_never_moves_the_mean(name: str, seed: int, peers: int) -> None:
    """What peers trained moves it alike whoever met whom: the mean follows the rounds of a single
    peer that trains their mean progress."""
    rng = random.Random(seed)
    start_PN = drawn(seed, 1, N).expand(peers, N).clone()
    swarm = STRATEGIES[name](start_PN)
    single = STRATEGIES[name](start_PN[:1])
    for round_ in range(6):
        trained_PN = 0.1 * drawn(seed + round_ + 1, peers, N)
        swarm.round_(trained_PN, pairs_of(peers, rng))
        single.round_(trained_PN.mean(dim=0, keepdim=True), [])
    torch.testing.assert_close(swarm.theta_PN.mean(dim=0), single.theta_PN[0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_who_agrees_and_does_not_train_stays(name: str) -> None:
    """Consensus is a fixed point."""
    start_PN = drawn(1, 1, N).expand(4, N).clone()
    swarm = STRATEGIES[name](start_PN)
    for _ in range(5):
        swarm.round_(torch.zeros(4, N, dtype=torch.float64), [(0, 1), (2, 3)])
    torch.testing.assert_close(swarm.theta_PN, start_PN)


@pytest.mark.parametrize("name", STRATEGIES)
def test_peers_that_differ_come_together(name: str) -> None:
    """Forty rounds of random pairs without training leave a thousandth of the disagreement."""
    rng, start_PN = random.Random(3), drawn(2, 8, N)
    swarm = STRATEGIES[name](start_PN)
    for _ in range(40):
        swarm.round_(torch.zeros(8, N, dtype=torch.float64), pairs_of(8, rng))
    spread = float(swarm.theta_PN.std(dim=0).norm() / start_PN.std(dim=0).norm())
    assert spread < 1e-3


def test_with_everybody_in_the_mean_three_of_them_are_diloco() -> None:
    """One peer, or all in lock-step: Nesterov with momentum a, rate b (Douillard et al., 2023)."""
    progress = [0.1 * drawn(10 + each, 1, N) for each in range(8)]
    for name, a, b in (("gossip-nesterov", 0.8, 0.7), ("gasloc", 0.3, 1.0)):
        swarm = STRATEGIES[name](drawn(5, 1, N))
        phi_N, m_N = drawn(5, 1, N)[0], torch.zeros(N, dtype=torch.float64)
        for trained_PN in progress:
            swarm.round_(trained_PN, [])
            m_N = a * m_N + trained_PN[0]
            phi_N = phi_N + b * (trained_PN[0] + a * m_N)
        torch.testing.assert_close(swarm.theta_PN[0], phi_N)


@LAW
@given(seed=st.integers(0, 2**32), a=st.floats(0.0, 0.65), b=st.floats(0.66, 1.0))
def test_noloco_in_one_vector_is_noloco_in_two(seed: int, a: float, b: float) -> None:
    """The paper's form sends progress and anchor apart; with gamma = b one vector is enough."""
    phi_PN, delta_PN = drawn(seed, 2, N), 0.1 * drawn(seed + 1, 2, N)
    m_PN = 0.1 * drawn(seed + 2, 2, N)
    two_m_PN = a * m_PN + b * delta_PN.mean(dim=0) - b * (phi_PN - phi_PN.mean(dim=0))
    two_phi_PN = phi_PN + two_m_PN

    mean_N = (phi_PN + delta_PN).mean(dim=0, keepdim=True)
    noloco_step_(NoLoCoStep(a, b), phi_PN, m_PN, mean_N)

    torch.testing.assert_close(phi_PN, two_phi_PN, rtol=0, atol=1e-12)
    torch.testing.assert_close(m_PN, two_m_PN, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoLoCoStep(0.7, 0.7),
        lambda: NoLoCoStep(0.9, 0.7),
        lambda: NoLoCoStep(-0.1, 0.7),
        lambda: AcceleratedStep(1.0),
        lambda: AcceleratedStep(-0.1),
        lambda: AcceleratedStep(math.nan),
        lambda: SelfClip(-1.0),
        lambda: SelfClip(math.inf),
    ],
)
def test_unstable_settings_are_refused(make: Callable[[], object]) -> None:
    """With a reason, before anything is trained."""
    with pytest.raises(UsageError):
        make()


def test_acceleration_brings_a_ring_together_in_fewer_rounds() -> None:
    """Sixteen in a ring that mix lazily with both neighbors: rounds to a thousandth, with momentum,
    are less than half of those without."""
    peers = 16
    mixing_PP = 0.5 * torch.eye(peers, dtype=torch.float64)
    for peer in range(peers):
        mixing_PP[peer, (peer + 1) % peers] += 0.25
        mixing_PP[peer, (peer - 1) % peers] += 0.25
    rounds: dict[float, int] = {}
    for mu in (0.0, 0.6):
        theta_PN = drawn(7, peers, N)
        theta_PN -= theta_PN.mean(dim=0)
        start, last_PN, count = float(theta_PN.norm()), theta_PN.clone(), 0
        while float(theta_PN.norm()) > 1e-3 * start and count < 1_000:
            theta_PN = mixing_PP @ theta_PN
            accelerated_step_(AcceleratedStep(mu), theta_PN, last_PN)
            count += 1
        rounds[mu] = count
    assert rounds[0.6] < 0.5 * rounds[0.0]


@LAW
@given(
    seed=st.integers(0, 2**32),
    peers=st.integers(2, 6),
    loss=st.floats(0.0, 0.6),
    rounds=st.integers(1, 15),
)
def test_push_sum_keeps_its_mass_whatever_the_links_do(
    seed: int, peers: int, loss: float, rounds: int
) -> None:
    """Under loss, repetition and reordering: mass and weight in peers and under way are what they
    were, weights stay positive, estimates stay within the range of the start."""
    rng, start_PN = random.Random(seed), drawn(seed, peers, N)
    sums = [PushSum(start_N.clone()) for start_N in start_PN]
    flying: list[tuple[int, int, object]] = []
    for _ in range(rounds):
        for sender in range(peers):
            others = [other for other in range(peers) if other != sender]
            links = [(sender, other) for other in rng.sample(others, rng.randint(1, len(others)))]
            for link, push in zip(links, sums[sender].push(links), strict=True):
                if rng.random() >= loss:
                    flying.extend([(*link, push)] * rng.choice([1, 1, 2]))
        rng.shuffle(flying)
        for sender, receiver, push in flying[: len(flying) // 2]:
            sums[receiver].take((sender, receiver), push)  # type: ignore[arg-type]  # of one list
        del flying[: len(flying) // 2]
    mass_N = sum((sum_.mass_N for sum_ in sums), torch.zeros(N, dtype=torch.float64))
    weight = sum(sum_.weight for sum_ in sums)
    for sender in range(peers):
        for receiver in range(peers):
            if sender != receiver:
                link = (sender, receiver)
                moving_N, moving = sums[sender].underway(sums[receiver], link)
                mass_N, weight = mass_N + moving_N, weight + moving
    torch.testing.assert_close(mass_N, start_PN.sum(dim=0), rtol=0, atol=1e-9)
    assert weight == pytest.approx(peers, abs=1e-9)
    for sum_ in sums:
        assert sum_.weight > 0
        estimate_N = sum_.estimate_N()
        assert bool((estimate_N <= start_PN.max(dim=0).values + 1e-9).all())
        assert bool((estimate_N >= start_PN.min(dim=0).values - 1e-9).all())


@LAW
@given(seed=st.integers(0, 2**32), kappa=st.floats(0.01, 10.0), size=st.floats(1e-3, 1e6))
def test_a_clip_never_amplifies_and_keeps_its_bound(seed: int, kappa: float, size: float) -> None:
    """The factor is at most 1, and the move at most kappa times the own update."""
    clip, c_N = SelfClip(kappa), size * drawn(seed, N)
    assert clip.factor(c_N, 0.5) == 1.0  # nothing is known yet
    clip.note(2.0)
    factor = clip.factor(c_N, 0.5)
    assert 0 < factor <= 1
    assert 0.5 * factor * float(c_N.norm()) <= kappa * 2.0 * (1 + 1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(bad: float) -> None:
    """In a correction, a pushed sum, a pulled model; and so is another length."""
    clip = SelfClip(1.0)
    clip.note(1.0)
    clip.note(bad)
    assert clip.bound == 1.0
    with pytest.raises(CodeError):
        clip.factor(torch.tensor([bad, 1.0]), 0.5)

    receiver, sender = PushSum(drawn(1, N)), PushSum(drawn(2, N))
    (push,) = sender.push(["link"])
    push.mass_N[0] = bad
    before_N = receiver.mass_N.clone()
    with pytest.raises(CodeError):
        receiver.take("link", push)
    assert torch.equal(receiver.mass_N, before_N)

    for others_PN in (torch.full((3, N), bad), torch.zeros(3, N + 1)):
        for robust in (trimmed_mean_N, nearest_mean_N):
            with pytest.raises(CodeError):
                robust(torch.zeros(N), others_PN, 1)


@LAW
@given(seed=st.integers(0, 2**32), size=st.floats(10.0, 1e12))
def test_robust_means_stay_among_the_honest(seed: int, size: float) -> None:
    """Two liars among seven others, as far away as they like: every coordinate of the trimmed mean
    lies within the honest ones', and the nearest mean is that of the honest."""
    own_N, honest_PN = drawn(seed, N), drawn(seed + 1, 5, N)
    liars_PN = size * (10 + drawn(seed + 2, 2, N).abs())
    others_PN = torch.cat([honest_PN, liars_PN])
    good_PN = torch.cat([own_N[None], honest_PN])

    trimmed_N = trimmed_mean_N(own_N, others_PN, 2)
    assert bool((trimmed_N <= good_PN.max(dim=0).values).all())
    assert bool((trimmed_N >= good_PN.min(dim=0).values).all())
    torch.testing.assert_close(nearest_mean_N(own_N, others_PN, 2), good_PN.mean(dim=0))


def test_too_many_liars_are_refused() -> None:
    """Nothing would be left to average."""
    with pytest.raises(UsageError):
        trimmed_mean_N(torch.zeros(4), torch.zeros(3, 4), 2)
    with pytest.raises(UsageError):
        nearest_mean_N(torch.zeros(4), torch.zeros(3, 4), 4)
