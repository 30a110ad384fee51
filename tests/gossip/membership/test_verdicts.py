"""A verdict of the group is believed when enough observers of its subject stand behind it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.membership.flaps import Flaps
from gossip.membership.records import ACCUSERS_MAX
from gossip.membership.roster import Roster
from gossip.membership.sightings import Sightings, Witness
from gossip.membership.swim import Swim
from gossip.membership.verdicts import Claim, Verdicts, Weight, evidence_for
from gossip.messages import (
    Evidence,
    Gossip,
    Notice,
    PeerId,
    Record,
    Rumors,
    Status,
)
from tests.gossip.membership.claims import down, evidence, peer, record, undialable
from tests.gossip.membership.dialogue import (
    CONFIG,
    FEW,
    bury,
    carried,
    group,
    machine,
    only,
    run,
    say,
    sent,
    silent_4,
    tell,
)


def verdicts(size: int, config: MembershipConfig = CONFIG) -> Verdicts:
    """Those of peer 1 among peers 1 to ``size``."""
    roster = Roster(record(1), 1000, config.observers)
    for number in range(2, size + 1):
        roster.put(record(number))
    return Verdicts(roster, config, Flaps(600.0, 3.0), Sightings())


@pytest.mark.parametrize(
    "observers, quorum", [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3)]
)
def test_the_quorum_is_half_of_the_observers_but_at_most_three(observers: int, quorum: int) -> None:
    """In groups of less than four one must do."""
    assert quorum == CONFIG.quorum(observers)


@given(st.integers(2, 20), st.lists(st.integers(1, 30).map(peer), unique=True, max_size=8))
def test_only_observers_of_the_subject_count(size: int, accusers: list[PeerId]) -> None:
    """M13: a quorum of its live observers is enough; with those not live here that would watch
    it, the claim counts in time; the subject's own word does not."""
    held = verdicts(size, FEW)
    observers = held.roster.observers(peer(2))
    quorum = FEW.quorum(len(observers))
    live = len([each for each in accusers if each in observers])
    absent = 0
    for each in accusers:
        if each > peer(size):
            there = Roster(record(1), 1000, FEW.observers)
            for number in range(2, size + 1):
                there.put(record(number))
            there.put(record(int(each, 16)))
            absent += held.roster.is_small or each in there.observers(peer(2))
    weight = Weight.TOO_FEW
    if live + absent >= quorum:
        weight = Weight.ENOUGH if live >= quorum else Weight.IN_TIME

    assert weight == held.weigh(down(2), accusers, 0.0)


def test_a_lost_accuser_counts_only_where_the_lost_are_counted() -> None:
    """M14: behind a split fewer must accuse, but of those that can be heard of; the one word of a
    bad accuser on the far side buries nobody."""
    held = verdicts(5, FEW)

    def weight(*accusers: int) -> Weight:
        return held.weigh(down(2), map(peer, accusers), 10.0)

    assert Weight.TOO_FEW == weight(3), "two of four must accuse"
    for number in (4, 5):
        held.sightings.at(peer(number)).lose(Witness.SILENT, 0, 1.0)
    assert Weight.TOO_FEW == weight(5)
    assert Weight.ENOUGH == weight(3), "one of the two that are left"
    assert Weight.IN_TIME == weight(4, 5), "two of all four, who may be behind a split"
    held.sightings.at(peer(5)).lose(Witness.REFUSED, 0, 1.0)
    assert Weight.TOO_FEW == weight(5)
    assert Weight.IN_TIME == weight(4, 5)
    held.sightings.at(peer(4)).lose(Witness.REFUSED, 0, 1.0)
    assert Weight.ENOUGH == weight(4, 5), "two of all four, whose processes ended since"
    held.sightings.at(peer(3)).lose(Witness.CLOSED, 0, 9.9)
    assert Weight.TOO_FEW == weight(3), "though it may be back in a moment"
    assert Weight.ENOUGH == weight(1)


