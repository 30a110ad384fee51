"""Two peers that compare end with the same records, and pay nothing when they had them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.membership.swim import Swim
from gossip.membership.sync import RECORDS_MAX, Sync
from gossip.membership.view import View
from gossip.messages import (
    NO_RUMORS,
    Diff,
    Digest,
    Gossip,
    Lookup,
    MembershipMessage,
    Record,
    Rumors,
    Status,
    Version,
)
from tests.gossip.membership.claims import down, evidence, peer, progress, record, spread
from tests.gossip.membership.dialogue import machine, say, sent, tell

CONFIG = MembershipConfig()
CLAIMS = st.lists(
    st.builds(
        record,
        st.integers(3, 40),
        st.integers(1, 3),
        st.integers(0, 2),
        st.sampled_from([Status.ALIVE, Status.ALIVE, Status.LEFT]),
    ),
    max_size=20,
)


def pair(ones: list[Record], others: list[Record]) -> dict[int, Swim]:
    """Peers 1 and 2, which know each other and each of some claims."""
    one = machine(record(2), *ones)
    other = machine(record(1), *others, me=record(2))
    return {1: one, 2: other}


def compare(swims: dict[int, Swim], first: int) -> list[str]:
    """Let one of the two start a comparison; the kinds of messages that follow."""
    sync = swims[first]._rounds.sync
    waiting: list[tuple[int, MembershipMessage]] = [(first, sync.digest())]
    kinds = []
    while waiting:
        sender, message = waiting.pop(0)
        kinds.append(type(message).__name__)
        to = 3 - sender
        for answer in sent(say(swims[to], sender, message, 1.0), object, peer(sender)):
            assert isinstance(answer, MembershipMessage)
            waiting.append((to, answer))
    return kinds


def held(swim: Swim) -> list[Record]:
    """All it knows, but tombstones of peers it never knew alive."""
    return list(swim._roster.shared())


@given(CLAIMS, CLAIMS, st.sampled_from([1, 2]))
def test_two_peers_that_compare_end_with_the_same_records(
    ones: list[Record], others: list[Record], first: int
) -> None:
    """In four messages at most, whoever starts; only a tombstone of one never known alive is not
    passed on, but to who counts on that member."""
    swims = pair(ones, others)
    kinds = compare(swims, first)

    assert ["Digest", "Diff", "Lookup", "Gossip"][: len(kinds)] == kinds
    for mine, theirs in ((swims[1], swims[2]), (swims[2], swims[1])):
        for claim in held(mine):
            known = theirs.record(claim.peer)
            assert known is not None
            assert known.key >= claim.key
        for claim in mine.records():
            known = theirs.record(claim.peer)
            assert known is None or known.status >= Status.DOWN or known.key >= claim.key
    if all(len(held(each)) == len(each.records()) for each in swims.values()):
        assert swims[1].records() == swims[2].records()
    if held(swims[1]) == held(swims[2]):
        assert ["Digest"] == compare(swims, 1) == compare(swims, 2)


@given(CLAIMS)
def test_equal_records_cost_one_digest(known: list[Record]) -> None:
    """M25: whatever they are, and in whatever order they came."""
    swims = pair(known, known[::-1] + known)

    if held(swims[1]) == held(swims[2]):
        assert ["Digest"] == compare(swims, 1) == compare(swims, 2)


def test_a_verdict_is_compared_together_with_what_it_stands_on() -> None:
    """So that who missed it can count the accusers."""
    swims = pair([record(3), record(4), record(5)], [record(3), record(4), record(5)])
    for number in (1, 2):
        swims[number].heard_from(peer(3 - number), 0.0)
    verdict = Gossip(Rumors((down(3),), (), (evidence(3, 1, 2, 4, 5),)))
    say(swims[1], 4, verdict, 0.1)
    assert record(3) == swims[2].record(peer(3))

    compare(swims, 1)

    assert down(3) == swims[2].record(peer(3)) == swims[1].record(peer(3))
    assert ["Digest"] == compare(swims, 2)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("is_old", [False, True])
def test_who_counts_on_the_dead_is_told_so_whoever_begins(first: int, is_old: bool) -> None:
    """M10: also by one that passes the tombstone on to nobody else, as it came later, or as the
    tombstone is old. A peer that was held up while it was news may meet no other."""
    swims = pair([record(4), record(5)], [record(3), record(4), record(5)])
    verdict = Rumors((down(3),), (), (evidence(3, 1, 2, 4, 5),))
    if is_old:
        tell(swims[1], 4, record(3), now=0.1)
        say(swims[1], 4, Gossip(verdict), 0.2)
        swims[1]._roster.retire(peer(3))
    else:
        swims[1]._claims.learn(peer(4), verdict, "welcome", 0.1, spread=False)
    assert down(3) == swims[1].record(peer(3))
    assert down(3) not in held(swims[1])

    compare(swims, first)

    assert down(3) == swims[2].record(peer(3)) == swims[1].record(peer(3))


def test_a_tombstone_that_ends_is_out_of_the_digest() -> None:
    """M27: two peers that both forgot are equal again."""
    swims = pair([record(3)], [])
    tell(swims[1], 3, record(3, status=Status.LEFT), now=0.1)
    swims[1]._roster.forget(peer(3))

    assert ["Digest"] == compare(swims, 1)


def test_accounts_are_passed_on_with_digests() -> None:
    """A few at a time, whatever the records."""
    swims = pair([record(3)], [record(3)])
    say(swims[1], 3, Gossip(Rumors((), (progress(3, samples=7),))), 0.1)
    assert 0 == swims[2].samples_total(b"L")

    for _ in range(20):
        compare(swims, 1)

    assert 7 == swims[2].samples_total(b"L")


def view(*known: Record) -> View:
    """That of peer 1."""
    held_by = View(record(1), CONFIG, None)
    for claim in known:
        held_by.take(claim, "told", 0.0)
    return held_by


def test_what_is_no_digest_is_ignored() -> None:
    """Of any other length."""
    sync = Sync(view(record(2)), random.Random(1))

    assert None is sync.diff(Digest(b""))
    assert None is sync.diff(Digest(bytes(2049)))
    assert None is not sync.diff(Digest(bytes(2048)))


def test_one_comparison_moves_a_bounded_number_of_records() -> None:
    """The next one finds the rest."""
    many = [replace(record(9), peer=spread(number)) for number in range(1, RECORDS_MAX + 9)]
    full, empty = view(), view()
    full.roster.take_many(many)
    first, second = Sync(full, random.Random(1)), Sync(empty, random.Random(1))
    diff = second.diff(first.digest())
    assert diff is not None
    lookup = first.lookup(diff)
    assert lookup is not None
    assert RECORDS_MAX == len(lookup.rumors.records)

    back = first.diff(second.digest())
    assert back is not None
    wanted = second.lookup(back)
    assert wanted is not None
    assert RECORDS_MAX == len(wanted.peers)
    assert RECORDS_MAX == len(
        first.answer(Lookup(NO_RUMORS, (*wanted.peers, *wanted.peers))).records
    )


def test_versions_alone_tell_who_knows_more() -> None:
    """The larger key is told, the smaller asked for, the same is neither; unknown peers that are
    asked for are passed over."""
    sync = Sync(view(record(2, incarnation=1), record(3), record(4)), random.Random(1))
    buckets = bytes(range(256))
    theirs = (
        Version(peer(1), 1, 0, Status.ALIVE),
        Version(peer(2), 1, 0, Status.LEFT),
        Version(peer(3), 1, 0, Status.DOWN),
        Version(peer(4), 1, 0, Status.ALIVE),
        Version(peer(5), 1, 0, Status.ALIVE),
    )
    lookup = sync.lookup(Diff(buckets, theirs))

    assert lookup is not None
    assert ((record(2, incarnation=1),), (peer(3), peer(5))) == (
        lookup.rumors.records,
        lookup.peers,
    )
    assert None is sync.lookup(Diff(b"", ()))
    assert (record(4),) == sync.answer(Lookup(NO_RUMORS, (peer(9), peer(4)))).records


def test_only_who_is_known_to_be_gone_since_is_added_to_an_answer() -> None:
    """Not a later life, nor what is known alive, nor what is said to be gone as well."""
    sync = Sync(view(down(2), down(3), record(4, incarnation=1), down(5)), random.Random(1))
    told = Rumors((record(2), record(3, incarnation=1), record(4), down(5), record(6)))

    assert (down(2),) == sync.answer(Lookup(told, ())).records
    assert () == sync.answer(Lookup(NO_RUMORS, ())).records
