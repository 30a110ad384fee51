"""How fast each schedule brings peers together: no slower than its spectral gap, which is known.

Exact where a schedule is fixed: the norm of rounds in a row. Where it draws, means over seeded
samples, with the sampling error stated (``mixing.sampling_error``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossip.config import Partners
from gossip.topology.schedule import exponential_neighbors
from tests.gossip.topology.mixing import (
    SCHEDULES,
    drawn_RSN,
    left_SNN,
    matrix_NN,
    norm,
    off_mean_NN,
    product_NN,
    rounds_of,
    sampling_error,
    swarm,
)

LAW = settings(max_examples=40, deadline=None)
EXACT = 1e-9
SAMPLES = 3_000


def matching_factor(count: int) -> float:
    """The second largest eigenvalue of E[W] of a random matching; with an odd number, where one in
    N rests, it is a half."""
    return 0.5 if count % 2 else (count - 2) / (2 * (count - 1))


def single_factor(count: int) -> float:
    """The same of one random pair of all."""
    return 1 - 1 / (count - 1)


def pairs_of(name: str, count: int) -> int:
    """How many meet in one round: all who can, but where one pair does, or some rest in turn."""
    if name.endswith("-turns") or name == "single-pairs":
        return 1
    return 1 << (count.bit_length() - 2) if name == "exponential" else count // 2


@functools.cache
def samples_of(name: str, count: int) -> Tensor:
    """The first N rounds (2 N of one pair each) of many swarms, which serve several tests."""
    return drawn_RSN(name, count, count if name.endswith("-matching") else 2 * count, SAMPLES)


def left(name: str, count: int, rounds: int) -> Tensor:
    """``left_SNN`` of the first so many rounds."""
    return left_SNN(samples_of(name, count)[:rounds])


def mean_and_error(left_SNN: Tensor) -> tuple[float, float]:
    """Of vectors in all directions alike: the share of disagreement left, and its standard
    error."""
    share_S = left_SNN.diagonal(dim1=1, dim2=2).sum(dim=1) / (left_SNN.shape[1] - 1)
    return float(share_S.mean()), float(share_S.std()) / math.sqrt(SAMPLES)


def test_every_way_to_choose_partners_has_a_row() -> None:
    """A new one joins the table before it is offered."""
    turns = [name for name in SCHEDULES if name.endswith("-turns")]
    assert len(Partners) == len(turns)


@pytest.mark.parametrize("name", SCHEDULES)
@LAW
@given(count=st.integers(2, 20), seed=st.integers(0, 2**32), skip=st.integers(0, 12))
def test_a_round_is_a_doubly_stochastic_projection(
    name: str, count: int, seed: int, skip: int
) -> None:
    """So it keeps the mean, and never adds to any vector's disagreement; somebody always meets."""
    (partner_N,) = rounds_of(name, count, seed, 1, skip)
    w_NN = matrix_NN(partner_N)

    assert bool((w_NN >= 0).all())
    for side in (0, 1):
        assert torch.equal(w_NN.sum(dim=side), torch.ones(count, dtype=torch.float64))
    assert torch.equal(w_NN, w_NN.T)
    assert torch.equal(w_NN @ w_NN, w_NN)
    assert pairs_of(name, count) == (count - int(w_NN.diagonal().eq(1).sum())) // 2


@pytest.mark.parametrize("name", SCHEDULES)
@LAW
@given(
    count=st.integers(2, 10),
    seed=st.integers(0, 2**32),
    rounds=st.integers(1, 12),
    values=st.lists(st.integers(-1_000, 1_000), min_size=10, max_size=10),
)
def test_rounds_in_a_row_leave_what_their_norm_says(
    name: str, count: int, seed: int, rounds: int, values: list[int]
) -> None:
    """Any vector, any schedule: the mean stays, and disagreement is at most norm^2 of what it was,
    in each round no more than in the one before."""
    x_N = torch.tensor(values[:count], dtype=torch.float64)
    made, before = rounds_of(name, count, seed, rounds), float(x_N.var(correction=0)) * count
    first, mean = before, float(x_N.mean())
    for partner_N in made:
        x_N = matrix_NN(partner_N) @ x_N
        now = float((x_N - mean).square().sum())
        assert now <= before * (1 + EXACT) + EXACT
        before = now

    assert float(x_N.mean()) == pytest.approx(mean, abs=1e-9)
    assert before <= norm(product_NN(made, count)) ** 2 * first * (1 + EXACT) + 1e-6