def heard(held: Verdicts, claimed: Record, *accusers: int) -> tuple[Claim, bool]:
    """What is known after one more message."""
    told = held.hear(claimed, map(peer, accusers), 5.0)
    assert told is not None
    return told


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 15), st.booleans(), st.booleans())),
    st.tuples(st.integers(0, 1), st.integers(0, 15), st.booleans(), st.booleans()),
)
def test_what_has_been_heard_changes_nothing_when_it_is_heard_again(
    before: list[tuple[int, int, bool, bool]], again: tuple[int, int, bool, bool]
) -> None:
    """So a message need not be looked at any closer where a claim says already what it says."""
    held = verdicts(6)

    def told(life: int, who: int, doubted: bool, plainly: bool) -> Claim:
        claimed = down(2, incarnation=life)
        heard = held.hear(claimed, named(who), 5.0, doubted, plainly and not doubted)
        assert heard is not None
        return heard[0]

    for each in before:
        told(*each)
    life, who, doubted, _ = again
    claimed = down(2, incarnation=life)
    about = Evidence(peer(2), 1, life, named(who), doubted)
    if held.have_heard(claimed, about):
        (waiting,) = held.waiting
        unchanged = replace(waiting)
        assert unchanged == told(*again)
    assert not held.have_heard(down(3), None)


def named(bits: int) -> tuple[PeerId, ...]:
    """Some of four accusers."""
    return tuple(peer(3 + at) for at in range(4) if bits >> at & 1)


def test_what_is_heard_again_is_known_and_what_is_new_is_not() -> None:
    """Another accuser, another life, a doubt, and the end of one are news."""
    held = verdicts(6)
    held.hear(down(2), named(3), 5.0, doubted=True)

    def knows(claimed: Record, who: int, doubted: bool) -> bool:
        about = Evidence(claimed.peer, claimed.boot, claimed.incarnation, named(who), doubted)
        return held.have_heard(claimed, about)

    assert knows(down(2), 3, True)
    assert knows(down(2), 1, True)
    assert held.have_heard(down(2), None)
    assert not knows(down(2), 7, True)
    assert not knows(down(2), 3, False)
    assert not knows(down(2, incarnation=1), 3, True)


def test_all_that_believe_a_verdict_on_the_same_grounds_keep_one_object() -> None:
    """Half of a large group down is the same evidence with every peer of the other half."""
    first, second = (evidence_for(down(2), each) for each in ([peer(3), peer(4)], named(3)[::-1]))

    assert first is second
    assert first is not evidence_for(down(2), named(3), doubted=True)


def test_a_claim_gathers_accusers_over_several_messages() -> None:
    """M27: no more than observers can be; a later life takes the place of the claim, an older one
    adds nothing."""
    held = verdicts(5)
    assert heard(held, down(2), 3)[1]
    claim, is_new = heard(held, down(2), 3, 4)
    assert ([peer(3), peer(4)], 5.0, False) == (list(claim.accusers), claim.since, is_new)

    assert heard(held, down(2, incarnation=1), 5)[1]
    claim, is_new = heard(held, down(2), 4)
    assert ([peer(5)], False) == (list(claim.accusers), is_new)
    claim, _ = heard(held, down(2, incarnation=1), *range(6, 99))
    assert len(claim.accusers) <= ACCUSERS_MAX
    claim, _ = heard(held, down(2, incarnation=1), 3, 4)
    assert {peer(3), peer(4), peer(5)} <= set(claim.accusers), "made-up names shut nobody out"

    held.settle(peer(2))
    held.settle(peer(9))
    assert not held.open
    assert None is held.waiting_about(peer(2))


def test_evidence_is_kept_until_the_member_is_back() -> None:
    """For those who ask later."""
    held = verdicts(5)
    said = evidence_for(down(2), [peer(4), peer(3)])
    assert evidence(2, 3, 4) == said
    held.believe(said)

    assert (said,) == held.evidence_of([record(3), down(2)])
    held.forget(peer(2))
    held.forget(peer(3))
    assert () == held.evidence_of([down(2)])


def test_a_verdict_with_a_quorum_is_believed_at_once_and_told_with_its_evidence() -> None:
    """M13: nothing less is; whoever adds the missing accuser tips it."""
    swim = silent_4()
    bury(swim, 4, 2, 3, by=2, now=10.0)
    assert Status.ALIVE == swim.records()[3].status

    bury(swim, 4, 5, by=5, now=10.1)
    assert down(4) == swim.record(peer(4))
    told_on = carried(only(run(swim, 10.7, answering=(2, 3, 5, 6))))
    assert evidence(4, 2, 3, 5) in [each for rumors in told_on for each in rumors.evidence]


def test_a_subject_that_goes_on_speaking_to_me_is_not_believed_down() -> None:
    """M11: its refutation is on the way, however long that takes."""
    swim, everyone = silent_4(), (2, 3, 4, 5, 6)
    bury(swim, 4, 2, 3, 5, by=2, now=10.0)
    swim.heard_from(peer(4), 10.0)
    bury(swim, 5, 2, 3, 4, by=2, now=10.0)

    run(swim, 20.0, answering=everyone)
    assert record(5) == swim.record(peer(5))


