"""What a claim does to one peer's view: believed, refuted, corrected, or forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import Dial, Fault, LinkCause, MemberChanged, Reach
from gossip.membership.records import COUNT_MAX
from gossip.messages import (
    NO_LINEAGE,
    Digest,
    Gossip,
    Notice,
    Phase,
    Ping,
    Progress,
    Rumors,
    Status,
)
from tests.gossip.membership import claims
from tests.gossip.membership.claims import down, evidence, peer, progress, record, suspect
from tests.gossip.membership.dialogue import (
    CONFIG,
    bury,
    dials,
    group,
    hello,
    machine,
    only,
    run,
    say,
    sent,
    tell,
    told,
)


@given(st.data())
def test_the_order_and_repetition_of_claims_do_not_matter(data: st.DataObject) -> None:
    """M3: any permutation with any duplication gives the same records and accounts, whoever heard
    of whom first; verdicts aside, which take their time, and accusations, which are no claims."""
    others = st.integers(2, 4)
    held = [Status.ALIVE, Status.LEFT]
    records = data.draw(st.lists(claims.records(others, held), max_size=10))
    accounts = data.draw(st.lists(claims.accounts(others), max_size=6))
    first, second = machine(), machine()
    for each in records:
        tell(first, 9, each, now=0.1)
    say(first, 9, Gossip(Rumors((), tuple(accounts))), 0.1)
    for account in data.draw(st.permutations(accounts + accounts)):
        say(second, 9, Gossip(Rumors((), (account,))), 0.1)
    for again in data.draw(st.permutations(records + records[:4])):
        tell(second, 9, again, now=0.1)

    assert [each.key for each in first.records()] == [each.key for each in second.records()]
    assert first.live() == second.live()
    assert [first.progress_of(peer(n)) for n in (2, 3, 4)] == [
        second.progress_of(peer(n)) for n in (2, 3, 4)
    ]
    assert first.samples_total(b"L") == second.samples_total(b"L")


@pytest.mark.parametrize("status", [Status.DOWN, Status.LEFT])
def test_nobody_comes_back_without_a_larger_incarnation_or_boot(status: Status) -> None:
    """M5: a late ALIVE or SUSPECT changes nothing; a later life does, and is dialed."""
    swim = machine(record(3))
    swim._view.take(record(2, 2, 3, status), "held before", 0.0)
    for stale in (record(2, 2, 3), suspect(2, 2, 3), record(2, 1, 9)):
        effects = tell(swim, 3, stale, now=1.0)
        assert [] == told(effects, MemberChanged)
        assert [peer(3)] == swim.live()

    for later in (record(2, 2, 4), record(2, 3)):
        effects = tell(swim, 3, later, now=2.0)
        assert Dial(peer(2), later.control_address, later.bulk_address) in effects
        assert [peer(2), peer(3)] == swim.live()


def test_one_voice_does_not_bury_a_member_that_is_new_here() -> None:
    """M14: news of a verdict is judged, whether its subject was known or not."""
    swim = machine(record(3), record(4), record(5))
    bury(swim, 2, 3, by=3, now=0.1)
    assert swim.record(peer(2)) is None

    tell(swim, 3, record(2), now=0.2)
    assert peer(2) in swim.live()


def test_a_member_that_comes_back_with_the_record_it_had_is_told() -> None:
    """M8: it does not know that it was called down; it has to rise above that by itself."""
    swim = machine(*map(record, range(2, 7)))
    bury(swim, 4, 2, 3, 5, by=2, now=0.1)
    effects = say(swim, 4, hello(4), 1.0)

    assert [Notice(down(4))] == sent(effects, Notice, peer(4))
    assert 1 == len(sent(effects, Digest, peer(4)))
    assert peer(4) not in swim.live()

    effects = tell(swim, 4, record(4, incarnation=1), now=1.1)
    assert [peer(4)] == dials(effects)
    assert peer(4) in swim.live()


def test_a_member_held_down_is_told_whatever_it_says() -> None:
    """M8: also when it does not introduce itself; nothing but a later life brings it back."""
    swim = machine(*map(record, range(2, 7)))
    bury(swim, 4, 2, 3, 5, by=2, now=0.1)

    assert [Notice(down(4))] == sent(say(swim, 4, Ping(1, 1), 1.0), Notice, peer(4))
    assert down(4) == swim.record(peer(4))


def test_who_speaks_with_an_outdated_record_of_itself_is_told() -> None:
    """Else a peer that restarted with an old boot would never be heard again."""
    swim = machine(record(2, boot=5))
    effects = say(swim, 2, hello(2, boot=4), 1.0)

    assert [Notice(record(2, boot=5))] == sent(effects, Notice, peer(2))


def test_notices_to_one_peer_are_spaced() -> None:
    """However much it says; a record that changes may be told at once."""
    swim = machine(record(2, boot=5))
    notices = [
        len(sent(say(swim, 2, hello(2, boot=4), tenth / 10), Notice)) for tenth in range(10, 30)
    ]

    assert 4 == sum(notices)
    assert 1 == notices[0]


def test_who_says_down_of_a_member_that_has_refuted_is_corrected() -> None:
    """With the later record; of an old ALIVE there is nothing to say."""
    swim = machine(record(2), record(3, incarnation=1))

    assert [] == sent(tell(swim, 2, record(3), now=1.0), Gossip)
    assert [Gossip(Rumors((record(3, incarnation=1),)))] == sent(
        tell(swim, 2, down(3), now=1.0), Gossip, peer(2)
    )


def test_flawed_claims_are_one_fault_and_the_sound_ones_are_taken() -> None:
    """A neighbor's mistake costs its neighbors nothing else."""
    swim = machine()
    rumors = Rumors(
        (replace(record(2), boot=-1), replace(record(4), host="x" * 999), record(3)),
        (replace(progress(2), samples=-5), progress(3, samples=7)),
    )
    effects = say(swim, 3, Gossip(rumors), 1.0)

    (fault,) = told(effects, Fault)
    assert "rumor" == fault.kind
    assert "and 2 more" in fault.detail
    assert [peer(3)] == swim.live()
    assert 7 == swim.samples_total(b"L")