@pytest.mark.parametrize("count, rounds", [(2, 1), (3, 2), (4, 3), (5, 3), (8, 1), (8, 3)])
@pytest.mark.parametrize(
    "name, factor", [("random-matching", matching_factor), ("single-pairs", single_factor)]
)
def test_rounds_without_memory_contract_by_the_eigenvalue_in_every_direction(
    name: str, factor: Callable[[int], float], count: int, rounds: int
) -> None:
    """E[what is left of any vector] is lambda^R of it: both the largest and the smallest
    eigenvalue of the mean matrix are lambda^R within the sampling error. For pairs drawn from all
    alike no direction is better than another, so the bound is met from both sides."""
    samples_SNN = left(name, count, rounds)
    expected_NN = factor(count) ** rounds * off_mean_NN(count)

    away_NN = samples_SNN.mean(dim=0) - expected_NN
    error = float(torch.linalg.matrix_norm(away_NN, ord=2))
    assert error <= sampling_error(samples_SNN)
    assert sampling_error(samples_SNN) < 0.12, "more samples, or it says nothing"


@pytest.mark.parametrize("count", [2, 3, 4, 6, 7, 8])
def test_memory_never_mixes_worse_than_chance(count: int) -> None:
    """After each of the first N rounds least-recent matching leaves no more than lambda^R of random
    matching (exact, so the only sampling error is its own: three standard errors), in the mean of
    all directions and in the worst; from the second round on it leaves less."""
    for rounds in range(1, count + 1):
        samples_SNN = left("recent-matching", count, rounds)
        share, error = mean_and_error(samples_SNN)
        bound = matching_factor(count) ** rounds
        assert share <= bound + 3 * error + EXACT
        worst = float(torch.linalg.matrix_norm(samples_SNN.mean(dim=0), ord=2))
        assert worst <= bound + sampling_error(samples_SNN)
        if rounds > 1 and count > 2:
            assert share < 0.95 * bound


@pytest.mark.parametrize("count", [3, 4, 6])
def test_who_remembers_more_mixes_better_one_swap_at_a_time(count: int) -> None:
    """Over 2 N swaps between single peers: any pair, then anybody but the last, then whoever was
    met longest ago, each leaves less than the one before and all within lambda^R (three standard
    errors of each)."""
    bound, rounds = single_factor(count) ** (2 * count), 2 * count
    chance, random, recent = (
        mean_and_error(left(name, count, rounds))
        for name in ("single-pairs", "random-turns", "recent-turns")
    )

    assert chance[0] == pytest.approx(bound, abs=4 * chance[1])
    for (more, _), (less, error) in itertools.pairwise([(bound, 0.0), random, recent]):
        assert less <= more + 3 * error
    assert recent[0] < 0.9 * bound


def neighbor_factor(count: int) -> float:
    """Of one swap between a random peer and a random neighbor of its in the exponential graph: the
    second largest eigenvalue of the mean matrix, which is the identity less a part of the graph's
    Laplacian (Boyd et al. 2006, theorem 3)."""
    peers, mean_NN = swarm(count), torch.eye(count, dtype=torch.float64)
    for place, me in enumerate(peers):
        neighbors = exponential_neighbors([peer for peer in peers if peer != me], me)
        for neighbor in neighbors:
            apart_N = torch.zeros(count, dtype=torch.float64)
            apart_N[place], apart_N[int(neighbor, 16)] = 1.0, -1.0
            mean_NN -= torch.outer(apart_N, apart_N) / (2 * len(neighbors) * count)
    return float(torch.linalg.eigvalsh(mean_NN)[-2])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 8, 12, 16])
