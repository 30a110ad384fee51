"""The membership machine, one dialogue at a time: entering, answering, leaving."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gossip.config import MembershipConfig
from gossip.machine import Dial, Fault, LinkCause, MemberChanged, Send, Tell, TurnedAway
from gossip.membership.known import Known
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import (
    Ack,
    Digest,
    Gossip,
    Hello,
    Nack,
    NackReason,
    Notice,
    Ping,
    PingReq,
    RefusalReason,
    Refused,
    Rumors,
    Segment,
    Status,
    Vouch,
    Welcome,
)
from tests.gossip.membership.claims import LAYOUT, down, peer, progress, record, undialable
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


def test_joining_dials_each_contact_but_not_myself() -> None:
    """And again every second until somebody answers."""
    swim = machine()
    own, other = record(1).control_address, record(2).control_address

    assert [Dial(None, other, "")] == swim.join((other, own, other), 0.0)
    assert [(1.0, Dial(None, other, "")), (2.0, Dial(None, other, ""))] == run(swim, 2.5)


def test_a_founder_without_contacts_asks_for_nothing_and_sleeps() -> None:
    """M25: nothing is due while there is nobody."""
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

    assert [] == sent(only(run(swim, 5.0, answering=(2, 3))), Hello)


def test_a_member_is_greeted_again_until_somebody_has_welcomed_me() -> None:
    """Its own greeting came, its welcome was lost: nobody else may ever tell me of the group."""
    swim = machine()
    swim.join((record(2).control_address,), 0.0)
    swim.link_up(peer(2), 0.1)
    say(swim, 2, hello(2, newcomer=False), 0.2)

    assert [peer(2)] == swim.live()
    again = sent(only(run(swim, 2.5, answering=(2,))), Hello, peer(2))
    assert [True, True] == [each.newcomer for each in again]

    swim.link_lost(peer(2), LinkCause.CLOSED, 2.6)
    assert [] == sent(only(run(swim, 3.5, answering=(2,))), Hello)
    assert 1 == len(sent(swim.link_up(peer(2), 3.6), Hello, peer(2)))
    assert 1 == len(sent(only(run(swim, 4.5, answering=(2,))), Hello, peer(2)))

    say(swim, 2, Welcome(Rumors((record(2), record(3))), LAYOUT, 1), 4.6)
    assert [] == sent(only(run(swim, 90.0, answering=(2, 3))), Hello)


def test_a_contact_that_is_a_member_is_not_dialed_as_a_contact_any_more() -> None:
    """A quiet group stays quiet."""
    swim = machine()
    swim.join((record(2).control_address,), 0.0)
    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 0.1)

    assert [] == dials(only(run(swim, 5.0, answering=(2,))))


def test_a_newcomer_is_told_everything_and_a_member_only_of_the_other() -> None:
    """Members that link know each other's neighbors already."""
    swim = machine(record(3))
    effects = say(swim, 2, hello(2), 1.0)

    assert Dial(peer(2), record(2).control_address, record(2).bulk_address) in effects
    assert [MemberChanged(record(2), "greeting")] == told(effects, MemberChanged)
    (welcome,) = sent(effects, Welcome, peer(2))
    assert (record(1), record(2), record(3)) == welcome.rumors.records
    assert progress(2) in welcome.rumors.progress
    assert [peer(2), peer(3)] == swim.live() == swim.reachable()

    (again,) = sent(say(swim, 2, hello(2, newcomer=False), 1.1), Welcome, peer(2))
    assert (record(1),) == again.rumors.records
    assert [peer(1)] == [each.peer for each in again.rumors.progress]


def test_who_was_welcomed_by_a_newcomer_is_told_of_the_group_as_soon_as_that_one_is() -> None:
    """Once; a founder, which nobody will welcome, has told all there is."""
    swim = machine()
    swim.join((record(3).control_address,), 0.0)
    say(swim, 2, hello(2), 0.1)
    say(swim, 4, hello(4, newcomer=False), 0.1)
    group_of_three = Welcome(Rumors((record(3), record(5))), LAYOUT, 1)
    effects = say(swim, 3, group_of_three, 0.2)

    (told_now,) = sent(effects, Gossip)
    assert [told_now] == sent(effects, Gossip, peer(2))
    assert {record(3), record(5)} <= set(told_now.rumors.records)
    assert [] == sent(say(swim, 3, group_of_three, 0.3), Gossip)

    founder = machine()
    say(founder, 2, hello(2), 0.1)
    assert [] == sent(say(founder, 3, group_of_three, 0.2), Gossip)