def test_a_link_that_stands_is_a_reason_to_wait_for_a_refutation() -> None:
    """M24: as between two who are no watch neighbors, when a split has healed."""
    swim, others = group(6), (2, 3, 5, 6)
    run(swim, 9.9, answering=others)
    bury(swim, 4, 2, 3, 5, by=2, now=10.0)
    run(swim, 10.0 + CONFIG.contested_s - 0.2, answering=others)
    assert Status.DOWN > swim.records()[3].status
    run(swim, 10.0 + 2 * CONFIG.contested_s + 2.2, answering=others)
    assert down(4) == swim.record(peer(4))


@pytest.mark.parametrize("dialable, waits", [(True, False), (False, True)])
def test_two_that_only_dial_out_wait_for_a_refutation(dialable: bool, waits: bool) -> None:
    """M24: where others have a link to everybody, which would speak for the subject, these two can
    have none."""
    others = (2, 3, 5, 6)
    members = [undialable(4), *map(record, others)]
    swim = machine(*members, me=record(1) if dialable else undialable(1))
    run(swim, 9.9, answering=others)
    bury(swim, 4, 2, 3, 5, by=2, now=10.0)
    assert (Status.ALIVE if waits else Status.DOWN) == swim.records()[3].status
    run(swim, 10.0 + 2 * CONFIG.contested_s + 2.2, answering=others)
    assert Status.DOWN == swim.records()[3].status


@pytest.mark.parametrize("later_s", [0.3, 0.7])
def test_a_claim_that_waits_is_applied_at_its_time(later_s: float) -> None:
    """Not when claims are looked at for another reason, which is up to a second later."""
    others = (2, 3, 5, 6)
    swim = machine(*map(undialable, (4, 7)), *map(record, others), me=undialable(1))
    run(swim, 9.9, answering=others)
    bury(swim, 7, 2, 3, 5, by=2, now=10.0)
    run(swim, 10.0 + later_s, answering=others)
    bury(swim, 4, 2, 3, 5, by=2, now=10.0 + later_s)
    run(swim, 10.0 + later_s + CONFIG.contested_s + 0.01, answering=others)
    assert Status.DOWN == swim.records()[3].status


def test_evidence_about_another_life_or_person_proves_nothing() -> None:
    """Nor does none at all, nor an absurd one."""
    swim = silent_4()
    for stands_on in (
        evidence(4, 2, 3, 5, incarnation=1),
        evidence(4, 2, 3, 5, boot=2),
        evidence(5, 2, 3, 5),
        evidence(4, 2, 3, 5, *range(10, 30)),
        Evidence(peer(4), 1, 0, (peer(2), peer(3), PeerId("\udc80"))),
    ):
        say(swim, 2, Gossip(Rumors((down(4),), (), (stands_on,))), 10.0)
    tell(swim, 2, down(4), now=10.0)

    assert record(4) == swim.record(peer(4))


@pytest.mark.parametrize("ended", [Status.DOWN, Status.LEFT])
@pytest.mark.parametrize("boot, incarnation", [(2, 0), (1, 1)])
def test_one_that_is_gone_here_is_not_down_in_a_newer_life_on_one_word(
    ended: Status, boot: int, incarnation: int
) -> None:
    """M13: it issued that life after the end that is known here, so it may live; a bad accuser
    heard first (M14), or its verdict from behind a split (M24), must not keep it away."""
    gone, claimed = record(4, status=ended), down(4, boot, incarnation)
    doubting, believing = without_4(ended), without_4(ended)

    def claim(swim: Swim, *accusers: int) -> Record | None:
        told = evidence(4, *accusers, boot=boot, incarnation=incarnation)
        say(swim, 2, Gossip(Rumors((claimed,), (), (told,))), 10.0)
        return swim.record(peer(4))

    assert gone == claim(doubting, 2)
    assert gone == claim(doubting, 7, 8, 9), "those are not live here"
    tell(doubting, 2, record(4, boot, incarnation), now=10.1)
    assert record(4, boot, incarnation) == doubting.record(peer(4)), "nothing is to be refuted"
    assert claimed == claim(believing, 2, 3, 5), "enough that watch it here"


