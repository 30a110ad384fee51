"""The membership machine, one dialogue at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import (
    Dial,
    Fault,
    Hangup,
    LinkCause,
    MemberChanged,
    Persist,
    Send,
    Tell,
    TurnedAway,
)
from gossip.membership.records import COUNT_MAX
from gossip.messages import (
    NO_LINEAGE,
    Ack,
    Gossip,
    Hello,
    MembershipMessage,
    Notice,
    Phase,
    Ping,
    Progress,
    Record,
    RefusalReason,
    Refused,
    Rumors,
    Segment,
    Status,
    Sync,
    Welcome,
)
from tests.gossip.membership import claims
from tests.gossip.membership.claims import LAYOUT, peer, progress, record
from tests.gossip.membership.dialogue import CONFIG, carried, machine, only, run, say, sent, told

SUSPICION_S = CONFIG.suspicion_s(2)


def hello(number: int, boot: int = 1) -> Hello:
    """The greeting of the numbered peer."""
    return Hello(record(number, boot=boot), progress(number, boot=boot), LAYOUT, 1)


# -------------------------------------------------------------------- joining and greeting


def test_joining_dials_each_contact_but_not_myself() -> None:
    """And again every second until somebody answers."""
    swim = machine()
    own, other = record(1).control_address, record(2).control_address

    assert [Dial(None, other, "")] == swim.join((other, own, other), 0.0)
    assert [(1.0, Dial(None, other, "")), (2.0, Dial(None, other, ""))] == run(swim, 2.5)


def test_a_founder_without_contacts_asks_for_nothing_and_sleeps() -> None:
    """Nothing is due while there is nobody."""
    swim = machine()

    assert [] == swim.join((), 0.0)
    assert math.inf == swim.deadline()


def test_a_stranger_is_greeted_again_until_it_is_a_member() -> None:
    """Even when somebody else has welcomed me: that may be another newcomer."""
    swim = machine()
    swim.join((record(2).control_address,), 0.0)

    assert 1 == len(sent(swim.link_up(peer(2), 0.1), Hello, peer(2)))

    say(swim, 3, Welcome(Rumors((record(3),)), LAYOUT, 1), 0.2)

    assert 2 == len(sent(only(run(swim, 2.0)), Hello, peer(2)))

    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 2.1)

    assert [] == sent(only(run(swim, 5.0)), Hello)


def test_a_contact_that_is_a_member_is_not_dialed_as_a_contact_any_more() -> None:
    """A quiet group stays quiet."""
    swim = machine()
    swim.join((record(2).control_address,), 0.0)
    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 0.1)

    assert [] == [each for each in only(run(swim, 5.0)) if isinstance(each, Dial)]


def test_a_greeting_is_answered_with_everything_known() -> None:
    """And the newcomer is dialed and told to the owner."""
    swim = machine(record(3))
    effects = say(swim, 2, hello(2), 1.0)

    assert Dial(peer(2), record(2).control_address, record(2).bulk_address) in effects
    assert [MemberChanged(record(2), "greeting")] == told(effects, MemberChanged)
    (welcome,) = sent(effects, Welcome, peer(2))
    assert (record(1), record(2), record(3)) == welcome.rumors.records
    assert progress(2) in welcome.rumors.progress
    assert [peer(2), peer(3)] == swim.live() == swim.reachable()


def test_another_layout_is_refused_with_both_digests_and_not_merged() -> None:
    """A peer with another model must not count as a member."""
    swim = machine()
    effects = say(swim, 2, replace(hello(2), layout_digest=b"\xab\xcd"), 1.0)

    (refusal,) = sent(effects, Refused, peer(2))
    assert RefusalReason.LAYOUT == refusal.reason
    assert "abcd" in refusal.detail
    assert LAYOUT.hex() in refusal.detail
    assert ["layout"] == [fault.kind for fault in told(effects, Fault)]
    assert [record(1)] == swim.records()


def test_nobody_is_greeted_in_the_name_of_another() -> None:
    """A Hello speaks for its sender."""
    swim = machine()

    assert ["greeting"] == [each.kind for each in told(say(swim, 3, hello(2), 1.0), Fault)]
    assert [record(1)] == swim.records()


def test_a_welcome_from_another_layout_is_ignored() -> None:
    """With a fault."""
    swim = machine()
    effects = say(swim, 2, Welcome(Rumors((record(2),)), b"other", 1), 1.0)

    assert ["layout"] == [fault.kind for fault in told(effects, Fault)]
    assert [] == swim.live()


def test_a_peer_that_cuts_the_model_otherwise_is_refused_in_words() -> None:
    """Both numbers are named, whoever greets; it never becomes a member."""
    swim = machine()
    effects = say(swim, 2, replace(hello(2), fragments=4), 1.0)

    (refusal,) = sent(effects, Refused, peer(2))
    assert RefusalReason.SETTINGS == refusal.reason
    assert "cut into 4 fragments, mine into 1" in refusal.detail
    assert () == refusal.segments
    assert ["settings"] == [fault.kind for fault in told(effects, Fault)]
    assert [record(1)] == swim.records()

    effects = say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 4), 1.0)
    assert ["settings"] == [fault.kind for fault in told(effects, Fault)]
    assert [record(1)] == swim.records()


def test_a_refusal_is_told_and_ends_the_hasty_joining() -> None:
    """The owner learns which segments the other has."""
    swim = machine()
    swim.join((record(2).control_address,), 0.0)
    swim.link_up(peer(2), 0.1)
    segments = (Segment("weight", (2, 3), "float32"),)
    effects = say(swim, 2, Refused(RefusalReason.LAYOUT, "differs", segments), 0.2)

    assert [Tell(TurnedAway(peer(2), "differs", segments, RefusalReason.LAYOUT))] == effects
    assert [] == sent(only(run(swim, 10.0)), Hello)


def test_a_message_from_myself_is_nothing() -> None:
    """A contact address may lead back here."""
    swim = machine()

    assert [] == swim.link_up(peer(1), 0.0)
    assert [] == say(swim, 1, hello(1), 0.0)


# -------------------------------------------------------------------- claims


@given(st.data())
def test_the_order_and_repetition_of_claims_do_not_matter(data: st.DataObject) -> None:
    """M3: any permutation with any duplication gives the same records and accounts."""
    others = st.integers(2, 4)
    records = data.draw(st.lists(claims.records(others), max_size=10))
    accounts = data.draw(st.lists(claims.accounts(others), max_size=6))
    first, second = machine(), machine()
    for each in records:
        say(first, 9, Gossip(Rumors((each,))), 0.1)
    say(first, 9, Gossip(Rumors((), tuple(accounts))), 0.1)
    for account in data.draw(st.permutations(accounts + accounts)):
        say(second, 9, Gossip(Rumors((), (account,))), 0.1)
    for again in data.draw(st.permutations(records + records[:4])):
        say(second, 9, Gossip(Rumors((again,))), 0.1)

    assert first.records() == second.records()
    assert first.live() == second.live()
    assert [first.progress_of(peer(n)) for n in (2, 3, 4)] == [
        second.progress_of(peer(n)) for n in (2, 3, 4)
    ]
    assert first.samples_total(b"L") == second.samples_total(b"L")


@pytest.mark.parametrize("status", [Status.DOWN, Status.LEFT])
def test_nobody_comes_back_without_a_larger_incarnation_or_boot(status: Status) -> None:
    """M5: a late ALIVE or SUSPECT changes nothing; a later life does, and is dialed."""
    swim = machine(
        record(2, boot=2, incarnation=3), record(2, boot=2, incarnation=3, status=status)
    )
    for stale in (
        record(2, boot=2, incarnation=3),
        record(2, boot=2, incarnation=3, status=Status.SUSPECT),
        record(2, boot=1, incarnation=9),
    ):
        effects = say(swim, 3, Gossip(Rumors((stale,))), 1.0)
        assert [] == told(effects, MemberChanged)
        assert [] == swim.live()

    for later in (record(2, boot=2, incarnation=4), record(2, boot=3)):
        effects = say(swim, 3, Gossip(Rumors((later,))), 2.0)
        assert Dial(peer(2), later.control_address, later.bulk_address) in effects
        assert [peer(2)] == swim.live()


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DOWN, Status.LEFT])
def test_a_wrong_claim_about_me_is_refuted_at_once(status: Status) -> None:
    """Who says it hears the refutation directly, the others as a rumor."""
    swim = machine(record(2))
    effects = say(swim, 2, Gossip(Rumors((record(1, incarnation=4, status=status),))), 1.0)

    assert record(1, incarnation=5) == swim.me
    assert swim.me in sent(effects, Gossip, peer(2))[0].rumors.records
    assert swim.me in sent(only(run(swim, 1.3)), Gossip)[0].rumors.records


def test_a_claim_i_have_already_refuted_does_not_raise_me_again() -> None:
    """Else an old rumor would go round for ever."""
    swim = machine(record(2))
    suspect = record(1, status=Status.SUSPECT)
    say(swim, 2, Gossip(Rumors((suspect,))), 1.0)
    effects = say(swim, 2, Gossip(Rumors((suspect, record(1)))), 1.1)

    assert record(1, incarnation=1) == swim.me
    assert [] == sent(effects, Gossip)


def test_the_same_key_with_another_address_is_outdone() -> None:
    """M6: two records with one key may not stand."""
    swim = machine(record(2))
    say(swim, 2, Gossip(Rumors((replace(record(1), control_address="10.9.9.9:1"),))), 1.0)

    assert record(1, incarnation=1) == swim.me


@pytest.mark.parametrize("status", list(Status))
def test_a_life_i_forgot_makes_me_raise_my_boot(status: Status) -> None:
    """M8: after a restart with an empty disk."""
    swim = machine(record(2))
    say(swim, 2, Notice(record(1, boot=7, incarnation=2, status=status)), 1.0)

    assert record(1, boot=8) == swim.me


def test_a_forged_claim_at_the_end_of_the_counts_is_a_fault() -> None:
    """There is nothing above it to rise to; my record stays as it is."""
    swim = machine(record(2))
    effects = say(swim, 2, Notice(record(1, boot=COUNT_MAX)), 1.0)

    assert ["identity"] == [fault.kind for fault in told(effects, Fault)]
    assert record(1) == swim.me


def test_who_speaks_with_an_outdated_record_of_itself_is_told() -> None:
    """Else a peer that restarted with an old boot would never be heard again."""
    swim = machine(record(2, boot=5))
    effects = say(swim, 2, hello(2, boot=4), 1.0)

    assert [Notice(record(2, boot=5))] == sent(effects, Notice, peer(2))


def test_an_outdated_notice_about_me_is_answered_with_what_i_am() -> None:
    """Its sender has missed my refutation."""
    swim = machine(record(2))
    say(swim, 2, Notice(record(1, status=Status.SUSPECT)), 1.0)
    effects = say(swim, 2, Notice(record(1, status=Status.SUSPECT)), 1.1)

    assert record(1, incarnation=1) in sent(effects, Gossip, peer(2))[0].rumors.records


def test_who_doubts_a_member_that_has_refuted_is_corrected() -> None:
    """Before its doubt ends in a false verdict."""
    swim = machine(record(2), record(3, incarnation=1))
    effects = say(swim, 2, Gossip(Rumors((record(3, status=Status.SUSPECT),))), 1.0)

    assert [Gossip(Rumors((record(3, incarnation=1),)))] == sent(effects, Gossip, peer(2))


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
    """A record over the limit is refused with a fault; known members still change."""
    swim = machine(record(2), config=MembershipConfig(members_max=2))
    effects = say(swim, 2, Gossip(Rumors((record(3), record(2, incarnation=1)))), 1.0)

    assert ["limit"] == [fault.kind for fault in told(effects, Fault)]
    assert [record(1), record(2, incarnation=1)] == swim.records()


LINEAGES = st.binary(max_size=80)
ABSURD_RECORDS = st.builds(
    Record,
    peer=st.sampled_from([peer(1), peer(2), peer(3), "", "x" * 16]),
    boot=st.integers(),
    incarnation=st.integers(),
    status=st.sampled_from(Status),
    control_address=st.text(max_size=300),
    bulk_address=st.text(),
    host=st.text(),
    capacity=st.floats(),
)
ABSURD_ACCOUNTS = st.builds(
    Progress,
    peer=st.sampled_from([peer(1), peer(2), peer(3), "", "x" * 16]),
    boot=st.integers(),
    version=st.integers(),
    samples=st.integers(),
    lineage=LINEAGES,
    phase=st.sampled_from(Phase),
)
ABSURD_RUMORS = st.builds(
    Rumors,
    st.lists(ABSURD_RECORDS, max_size=3).map(tuple),
    st.lists(ABSURD_ACCOUNTS, max_size=3).map(tuple),
)
MESSAGES: st.SearchStrategy[MembershipMessage] = st.one_of(
    st.builds(Hello, ABSURD_RECORDS, ABSURD_ACCOUNTS, st.sampled_from([LAYOUT, b"", b"x" * 99])),
    st.builds(Welcome, ABSURD_RUMORS, st.sampled_from([LAYOUT, b""])),
    st.builds(Refused, st.sampled_from(RefusalReason), st.text()),
    st.builds(Ping, st.integers(), st.integers(), ABSURD_RUMORS),
    st.builds(Ack, st.integers(), st.integers(), st.integers(), ABSURD_RUMORS),
    st.builds(Gossip, ABSURD_RUMORS),
    st.builds(Sync, ABSURD_RUMORS, st.booleans()),
    st.builds(Notice, ABSURD_RECORDS),
)


@given(st.lists(st.tuples(st.integers(1, 4), MESSAGES, st.floats(0, 3)), max_size=12))
def test_nothing_heard_raises_lowers_a_key_or_takes_me_down(
    heard: list[tuple[int, MembershipMessage, float]],
) -> None:
    """M2, M7: whatever arrives, my record is alive and no known key falls."""
    swim, now = machine(record(2)), 0.0
    keys = {each.peer: each.key for each in swim.records()}
    for sender, message, wait_s in heard:
        now += wait_s
        say(swim, sender, message, now)
        swim.wake(now)
        for known in swim.records():
            assert known.key >= keys.get(known.peer, known.key)
            keys[known.peer] = known.key
        assert Status.ALIVE == swim.me.status


# -------------------------------------------------------------------- probing and suspicion


def test_a_silent_member_is_suspected_then_down_in_time() -> None:
    """Never before its doubt has run, and its link is closed then."""
    swim = machine(record(2))
    effects = run(swim, 20.0)

    first_probe_at = next(at for at, each in effects if sent([each], Ping))
    changes = [(at, each) for at, effect in effects for each in told([effect], MemberChanged)]
    suspected_at = first_probe_at + CONFIG.probe_timeout_s
    suspect, down = record(2, status=Status.SUSPECT), record(2, status=Status.DOWN)
    assert [
        MemberChanged(suspect, "no answer to a probe"),
        MemberChanged(down, "suspicion ran out"),
    ] == [change for _, change in changes]
    assert [suspected_at, suspected_at + SUSPICION_S] == pytest.approx([at for at, _ in changes])
    assert Hangup(peer(2)) in only(effects)
    assert [] == swim.live()


def test_an_answered_probe_accuses_nobody() -> None:
    """Any message in time will do."""
    swim = machine(record(2))
    for second in range(1, 30):
        run(swim, second / 2)
        swim.heard_from(peer(2), second / 2)

    assert record(2) == swim.record(peer(2))


def test_a_rumored_suspect_is_called_down_by_my_own_clock() -> None:
    """Whoever hears of the suspicion counts for itself."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))

    run(swim, SUSPICION_S - 0.01)
    assert [peer(2)] == swim.live()
    assert [] == swim.reachable()

    run(swim, SUSPICION_S)
    assert [] == swim.live()


