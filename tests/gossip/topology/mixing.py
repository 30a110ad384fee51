"""Schedules as mixing matrices: what one round of averaging in pairs does to the values of N peers.

Shape letters: S samples, N peers. A round is held as ``partner_N``, the place of whom each peer
meets, its own when it rests; W is its matrix.

``disagreement`` is the sum of squared distances from the mean. Every W here is an orthogonal
projection (whoever met is at the mean of the two, and averaging again changes nothing), so
W^T W = W, and a random round multiplies the expected disagreement of a vector by at most the second
largest eigenvalue of E[W] (Boyd et al., "Randomized gossip algorithms", 2006). The norms below are
those of operators on vectors of sum zero.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from gossip.config import ExchangeConfig, Partners
from gossip.messages import PeerId
from gossip.topology.schedule import (
    least_recent_matching,
    matching,
    one_peer_exponential,
    random_partner,
)
from gossip.topology.turns import Turns
from simulations.compare.partners import Meeting, Meetings

Schedule = Callable[[int, random.Random], Iterator[list[int]]]
"""Of so many peers: ``partner_N`` of one round after another."""


def swarm(count: int) -> list[PeerId]:
    """So many peers, sorted; a peer's place is its name in base 16."""
    return [PeerId(f"{number:016x}") for number in range(count)]


def partners_of(count: int, pairs: Iterable[tuple[PeerId, PeerId]]) -> list[int]:
    """Raises AssertionError when somebody is in two pairs."""
    partner_N = list(range(count))
    for a, b in pairs:
        first, second = int(a, 16), int(b, 16)
        assert (first, second) == (partner_N[first], partner_N[second]), "met twice in one round"
        partner_N[first], partner_N[second] = second, first
    return partner_N


def random_matchings(count: int, rng: random.Random) -> Iterator[list[int]]:
    """A fresh random matching each round."""
    while True:
        yield partners_of(count, matching(swarm(count), rng))


def recent_matchings(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Everybody chooses in turn whom of the free it met longest ago."""
    met: dict[tuple[PeerId, PeerId], int] = {}
    round_ = 0
    while True:
        yield partners_of(count, least_recent_matching(swarm(count), met, round_, rng))
        round_ += 1


def single_pairs(count: int, rng: random.Random) -> Iterator[list[int]]:
    """One random peer a round meets a random other."""
    peers = swarm(count)
    while True:
        me = peers[rng.randrange(count)]
        partner = random_partner([peer for peer in peers if peer != me], None, rng)
        assert partner is not None, "two peers at least"
        yield partners_of(count, [(me, partner)])


def turns_of(partners: Partners) -> Schedule:
    """One random peer a round meets whom its ``Turns`` say: as peers do that do not wait."""

    def rounds(count: int, rng: random.Random) -> Iterator[list[int]]:
        peers = swarm(count)
        config = ExchangeConfig(fragments=1, partners=partners)
        turns = {peer: Turns(config, peer, random.Random(rng.getrandbits(32))) for peer in peers}
        while True:
            me = peers[rng.randrange(count)]
            turns[me].grant(1)
            turn = turns[me].next(lambda _: True, [peer for peer in peers if peer != me])
            assert turn is not None, "two peers at least"
            turns[me].met(turn.partner, 0)
            turns[turn.partner].met(me, 0)
            yield partners_of(count, [(me, turn.partner)])

    return rounds


def exponential(count: int, rng: random.Random) -> Iterator[list[int]]:
    """The one-peer exponential graph, as each peer works it out by itself."""
    del rng
    peers, round_ = swarm(count), 0
    while True:
        met = [one_peer_exponential(peers, me, round_) for me in peers]
        yield [place if peer is None else int(peer, 16) for place, peer in enumerate(met)]
        round_ += 1


def ring(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Left and right neighbor in turn."""
    meetings = Meetings(count, Meeting.RING, rng)
    while True:
        pairs = meetings.next()
        yield partners_of(count, [(swarm(count)[a], swarm(count)[b]) for a, b in pairs])


SCHEDULES: dict[str, Schedule] = {
    "random-matching": random_matchings,
    "recent-matching": recent_matchings,
    "single-pairs": single_pairs,
    "random-turns": turns_of(Partners.RANDOM),
    "recent-turns": turns_of(Partners.LEAST_RECENT),
    "neighbor-turns": turns_of(Partners.EXPONENTIAL),
    "exponential": exponential,
    "ring": ring,
}


def rounds_of(name: str, count: int, seed: int, rounds: int, skip: int = 0) -> list[list[int]]:
    """So many rounds of a schedule, after the first ``skip``."""
    made = SCHEDULES[name](count, random.Random(seed))
    return [next(made) for _ in range(skip + rounds)][skip:]


def matrix_NN(partner_N: list[int]) -> Tensor:
    """W of one round."""
    eye_NN = torch.eye(len(partner_N), dtype=torch.float64)
    return 0.5 * (eye_NN + eye_NN[partner_N])


def product_NN(rounds: Iterable[list[int]], count: int) -> Tensor:
    """The matrix of rounds in a row."""
    product = torch.eye(count, dtype=torch.float64)
    for partner_N in rounds:
        product = 0.5 * (product + product[partner_N])
    return product


def off_mean_NN(count: int) -> Tensor:
    """The projection to vectors of sum zero."""
    return torch.eye(count, dtype=torch.float64) - 1 / count


def norm(product: Tensor) -> float:
    """How much disagreement's square root a product of rounds leaves at worst."""
    return float(torch.linalg.matrix_norm(off_mean_NN(product.shape[0]) @ product, ord=2))


def drawn_RSN(name: str, count: int, rounds: int, samples: int) -> Tensor:
    """``partner_N`` of the first so many rounds of fresh swarms, seeded by name and count."""
    rng = random.Random(f"{name} {count}")
    makers = [SCHEDULES[name](count, rng) for _ in range(samples)]
    return torch.tensor([[next(made) for made in makers] for _ in range(rounds)])


def left_SNN(partner_RSN: Tensor) -> Tensor:
    """P^T (I - J) P of the products P of these rounds: for any start x, what is left of its
    disagreement is x^T (this) x."""
    _, samples, count = partner_RSN.shape
    product_SNN = torch.eye(count, dtype=torch.float64).expand(samples, count, count)
    row_S = torch.arange(samples)[:, None]
    for partner_SN in partner_RSN:
        product_SNN = 0.5 * (product_SNN + product_SNN[row_S, partner_SN])
    return product_SNN.mT @ (off_mean_NN(count) @ product_SNN)


def sampling_error(left_SNN: Tensor, chance: float = 1e-6) -> float:
    """How far the mean of these matrices is from what is expected, in operator norm, at most, with
    all but this chance. For matrices between 0 and 1, v being the norm of their variance, it is
    the following.

        sqrt(2 v ln(2 N / chance) / S) + 2 ln(2 N / chance) / (3 S)

    Source: Tropp, "User-friendly tail bounds for sums of random matrices", 2012, theorem 1.4.
    """
    samples, count, _ = left_SNN.shape
    away_SNN = left_SNN - left_SNN.mean(dim=0)
    variance = float(torch.linalg.matrix_norm((away_SNN @ away_SNN).mean(dim=0), ord=2))
    log = math.log(2 * count / chance)
    return math.sqrt(2 * variance * log / samples) + 2 * log / (3 * samples)
