"""A roster beside a plain map of records: whatever happens, it says the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership import roster as roster_module
from gossip.membership.ground import BUCKETS, Ground, bucket_of, fingerprint
from gossip.membership.records import merge
from gossip.membership.roster import Roster
from gossip.messages import PeerId, Record, Status
from tests.gossip.membership import claims
from tests.gossip.membership.claims import down, peer, record, undialable

ME, OBSERVERS = 1, 4
OTHERS = claims.records(st.integers(2, 12), claims.HELD)
STEPS = st.lists(st.one_of(OTHERS, st.integers(2, 12).map(peer)), max_size=40)


class Reference:
    """The records, and who is known by hearsay only."""

    def __init__(self, ground: list[Record]) -> None:
        self.records = {each.peer: each for each in [*ground, record(ME)]}
        self.hearsay: dict[PeerId, None] = {}

    def put(self, claim: Record) -> bool:
        """Merge one claim."""
        before = self.records.get(claim.peer)
        if before is not None and merge(before, claim) == before:
            return False
        self.records[claim.peer] = claim
        if claim.status < Status.DOWN:
            self.hearsay.pop(claim.peer, None)
        elif before is None:
            self.hearsay[claim.peer] = None
        return True

    def forget(self, who: PeerId) -> None:
        """Drop a tombstone."""
        del self.records[who]
        self.hearsay.pop(who, None)

    def at(self, *statuses: Status) -> list[PeerId]:
        """Others of a status, sorted."""
        held = sorted(each.peer for each in self.records.values() if each.status in statuses)
        return [each for each in held if each != peer(ME)]

    def shared(self) -> list[Record]:
        """What is passed on, sorted."""
        return [self.records[each] for each in sorted(self.records) if each not in self.hearsay]


@contextmanager
def few_changes() -> Iterator[None]:
    """Let a roster make a ground of its own after every few changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roster_module, "CHANGES_MAX", 3)
        yield


def agree(roster: Roster, told: Reference) -> None:
    """Everything that can be asked of a roster is as the plain map says."""
    live = told.at(Status.ALIVE)
    assert [told.records[each] for each in sorted(told.records)] == roster.all()
    assert (live, told.at(Status.DOWN)) == (list(roster.live), list(roster.down))
    assert len(live) == roster.others
    assert told.shared() == list(roster.shared())
    buckets = [0] * BUCKETS
    for each in told.shared():
        buckets[bucket_of(each.peer)] ^= fingerprint(each)
    assert buckets == list(roster.buckets)
    drawn = roster.draw(random.Random(len(live)))
    assert drawn in live if live else drawn is None
    bare = [each for each in live if not told.records[each].control_address]
    assert bool(bare) == roster.has_undialable
    fresh = Roster(record(ME), 100, OBSERVERS)
    for each in live:
        fresh.put(told.records[each])
    for each in [*live, peer(ME)]:
        assert sorted(fresh.neighbors(each)) == sorted(roster.neighbors(each))