def test_a_suspect_that_speaks_is_told_at_once_and_not_cleared_by_it() -> None:
    """Only its refutation clears it; the notice is not repeated for every message."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))
    swim.heard_from(peer(2), 0.1)

    assert 0.1 == swim.deadline()
    assert [Notice(record(2, status=Status.SUSPECT))] == sent(swim.wake(0.1), Notice, peer(2))
    assert [] == sent(say(swim, 2, Gossip(Rumors()), 0.2), Notice)
    assert Status.SUSPECT == swim.records()[1].status

    say(swim, 2, Gossip(Rumors((record(2, incarnation=1),))), 0.3)

    assert [peer(2)] == swim.reachable()


def test_a_refutation_in_the_inbox_wins_over_a_doubt_that_is_due() -> None:
    """M18: the inbox is heard before timers."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))
    run(swim, SUSPICION_S - 0.1)
    say(swim, 2, Gossip(Rumors((record(2, incarnation=1),))), SUSPICION_S + 0.1)
    effects = swim.wake(SUSPICION_S + 0.1)

    assert [] == told(effects, MemberChanged)
    assert [peer(2)] == swim.reachable()


def test_an_ack_carries_a_refutation() -> None:
    """A higher incarnation from the peer itself clears the suspicion; an equal one does not."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))
    say(swim, 2, Ack(1, 1, 0), 0.1)
    assert [] == swim.reachable()

    say(swim, 2, Ack(1, 1, 1), 0.2)
    assert [peer(2)] == swim.reachable()


def test_a_suspect_is_asked_before_the_verdict() -> None:
    """Rumors may have missed me; the suspect itself knows best."""
    swim = machine(record(2), *(record(number) for number in range(3, 30)))
    say(swim, 3, Gossip(Rumors((record(2, status=Status.SUSPECT),))), 0.0)

    assert len(sent(only(run(swim, CONFIG.suspicion_s(29) - 0.1)), Ping, peer(2))) >= 2


@pytest.mark.parametrize("cause", list(LinkCause))
def test_a_lost_link_ends_swaps_and_probes_at_once(cause: LinkCause) -> None:
    """Refused means that the process is gone: suspected at once, but never down at once."""
    swim = machine(record(2))
    effects = swim.link_lost(peer(2), cause, 1.0)

    assert 1 == len(sent(effects, Ping, peer(2)))
    assert [] == swim.reachable()
    assert [peer(2)] == swim.live()
    expected = Status.SUSPECT if cause == LinkCause.REFUSED else Status.ALIVE
    assert expected == swim.records()[1].status


def test_a_lost_link_is_restored_by_an_ack_to_a_later_probe_only() -> None:
    """An Ack that was on its way when the link broke proves nothing."""
    swim = machine(record(2))
    (early,) = sent(only(run(swim, 1.0)), Ping, peer(2))
    (late,) = sent(swim.link_lost(peer(2), LinkCause.CLOSED, 1.0), Ping, peer(2))

    say(swim, 2, Ack(early.probe, 1, 0), 1.1)
    assert [] == swim.reachable()

    say(swim, 2, Ack(late.probe + 1, 1, 0), 1.1)
    assert [] == swim.reachable()

    say(swim, 2, Ack(late.probe, 1, 0), 1.1)
    assert [peer(2)] == swim.reachable()


def test_a_new_link_makes_a_member_reachable_again() -> None:
    """It is greeted, too."""
    swim = machine(record(2))
    swim.link_lost(peer(2), LinkCause.SILENT, 1.0)

    assert 1 == len(sent(swim.link_up(peer(2), 1.1), Hello, peer(2)))
    assert [peer(2)] == swim.reachable()


def test_losing_the_link_of_a_stranger_is_nothing() -> None:
    """Nor of one that has left."""
    swim = machine(record(2), record(2, status=Status.LEFT))

    assert [] == swim.link_lost(peer(2), LinkCause.REFUSED, 1.0)
    assert [] == swim.link_lost(peer(3), LinkCause.REFUSED, 1.0)


def test_a_ping_is_answered_with_my_life_and_incarnation() -> None:
    """Who knows another life of mine gets my record as well."""
    swim = machine(record(2))

    assert [Ack(5, 1, 0)] == [
        replace(each, rumors=Rumors()) for each in sent(say(swim, 2, Ping(5, 1), 1.0), Ack, peer(2))
    ]
    assert [Notice(record(1))] == sent(say(swim, 2, Ping(6, 0), 1.0), Notice, peer(2))
    assert [Notice(record(1, boot=5))] == sent(say(swim, 2, Ping(7, 4), 1.0), Notice, peer(2))


def test_a_starved_peer_gives_suspects_the_time_it_was_away() -> None:
    """M17: it could not hear their refutations."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))
    run(swim, 1.0)
    woke_at = 31.0
    changes = told(swim.wake(woke_at), MemberChanged)

    assert [] == changes
    assert [peer(2)] == swim.live()

    downs = [
        at
        for at, each in run(swim, 60.0)
        if [Status.DOWN] == [change.record.status for change in told([each], MemberChanged)]
    ]
    assert [pytest.approx(woke_at + SUSPICION_S - 1.0, abs=CONFIG.probe_interval_s)] == downs


