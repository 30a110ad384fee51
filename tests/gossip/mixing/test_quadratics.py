"""Training in a swarm comes to the optimum of all data: quadratic losses, where it is known.

Every loss has an optimum and curvatures of its own. Bounds are derived where they are computed: of
the mean's error, step by step, and of the disagreement, from the rounds that happened
(``quadratics``); of what codecs may leave undone, element by element, and of how coarse their steps
may be (``undone``). What comes out at the end of a falling rate is held to two percent of the way
there was to go, and a swarm that does not mix is far outside. Two laws have no such width: where
training stops disagreement vanishes, and a rate that falls more slowly ends nearer to the optimum.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gossip.mixing.quadratics import (
    Conditions,
    Quadratics,
    Rate,
    Topology,
    disagreement,
    disagreement_bound,
)

NEAR = 0.02
"""Of the distance at the start. The last rate is 2e-4. What it leaves of peers that are pulled
apart is a hundred times as much where mixing is slowest: a path of eleven (an odd ring), three in
ten swaps lost, corrections three steps late."""

CODECS = (("fp32", "fp32"), ("int8", "int8"), ("wrap4", "int4"))
COARSEST = ("wrap3", "int2")

ROUNDING = 1e-6
"""Of fp32, as a share of all values."""

DISTURBED = [(10, 1, 2), (11, 2, 3), (50, 5, 6)]

churns = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 11), st.integers(0, 11)), max_size=4)
"""At which percent of the run who is replaced by a copy of whom."""


def rate_of(delay: int, loss: float = 0.0) -> Rate:
    """As many steps as give room to equally many swaps, which block their fragment for so long, or
    are lost."""
    return Rate(steps=round(250 * (1 + delay) / (1 - loss)))


def check_optimum(
    seed: int,
    peers: int,
    topology: Topology,
    codecs: tuple[str, str],
    fragments: int,
    loss: float,
    delay: int,
    churn: list[tuple[int, int, int]],
) -> None:
    """A swarm under these conditions keeps all bounds, and its peers come to the optimum; with the
    coarsest codecs where nearly all may meet.

    On a sparse graph, or among neighbors only, two may stay apart that agree with all others: a
    peer whose code one of them cannot read forgets its steps, and its next, plain code goes to
    whoever is next. Of 85 such swarms that lost three in ten swaps 3 were outside, the worst 0.030
    off; of 85 with wrap4 + int4 none, the worst 0.014 off. (Decision 0008 has what was tried.)"""
    rate = rate_of(delay, loss)
    among = tuple((rate.steps * at // 100, who % peers, of % peers) for at, who, of in churn)
    conditions = Conditions(topology, codecs, fragments, loss, delay, among)
    swarm = Quadratics(seed, peers, conditions, rate)
    swarm.run()
    story, start = swarm.story, swarm.start_error

    for error, bound in zip(story.mean_error, story.mean_bound, strict=True):
        assert error <= bound + ROUNDING * start
    rounds = [event for events in story.events for event in events if event.swapped]
    for event in rounds:
        assert event.undone <= 1
        assert max(event.coarse, event.fine) <= 1 + ROUNDING
        assert event.drift <= ROUNDING
    assert story.slip <= ROUNDING
    assert disagreement(swarm.theta_PN.double()) <= disagreement_bound(swarm) + ROUNDING * start
    assert len(rounds) >= rate.steps // (delay + 1)
    if codecs != COARSEST or topology not in (Topology.GRAPH, Topology.NEIGHBORS):
        assert max(swarm.errors()) <= NEAR
        assert story.mean_error[-1] <= NEAR * start


@pytest.mark.timeout(300)  # seconds; half a minute of computing, where all is busy
@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    peers=st.integers(2, 12),
    topology=st.sampled_from(Topology),
    codecs=st.sampled_from(CODECS),
    fragments=st.integers(1, 2),
    loss=st.sampled_from((0.0, 0.1, 0.3)),
    delay=st.integers(0, 3),
    churn=churns,
)
def test_every_peer_comes_to_the_optimum_of_all_data(
    seed: int,
    peers: int,
    topology: Topology,
    codecs: tuple[str, str],
    fragments: int,
    loss: float,
    delay: int,
    churn: list[tuple[int, int, int]],
) -> None:
    """Whoever meets whom, whatever is lost, late, rounded or replaced."""
    check_optimum(seed, peers, topology, codecs, fragments, loss, delay, churn)


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    peers=st.integers(2, 12),
    topology=st.sampled_from(Topology),
    loss=st.sampled_from((0.0, 0.3)),
    churn=churns,
)
def test_so_do_they_with_the_coarsest_codecs(
    seed: int, peers: int, topology: Topology, loss: float, churn: list[tuple[int, int, int]]
) -> None:
    """Of three bits and of two: those of most rows in the comparison."""
    check_optimum(seed, peers, topology, COARSEST, 1, loss, 0, churn)


def test_two_that_lost_swaps_agree_at_once_but_their_steps_stay_coarse_for_some() -> None:
    """Their disagreement grows until codes wrap; one swap later it is a sixth of that."""
    check_optimum(0, 2, Topology.RING, ("wrap4", "int4"), 1, 0.1, 2, [])


@pytest.mark.parametrize(
    ("seed", "peers", "topology", "codecs", "fragments"),
    [
        (1, 11, Topology.RING, ("wrap4", "int4"), 2),
        (2, 12, Topology.GRAPH, ("int8", "int8"), 1),
    ],
)
def test_so_do_those_for_whom_it_is_hardest(
    seed: int, peers: int, topology: Topology, codecs: tuple[str, str], fragments: int
) -> None:
    """Who mix slowly, with much that is lost, late and replaced. Each takes long: a test each."""
    check_optimum(seed, peers, topology, codecs, fragments, 0.3, 3, DISTURBED)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), peers=st.integers(2, 12))
def test_peers_that_do_not_mix_come_to_optima_of_their_own(seed: int, peers: int) -> None:
    """The test above could fail: each is eight times as far off as allowed. As curvatures differ,
    even the mean of all is outside."""
    swarm = Quadratics(seed, peers, Conditions(mixes=False), rate_of(0))
    swarm.run()

    assert min(swarm.errors()) > 8 * NEAR
    assert swarm.story.mean_error[-1] > 1.2 * NEAR * swarm.start_error


@pytest.mark.parametrize("codecs", [("fp32", "fp32"), ("wrap4", "int4")])
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    peers=st.integers(2, 12),
    topology=st.sampled_from([each for each in Topology if each is not Topology.NEIGHBORS]),
    loss=st.sampled_from((0.0, 0.1, 0.3)),
    delay=st.integers(0, 3),
)
def test_who_stops_training_and_goes_on_swapping_comes_to_agree(
    codecs: tuple[str, str], seed: int, peers: int, topology: Topology, loss: float, delay: int
) -> None:
    """As fast as exact means would, or as steps shrink, down to what fp32 can tell: no noise of
    the codes' lasts. int8 is left out: it rounds by the size of what it codes, and levels off.

    Among neighbors only it takes longer, and is not held to this: a peer that is far out in one
    element of each block is put right by 2^(b - 1) steps a swap, while its neighbors' other swaps
    shrink those. One of some fifty drawn swarms (seed 212984476, five peers) took twice as long."""
    conditions = Conditions(topology, codecs, 1, loss, delay)
    swarm = Quadratics(seed, peers, conditions, Rate(40 * (1 + delay), 0.1, 0.1))
    swarm.run()
    mean_N = swarm.settled_PN().mean(dim=0)
    rounding = ROUNDING * swarm.start_error * math.sqrt(peers)

    for _ in range(6):
        apart, left = swarm.rest(0.1)
        assert left <= 0.1 * apart + rounding
    assert left <= rounding
    assert float((swarm.settled_PN().mean(dim=0) - mean_N).norm()) <= rounding


def test_plain_codes_call_forth_no_plain_codes_for_ever() -> None:
    """Near agreement they are the coarsest of all: where each was answered by two more, these
    twelve never came to rest (decision 0008)."""
    conditions = Conditions(Topology.GRAPH, ("wrap4", "int4"), 1, 0.1, 3)
    swarm = Quadratics(162391794, 12, conditions, Rate(160, 0.1, 0.1))
    swarm.run()
    left = [swarm.rest(0.1)[1] for _ in range(4)][-1]
    assert left <= ROUNDING * swarm.start_error * math.sqrt(12)


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    peers=st.integers(2, 5),
    topology=st.sampled_from(Topology),
    codecs=st.sampled_from((*CODECS, COARSEST)),
    loss=st.sampled_from((0.0, 0.1, 0.3)),
)
def test_a_rate_that_falls_more_slowly_brings_the_mean_as_much_nearer_to_the_optimum(
    seed: int, peers: int, topology: Topology, codecs: tuple[str, str], loss: float
) -> None:
    """To the optimum itself, with any codec: in four times the steps to a quarter of the error (a
    third where mixing is slow; of 40 drawn swarms the worst came to 0.38)."""

    def left(steps: int) -> float:
        swarm = Quadratics(seed, peers, Conditions(topology, codecs, 1, loss), Rate(steps))
        swarm.run()
        return swarm.story.mean_error[-1] / swarm.start_error

    assert left(1000) <= 0.5 * left(250)


def test_what_a_constant_rate_leaves_is_rate_times_how_unlike_the_losses_are() -> None:
    """Twice the rate, twice the error; twice the distance between the optima, twice the error;
    and with one optimum for all, none at any rate."""

    def left(rate: float, apart: float) -> float:
        conditions = Conditions(Topology.RECENT, apart=apart)
        swarm = Quadratics(3, 4, conditions, Rate(600, rate, rate))
        swarm.run()
        return max(swarm.errors()) * swarm.start_error

    base = left(0.03, 1.0)
    assert left(0.06, 1.0) == pytest.approx(2 * base, rel=0.25)
    assert left(0.03, 2.0) == pytest.approx(2 * base, rel=0.25)
    assert left(0.03, 0.0) < 0.03 * base
