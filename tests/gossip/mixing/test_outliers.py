"""Who stands apart is left aside; who is far from everybody, or not alone with it, is not."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.messages import PeerId
from gossip.mixing.outliers import FAR, FEW, KNOWN_MAX, MEETINGS_MAX, NEAR, Outliers

near = st.floats(1.0, FAR)


def peer(number: int) -> PeerId:
    """A peer's id."""
    return PeerId(f"{number:016x}")


def met(*distances: float) -> Outliers:
    """Has met so many peers, numbered from 0, at these distances."""
    outliers = Outliers()
    for number, distance in enumerate(distances):
        outliers.follows(0, peer(number), distance)
    return outliers


@given(st.lists(st.tuples(st.integers(0, 30), near), max_size=60))
def test_peers_of_about_one_distance_are_followed(meetings: list[tuple[int, float]]) -> None:
    """Whoever is met in whatever order: none is FAR times as far as the median."""
    outliers = Outliers()
    assert all(outliers.follows(0, peer(number), distance) for number, distance in meetings)


@given(
    honest=st.lists(near, min_size=FEW, max_size=KNOWN_MAX - 1),
    lie=st.one_of(st.floats(FAR * FAR * 1.01, math.inf), st.just(math.nan)),
)
def test_one_that_stands_apart_is_not_followed_and_the_others_are(
    honest: list[float], lie: float
) -> None:
    """As soon as it is less than a third."""
    outliers = met(*honest)
    assert not outliers.follows(0, peer(99), lie)
    assert all(outliers.follows(0, peer(at), each) for at, each in enumerate(honest))
    assert not outliers.follows(0, peer(99), lie)
    assert outliers.follows(0, peer(99), honest[0]), "it has come near"


def test_among_fewer_nobody_is_judged() -> None:
    """Of three, one is a third."""
    assert met(1.0, 1.0).follows(0, peer(9), 1e9)
    assert not met(1.0, 1.0, 1.0).follows(0, peer(9), 1e9)


@given(st.integers(0, KNOWN_MAX), st.integers(0, KNOWN_MAX))
def test_a_third_that_stands_apart_is_followed(here: int, there: int) -> None:
    """As after a split: one side at least sees that many on the other, and comes."""
    here, there = here + FEW, max(1, min(there, KNOWN_MAX - here - FEW))
    if here + there > KNOWN_MAX:
        return
    outliers = met(*[1.0] * here, *[100.0] * (there - 1))
    assert outliers.follows(0, peer(99), 100.0) is (FEW * there >= here + there)