def test_a_starved_peer_voids_the_probes_it_could_not_hear_answered() -> None:
    """And a timely one does not."""
    swim = machine(record(2))
    while not sent(swim.wake(swim.deadline()), Ping):
        pass

    assert [] == told(swim.wake(swim.deadline() + 2.5), MemberChanged)
    assert Status.ALIVE == swim.records()[1].status


def test_a_late_message_flood_is_not_mistaken_for_starvation() -> None:
    """Timers may wait for a full inbox: only silence of inputs counts as a gap."""
    swim = machine(record(2), record(2, status=Status.SUSPECT))
    run(swim, 1.0)
    for tenth in range(10, 100):
        swim.heard_from(peer(3), tenth / 10)

    assert [Status.DOWN] == [each.record.status for each in told(swim.wake(10.0), MemberChanged)]


# -------------------------------------------------------------------- leaving, the down, the past


def test_leaving_tells_every_live_member_at_once_and_is_final() -> None:
    """Suspects are told too; no probe follows; nothing about me is refuted any more."""
    swim = machine(record(2), record(3), record(3, status=Status.SUSPECT), record(4))
    say(swim, 2, Gossip(Rumors((record(4, status=Status.DOWN),))), 0.5)
    effects = swim.leave(1.0)

    assert [peer(2), peer(3)] == [
        each.to
        for each in effects
        if isinstance(each, Send)
        and isinstance(each.message, Gossip)
        and record(1, status=Status.LEFT) in each.message.rumors.records
    ]
    assert [] == swim.leave(1.1)
    say(swim, 2, Gossip(Rumors((record(1, incarnation=3, status=Status.DOWN),))), 1.2)
    assert Status.LEFT == swim.me.status
    later = only(run(swim, 60.0))
    assert [] == sent(later, Ping) + told(later, MemberChanged)
    assert {Gossip} == {type(each.message) for each in later if isinstance(each, Send)}
    assert [Notice(swim.me)] == sent(say(swim, 2, Ping(1, 1), 61.0), Notice, peer(2))


