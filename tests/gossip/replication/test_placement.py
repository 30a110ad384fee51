"""Laws of the bounded-load plan for data shards."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.hashing.rendezvous import Weighted, owner
from gossip.messages import PeerId
from gossip.replication.placement import limits, owned, place, shard_key

peers = st.integers(0, 2**64 - 1).map(lambda number: PeerId(f"{number:016x}"))
swarms = st.lists(
    st.tuples(peers, st.floats(min_value=0.1, max_value=10.0)),
    min_size=1,
    max_size=10,
    unique_by=lambda member: member[0],
)
shard_counts = st.integers(0, 60)
slacks = st.floats(min_value=1.0, max_value=3.0)


@given(shards=shard_counts, members=swarms, slack=slacks)
def test_every_shard_has_exactly_one_owner_and_nobody_exceeds_the_limit(
    shards: int, members: list[Weighted], slack: float
) -> None:
    """The plan covers all shards, and each member is within ceil(slack * fair share)."""
    plan = place(shards, members, slack)
    total = sum(weight for _, weight in members)

    assert shards == len(plan)
    for peer, weight in members:
        fair = shards * weight / total
        assert plan.count(peer) <= math.ceil(slack * fair * (1 + 1e-12))


@given(shards=shard_counts, members=swarms)
def test_what_members_own_adds_up_to_all_shards(shards: int, members: list[Weighted]) -> None:
    """Each peer computes its own part alone; together they miss and repeat nothing."""
    parts = [shard for peer, _ in members for shard in owned(shards, members, peer)]

    assert list(range(shards)) == sorted(parts)


@given(shards=shard_counts, members=swarms, seed=st.integers(0, 99))
def test_the_order_of_members_does_not_matter(
    shards: int, members: list[Weighted], seed: int
) -> None:
    """Two peers that learned of the members in different orders make the same plan."""
    other = list(members)
    random.Random(seed).shuffle(other)

    assert place(shards, members) == place(shards, other)


@given(shards=shard_counts, members=swarms)
def test_with_room_enough_the_plan_is_plain_rendezvous(
    shards: int, members: list[Weighted]
) -> None:
    """The limit is all that differs from the hash: without it nothing is passed on."""
    roomy = place(shards, members, slack=1e6)

    assert [owner(shard_key(shard), members) for shard in range(shards)] == list(roomy)


def test_a_leave_moves_little_more_than_the_shards_of_the_one_who_left() -> None:
    """Over 40 swarms of ten, one leaving moves less than twice its own shards on average."""
    rng = random.Random(5)
    moved = lost = 0
    for _ in range(40):
        members = [(PeerId(f"{rng.getrandbits(64):016x}"), 1.0) for _ in range(10)]
        before, after = place(100, members), place(100, members[1:])
        moved += sum(a != b for a, b in zip(before, after, strict=True))
        lost += before.count(members[0][0])

    assert lost <= moved < 2 * lost


def test_few_shards_are_spread_evenly() -> None:
    """Twenty shards on four members: none has more than seven, whatever their ids."""
    rng = random.Random(1)
    for _ in range(50):
        members = [(PeerId(f"{rng.getrandbits(64):016x}"), 1.0) for _ in range(4)]
        plan = place(20, members)

        assert max(plan.count(peer) for peer, _ in members) <= 7


def test_huge_finite_weights_do_not_overflow() -> None:
    """A weight near the largest float still gives a plan."""
    members = [(PeerId("a" * 16), 1e308), (PeerId("b" * 16), 1.7e308)]

    assert len(place(9, members)) == 9


@pytest.mark.parametrize("weight", [0.0, -2.0, math.nan, math.inf])
def test_a_member_without_a_usable_weight_gets_no_shard(weight: float) -> None:
    """A stranger's record can neither raise nor take shards."""
    members = [(PeerId("a" * 16), weight), (PeerId("b" * 16), 1.0)]

    assert limits(4, members) == {PeerId("b" * 16): 5}
    assert place(4, members) == (PeerId("b" * 16),) * 4
    assert owned(4, members, PeerId("a" * 16)) == ()


def test_nobody_present_means_an_empty_plan() -> None:
    """Before the first member is known there is nothing to place on."""
    assert place(3, []) == ()
    assert owned(3, [], PeerId("a" * 16)) == ()
