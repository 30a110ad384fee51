"""What a peer does again and again, and that it rests when there is nothing to do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gossip.config import MembershipConfig
from gossip.machine import (
    Dial,
    Effect,
    Fault,
    Hangup,
    LinkCause,
    Persist,
    Tell,
    TurnedAway,
)
from gossip.membership.contacts import CONTACTS_AT_ONCE
from gossip.membership.rounds import CONTACTS_KEPT
from gossip.membership.sightings import Witness
from gossip.membership.swim import Swim
from gossip.membership.sync import FIRST_SYNC_S
from gossip.messages import (
    Digest,
    Gossip,
    Hello,
    Phase,
    Ping,
    Progress,
    RefusalReason,
    Refused,
    Rumors,
    Status,
    Welcome,
)
from tests.gossip.membership.claims import LAYOUT, down, peer, progress, record, undialable
from tests.gossip.membership.dialogue import (
    CONFIG,
    bury,
    carried,
    dials,
    hello,
    machine,
    only,
    run,
    say,
    sent,
    tell,
)
from tests.gossip.membership.network import Network


def test_one_down_member_is_greeted_again_now_and_then() -> None:
    """M23: so that splits heal; the link of the last one that stayed silent is given up. Members
    that left, or cannot be dialed, are not greeted."""
    swim = machine(*map(record, range(2, 6)), undialable(6))
    bury(swim, 4, 2, 3, 5, by=2, now=0.0)
    tell(swim, 3, record(3, status=Status.LEFT), now=0.0)
    effects = only(run(swim, 2 * CONFIG.probe_down_interval_s + 0.1, answering=(2, 5, 6)))

    knocks = [each for each in effects if isinstance(each, Dial)]
    assert 2 == len(knocks)
    assert {Dial(peer(4), record(4).control_address, record(4).bulk_address)} == set(knocks)
    assert 2 == len(sent(effects, Hello, peer(4))) == len(sent(effects, Hello))
    assert 1 == effects.count(Hangup(peer(4)))


def test_a_lone_peer_goes_on_knocking() -> None:
    """M23: it cannot know whether the others are gone, or the way to them."""
    swim = machine(record(2))
    effects = only(run(swim, 300.0))

    assert [] == swim.live()
    assert 8 <= len(dials(effects)) <= 10
    late = only(run(swim, 3000.0))
    assert 89 <= len(sent(late, Hello, peer(2))) <= 91
    assert [] == sent(late, Ping) + sent(late, Digest) + sent(late, Gossip)


def test_news_goes_out_a_bounded_number_of_times_then_there_is_silence() -> None:
    """M21: once to each neighbor, at most four at a time, and soon."""
    swim = machine(*(record(number) for number in range(2, 11)))
    others = tuple(range(2, 11))
    run(swim, 30.0, answering=others)
    tell(swim, 2, record(2, incarnation=1), now=30.0)
    copies = [
        at
        for at, each in run(swim, 60.0, answering=others)
        for rumors in carried([each])
        if record(2, incarnation=1) in rumors.records
    ]

    assert len(swim.neighbors()) <= len(copies) <= 4 * math.ceil(math.log10(11))
    assert max(copies) < 31.1


def test_a_verdict_is_told_at_once_and_no_more_often_than_other_news() -> None:
    """M21: the round comes to it; and many verdicts that come one by one share rounds."""
    others = tuple(range(2, 21))
    swim = machine(*map(record, others))
    run(swim, 30.0, answering=others)
    bury(swim, 3, 4, 5, 6, 7, 8, 9, 10, by=2, now=30.0)
    heard = run(swim, 40.0, answering=others)
    copies = [at for at, each in heard for told in carried([each]) if down(3) in told.records]

    assert 4 == len([at for at in copies if at == 30.0])
    assert len(swim.neighbors()) <= len(copies) <= 4 * math.ceil(math.log10(20))

    times: set[float] = set()
    for late in range(8):
        at = 40.0 + 0.02 * late
        bury(swim, 11 + late, *range(4, 11), by=2, now=at)
        times |= {at for at, each in run(swim, at + 0.02, answering=others) if carried([each])}
    assert 40.0 == min(times)
    assert 2 == len(times)


@pytest.mark.parametrize("size", [2, 3])
def test_news_in_a_tiny_group_ends_too(size: int) -> None:
    """M25: a few times to each neighbor, then the round rests."""
    swim, others = machine(*map(record, range(2, size + 1))), tuple(range(2, size + 1))
    run(swim, 20.0, answering=others)
    swim.publish(7, b"L", Phase.TRAINING, 20.0)
    gossip = [at for at, each in run(swim, 60.0, answering=others) if sent([each], Gossip)]

    assert size <= len(gossip) <= 2 * CONFIG.transmissions_factor
    assert max(gossip) < 25.0
    assert 0 == len(swim._view.news)


def test_what_the_first_welcome_teaches_is_no_news() -> None:
    """The whole group knows it already; what a later one teaches joins two swarms."""
    swim = machine()
    say(swim, 2, Welcome(Rumors((record(2), record(3)), (progress(2),)), LAYOUT, 1), 0.1)
    assert [] == sent(only(run(swim, 0.6)), Gossip)

    say(swim, 2, Welcome(Rumors((record(2), record(4))), LAYOUT, 1), 0.6)
    assert {record(4)} == {
        claim for rumors in carried(only(run(swim, 1.2))) for claim in rumors.records
    }


def test_digests_go_to_one_neighbor_an_interval() -> None:
    """Each of them in the course of time."""
    swim, others = machine(*map(record, range(2, 6))), (2, 3, 4, 5)
    early = only(run(swim, 2 * CONFIG.sync_interval_s, answering=others))
    assert 4 <= len(sent(early, Digest))  # a newcomer is in a hurry
    effects = only(run(swim, 42 * CONFIG.sync_interval_s, answering=others))

    assert 40 == pytest.approx(len(sent(effects, Digest)), abs=1)
    assert all(sent(effects, Digest, peer(each)) for each in others)


@pytest.mark.parametrize("size", [2, 3, 5, 12])
def test_whoever_hears_again_compares_soon(size: int) -> None:
    """What was told meanwhile it has missed, and the next comparison may be half a minute away."""
    others = tuple(range(2, size + 1))
    swim = machine(*map(record, others))
    deaf_at = 10 * CONFIG.sync_interval_s + 1.0
    hears_at = deaf_at + 12.0
    run(swim, deaf_at, answering=others)
    run(swim, hears_at)
    effects = run(swim, hears_at + 2 * FIRST_SYNC_S, answering=others)
    assert sent(only(effects), Digest)
    later = only(run(swim, hears_at + 10 * CONFIG.sync_interval_s, answering=others))
    assert len(sent(later, Digest)) <= 15, "and then less and less often"


def test_publishing_raises_the_version_and_reaches_the_others() -> None:
    """A new lineage or phase is news at once, a mere count once an interval, no change never."""
    swim = machine(record(2))
    run(swim, 5.0, answering=(2,))
    for samples in (10, 20, 30):
        swim.publish(samples, b"L", Phase.TRAINING, 5.0)
    counted = [
        (at, each.samples)
        for at, effect in run(swim, 6.9, answering=(2,))
        for message in sent([effect], Gossip)
        for each in message.rumors.progress
        if each.peer == peer(1)
    ]

    assert 30 == counted[-1][1]
    assert counted[0][0] <= 5.0 + CONFIG.gossip_interval_s
    assert Progress(peer(1), 1, 3, 30, b"L", Phase.TRAINING) == swim.progress_of(peer(1))
    assert 30 == swim.samples_total(b"L")

    swim.publish(30, b"L", Phase.TRAINING, 7.0)
    assert Progress(peer(1), 1, 3, 30, b"L", Phase.TRAINING) == swim.progress_of(peer(1))


@pytest.mark.parametrize("size, interval_s", [(2, 1.0), (33, 2.0)])
def test_a_count_that_rises_all_the_time_is_news_once_an_interval(
    size: int, interval_s: float
) -> None:
    """M26: a hundred publishes a second must not be a hundred rumors; in a larger group it takes
    longer, so that the traffic per peer stays the same."""
    swim = machine(*map(record, range(2, size + 1)))
    swim.publish(0, b"L", Phase.TRAINING, 0.0)
    versions: list[int] = []
    for step in range(1, 2000):
        now = step / 100
        for effect in only(run(swim, now)):
            for rumors in carried([effect]):
                versions += [each.version for each in rumors.progress if each.peer == peer(1)]
        swim.publish(step, b"L", Phase.TRAINING, now)
        for number in range(2, size + 1):
            swim.heard_from(peer(number), now)

    assert 20 / interval_s == pytest.approx(len(dict.fromkeys(versions)), abs=2)


def test_the_addresses_of_live_members_are_kept_for_the_next_start() -> None:
    """Sorted, when they change; when all are gone the last ones are better than none."""
    swim = machine(record(3), record(2), undialable(4))
    two = (record(2).control_address, record(3).control_address)
    kept = [each for each in only(run(swim, 0.6)) if isinstance(each, Persist)]
    assert [Persist(two)] == kept

    for number in (3, 4, 2):
        tell(swim, number, record(number, status=Status.LEFT), now=0.7)
        kept = [each for each in only(run(swim, 1.3)) if isinstance(each, Persist)]
    assert [] == kept

    swim = machine(record(3), record(2))
    run(swim, 0.6)
    tell(swim, 3, record(3, status=Status.LEFT), now=0.7)
    kept = [each for each in only(run(swim, 1.3, answering=(2,))) if isinstance(each, Persist)]
    assert [Persist(two[:1])] == kept


def test_a_bounded_number_of_addresses_is_kept() -> None:
    """M27: the lowest."""
    swim = machine(*map(record, range(2, 200)), config=MembershipConfig(links_max=500))
    (kept,) = [each for each in only(run(swim, 0.6)) if isinstance(each, Persist)]

    assert CONTACTS_KEPT == len(kept.contacts)
    assert sorted(kept.contacts) == list(kept.contacts)


def test_a_lone_peer_sleeps() -> None:
    """M25: nothing is due when the last other member has left, until its tombstone ends."""
    swim = machine(record(2))
    run(swim, 3.0, answering=(2,))
    tell(swim, 2, record(2, status=Status.LEFT), now=3.1)
    run(swim, 200.0)

    assert CONFIG.tombstone_s <= swim.deadline() < math.inf


def test_who_was_turned_away_by_a_stranger_is_still_a_newcomer() -> None:
    """To the right swarm, which has to tell it of everyone; only the haste is over."""
    swim = machine()
    swim.join((record(2).control_address, record(3).control_address), 0.0)
    swim.link_up(peer(2), 0.1)
    say(swim, 2, Refused(RefusalReason.LAYOUT, "another model"), 0.2)
    (greeting,) = sent(swim.link_up(peer(3), 0.3), Hello, peer(3))

    assert greeting.newcomer
    assert swim.hello().newcomer
    say(swim, 3, Welcome(Rumors((record(3), record(4)), (progress(3),)), LAYOUT, 1), 0.4)
    assert not swim.hello().newcomer


LARGE = MembershipConfig(observers=4, accusers=3, links_max=8)


def joined_by(number: int, contact: str, size: int) -> Swim:
    """Peer 1 right after this peer answered at the contact and told of everyone."""
    swim = machine(config=LARGE)
    swim.join((contact,), 0.0)
    swim.link_up(peer(number), 0.1)
    members = tuple(map(record, range(2, size + 1)))
    say(swim, number, Welcome(Rumors(members, (progress(number),)), LAYOUT, 1), 0.2)
    return swim


def hung_up(effects: list[Effect], number: int) -> int:
    """How often the link to the numbered peer is given up."""
    return effects.count(Hangup(peer(number)))


def test_many_that_join_through_one_do_not_keep_their_links_to_it() -> None:
    """M27: links are held to neighbors and for a use, so the contact has room for the next."""
    network = Network(3, config=MembershipConfig(links_max=16))
    contact = network.start(200)
    for number in range(1, 200):
        network.run(0.05)
        network.start(number, 200)
    network.run(20.0)

    assert network.agreed()
    assert all(len(links) <= 16 for links in network._dialed.values())
    # Those of the first, when the group was small, and of the neighbors.
    assert len(network._dialers(contact)) <= 16 + 8


@pytest.mark.parametrize("size", [6, 40])
def test_a_contact_s_link_is_given_up_a_while_after_joining_a_large_group_only(size: int) -> None:
    """Its address is not dialed again either while its peer lives, even if that is an alias."""
    swim, others = joined_by(size, "alias:1", size), tuple(range(2, size + 1))
    effects = run(swim, 90.0, answering=others)
    times = [at for at, each in effects if each == Hangup(peer(size))]

    assert (size == 40) == (peer(size) not in swim.neighbors()) == len(times)
    assert all(0.7 < at < 3.0 for at in times)
    assert None not in dials(only(effects))
    witness = swim._view.sightings.at(peer(size)).witness
    assert (Witness.NONE if size == 40 else Witness.UP) == witness

    tell(swim, size, record(size, status=Status.LEFT), now=90.1)
    assert Dial(None, "alias:1", "") in only(run(swim, 130.0, answering=others[:-1]))


def test_who_misses_a_welcome_asks_those_that_it_is_still_linked_to() -> None:
    """Not a contact whose link was given up, as others told of the group before it did."""
    swim = machine(config=LARGE)
    swim.join((record(40).control_address,), 0.0)
    swim.link_up(peer(40), 0.1)
    tell(swim, 2, *map(record, range(2, 41)), now=0.2)
    assert peer(40) not in swim.neighbors()
    neighbor = swim.neighbors()[0]

    assert 1 == len(sent(swim.link_up(neighbor, 0.3), Hello, neighbor))
    effects = run(swim, 20.0, answering=tuple(range(2, 41)))
    (given_up_at,) = [at for at, each in effects if each == Hangup(peer(40))]
    asked = [(at, each.to) for at, each in effects if sent([each], Hello)]
    assert {neighbor} == {to for at, to in asked if at > given_up_at}
    assert given_up_at < 3.0
    assert 19 <= len(asked)


def test_a_contact_that_is_a_swap_partner_by_now_keeps_its_link() -> None:
    """What is in use is given up as the least recently used one, as any."""
    swim = joined_by(40, record(40).control_address, size=40)
    swim.link(peer(40))
    effects = only(run(swim, 20.0, answering=tuple(range(2, 41))))

    assert 0 == hung_up(effects, 40)


def test_addresses_nobody_answers_at_are_tried_in_turn() -> None:
    """Once this peer belongs to a group: one at a time, so that it is known who answers."""
    swim = machine()
    contacts = tuple(record(number).control_address for number in (2, 3, 4))
    first = [each for each in swim.join(contacts, 0.0) if isinstance(each, Dial)]
    swim.link_up(peer(2), 0.1)
    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 0.2)
    later = [each for each in only(run(swim, 100.0, answering=(2,))) if isinstance(each, Dial)]

    assert [Dial(None, each, "") for each in contacts] == first
    tried = [each.control_address for each in later if each.peer is None]
    assert [*contacts[1:], *contacts[1:]] == tried[:4]


def test_addresses_of_an_earlier_life_are_tried_once_those_named_do_not_answer() -> None:
    """Some at a time; who was named, and answers, may be all that a peer needs."""
    own, named, *kept = (record(number).control_address for number in range(1, 64))
    swim = machine()
    assert [Dial(None, named, "")] == swim.join((named,), 0.0, (named, own, *kept))
    tried = run(swim, 4.5)
    for second in range(1, 5):
        assert CONTACTS_AT_ONCE == sum(int(at) == second for at, _ in tried)
    assert {named, *kept} == {each.control_address for _, each in tried if isinstance(each, Dial)}

    swim = machine()
    swim.join((named,), 0.0, tuple(kept))
    swim.link_up(peer(2), 0.1)
    say(swim, 2, Welcome(Rumors((record(2),)), LAYOUT, 1), 0.2)
    assert 0 == dials(only(run(swim, 90.0, answering=(2,)))).count(None)


def test_a_refusal_at_an_address_of_an_earlier_life_ends_nothing() -> None:
    """It may be of another run by now; who was named is tried on. Before any was dialed, and where
    nobody is named, a refusal is one."""
    named, kept = (record(number).control_address for number in (2, 3))
    refused = Refused(RefusalReason.LAYOUT, "another model")
    swim = machine()
    swim.join((named,), 0.0, (kept,))
    run(swim, 1.5)
    swim.link_up(peer(3), 1.6)
    assert [Tell(Fault(peer(3), "layout", "another model"))] == say(swim, 3, refused, 1.7)
    tried = [each.control_address for each in only(run(swim, 9.0)) if isinstance(each, Dial)]
    assert tried.count(named) >= 6

    for contacts, remembered in (((named,), (kept,)), ((), (kept,))):
        swim = machine()
        swim.join(contacts, 0.0, remembered)
        swim.link_up(peer(3), 0.1)
        (told,) = say(swim, 3, refused, 0.2)
        assert isinstance(told, Tell)
        assert isinstance(told.report, TurnedAway)


def test_addresses_of_an_earlier_life_are_tried_at_once_where_nobody_is_named() -> None:
    """Or only this peer itself."""
    own, *kept = (record(number).control_address for number in (1, 2, 3))
    for contacts in ((), (own,)):
        dialed = machine().join(contacts, 0.0, tuple(kept))
        assert [Dial(None, each, "") for each in kept] == dialed


def test_who_only_dials_out_is_not_taken_for_the_one_at_a_contact_address() -> None:
    """Its link comes up while a contact is dialed; the contact starts later, knowing nobody."""
    swim, contact = machine(), record(2).control_address
    swim.join((contact,), 0.0)
    swim.link_up(peer(5), 0.1)
    say(swim, 5, replace(hello(5), record=undialable(5)), 0.1)
    say(swim, 5, Welcome(Rumors((undialable(5),)), LAYOUT, 1), 0.2)
    effects = only(run(swim, 70.0, answering=(5,)))

    assert peer(5) in swim.live()
    assert 2 <= effects.count(Dial(None, contact, ""))


def test_the_link_of_a_knocked_member_that_came_back_is_given_up_in_a_large_group() -> None:
    """When both sides have had time to compare."""
    swim = machine(*map(record, range(2, 41)), config=LARGE)
    away = next(n for n in range(2, 41) if peer(n) not in swim.neighbors())
    others = tuple(n for n in range(2, 41) if n != away)
    watching = [int(each, 16) for each in swim.observers(peer(away))]
    bury(swim, away, *watching, by=watching[0], now=0.1)
    effects: list[Effect] = []
    while not sent(effects, Hello, peer(away)):
        effects = only(run(swim, swim._last_input_at + 1.0, answering=others))
    now = swim._last_input_at
    swim.link_up(peer(away), now)
    say(swim, away, Gossip(Rumors((record(away, incarnation=1),))), now)
    assert peer(away) in swim.live()
    effects = only(run(swim, now + 0.1, answering=others))
    assert 0 == hung_up(effects, away)

    assert 1 == hung_up(only(run(swim, now + 70.0, answering=(*others, away))), away)


def test_a_contact_that_is_a_member_already_is_dialed_again_once_it_has_left() -> None:
    """It came before this peer was told to join: nothing is dialed then, but it is kept."""
    swim, contact = machine(), record(2).control_address
    swim.link_up(peer(2), 0.1)
    say(swim, 2, hello(2), 0.1)
    assert [] == dials(swim.join((contact,), 0.2))
    gone = replace(record(2), status=Status.LEFT)
    say(swim, 2, Gossip(Rumors((gone,))), 1.0)
    swim.link_lost(peer(2), LinkCause.CLOSED, 1.1)

    assert Dial(None, contact, "") in only(run(swim, 70.0))