def test_one_down_member_is_greeted_again_now_and_then() -> None:
    """So that splits heal; a member that left is not."""
    swim = machine(
        record(2), record(2, status=Status.DOWN), record(3), record(3, status=Status.LEFT)
    )
    effects = only(run(swim, 2 * CONFIG.probe_down_interval_s + 0.1))

    knocks = [each for each in effects if isinstance(each, Dial)]
    assert 2 == len(knocks)
    assert {Dial(peer(2), record(2).control_address, record(2).bulk_address)} == set(knocks)
    assert 2 == len(sent(effects, Hello, peer(2))) == len(sent(effects, Hello))
    assert 1 == effects.count(Hangup(peer(2)))


def test_a_tombstone_is_forgotten_in_the_end() -> None:
    """The number of peers ever met does not matter."""
    swim = machine(
        record(2),
        record(2, status=Status.LEFT),
        config=MembershipConfig(tombstone_s=60.0),
    )
    run(swim, 59.9)
    assert Status.LEFT == swim.records()[1].status

    run(swim, 60.0)
    assert [record(1)] == swim.records()


def test_a_moved_or_restarted_member_is_dialed_again() -> None:
    """A refutation alone does not touch its link."""
    swim = machine(record(2))
    moved = replace(record(2, incarnation=2), control_address="10.9.9.9:1")

    for claim, dials in ((record(2, incarnation=1), 0), (moved, 1), (record(2, boot=2), 1)):
        effects = say(swim, 2, Gossip(Rumors((claim,))), 1.0)
        assert dials == len([each for each in effects if isinstance(each, Dial)])