def test_the_number_of_members_is_bounded() -> None:
    """M27: a record over the limit is refused with a fault; known members still change."""
    swim = machine(record(2), config=MembershipConfig(members_max=2))
    effects = tell(swim, 2, record(3), record(2, incarnation=1), now=1.0)

    assert ["limit"] == [fault.kind for fault in told(effects, Fault)]
    assert [record(1), record(2, incarnation=1)] == swim.records()

    accounts = tuple(progress(number) for number in range(2, 9))
    effects = say(swim, 2, Gossip(Rumors((), accounts)), 1.0)
    assert ["limit"] == [fault.kind for fault in told(effects, Fault)]


def test_a_moved_or_restarted_member_is_dialed_again() -> None:
    """A refutation alone does not touch its link."""
    swim = machine(record(2))
    moved = replace(record(2, incarnation=2), control_address="10.9.9.9:1")

    for claim, count in ((record(2, incarnation=1), 0), (moved, 1), (record(2, boot=2), 1)):
        assert count == len(dials(tell(swim, 2, claim, now=1.0)))


def test_who_comes_back_again_and_again_gets_no_shards_for_a_while() -> None:
    """Three returns are forgiven, the fourth is not until some time has passed."""
    swim = machine(*map(record, range(2, 7)))
    for turn in range(4):
        assert swim.is_steady(peer(4), turn)
        verdict = Gossip(Rumors((down(4, 1, turn),), (), (evidence(4, 2, 3, 5, incarnation=turn),)))
        say(swim, 2, verdict, turn + 0.1)
        run(swim, turn + 0.5, answering=(2, 3, 5, 6))
        tell(swim, 2, record(4, incarnation=turn + 1), now=turn + 0.5)

    assert not swim.is_steady(peer(4), 4.0)
    assert swim.is_steady(peer(4), 4.0 + CONFIG.flap_half_life_s)


@pytest.mark.parametrize("status", [Status.DOWN, Status.LEFT])
def test_a_tombstone_is_forgotten_in_the_end(status: Status) -> None:
    """M27: the number of peers ever met does not matter; nothing else of it is kept."""
    swim = machine(record(3), record(2), config=MembershipConfig(tombstone_s=60.0))
    tell(swim, 3, record(2, status=Status.LEFT), now=0.0)
    swim._view.take(record(5, status=status), "heard of", 0.0)
    run(swim, 59.9, answering=(3,))
    assert [1, 2, 3, 5] == [int(each.peer, 16) for each in swim.records()]

    run(swim, 60.0, answering=(3,))
    assert [record(1), record(3)] == swim.records()
    assert [peer(3)] == list(swim._view.sightings.seen)
    assert {} == swim._view._noticed_at == swim._view.owed


def test_a_tombstone_lasts_from_the_last_claim() -> None:
    """M5: a member that came back and went again is remembered its full time."""
    swim = machine(record(3), config=MembershipConfig(tombstone_s=60.0))
    for now, claim in ((0.0, record(2, 1, 0, Status.LEFT)), (50.0, record(2, 2))):
        run(swim, now, answering=(3,))
        tell(swim, 3, claim, now=now)
    run(swim, 61.0, answering=(2, 3))
    assert [peer(2), peer(3)] == swim.live()
    tell(swim, 2, record(2, 2, 0, Status.LEFT), now=61.0)
    run(swim, 120.9, answering=(3,))
    assert record(2, 2, 0, Status.LEFT) == swim.record(peer(2))


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DOWN, Status.LEFT])
def test_a_wrong_claim_about_me_is_refuted_at_once(status: Status) -> None:
    """M7: who says it hears the refutation directly, the others as a rumor."""
    swim = machine(record(2), record(3))
    effects = tell(swim, 2, record(1, 1, 4, status), now=1.0)

    assert record(1, incarnation=5) == swim.me
    assert swim.me in sent(effects, Gossip, peer(2))[0].rumors.records
    assert swim.me in sent(only(run(swim, 1.6)), Gossip)[0].rumors.records


