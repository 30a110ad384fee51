"""What was trained is counted once, whoever tells it and how often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.account import Account, Accounts
from gossip.messages import NO_LINEAGE, Progress
from tests.gossip.membership import claims
from tests.gossip.membership.claims import peer, progress

ENTRIES = st.lists(claims.accounts(st.integers(1, 3)), max_size=12)


@given(st.data(), ENTRIES, ENTRIES)
def test_an_account_forgets_the_order_and_totals_each_boot_once(
    data: st.DataObject, shared: list[Progress], own: list[Progress]
) -> None:
    """M3: the totals are the sums over the winning entry of every (peer, boot), whether heard by
    this peer or part of the ground it stands on."""
    drawn = shared + own
    first, second = Account(100, Accounts.of(shared)), Account(100)
    for claim in own:
        first.put(claim)
    for claim in data.draw(st.permutations(drawn + own)):
        second.put(claim)

    assert first.all() == second.all()
    for lineage in (b"L", b"M"):
        expected = sum(each.samples for each in first.all() if each.lineage == lineage)
        assert expected == first.total(lineage) == second.total(lineage)
    assert 0 == first.total(NO_LINEAGE)
    for number in (1, 2, 3):
        known = [each for each in first.all() if each.peer == peer(number)]
        assert (known[-1] if known else None) == second.newest(peer(number))
        for each in known:
            assert each == first.of(each.peer, each.boot)


@given(ENTRIES, ENTRIES)
def test_a_shared_ground_is_not_changed_by_who_stands_on_it(
    shared: list[Progress], own: list[Progress]
) -> None:
    """Thousands of peers of one process stand on the same one."""
    ground = Accounts.of(shared)
    before = (dict(ground.entries), dict(ground.newest), dict(ground.totals))
    account = Account(100, ground)
    for claim in own:
        account.put(claim)

    assert before == (ground.entries, ground.newest, ground.totals)
    assert Account(100, account.shared()).all() == account.all()


def test_a_crash_loses_no_sample() -> None:
    """Samples of an earlier boot still count after a restart, and only once."""
    account = Account(10)
    account.put(progress(1, boot=1, version=7, samples=100))
    account.put(progress(1, boot=2, version=1, samples=5))
    account.put(progress(1, boot=1, version=3, samples=60))

    assert 105 == account.total(b"L")


def test_the_number_of_entries_is_bounded() -> None:
    """M27: a full account has room for what it knows and for nothing else."""
    account = Account(1)
    account.put(progress(2))

    assert account.has_room(progress(2, version=9))
    assert not account.has_room(progress(2, boot=2))
