"""Laws of weighted rendezvous hashing."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.hashing.rendezvous import Weighted, holders, owner, score
from gossip.messages import PeerId
from gossip.replication.placement import place
from tests.lab.house_rules import ROOT

KEYS = [b"key/%d" % number for number in range(2_000)]

weights = st.floats(min_value=0.1, max_value=10.0)
peers = st.integers(0, 2**64 - 1).map(lambda number: PeerId(f"{number:016x}"))
swarms = st.lists(
    st.tuples(peers, weights), min_size=1, max_size=12, unique_by=lambda member: member[0]
)


def even(count: int) -> list[Weighted]:
    """So many members of equal weight."""
    return [(PeerId(f"{number * 7919:016x}"), 1.0) for number in range(count)]


def test_equal_members_hold_about_equal_numbers_of_keys() -> None:
    """Ten members, 2,000 keys: each within five standard deviations of its 200."""
    members = even(10)
    owners = [owner(key, members) for key in KEYS]

    deviation = math.sqrt(2_000 * 0.1 * 0.9)
    for peer, _ in members:
        assert owners.count(peer) == pytest.approx(200, abs=5 * deviation)


def test_a_member_of_weight_three_holds_three_times_the_keys() -> None:
    """One member of weight 3 among three of weight 1 holds half of all keys."""
    members = [(peer, 3.0 if place == 0 else 1.0) for place, (peer, _) in enumerate(even(4))]
    owners = [owner(key, members) for key in KEYS]

    deviation = math.sqrt(2_000 * 0.25)
    assert owners.count(members[0][0]) == pytest.approx(1_000, abs=5 * deviation)


@given(members=swarms, key=st.binary(max_size=40), copies=st.integers(1, 14))
def test_holders_are_distinct_and_led_by_the_owner(
    members: list[Weighted], key: bytes, copies: int
) -> None:
    """As many holders as asked for while there are members, each once, the owner first."""
    held = holders(key, members, copies)

    assert min(copies, len(members)) == len(held) == len(set(held))
    assert owner(key, members) == held[0]
    assert held == holders(key, members, copies + 1)[:copies]


@given(members=swarms, shuffled=st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    members: list[Weighted], shuffled: random.Random
) -> None:
    """Two peers that learned of the members in different orders agree."""
    other = sorted(members, key=lambda _: shuffled.random())

    for key in KEYS[:20]:
        assert holders(key, members, 3) == holders(key, other, 3)


@given(members=swarms, newcomer=st.tuples(peers, weights))
def test_a_join_moves_keys_to_the_newcomer_only_and_its_leaving_moves_them_back(
    members: list[Weighted], newcomer: Weighted
) -> None:
    """The same law read in both directions: no key moves between members that stay."""
    if newcomer[0] in [peer for peer, _ in members]:
        return

    for key in KEYS[:50]:
        before = owner(key, members)
        after = owner(key, [*members, newcomer])

        assert after in (before, newcomer[0])


@given(members=swarms, key=st.binary(max_size=10))
def test_a_larger_weight_never_costs_a_member_a_key(members: list[Weighted], key: bytes) -> None:
    """Weights are monotone: the owner stays the owner when its weight grows."""
    first = owner(key, members)
    heavier = [(peer, weight * 2 if peer == first else weight) for peer, weight in members]

    assert first == owner(key, heavier)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_member_without_a_usable_weight_holds_nothing(weight: float) -> None:
    """A record from a stranger cannot take over the keys, and cannot raise."""
    odd = PeerId("f" * 16)

    assert score(b"key", (odd, weight)) == -math.inf
    assert owner(b"key", [(odd, weight)]) is None
    assert odd not in holders(b"key", [*even(3), (odd, weight)], 4)


def test_no_members_means_no_owner() -> None:
    """Nothing to choose from is not an error."""
    assert owner(b"key", []) is None
    assert holders(b"key", [], 3) == ()


def test_length_in_front_keeps_keys_apart_from_ids() -> None:
    """Moving a byte from the peer's id to the key makes a different hash."""
    assert score(b"ab", (PeerId("c"), 1.0)) != score(b"a", (PeerId("bc"), 1.0))


def test_owners_are_those_recorded_for_good() -> None:
    """A change of these values moves everybody's data: it needs a new person string."""
    members = [(PeerId(f"{number:016x}"), 1.0 + number) for number in range(4)]

    assert [2, 1, 3, 1, 3, 1, 3, 0] == [
        int(owner(b"key/%d" % number, members) or "", 16) for number in range(8)
    ]


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_owners_do_not_depend_on_the_hash_seed(seed: str) -> None:
    """Other processes, with other PYTHONHASHSEEDs, come to the same plan."""
    program = (
        "from gossip.replication.placement import place\n"
        "members = [(f'{n:016x}', 1.0 + n % 3) for n in range(7)]\n"
        "print(','.join(place(40, members)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    members = [(PeerId(f"{number:016x}"), 1.0 + number % 3) for number in range(7)]
    assert ",".join(place(40, members)) == done.stdout.strip()