def test_a_member_without_an_address_is_not_dialed() -> None:
    """It dials us."""
    swim = machine()
    silent = replace(record(2), control_address="", bulk_address="")

    assert [Tell(MemberChanged(silent, "gossip"))] == say(swim, 2, Gossip(Rumors((silent,))), 1.0)


def test_the_addresses_of_live_members_are_kept_for_the_next_start() -> None:
    """Sorted, when they change; when all are gone the last ones are better than none."""
    swim = machine(record(3), record(2))
    two = (record(2).control_address, record(3).control_address)

    assert [Persist(two)] == [each for each in only(run(swim, 0.3)) if isinstance(each, Persist)]

    say(swim, 3, Gossip(Rumors((record(3, status=Status.LEFT),))), 0.4)
    kept = [each for each in only(run(swim, 30.0)) if isinstance(each, Persist)]

    assert [Persist(two[:1])] == kept


# -------------------------------------------------------------------- spreading


def test_news_goes_out_a_bounded_number_of_times_then_there_is_silence() -> None:
    """4 ceil(log10(N + 1)) copies of a claim, at most three at a time."""
    swim = machine(*(record(number) for number in range(2, 10)))
    run(swim, 30.0)
    say(swim, 2, Gossip(Rumors((record(2, incarnation=1),))), 30.0)
    copies = [
        at
        for at, each in run(swim, 32.0)
        for rumors in carried([each])
        if record(2, incarnation=1) in rumors.records
    ]

    assert 4 == len(copies)
    assert max(copies) < 31