@given(near, st.integers(FEW + 1, KNOWN_MAX))
def test_who_was_left_behind_follows_everybody(distance: float, others: int) -> None:
    """To it all others are far, and equally so."""
    outliers = met(*[1.0] * others)
    followed = [outliers.follows(0, peer(at), 100 * distance) for at in range(others)]
    assert all(followed[others // 2 :])
    assert all(outliers.follows(0, peer(at), 100 * distance) for at in range(others))


def test_nobody_is_left_aside_where_all_but_agree() -> None:
    """As when a run is finished: three agree to the last bit, and the fourth nearly does."""
    outliers = met(0.0, 0.0, 0.0)
    assert outliers.follows(0, peer(9), NEAR)
    assert not outliers.follows(0, peer(9), 2 * NEAR)


def test_fragments_are_judged_apart_and_another_model_is_judged_anew() -> None:
    """What is far in one may be near in another."""
    outliers = met(1.0, 1.0, 1.0, 1.0)
    assert outliers.follows(1, peer(9), 100.0)
    assert not outliers.follows(0, peer(9), 100.0)
    outliers.forget_all()
    assert outliers.follows(0, peer(9), 100.0)


def test_those_met_longest_ago_are_forgotten() -> None:
    """Distances change with the rate: a thousand small ones of the beginning say nothing."""
    outliers = met(*[1e-3] * 1000)
    assert not outliers.follows(0, peer(2000), 1.0)
    followed = [outliers.follows(0, peer(3000 + at), 1.0) for at in range(KNOWN_MAX)]
    assert all(followed[KNOWN_MAX // FEW :])


@pytest.mark.parametrize(("gone", "left"), [(7, 2), (11, 5), (14, 2)])
def test_those_that_are_left_of_a_group_follow_each_other(gone: int, left: int) -> None:
    """The others are gone, and are remembered as near; distances have grown since."""
    outliers = met(*[1.0] * (gone + left))
    followed = [
        outliers.follows(0, peer(number), 5.0)
        for _ in range(MEETINGS_MAX)
        for number in range(left)
    ]
    assert all(followed[MEETINGS_MAX + left :])


def test_a_fragment_that_is_met_often_ages_no_other() -> None:
    """Meetings are counted for each."""
    outliers = met(1.0, 1.0, 1.0)
    for _ in range(10 * MEETINGS_MAX):
        outliers.follows(1, peer(0), 1.0)
    assert not outliers.follows(0, peer(9), 100.0)


def test_who_comes_again_and_again_makes_nobody_forgotten() -> None:
    """A liar that asks far more often than all others stands apart as before."""
    outliers = met(1.0, 1.0, 1.0)
    assert not any(outliers.follows(0, peer(9), 1e9) for _ in range(2 * MEETINGS_MAX))


def test_who_is_met_again_is_remembered_longer() -> None:
    """Who was met last is forgotten last, whenever it was met first."""
    outliers = met(*[1.0] * KNOWN_MAX)
    outliers.follows(0, peer(0), 2.0)
    for at in range(KNOWN_MAX - 1):
        outliers.follows(0, peer(100 + at), 1.0)
    assert 2.0 in outliers._distances[0].values()


def swap_all(x_PN: torch.Tensor, minds: list[Outliers], rng: random.Random) -> None:
    """Each peer opens a swap with another: both move half way, or stay."""
    for one in rng.sample(range(len(minds)), len(minds)):
        two = rng.choice([each for each in range(len(minds)) if each != one])
        d_N = x_PN[two] - x_PN[one]
        distance = float(d_N.norm())
        for me, other, sign in ((one, two, 0.5), (two, one, -0.5)):
            if minds[me].follows(0, peer(other), distance):
                x_PN[me] += sign * d_N


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (2, 6), (1, 7), (8, 8), (5, 10), (1, 15)])
@pytest.mark.parametrize("seed", range(4))
def test_groups_that_were_apart_come_together(sizes: tuple[int, int], seed: int) -> None:
    """Though each had met nobody but its own for long, and trains on: within 200 rounds all are as
    near to each other as those of one group were."""
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    peers = sum(sizes)
    x_PN = torch.randn(peers, 32, generator=generator)
    x_PN[: sizes[0]] += 50.0
    minds = [Outliers() for _ in range(peers)]
    for me in range(peers):
        mine = range(sizes[0]) if me < sizes[0] else range(sizes[0], peers)
        for other in mine:
            if other != me:
                minds[me].follows(0, peer(other), float((x_PN[me] - x_PN[other]).norm()))
    for _ in range(200):
        x_PN += 0.5 * torch.randn(peers, 32, generator=generator)
        swap_all(x_PN, minds, rng)
    assert float((x_PN - x_PN.mean(dim=0)).norm(dim=1).max()) < 6


@pytest.mark.parametrize("seed", range(4))
def test_one_liar_in_eight_moves_nobody_for_long(seed: int) -> None:
    """It claims to be far away, always in the same direction; the others stay about where they
    would without it."""
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    x_PN = torch.randn(8, 32, generator=generator)
    minds = [Outliers() for _ in range(8)]
    for _ in range(10):
        swap_all(x_PN[:7], minds[:7], rng)
        x_PN += 0.5 * torch.randn(8, 32, generator=generator)
    before_N = x_PN[:7].mean(dim=0)
    for _ in range(200):
        x_PN[7] = 100.0
        x_PN[:7] += 0.5 * torch.randn(7, 32, generator=generator)
        swap_all(x_PN, minds, rng)
    assert float((x_PN[:7].mean(dim=0) - before_N).norm()) < 30