def test_neighbors_met_longest_ago_mix_better_than_chance_does_among_them(count: int) -> None:
    """As peers do by default. In the worst direction R swaps leave no more than lambda^R of chance
    on the same graph; and in the mean of all, over 2 N, less than chance among everybody leaves,
    though each meets no more than 2 log2 N others."""
    chance = neighbor_factor(count)
    for rounds in (1, count, 2 * count):
        samples_SNN = left("neighbor-turns", count, rounds)
        worst = float(torch.linalg.matrix_norm(samples_SNN.mean(dim=0), ord=2))
        assert worst <= chance**rounds + sampling_error(samples_SNN)
    if count > 2:
        share, error = mean_and_error(left("neighbor-turns", count, 2 * count))
        assert share + 3 * error < 0.85 * single_factor(count) ** (2 * count)


@pytest.mark.parametrize("count", range(2, 25, 2))
def test_a_ring_contracts_by_its_closed_form(count: int) -> None:
    """Left and right in turn are two projections P and Q; their product on pairs of an even ring is
    the circulant (1/4, 1/2, 1/4) of N / 2 places, with eigenvalues cos^2(2 pi k / N). So R rounds
    in a row have norm cos(2 pi / N)^(R - 1)."""
    cosine = 0.0 if count == 2 else math.cos(2 * math.pi / count)
    for skip, rounds in itertools.product((0, 1), range(1, 9)):
        product = product_NN(rounds_of("ring", count, 0, rounds, skip), count)
        expected = cosine ** (rounds - 1) if count > 2 else 0.0
        assert norm(product) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("count", range(3, 25, 2))
def test_an_odd_ring_contracts_no_less_than_the_path_it_closes(count: int) -> None:
    """On the path, laid twice into a ring of 2 N, left and right in turn give cos(pi / N)^(R - 1).
    Two rounds in a row meet as there; then the rest goes round, and from five peers on the third
    round is already better."""
    cosine = math.cos(math.pi / count)
    for skip, rounds in itertools.product((0, 1), range(1, 9)):
        found = norm(product_NN(rounds_of("ring", count, 0, rounds, skip), count))
        path = cosine ** (rounds - 1)
        if rounds <= 2 or count == 3:
            assert found == pytest.approx(path, abs=EXACT)
        else:
            assert found < 0.99 * path


@pytest.mark.parametrize("count", range(2, 34))
def test_exponential_rounds_contract_by_their_closed_form(count: int) -> None:
    """A sweep of k = log2 P rounds is the mean over a window of P of the N peers, whatever sweep it
    is. N = P: nothing is left. Otherwise the r = N - P that rest are others in the next sweep, and
    the two projections have the cosine r / P: two sweeps in a row have that norm exactly, and S
    sweeps its (S - 1)th power at most. Within a sweep some direction is not contracted yet."""
    k = count.bit_length() - 1
    cosine = (count - 2**k) / 2**k
    for sweep in range(4):
        made = rounds_of("exponential", count, 0, 5 * k, sweep * k)
        window = torch.tensor([a != b for b, a in enumerate(made[0])])
        mean_NN = torch.outer(window.double(), window.double()) / 2**k
        assert 2**k == int(window.sum())
        swept_NN = mean_NN + torch.diag((~window).double())
        torch.testing.assert_close(product_NN(made[:k], count), swept_NN)
        for rounds in range(1, k):
            assert norm(product_NN(made[:rounds], count)) == pytest.approx(1, abs=EXACT)
        assert norm(product_NN(made[: 2 * k], count)) == pytest.approx(cosine, abs=EXACT)
        for sweeps in range(3, 6):
            bound = cosine ** (sweeps - 1)
            assert norm(product_NN(made[: sweeps * k], count)) <= bound + EXACT
