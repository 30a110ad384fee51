"""Records and accounts are join-semilattices, and both maps are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.records import (
    COUNT_MAX,
    Account,
    Roster,
    merge,
    merge_progress,
    progress_flaw,
    record_flaw,
)
from gossip.messages import PeerId, Progress, Record, Status
from tests.gossip.membership import claims
from tests.gossip.membership.claims import peer, progress, record

ONE = claims.records(st.just(1))
ONE_ACCOUNT = claims.accounts(st.just(1))


@given(ONE, ONE, ONE)
def test_merging_records_obeys_the_lattice_laws(a: Record, b: Record, c: Record) -> None:
    """Commutative, associative, idempotent, and never below either side."""
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, a) == a
    assert merge(a, b).key == max(a.key, b.key)


@given(ONE_ACCOUNT, ONE_ACCOUNT, ONE_ACCOUNT)
def test_merging_accounts_obeys_the_lattice_laws(a: Progress, b: Progress, c: Progress) -> None:
    """Commutative, associative, idempotent, and never below either side."""
    assert merge_progress(a, b) == merge_progress(b, a)
    assert merge_progress(a, merge_progress(b, c)) == merge_progress(merge_progress(a, b), c)
    assert merge_progress(a, a) == a
    assert merge_progress(a, b).key == max(a.key, b.key)


@given(st.data())
def test_a_roster_forgets_the_order_and_the_number_of_claims(data: st.DataObject) -> None:
    """Any permutation with any repetition ends in the same records and the same sorted lists."""
    drawn = data.draw(st.lists(claims.records(st.integers(2, 4)), max_size=12))
    again = data.draw(st.permutations(drawn + drawn[: data.draw(st.integers(0, len(drawn)))]))
    first, second = Roster(record(1), 100), Roster(record(1), 100)
    for claim in drawn:
        first.put(claim)
    for claim in again:
        second.put(claim)

    assert first.all() == second.all()
    assert first.live == second.live
    assert first.down == second.down
    assert [each.peer for each in first.all() if each.status == Status.DOWN] == list(first.down)
    assert [
        each.peer for each in first.all() if each.status < Status.DOWN and each.peer != peer(1)
    ] == list(first.live)


@given(st.data())
def test_a_roster_never_lowers_a_key(data: st.DataObject) -> None:
    """After every claim each key is at least what it was, and put says whether anything changed."""
    roster = Roster(record(1), 100)
    for claim in data.draw(st.lists(claims.records(st.integers(2, 4)), max_size=12)):
        before = roster.get(claim.peer)
        changed = roster.put(claim)
        after = roster.get(claim.peer)

        assert after is not None
        assert changed == (after != before)
        assert before is None or after.key >= before.key


@given(st.data())
def test_an_account_forgets_the_order_and_totals_each_boot_once(data: st.DataObject) -> None:
    """The totals are the sums over the winning entry of every (peer, boot)."""
    drawn = data.draw(st.lists(claims.accounts(st.integers(1, 3)), max_size=12))
    again = data.draw(st.permutations(drawn + drawn))
    first, second = Account(100), Account(100)
    for claim in drawn:
        first.put(claim)
    for claim in again:
        second.put(claim)

    assert first.all() == second.all()
    for lineage in (b"L", b"M"):
        expected = sum(each.samples for each in first.all() if each.lineage == lineage)
        assert expected == first.total(lineage) == second.total(lineage)
    for number in (1, 2, 3):
        known = [each for each in first.all() if each.peer == peer(number)]
        assert (known[-1] if known else None) == second.newest(peer(number))


def test_a_crash_loses_no_sample() -> None:
    """Samples of an earlier boot still count after a restart, and only once."""
    account = Account(10)
    account.put(progress(1, boot=1, version=7, samples=100))
    account.put(progress(1, boot=2, version=1, samples=5))
    account.put(progress(1, boot=1, version=3, samples=60))

    assert 105 == account.total(b"L")


def test_both_maps_are_bounded() -> None:
    """A full map has room for what it knows and for nothing else."""
    roster, account = Roster(record(1), 2), Account(1)
    roster.put(record(2))
    account.put(progress(2))

    assert roster.has_room(peer(2))
    assert not roster.has_room(peer(3))
    assert account.has_room(progress(2, version=9))
    assert not account.has_room(progress(2, boot=2))


def test_a_tombstone_known_by_hearsay_only_is_not_passed_on() -> None:
    """Else peers that forget at different times would hand it round for ever."""
    roster = Roster(record(1), 10)
    roster.put(record(2))
    roster.put(record(2, status=Status.DOWN))
    roster.put(record(3, status=Status.DOWN))

    assert [peer(1), peer(2)] == [each.peer for each in roster.shared()]

    roster.put(record(3, incarnation=1))

    assert [peer(1), peer(2), peer(3)] == [each.peer for each in roster.shared()]


@pytest.mark.parametrize(
    "flawed",
    [
        replace(record(1), peer=PeerId("short")),
        replace(record(1), peer=PeerId("g" * 16)),
        replace(record(1), peer=PeerId("A" * 16)),
        replace(record(1), boot=-1),
        replace(record(1), boot=COUNT_MAX + 1),
        replace(record(1), incarnation=-1),
        replace(record(1), control_address="a" * 257),
        replace(record(1), bulk_address="a\nb"),
        replace(record(1), host="\udc80"),
        replace(record(1), capacity=float("nan")),
        replace(record(1), capacity=-1.0),
    ],
)
def test_an_absurd_record_is_named(flawed: Record) -> None:
    """Each rule is broken once; the sound record has no flaw."""
    assert record_flaw(record(1)) is None
    assert record_flaw(flawed)


@pytest.mark.parametrize(
    "flawed",
    [
        replace(progress(1), peer=PeerId("")),
        replace(progress(1), boot=-1),
        replace(progress(1), version=-1),
        replace(progress(1), samples=-1),
        replace(progress(1), samples=COUNT_MAX + 1),
        replace(progress(1), lineage=b"x" * 65),
    ],
)
def test_an_absurd_account_is_named(flawed: Progress) -> None:
    """Each rule is broken once; the sound account has no flaw."""
    assert progress_flaw(progress(1)) is None
    assert progress_flaw(flawed)