def test_i_am_a_newcomer_until_somebody_answers() -> None:
    """A peer that starts in the middle of a swarm never was one."""
    swim = machine()
    assert swim.hello().newcomer

    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 0.1)
    assert not swim.hello().newcomer

    known = Known.of((record(1), record(2)), CONFIG.observers, b"L")
    inside = Swim(record(1), Terms(LAYOUT), CONFIG, swim._rounds._rng, 0.0, known)
    assert not inside.hello().newcomer
    assert [peer(2)] == inside.live()
    assert b"L" == progress(2).lineage == inside.progress_of(peer(2)).lineage  # type: ignore[union-attr]  # just checked


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
    assert [] == swim.hear(peer(1), hello(1), 0.0)


def test_a_large_group_is_learned_from_one_welcome() -> None:
    """10,000 records at once, each told to the owner; a peer named twice or flawed is no reason to
    lose count, and the later claim about it wins."""
    swim = machine()
    many = [replace(record(9), peer=peer(number)) for number in range(2, 10_002)]
    twice = [replace(many[5], incarnation=2), replace(many[5], incarnation=1)]
    flawed = replace(record(3), peer=peer(10_003), boot=-1)
    welcome = Welcome(Rumors((*many, *twice, flawed, record(1))), LAYOUT, 1)
    effects = say(swim, 2, welcome, 0.1)

    assert 10_000 == swim.live_count() == len(swim.live())
    assert 10_000 == len(told(effects, MemberChanged))
    assert twice[0] == swim.record(many[5].peer)
    assert 10_001 == swim._roster._count == len(swim.records())
    assert 1 == len(told(effects, Fault))
    watched = swim.neighbors()
    assert 2 <= len(watched) <= CONFIG.observers
    assert all(peer(1) in swim.observers(each) for each in watched)
    assert watched == dials(only(run(swim, 2.0)))[: len(watched)]


def test_a_large_group_in_which_all_are_to_be_linked_is_dialed_at_once() -> None:
    """The limit of links is a choice."""
    swim = machine(config=MembershipConfig(links_max=2000))
    many = tuple(replace(record(9), peer=peer(number)) for number in range(2, 1002))
    effects = say(swim, 2, Welcome(Rumors(many), LAYOUT, 1), 0.1)

    assert swim.live() == sorted(each for each in dials(effects) if each is not None)


def test_a_ping_is_answered_with_my_life_and_incarnation() -> None:
    """Who knows another life of mine gets my record as well, and M8: I rise above a later one."""
    swim = machine(record(2))

    assert [Ack(5, 1, 0)] == sent(say(swim, 2, Ping(5, 1), 1.0), Ack, peer(2))
    assert [Notice(record(1))] == sent(say(swim, 2, Ping(6, 0), 1.0), Notice, peer(2))
    effects = say(swim, 2, Ping(7, 4), 1.0)
    assert [Notice(record(1, boot=5))] == sent(effects, Notice, peer(2))
    assert [Ack(7, 5, 0)] == sent(effects, Ack, peer(2))


def test_a_fellow_is_told_what_became_of_a_favor() -> None:
    """Vouch with the life that answered, or Nack and why not."""
    swim = machine(record(2), record(3))
    (favor,) = sent(say(swim, 2, PingReq(5, peer(3), 1, 1.0), 1.0), Ping, peer(3))
    assert [Vouch(5, peer(3), 1, 0)] == sent(
        say(swim, 3, Ack(favor.probe, 1, 0), 1.1), Vouch, peer(2)
    )

    say(swim, 2, PingReq(6, peer(3), 1, 1.0), 2.0)
    effects = only(run(swim, 4.0, answering=(2,)))
    assert [Nack(6, peer(3), NackReason.TIMEOUT)] == sent(effects, Nack, peer(2))

    swim.link_up(peer(3), 4.1)
    say(swim, 2, PingReq(7, peer(3), 1, 1.0), 4.2)
    run(swim, 4.9)
    effects = only(run(swim, 9.0, answering=(2,)))
    assert [Nack(7, peer(3), NackReason.BUSY)] == sent(effects, Nack, peer(2))


def test_a_fellow_that_asks_too_much_or_absurdly_is_told_so() -> None:
    """LIMIT says nothing of the subject; a time that no honest peer gives is a fault."""
    swim = machine(record(2), record(3))
    for number in range(64):
        assert [] == sent(say(swim, 2, PingReq(number, peer(3), 1, 1.0), 1.0), Nack)
    effects = say(swim, 2, PingReq(64, peer(3), 1, 1.0), 1.0)
    assert [Nack(64, peer(3), NackReason.LIMIT)] == sent(effects, Nack, peer(2))

    effects = say(swim, 2, PingReq(65, peer(3), 1, math.nan), 1.0)
    assert ["probe"] == [each.kind for each in told(effects, Fault)]
    assert [] == sent(effects, Nack)