@given(st.lists(OTHERS, max_size=8, unique_by=lambda each: each.peer), STEPS)
def test_a_roster_over_a_ground_is_as_good_as_a_plain_map(
    ground: list[Record], steps: list[Record | PeerId]
) -> None:
    """M2: any claims and any forgetting of tombstones, with a new ground every few changes."""
    with few_changes():
        roster = Roster(record(ME), 100, OBSERVERS, Ground.of(ground, OBSERVERS // 2))
        told = Reference(ground)
        agree(roster, told)
        for step in steps:
            if isinstance(step, Record):
                assert told.put(step) == roster.put(step)
            elif step in told.at(Status.DOWN, Status.LEFT):
                told.forget(step)
                roster.forget(step)
            agree(roster, told)


@given(st.lists(OTHERS, max_size=12), st.integers(2, 15), st.integers(0, 8))
def test_many_newcomers_at_once_are_taken_as_far_as_there_is_room(
    before: list[Record], members_max: int, count: int
) -> None:
    """M27: a full roster has room for what it knows and for nothing else."""
    with few_changes():
        roster, told = Roster(record(ME), members_max, OBSERVERS), Reference([])
        for claim in before:
            fits = len(told.records) < members_max or claim.peer in told.records
            assert fits == roster.has_room(claim.peer)
            if fits:
                assert told.put(claim) == roster.put(claim)
        new = [record(20 + number) for number in range(count)]
        taken = roster.take_many(new)
        assert new[: max(0, members_max - len(told.records))] == taken
        for claim in taken:
            told.put(claim)
        agree(roster, told)


@given(st.data())
def test_order_and_repetition_of_claims_do_not_matter(data: st.DataObject) -> None:
    """M3: any permutation with any repetition ends in the same records and the same lists."""
    drawn = data.draw(st.lists(claims.records(st.integers(2, 4)), max_size=12))
    again = data.draw(st.permutations(drawn + drawn[: data.draw(st.integers(0, len(drawn)))]))
    first, second = Roster(record(ME), 100, 8), Roster(record(ME), 100, 8)
    for claim in drawn:
        first.put(claim)
    for claim in again:
        second.put(claim)

    assert first.all() == second.all()
    assert list(first.live) == list(second.live)
    assert first.down == second.down


def test_a_tombstone_known_by_hearsay_only_is_not_passed_on() -> None:
    """Else peers that forget at different times would hand it round for ever."""
    roster = Roster(record(1), 10, 8)
    for claim in (record(2), down(2), down(3)):
        roster.put(claim)

    assert [down(2)] == [each for each in roster.shared() if each.peer != peer(1)]

    roster.put(record(3, incarnation=1))

    assert [peer(1), peer(2), peer(3)] == [each.peer for each in roster.shared()]


def test_in_a_small_group_everybody_watches_everybody_that_is_here() -> None:
    """Except that two which cannot be dialed do not; who has left watches nobody."""
    roster = Roster(record(1), 10, 4)
    for claim in (record(2), undialable(3), undialable(4)):
        roster.put(claim)
    assert [peer(1), peer(2)] == sorted(roster.neighbors(peer(3)))
    assert [peer(1), peer(3), peer(4)] == sorted(roster.neighbors(peer(2)))
    assert [peer(1)] == roster.observers(peer(2))

    roster.put(record(1, status=Status.LEFT))

    assert [peer(2)] == roster.neighbors(peer(3))


def test_a_ground_is_made_only_once_in_many_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs as much as all members together, so it must not follow every change."""
    monkeypatch.setattr(roster_module, "CHANGES_MAX", 8)
    roster, grounds = Roster(record(0), 1000, 8), []
    for number in range(1, 65):
        roster.put(record(number))
        grounds.append(id(roster._ground))

    assert 10 >= len(dict.fromkeys(grounds))


def test_a_split_of_halves_leaves_all_on_the_ground_that_they_share() -> None:
    """Else each would keep a ground of its own: half of ten thousand, ten thousand times. What one
    of them holds is nothing to the other."""
    with few_changes():
        ground = Ground.of([record(number) for number in range(1, 101)], OBSERVERS // 2)
        one, other = (Roster(record(number), 1000, OBSERVERS, ground) for number in (1, 2))
        for number in range(51, 101):
            one.put(down(number))
        assert 49 == one.others
        assert 99 == other.others
        assert peer(60) in other.live
        for number in range(3, 101):
            one.put(record(number, incarnation=1))

    assert one._ground is other._ground is ground
    assert 99 == one.others
    assert record(60) == other.get(peer(60))


def test_a_ground_that_most_have_left_is_left_too() -> None:
    """Else members to talk to would have to be looked for among the dead."""
    with few_changes():
        ground = Ground.of([record(number) for number in range(1, 101)], OBSERVERS // 2)
        roster = Roster(record(1), 1000, OBSERVERS, ground)
        for number in range(20, 101):
            roster.put(down(number))

    assert len(roster._ground.live) <= 4 * (roster.others + 1)


def test_of_a_group_that_most_have_left_one_is_drawn_at_once() -> None:
    """Three of five hundred are left, and all of them are drawn, with one look each."""
    ground = Ground.of([record(number) for number in range(1, 501)], OBSERVERS // 2)
    roster = Roster(record(1), 1000, OBSERVERS, ground)
    for number in range(5, 501):
        roster.put(down(number))
    rng = Counted(7)
    drawn = {roster.draw(rng) for _ in range(50)}

    assert roster._ground is ground
    assert drawn == {peer(2), peer(3), peer(4)}
    assert rng.draws == 50


class Counted(random.Random):
    """Counts what is drawn of it."""

    draws = 0

    def randrange(self, *args: int) -> int:
        """See random."""
        self.draws += 1
        return super().randrange(*args)


def test_strangers_that_come_and_go_for_years_leave_nothing() -> None:
    """M27: whom the ground never knew need not be remembered as forgotten."""
    ground = Ground.of([record(number) for number in range(1, 11)], OBSERVERS // 2)
    roster = Roster(record(1), 100, OBSERVERS, ground)
    for number in range(100, 2100):
        roster.put(record(number))
        roster.put(down(number))
        roster.forget(peer(number))

    assert roster._ground is ground
    assert 9 == roster.others
    left = (roster._records, roster._forgotten, roster._outside, roster.gone, roster._joined)
    assert sum(map(len, left)) <= 10