def test_what_the_first_welcome_teaches_is_no_news() -> None:
    """The whole group knows it already; what a later one teaches joins two swarms."""
    swim = machine()
    say(swim, 2, Welcome(Rumors((record(2), record(3)), (progress(2),)), LAYOUT, 1), 0.1)
    assert [] == sent(only(run(swim, 0.5)), Gossip)

    say(swim, 2, Welcome(Rumors((record(2), record(4))), LAYOUT, 1), 0.5)
    assert {record(4)} == {
        claim for rumors in carried(only(run(swim, 0.8))) for claim in rumors.records
    }


def test_a_sync_is_answered_with_everything_and_answers_are_not() -> None:
    """Both sides end with the same claims."""
    swim = machine(record(2), record(3))
    effects = say(swim, 2, Sync(Rumors((record(4),)), True), 1.0)

    (answer,) = sent(effects, Sync, peer(2))
    assert not answer.reply_wanted
    assert (record(1), record(2), record(3), record(4)) == answer.rumors.records
    assert [] == sent(say(swim, 2, Sync(Rumors(), False), 1.0), Sync)


def test_publishing_raises_the_version_and_reaches_the_others() -> None:
    """A new lineage or phase is news at once, a mere count once an interval, no change never."""
    swim = machine(record(2))
    run(swim, 5.0)
    for samples in (10, 20, 30):
        swim.publish(samples, b"L", Phase.TRAINING, 5.0)
    counted = [
        (at, each.samples)
        for at, effect in run(swim, 6.9)
        for message in sent([effect], Gossip)
        for each in message.rumors.progress
        if each.peer == peer(1)
    ]

    assert [10, 30] == list(dict.fromkeys(samples for _, samples in counted))
    assert counted[0][0] == pytest.approx(5.0 + CONFIG.gossip_interval_s)
    assert Progress(peer(1), 1, 3, 30, b"L", Phase.TRAINING) == swim.progress_of(peer(1))
    assert 30 == swim.samples_total(b"L")

    swim.publish(30, b"L", Phase.TRAINING, 7.0)
    assert Progress(peer(1), 1, 3, 30, b"L", Phase.TRAINING) == swim.progress_of(peer(1))


def test_a_count_that_rises_all_the_time_is_news_once_an_interval() -> None:
    """A hundred publishes a second must not be a hundred rumors."""
    swim = machine(record(2))
    swim.publish(0, b"L", Phase.TRAINING, 0.0)
    versions: list[int] = []
    for step in range(1, 1000):
        now = step / 100
        for effect in only(run(swim, now)):
            for rumors in carried([effect]):
                versions += [each.version for each in rumors.progress]
        swim.publish(step, b"L", Phase.TRAINING, now)
        swim.heard_from(peer(2), now)

    assert 10 == pytest.approx(len(dict.fromkeys(versions)), abs=1)


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
    say(swim, 2, Gossip(Rumors((), (progress(1, boot=1, version=9, samples=40),))), 0.1)
    swim.publish(2, b"L", Phase.TRAINING, 0.2)

    assert 42 == swim.samples_total(b"L")
    assert 2 == swim.me.boot


def test_no_lineage_has_no_samples() -> None:
    """Peers that wait for a model count for nobody."""
    swim = machine(record(2))
    swim.publish(5, NO_LINEAGE, Phase.JOINING, 0.0)

    assert 0 == swim.samples_total(NO_LINEAGE)