def test_a_fellow_that_asks_about_nobody_or_about_me_is_answered_at_once() -> None:
    """With the verdict, if it missed that; asked about myself, I vouch."""
    swim = machine(record(2), record(3), record(4))
    bury(swim, 3, 2, 4, by=2, now=0.0)
    run(swim, 3.0)

    assert [Nack(5, peer(9), NackReason.UNKNOWN)] == sent(
        say(swim, 2, PingReq(5, peer(9), 1, 1.0), 3.0), Nack, peer(2)
    )
    effects = say(swim, 2, PingReq(6, peer(3), 1, 1.0), 3.0)
    assert [Nack(6, peer(3), NackReason.UNKNOWN)] == sent(effects, Nack, peer(2))
    assert down(3) in sent(effects, Gossip, peer(2))[0].rumors.records
    assert [Vouch(7, peer(1), 1, 0)] == sent(
        say(swim, 2, PingReq(7, peer(1), 1, 1.0), 3.0), Vouch, peer(2)
    )


def test_a_peer_that_cannot_be_dialed_is_reached_once_it_has_dialed_me() -> None:
    """It is never dialed; nobody is sent to it for a swap before a word of it came."""
    swim = machine(record(3))
    effects = tell(swim, 3, undialable(2), now=1.0)
    assert [] == dials(effects)
    assert [peer(2), peer(3)] == swim.live()
    assert [peer(3)] == swim.reachable()

    greeting = replace(hello(2), record=undialable(2))
    effects = say(swim, 2, greeting, 1.5)

    assert [] == dials(effects)
    assert [peer(2), peer(3)] == swim.reachable()
    assert [peer(2)] == [each.to for each in effects if isinstance(each, Send)]


def test_who_only_dials_out_and_watches_me_no_longer_is_told_that_we_differ() -> None:
    """It pings whom it knows: those who watch it now cannot come to it to say so."""
    swim = machine(*map(record, range(3, 60)), undialable(2))
    apart = next(each for each in range(3, 60) if peer(each) not in swim.neighbors())
    assert peer(2) not in swim.neighbors()

    (digest,) = sent(say(swim, 2, Ping(1, 1), 1.0), Digest, peer(2))
    assert [] == sent(say(swim, apart, Ping(1, 1), 1.1), Digest)
    swim = machine(*map(record, range(3, 6)), undialable(2))
    assert [] == sent(say(swim, 2, Ping(1, 1), 1.0), Digest)
    assert len(digest.buckets) > 1000


@pytest.mark.parametrize("cause", list(LinkCause))
def test_losing_the_link_of_a_stranger_is_nothing(cause: LinkCause) -> None:
    """Nor of one that has left."""
    swim = machine(record(2), record(2, status=Status.LEFT))

    assert [] == swim.link_lost(peer(2), cause, 1.0)
    assert [] == swim.link_lost(peer(3), cause, 1.0)


def test_leaving_tells_every_live_member_at_once_and_is_final() -> None:
    """M19: no probe and no trial follows, even if others ask for one; nothing about me is refuted
    any more; the farewell is passed on for a while, then there is silence."""
    swim = group(5)
    bury(swim, 4, 2, 3, 5, by=2, now=0.5)
    run(swim, 3.0, answering=(2, 3, 5))
    effects = swim.leave(3.0)

    assert [peer(2), peer(3), peer(5)] == [
        each.to
        for each in effects
        if isinstance(each, Send)
        and isinstance(each.message, Gossip)
        and record(1, status=Status.LEFT) in each.message.rumors.records
    ]
    assert [] == swim.leave(3.1)
    tell(swim, 2, record(1, incarnation=3, status=Status.DOWN), now=3.2)
    assert Status.LEFT == swim.me.status
    accused = say(
        swim,
        2,
        Gossip(Rumors((record(3, status=Status.SUSPECT),), (), ())),
        3.9,
    )
    later = accused + only(run(swim, 200.0))
    assert [] == sent(later, Ping) + told(later, MemberChanged)
    farewells = [each for each in sent(later, Gossip) if swim.me in each.rumors.records]
    assert 0 < len(farewells) <= CONFIG.transmissions_factor
    assert math.inf == swim.deadline() or swim.deadline() > 3600
    assert [Notice(swim.me)] == sent(say(swim, 2, Ping(1, 1), 201.0), Notice, peer(2))
    assert [] == swim.link_up(peer(2), 201.0)