def test_a_claim_i_have_already_refuted_does_not_raise_me_again() -> None:
    """Else an old rumor would go round for ever."""
    swim = machine(record(2))
    for claim in (suspect(1), down(1)):
        tell(swim, 2, claim, now=1.0)
    assert record(1, incarnation=1) == swim.me
    effects = tell(swim, 2, suspect(1), record(1), down(1), now=1.1)

    assert record(1, incarnation=1) == swim.me
    assert [] == sent(effects, Gossip)


def test_the_same_key_with_another_address_is_outdone() -> None:
    """M6: two records with one key may not stand."""
    swim = machine(record(2))
    tell(swim, 2, replace(record(1), control_address="10.9.9.9:1"), now=1.0)

    assert record(1, incarnation=1) == swim.me


@pytest.mark.parametrize("status", list(Status))
def test_a_life_i_forgot_makes_me_raise_my_boot(status: Status) -> None:
    """M8: after a restart with an empty disk."""
    swim = machine(record(2))
    say(swim, 2, Notice(record(1, 7, 2, status)), 1.0)

    assert record(1, boot=8) == swim.me


def test_a_forged_claim_at_the_end_of_the_counts_is_a_fault() -> None:
    """There is nothing above it to rise to; my record stays as it is."""
    swim = machine(record(2))
    effects = say(swim, 2, Notice(record(1, boot=COUNT_MAX)), 1.0)

    assert ["identity"] == [fault.kind for fault in told(effects, Fault)]
    assert record(1) == swim.me

    say(swim, 2, Notice(record(1, 1, COUNT_MAX)), 1.1)
    assert record(1, boot=2) == swim.me


def test_an_outdated_notice_about_me_is_answered_with_what_i_am() -> None:
    """Its sender has missed my refutation."""
    swim = machine(record(2))
    say(swim, 2, Notice(suspect(1)), 1.0)
    effects = say(swim, 2, Notice(suspect(1)), 1.1)

    assert record(1, incarnation=1) in sent(effects, Gossip, peer(2))[0].rumors.records


def test_samples_survive_a_raise_of_my_boot_and_are_counted_once() -> None:
    """The old boot keeps its entry; the new one counts on from there."""
    swim = machine(record(2))
    swim.publish(100, b"L", Phase.TRAINING, 0.0)
    say(swim, 2, Notice(record(1, boot=3)), 0.1)
    assert 100 == swim.samples_total(b"L")

    swim.publish(130, b"L", Phase.TRAINING, 0.2)
    assert 130 == swim.samples_total(b"L")
    mine = swim.progress_of(peer(1))
    assert mine is not None
    assert (4, 30) == (mine.boot, mine.samples)

    swim.publish(5, b"M", Phase.TRAINING, 0.3)
    assert 5 == swim.samples_total(b"M")


def test_an_account_of_a_life_i_forgot_is_kept_and_mine_goes_beside_it() -> None:
    """A restart with an empty disk under the same boot number loses no sample."""
    swim = machine(record(2))
    forgotten = Gossip(Rumors((), (progress(1, boot=1, version=9, samples=40),)))
    say(swim, 2, forgotten, 0.1)
    swim.publish(2, b"L", Phase.TRAINING, 0.2)

    assert 42 == swim.samples_total(b"L")
    assert 2 == swim.me.boot


def test_no_lineage_has_no_samples() -> None:
    """Peers that wait for a model count for nobody."""
    swim = machine(record(2))
    swim.publish(5, NO_LINEAGE, Phase.JOINING, 0.0)

    assert 0 == swim.samples_total(NO_LINEAGE)
    assert Progress(peer(1), 1, 1, 5, NO_LINEAGE, Phase.JOINING) == swim.progress_of(peer(1))


def test_private_verdicts_are_about_live_members_only() -> None:
    """Whatever links of others do; and a member that returns starts with a clean slate."""
    swim = group(6)
    swim.link_lost(peer(4), LinkCause.REFUSED, 0.5)
    assert peer(4) not in swim.reachable()
    tell(swim, 2, record(4, status=Status.LEFT), now=0.6)
    tell(swim, 2, record(4, boot=2), now=0.7)

    assert peer(4) in swim.reachable()
    assert Reach.OPEN == swim._view.sightings.reach(peer(4))
