"""The membership machine, one dialogue at a time: entering, answering, leaving."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import Dial, Effect, Fault, LinkCause, MemberChanged, Send, Tell, TurnedAway
from gossip.membership.known import Known
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import (
    Ack,
    Diff,
    Digest,
    Evidence,
    Gossip,
    Hello,
    Lookup,
    MembershipMessage,
    Nack,
    NackReason,
    Notice,
    Phase,
    Ping,
    PingReq,
    Progress,
    Record,
    RefusalReason,
    Refused,
    Rumors,
    Segment,
    Status,
    Version,
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

# -------------------------------------------------------------------- entering


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


# -------------------------------------------------------------------- answering


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
    (favor,) = sent(say(swim, 2, PingReq(5, peer(3), 1), 1.0), Ping, peer(3))
    assert [Vouch(5, peer(3), 1, 0)] == sent(
        say(swim, 3, Ack(favor.probe, 1, 0), 1.1), Vouch, peer(2)
    )

    say(swim, 2, PingReq(6, peer(3), 1), 2.0)
    effects = only(run(swim, 4.0, answering=(2,)))
    assert [Nack(6, peer(3), NackReason.TIMEOUT)] == sent(effects, Nack, peer(2))

    swim.link_up(peer(3), 4.1)
    say(swim, 2, PingReq(7, peer(3), 1), 4.2)
    run(swim, 4.9)
    effects = only(run(swim, 9.0, answering=(2,)))
    assert [Nack(7, peer(3), NackReason.BUSY)] == sent(effects, Nack, peer(2))


def test_a_fellow_that_asks_about_nobody_or_about_me_is_answered_at_once() -> None:
    """With the verdict, if it missed that; asked about myself, I vouch."""
    swim = machine(record(2), record(3), record(4))
    bury(swim, 3, 2, 4, by=2, now=0.0)
    run(swim, 3.0)

    assert [Nack(5, peer(9), NackReason.UNKNOWN)] == sent(
        say(swim, 2, PingReq(5, peer(9), 1), 3.0), Nack, peer(2)
    )
    effects = say(swim, 2, PingReq(6, peer(3), 1), 3.0)
    assert [Nack(6, peer(3), NackReason.UNKNOWN)] == sent(effects, Nack, peer(2))
    assert down(3) in sent(effects, Gossip, peer(2))[0].rumors.records
    assert [Vouch(7, peer(1), 1, 0)] == sent(
        say(swim, 2, PingReq(7, peer(1), 1), 3.0), Vouch, peer(2)
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


@pytest.mark.parametrize("cause", list(LinkCause))
def test_losing_the_link_of_a_stranger_is_nothing(cause: LinkCause) -> None:
    """Nor of one that has left."""
    swim = machine(record(2), record(2, status=Status.LEFT))

    assert [] == swim.link_lost(peer(2), cause, 1.0)
    assert [] == swim.link_lost(peer(3), cause, 1.0)


# -------------------------------------------------------------------- leaving


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
    later = accused + only(run(swim, 60.0))
    assert [] == sent(later, Ping) + told(later, MemberChanged)
    farewells = [each for each in sent(later, Gossip) if swim.me in each.rumors.records]
    assert 0 < len(farewells) <= CONFIG.transmissions_factor
    assert math.inf == swim.deadline() or swim.deadline() > 3600
    assert [Notice(swim.me)] == sent(say(swim, 2, Ping(1, 1), 61.0), Notice, peer(2))
    assert [] == swim.link_up(peer(2), 61.0)


# -------------------------------------------------------------------- anything

COUNTS = st.one_of(st.integers(-1, 2), st.integers())
PEERS = st.sampled_from([peer(1), peer(2), peer(3), peer(4), "", "x" * 16, "\udc80"])
ABSURD_RECORDS = st.builds(
    Record,
    peer=PEERS,
    boot=COUNTS,
    incarnation=COUNTS,
    status=st.sampled_from(Status),
    control_address=st.text(max_size=300),
    bulk_address=st.text(),
    host=st.text(),
    capacity=st.floats(),
)
ABSURD_ACCOUNTS = st.builds(
    Progress,
    peer=PEERS,
    boot=COUNTS,
    version=COUNTS,
    samples=COUNTS,
    lineage=st.binary(max_size=80),
    phase=st.sampled_from(Phase),
)
ABSURD_EVIDENCE = st.builds(Evidence, PEERS, COUNTS, COUNTS, st.lists(PEERS).map(tuple))
RECORDS = st.lists(
    st.one_of(
        ABSURD_RECORDS,
        st.builds(record, st.integers(1, 4), st.just(1), COUNTS, st.sampled_from(Status)),
    ),
    max_size=3,
).map(tuple)
RUMORS = st.builds(
    Rumors,
    RECORDS,
    st.lists(ABSURD_ACCOUNTS, max_size=3).map(tuple),
    st.lists(ABSURD_EVIDENCE, max_size=3).map(tuple),
)
MESSAGES: st.SearchStrategy[MembershipMessage] = st.one_of(
    st.builds(Hello, ABSURD_RECORDS, ABSURD_ACCOUNTS, st.just(LAYOUT), COUNTS, st.booleans()),
    st.builds(Welcome, RUMORS, st.sampled_from([LAYOUT, b""]), COUNTS),
    st.builds(Refused, st.sampled_from(RefusalReason), st.text()),
    st.builds(Ping, COUNTS, COUNTS, RUMORS),
    st.builds(Ack, COUNTS, COUNTS, COUNTS, RUMORS),
    st.builds(PingReq, COUNTS, PEERS, COUNTS),
    st.builds(Vouch, COUNTS, PEERS, COUNTS, COUNTS),
    st.builds(Nack, COUNTS, PEERS, st.sampled_from(NackReason)),
    st.builds(Gossip, RUMORS),
    st.builds(Digest, st.one_of(st.binary(), st.binary(min_size=2048, max_size=2048))),
    st.builds(
        Diff,
        st.binary(),
        st.lists(
            st.builds(Version, PEERS, COUNTS, COUNTS, st.sampled_from(Status)), max_size=3
        ).map(tuple),
    ),
    st.builds(Lookup, RUMORS, st.lists(PEERS).map(tuple)),
    st.builds(Notice, st.one_of(RECORDS.filter(bool).map(lambda each: each[0]), ABSURD_RECORDS)),
)
LINKS = st.sampled_from([None, *LinkCause])
HEARD = st.one_of(MESSAGES, MESSAGES, MESSAGES, LINKS)


@given(st.lists(st.tuples(st.integers(1, 5), HEARD, st.floats(0, 3)), max_size=16))
def test_nothing_heard_raises_lowers_a_key_or_takes_me_down(
    heard: list[tuple[int, MembershipMessage | LinkCause | None, float]],
) -> None:
    """M2, M5, M7: whatever arrives, my record is alive, no known key falls, none is absurd, and
    no accusation is ever kept as a record."""
    swim, now = machine(record(2), record(3), config=MembershipConfig(members_max=5)), 0.0
    keys = {each.peer: each.key for each in swim.records()}
    for sender, said, wait_s in heard:
        now += wait_s
        effects: list[Effect]
        if said is None:
            effects = swim.link_up(peer(sender), now)
        elif isinstance(said, LinkCause):
            effects = swim.link_lost(peer(sender), said, now)
        else:
            effects = say(swim, sender, said, now)
        effects += swim.wake(now)
        assert swim.deadline() >= now or swim.wake(now) == []
        for known in swim._roster.all():
            assert known.key >= keys.get(known.peer, known.key)
            assert known.status != Status.SUSPECT
            assert 0 <= known.boot <= 1 << 53
            keys[known.peer] = known.key
        assert 5 >= len(swim.records())
        assert Status.ALIVE == swim.me.status


def test_of_strangers_and_of_the_forgotten_nothing_is_kept() -> None:
    """M27: whoever speaks, under however many names; a link to a stranger is kept while it lasts,
    and what was seen of a member as long as its tombstone."""
    swim = machine(record(2), config=MembershipConfig(tombstone_s=60.0))
    seen = swim._view.sightings
    for number in range(100, 200):
        say(swim, number, Ping(1, 1), 0.1)
        say(swim, number, Gossip(Rumors()), 0.1)
    assert [None] * 100 == [seen.of(peer(number)) for number in range(100, 200)]

    swim.link_up(peer(100), 0.2)
    assert None is not seen.of(peer(100))
    swim.link_lost(peer(100), LinkCause.CLOSED, 0.3)
    assert None is seen.of(peer(100))

    tell(swim, 3, record(2, status=Status.LEFT), now=0.4)
    say(swim, 2, Ping(1, 1), 0.5)
    run(swim, 61.0)
    assert [record(1)] == swim.records()
    assert None is seen.of(peer(2))