def without_4(ended: Status) -> Swim:
    """Peer 1 among six, the fourth of which is down, or has left."""
    swim = silent_4()
    if ended == Status.DOWN:
        bury(swim, 4, 2, 3, 5, by=2, now=9.95)
    else:
        tell(swim, 4, record(4, status=ended), now=9.95)
    assert record(4, status=ended) == swim.record(peer(4))
    return swim


def test_a_verdict_on_a_peer_just_heard_is_contested() -> None:
    """M24: it is told, and believed only if it does not refute that in two seconds."""
    refuting, silent = silent_4(), silent_4()
    for swim in (refuting, silent):
        swim.heard_from(peer(4), 9.95)
        effects = bury(swim, 4, 2, 3, 5, by=2, now=10.0)
        assert [Notice(down(4))] == sent(effects, Notice, peer(4))
        assert record(4) == swim.record(peer(4))
    tell(refuting, 4, record(4, incarnation=1), now=11.0)
    run(refuting, 30.0, answering=(2, 3, 4, 5, 6))
    assert record(4, incarnation=1) == refuting.record(peer(4))
    assert not refuting._view.verdicts.open

    others = (2, 3, 5, 6)
    run(silent, 10.0 + CONFIG.contested_s - 0.1, answering=others)
    assert record(4) == silent.record(peer(4))
    run(silent, 10.0 + CONFIG.contested_s + 1.1, answering=others)
    assert down(4) == silent.record(peer(4))


def test_a_claim_with_too_few_accusers_is_passed_on_and_in_the_end_given_up() -> None:
    """So that its subject hears of it, whatever I make of it."""
    swim, everyone = silent_4(), (2, 3, 4, 5, 6)
    bury(swim, 4, 3, by=3, now=10.0)
    passed_on = carried(only(run(swim, 15.0, answering=everyone)))
    assert 0 < sum(down(4) in each.records for each in passed_on) <= CONFIG.transmissions_factor + 1
    assert swim._view.verdicts.open

    longest_s = CONFIG.suspicion_max_factor * CONFIG.suspicion_s(6)
    run(swim, 10.0 + longest_s + 1.1, answering=everyone)
    assert record(4) == swim.record(peer(4))
    assert not swim._view.verdicts.open


def test_a_starved_peer_gives_the_subjects_of_verdicts_its_time() -> None:
    """M17: it could not hear their refutations."""
    swim, others = silent_4(), (2, 3, 5, 6)
    bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    run(swim, 11.0, answering=others)

    swim.wake(100.0)
    run(swim, 100.0 + CONFIG.suspicion_s(6) - 1.5, answering=others)
    assert Status.DOWN > swim.records()[3].status
    run(swim, 100.0 + CONFIG.suspicion_s(6) + CONFIG.contested_s + 2.5, answering=others)
    assert down(4) == swim.record(peer(4))


def test_a_verdict_weighs_more_when_the_group_shrinks() -> None:
    """Two of four observers are enough where two of five were not."""
    swim = silent_4()
    bury(swim, 4, 2, 3, by=2, now=10.0)
    tell(swim, 5, record(5, status=Status.LEFT), now=10.1)
    assert record(4) == swim.record(peer(4))

    run(swim, 11.5, answering=(2, 3, 6))
    assert down(4) == swim.record(peer(4))


def test_a_verdict_outlasts_what_was_said_before_it_alone() -> None:
    """M21: a word of an earlier incarnation, late on its way, refutes nothing. The same verdict
    would be news again, and wait again."""
    swim = silent_4()
    stands_on = evidence(4, 3, incarnation=2)
    say(swim, 2, Gossip(Rumors((down(4, incarnation=2),), (), (stands_on,))), 10.0)
    waiting = swim._view.verdicts.open[peer(4)]

    tell(swim, 5, record(4, incarnation=2), now=11.0)
    assert record(4, incarnation=2) == swim.record(peer(4))
    assert waiting is swim._view.verdicts.open.get(peer(4))

    tell(swim, 5, record(4, incarnation=3), now=12.0)
    assert not swim._view.verdicts.open


def test_nothing_waits_for_ever() -> None:
    """A lone peer that believes somebody down sleeps until it knocks or forgets."""
    swim = machine(record(2))
    bury(swim, 2, 3, by=3, now=1.0)
    tell(swim, 2, record(2, status=Status.LEFT), now=2.0)
    run(swim, 200.0)

    assert not swim._view.verdicts.open
    assert 3600 < swim.deadline() < math.inf
