"""Laws of the partner schedules."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import ExchangeConfig, Partners
from gossip.messages import PeerId
from gossip.topology.schedule import (
    exponential_neighbors,
    least_recent_matching,
    least_recent_partner,
    matching,
    one_peer_exponential,
    random_partner,
)
from gossip.topology.turns import Turns


def swarm(count: int) -> list[PeerId]:
    """So many peers, sorted."""
    return [PeerId(f"{number:016x}") for number in range(count)]


def test_a_random_partner_is_uniform_over_all_but_the_last() -> None:
    """6,000 draws over four: each of the three allowed within five standard deviations."""
    peers, rng = swarm(4), random.Random(3)
    drawn = Counter(random_partner(peers, peers[1], rng) for _ in range(6_000))

    assert peers[1] not in drawn
    deviation = math.sqrt(6_000 * (1 / 3) * (2 / 3))
    for peer in (peers[0], peers[2], peers[3]):
        assert drawn[peer] == pytest.approx(2_000, abs=5 * deviation)


def test_a_random_partner_is_uniform_when_the_last_one_is_gone() -> None:
    """A last partner that is no candidate any more takes no chance away."""
    peers, rng = swarm(3), random.Random(4)
    drawn = Counter(random_partner(peers, PeerId("f" * 16), rng) for _ in range(3_000))

    for peer in peers:
        assert drawn[peer] == pytest.approx(1_000, abs=5 * math.sqrt(3_000 * 2 / 9))


def test_the_only_candidate_is_met_again_and_again() -> None:
    """Two peers alone must swap with each other; nobody at all means nobody."""
    rng = random.Random(0)

    assert random_partner(swarm(1), swarm(1)[0], rng) == swarm(1)[0]
    assert random_partner([], None, rng) is None


@given(count=st.integers(2, 40), round_=st.integers(0, 200))
def test_the_exponential_schedule_is_symmetric(count: int, round_: int) -> None:
    """Whoever I meet meets me, and nobody meets itself."""
    peers = swarm(count)
    for me in peers:
        partner = one_peer_exponential(peers, me, round_)
        if partner is not None:
            assert partner != me
            assert me == one_peer_exponential(peers, partner, round_)


@given(k=st.integers(1, 6), sweep=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_sweep_over_a_power_of_two_gives_everyone_the_exact_mean(
    k: int, sweep: int, seed: int
) -> None:
    """2^k peers hold the exact mean of all after k rounds of averaging in pairs."""
    peers, rng = swarm(2**k), random.Random(seed)
    values = {peer: Fraction(rng.randrange(1_000)) for peer in peers}
    mean = sum(values.values(), Fraction(0)) / len(peers)

    for round_ in range(sweep * k, (sweep + 1) * k):
        met = {peer: one_peer_exponential(peers, peer, round_) for peer in peers}
        values = {a: (values[a] + values[b]) / 2 for a, b in met.items() if b is not None}

    assert [mean] * 2**k == list(values.values())


@given(count=st.integers(2, 40))
def test_nobody_rests_in_two_sweeps_in_a_row(count: int) -> None:
    """With N not a power of two some rest, but in turn."""
    peers = swarm(count)
    rounds = count.bit_length() - 1
    for sweep in range(8):
        resting = [
            {me for me in peers if one_peer_exponential(peers, me, s * rounds) is None}
            for s in (sweep, sweep + 1)
        ]

        assert count - 2**rounds == len(resting[0])
        assert not resting[0] & resting[1]


def test_other_sizes_still_reach_agreement() -> None:
    """Seven peers come within a millionth of their start in eighty sweeps, mean preserved."""
    peers = swarm(7)
    values = {peer: float(place) for place, peer in enumerate(peers)}
    for round_ in range(160):
        met = {peer: one_peer_exponential(peers, peer, round_) or peer for peer in peers}
        values = {a: (values[a] + values[b]) / 2 for a, b in met.items()}

    assert [pytest.approx(3.0, abs=1e-6)] * 7 == list(values.values())


def test_a_stranger_and_a_peer_alone_meet_nobody() -> None:
    """Who is not in the list, or alone in it, rests."""
    assert one_peer_exponential(swarm(4), PeerId("f" * 16), 0) is None
    assert one_peer_exponential(swarm(4)[1:], swarm(1)[0], 0) is None
    assert one_peer_exponential(swarm(1), swarm(1)[0], 5) is None
    assert one_peer_exponential([], swarm(1)[0], 5) is None


@given(count=st.integers(0, 31), seed=st.integers(0, 99))
def test_a_matching_pairs_everyone_once(count: int, seed: int) -> None:
    """All but one of an odd number are in exactly one pair, and the input is left as it was."""
    peers = swarm(count)
    pairs = matching(peers, random.Random(seed))
    paired = [peer for pair in pairs for peer in pair]

    assert count // 2 == len(pairs)
    assert len(set(paired)) == len(paired)
    assert swarm(count) == peers


@pytest.mark.parametrize("count", [4, 8, 16])
def test_a_random_matching_contracts_disagreement_as_the_theory_says(count: int) -> None:
    """The mean factor over 4,000 matchings is (N-2) / (2(N-1)) within five standard errors."""
    peers, rng = swarm(count), random.Random(count)
    factors = []
    for _ in range(4_000):
        # The same values each time: the chance is in the matching alone.
        values = {peer: float(place**2) for place, peer in enumerate(peers)}
        mean = sum(values.values()) / count
        before = sum((value - mean) ** 2 for value in values.values())
        for a, b in matching(peers, rng):
            values[a] = values[b] = (values[a] + values[b]) / 2
        factors.append(sum((value - mean) ** 2 for value in values.values()) / before)

    average = sum(factors) / len(factors)
    error = math.sqrt(sum((f - average) ** 2 for f in factors)) / len(factors)
    assert average == pytest.approx((count - 2) / (2 * (count - 1)), abs=5 * error)


@given(count=st.integers(1, 30), seed=st.integers(0, 99), data=st.data())
def test_who_was_met_longest_ago_is_next(count: int, seed: int, data: st.DataObject) -> None:
    """Nobody else was met before the one chosen."""
    peers = swarm(count)
    met = data.draw(st.dictionaries(st.sampled_from(peers), st.integers(0, 50)))

    chosen = least_recent_partner(peers, met, random.Random(seed))

    assert chosen in peers
    assert met.get(chosen, -1) == min(met.get(peer, -1) for peer in peers)


def test_ties_are_broken_evenly() -> None:
    """Of four never met, each comes first as often as the others."""
    peers, rng = swarm(4), random.Random(5)
    drawn = Counter(least_recent_partner(peers, {}, rng) for _ in range(4_000))

    for peer in peers:
        assert drawn[peer] == pytest.approx(1_000, abs=5 * math.sqrt(4_000 * 3 / 16))
    assert least_recent_partner([], {}, rng) is None


@given(half=st.integers(1, 12), seed=st.integers(0, 99))
def test_nobody_waits_long_for_anybody(half: int, seed: int) -> None:
    """Everyone is in one pair a round, and in three times N rounds everybody met everybody."""
    peers, rng = swarm(2 * half), random.Random(seed)
    met: dict[tuple[PeerId, PeerId], int] = {}
    for round_ in range(3 * len(peers)):
        pairs = least_recent_matching(peers, met, round_, rng)
        assert sorted(peer for pair in pairs for peer in pair) == peers

    assert len(met) == len(peers) * (len(peers) - 1)


def spread_of(count: int, recent: bool) -> float:
    """Mean square disagreement in the long run, when each round everyone moves a unit by itself
    and then meets a partner. Exact: the covariance is followed, not samples of it."""
    peers, rng = swarm(count), random.Random(count)
    met: dict[tuple[PeerId, PeerId], int] = {}
    place = {peer: at for at, peer in enumerate(peers)}
    covariance = [[0.0] * count for _ in range(count)]
    total, rounds = 0.0, 400
    for round_ in range(rounds):
        for at in range(count):
            covariance[at][at] += 1.0
        pairs = least_recent_matching(peers, met, round_, rng) if recent else matching(peers, rng)
        for first, second in pairs:
            a, b = place[first], place[second]
            mean = [(x + y) / 2 for x, y in zip(covariance[a], covariance[b], strict=True)]
            covariance[a], covariance[b] = list(mean), list(mean)
            for row in covariance:
                row[a] = row[b] = (row[a] + row[b]) / 2
        trace = sum(covariance[at][at] for at in range(count)) / count
        total += trace - sum(map(sum, covariance)) / count**2
    return total / rounds


@pytest.mark.parametrize("count, at_most", [(4, 0.77), (8, 0.88), (16, 0.94)])
def test_meeting_who_was_met_longest_ago_mixes_better_than_chance(
    count: int, at_most: float
) -> None:
    """The disagreement it leaves is below that of random partners by the stated share."""
    assert spread_of(count, recent=True) < at_most * spread_of(count, recent=False)


def others(peers: list[PeerId], me: PeerId) -> list[PeerId]:
    """Without ``me``, sorted."""
    return [peer for peer in peers if peer != me]


@given(count=st.integers(1, 200))
def test_neighbors_are_few_and_mutual(count: int) -> None:
    """Nobody is its own neighbor, whoever is mine has me, and there are as many as distances; twice
    as many where N is no power of two."""
    peers = swarm(count)
    neighbors = {me: exponential_neighbors(others(peers, me), me) for me in peers}

    most = (count - 1).bit_length() * (2 if count & (count - 1) else 1)
    for me, mine in neighbors.items():
        assert me not in mine
        assert len(set(mine)) == len(mine) <= most
        assert all(me in neighbors[peer] for peer in mine)


@given(k=st.integers(1, 7))
def test_a_power_of_two_meets_in_a_hypercube(k: int) -> None:
    """Averaging along one distance after the other gives everyone the exact mean."""
    peers = swarm(2**k)
    values = {peer: Fraction(place**2) for place, peer in enumerate(peers)}
    mean = sum(values.values(), Fraction(0)) / len(peers)
    for distance in range(k):
        met = {me: exponential_neighbors(others(peers, me), me)[distance] for me in peers}
        values = {me: (values[me] + values[partner]) / 2 for me, partner in met.items()}

    assert {mean} == set(values.values())


@given(count=st.integers(2, 300))
def test_news_reaches_everybody_over_neighbors(count: int) -> None:
    """In as many hops as there are distances, at most: no member is left out."""
    peers = swarm(count)
    reached, hops = {peers[0]}, 0
    while len(reached) < count:
        near = [exponential_neighbors(others(peers, me), me) for me in sorted(reached)]
        reached = reached.union(*near)
        hops += 1

    assert hops <= (count - 1).bit_length()


@given(seen=st.lists(st.integers(0, 40), unique=True, max_size=30), place=st.integers(0, 40))
def test_any_list_of_others_will_do(seen: list[int], place: int) -> None:
    """Peers that see different members choose among those they see."""
    peers, me = [swarm(41)[at] for at in sorted(seen) if at != place], swarm(41)[place]

    assert set(exponential_neighbors(peers, me)) <= set(peers)
    assert bool(exponential_neighbors(peers, me)) == bool(peers)


def meet(turns: dict[PeerId, Turns], me: PeerId, reached: list[PeerId]) -> PeerId:
    """Whom of these ``me`` opens its next swap with, which is over at once."""
    turns[me].grant(1)
    turn = turns[me].next(lambda _: True, reached)
    assert turn is not None, "two peers at least"
    turns[me].met(turn.partner, 0)
    turns[turn.partner].met(me, 0)
    return turn.partner


def drifting_spread(partners: Partners, count: int) -> float:
    """Mean square disagreement in the long run, of peers that do not wait: each takes a step when
    its time has come, moving on as a momentum of 0.95 does, and opens a swap at every second one.

    Exact but for the times, which are drawn: the covariance of values and momenta is followed.
    """
    rng, peers = random.Random(count), swarm(count)
    config = ExchangeConfig(partners=partners)
    turns = {peer: Turns(config, peer, random.Random(rng.getrandbits(32))) for peer in peers}
    due = sorted((rng.random(), at) for at in range(count))
    covariance = torch.zeros(2 * count, 2 * count, dtype=torch.float64)
    sides = (covariance, covariance.T)
    total, looks = 0.0, 0
    for event in range(400 * count):
        time, at = heapq.heappop(due)
        heapq.heappush(due, (time + rng.uniform(0.9, 1.1), at))
        for side in sides:
            side[count + at] *= 0.95
        covariance[count + at, count + at] += 0.05**2
        for side in sides:
            side[at] += side[count + at]
        if event // count % 2:
            pair = [at, int(meet(turns, peers[at], others(peers, peers[at])), 16)]
            for side in sides:
                side[pair] = side[pair].mean(dim=0)
        if event > 100 * count:
            values = covariance[:count, :count]
            total += float(values.trace() / count - values.mean())
            looks += 1
    return total / looks


@pytest.mark.parametrize(
    "count, at_most", [(4, 1.01), (5, 1.03), (6, 0.98), (8, 0.98), (12, 0.96), (16, 0.95)]
)
def test_neighbors_mix_better_than_everybody_in_turn(count: int, at_most: float) -> None:
    """Peers that do not wait are closer together than if each met all others in turn (of four or
    five, just as close), which in turn are closer than by chance."""
    in_turn = drifting_spread(Partners.LEAST_RECENT, count)

    assert drifting_spread(Partners.EXPONENTIAL, count) < at_most * in_turn
    assert in_turn < 0.9 * drifting_spread(Partners.RANDOM, count)


def test_all_are_asked_before_anybody_is_asked_again() -> None:
    """Met or always busy: two that never accept keep nobody from the others."""
    me, *rest = swarm(5)
    turns = Turns(ExchangeConfig(), me, random.Random(0))
    turns.grant(8)
    asked = [turn.partner for _ in range(8) if (turn := turns.next(lambda _: True, rest))]

    assert rest == sorted(asked[:4]) == sorted(asked[4:])


@pytest.mark.parametrize("seed", range(3))
def test_each_fragment_has_turns_of_its_own(seed: int) -> None:
    """Two fragments go round all four others each, whoever the other fragments met meanwhile."""
    me, *rest = swarm(5)
    turns = Turns(ExchangeConfig(fragments=2), me, random.Random(seed))
    turns.grant(16)
    asked: dict[int, list[PeerId]] = {0: [], 1: []}
    for _ in range(16):
        turn = turns.next(lambda _: True, rest, anybody=True)
        assert turn is not None
        asked[turn.fragment].append(turn.partner)

    for met in asked.values():
        assert rest == sorted(met[:4])
        assert met[:4] == met[4:]


def test_parts_that_one_path_joins_still_mix() -> None:
    """Of six peers with paths cut for good, 2 and 3 alone join the two halves, and neither is the
    other's neighbor in the list of those that it reaches."""
    peers = swarm(6)
    paths = [(0, 2), (1, 3), (2, 3), (1, 4), (3, 4), (0, 5), (2, 5)]
    reached: dict[PeerId, list[PeerId]] = {peer: [] for peer in peers}
    for a, b in paths:
        reached[peers[a]].append(peers[b])
        reached[peers[b]].append(peers[a])
    assert peers[3] not in exponential_neighbors(sorted(reached[peers[2]]), peers[2])
    assert peers[2] not in exponential_neighbors(sorted(reached[peers[3]]), peers[3])

    values = {peer: float(place) for place, peer in enumerate(peers)}
    turns = {peer: Turns(ExchangeConfig(), peer, random.Random(peer)) for peer in peers}
    for _ in range(400):
        for me in peers:
            partner = meet(turns, me, sorted(reached[me]))
            values[me] = values[partner] = (values[me] + values[partner]) / 2

    assert list(values.values()) == pytest.approx([2.5] * 6, abs=1e-3)


def test_all_come_in_turn_when_the_last_swaps_are_to_show_that_nobody_differs() -> None:
    """Four peers: the third member is no neighbor, and agreeing with two of three says little."""
    me, *rest = swarm(4)
    assert len(exponential_neighbors(rest, me)) == 2
    turns = Turns(ExchangeConfig(), me, random.Random(0))
    turns.grant(9)
    asked = [turn.partner for _ in range(9) if (turn := turns.next(lambda _: True, rest, True))]

    assert [rest] * 3 == [sorted(asked[at : at + 3]) for at in (0, 3, 6)]
