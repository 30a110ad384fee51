"""While a split is on, or heals, verdicts give their subject time: they may come from behind it."""

from __future__ import annotations

import pytest

from gossip.machine import Effect, LinkCause, Send
from gossip.membership.sightings import UNDECIDED_S
from gossip.membership.swim import Swim
from gossip.messages import Evidence, Gossip, Notice, Rumors, Seconds, Status
from tests.gossip.membership.claims import down, evidence, peer, record, suspect
from tests.gossip.membership.dialogue import (
    CONFIG,
    FEW,
    bury,
    carried,
    dials,
    machine,
    only,
    run,
    say,
    sent,
    silent_4,
    tell,
    told_of,
)

LONG_S = CONFIG.suspicion_s(12) + CONFIG.contested_s
"""So long a claim waits in a group of twelve whose accusers may stand behind a split."""


def test_accusers_that_are_gone_count_after_the_subject_had_time() -> None:
    """As on the far side of a split that has just healed."""
    swim, others = silent_4(), (2, 3, 5, 6)
    bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    in_time_at = 10.0 + CONFIG.suspicion_s(6)

    run(swim, in_time_at - 0.1, answering=others)
    assert Status.DOWN > swim.records()[3].status
    asking = only(run(swim, in_time_at + 1.1, answering=others))
    assert Status.DOWN > swim.records()[3].status
    asked = [each.to for each in asking if isinstance(each, Send) and told_of(4, each)]
    assert len(asked) == len(set(asked)) == CONFIG.gossip_fanout, "has nobody heard better?"
    run(swim, in_time_at + CONFIG.contested_s + 2.2, answering=others)
    assert down(4) == swim.record(peer(4))


@pytest.mark.parametrize("boot, heals", [(1, True), (2, False)])
def test_while_a_split_heals_every_verdict_gives_its_subject_time(boot: int, heals: bool) -> None:
    """M24: a short one leaves accusers on the far side that were never down here; that some were,
    in the very life that they are in, shows that there was one."""
    swim, others = silent_4(), (2, 3, 5, 6)
    bury(swim, 6, 2, 3, 5, by=2, now=10.0)
    run(swim, 15.0, answering=(2, 3, 5))
    assert down(6) == swim.record(peer(6))
    swim._view.sightings.at(peer(4)).heard_at = -10.0
    tell(swim, 6, record(6, boot, 1), now=15.1)

    bury(swim, 4, 2, 3, 5, by=6, now=15.2)
    assert heals is (swim.records()[3].status < Status.DOWN)
    run(swim, 16.4, answering=others)
    assert heals is (swim.records()[3].status < Status.DOWN)
    run(swim, 15.2 + CONFIG.suspicion_s(6) + CONFIG.contested_s + 2.2, answering=others)
    assert Status.DOWN == swim.records()[3].status


@pytest.mark.parametrize("boot, heals", [(1, True), (2, False)])
@pytest.mark.parametrize("by_link", [True, False])
def test_a_path_that_is_open_again_shows_that_a_split_heals(
    boot: int, heals: bool, by_link: bool
) -> None:
    """M24: even one too short for any verdict on this side. Not if a host came back to life."""
    swim = silent_4()
    swim.link_lost(peer(6), LinkCause.SILENT, 8.0)
    if by_link:
        swim.link_up(peer(6), 9.9)
    tell(swim, 6, record(6, boot), now=9.95)
    bury(swim, 4, 2, 3, 5, by=6, now=10.0)
    assert heals is (swim.records()[3].status < Status.DOWN)


@pytest.mark.parametrize(
    "silent, told_doubted, linked_for_s, is_lost, waits_s",
    [
        (3, False, None, False, LONG_S),
        (2, False, None, False, 0.0),
        (0, False, None, False, 0.0),
        (0, True, None, False, LONG_S),
        (3, False, 9.0, False, 1.0 + CONFIG.contested_s),
        (3, True, 10.0, False, 0.0),
        (0, True, 10.0, False, CONFIG.contested_s),
        (0, True, 10.0, True, 0.0),
    ],
)
def test_while_a_split_may_be_on_accusers_count_that_were_beside_me_all_the_while(
    silent: int, told_doubted: bool, linked_for_s: float | None, is_lost: bool, waits_s: float
) -> None:
    """M24: the first word from its far side comes before any path of mine is open again, and names
    accusers that I have never met. A silent path or two may be hosts that were lost. M11: where
    they see a split and I none, I may reach the subject: it is asked, unless its path is silent."""
    swim, now = machine(*map(record, range(2, 13))), 20.0
    accusers = [number for number in range(5, 13) if peer(number) in swim.observers(peer(4))][:3]
    others = [number for number in range(2, 13) if number not in (4, *accusers)]
    if linked_for_s is not None:
        run(swim, now - linked_for_s, answering=(4, *accusers, *others))
        for number in accusers:
            swim.link_up(peer(number), now - linked_for_s)
    run(swim, 15.0, answering=(4, *accusers, *others))
    for number in others[:silent]:
        swim.link_lost(peer(number), LinkCause.SILENT, 15.0)
    if is_lost:
        swim.link_lost(peer(4), LinkCause.SILENT, 18.0)
    run(swim, now, answering=(*accusers, *others[silent:]))
    about = evidence(4, *accusers, doubted=told_doubted)
    effects = say(swim, others[-1], Gossip(Rumors((down(4),), (), (about,))), now)
    assert (waits_s > 0.0) is (swim.records()[3].status < Status.DOWN)
    if waits_s == CONFIG.contested_s:
        assert [Notice(down(4))] == sent(effects, Notice, peer(4))
    told = [about for rumors in carried(only(run(swim, now + 1.0))) for about in rumors.evidence]
    doubts = {about.doubted for about in told if about.subject == peer(4)}
    assert {silent == 3 or told_doubted} == doubts
    run(swim, now + waits_s - 0.6, answering=others[silent:])
    assert (waits_s > 0.0) is (swim.records()[3].status < Status.DOWN)
    run(swim, now + waits_s + 1.1, answering=others[silent:])
    assert Status.DOWN == swim.records()[3].status


def test_what_others_doubt_waits_here_too_until_one_does_not() -> None:
    """M24: whoever keeps no link across a split sees nothing of it; those that told it do."""
    doubting, sure = silent_4(), silent_4()
    about = evidence(4, 2, 3, 5, doubted=True)
    for swim in (doubting, sure):
        say(swim, 2, Gossip(Rumors((down(4),), (), (about,))), 9.0)
        assert record(4) == swim.record(peer(4))
    tellings = [each for each in carried(only(run(doubting, 10.0, (3, 5, 6)))) if each.evidence]
    assert tellings
    assert all(each.evidence[0].doubted for each in tellings)

    bury(sure, 4, 2, 3, 5, by=3, now=9.5)
    assert down(4) == sure.record(peer(4))
    in_time_at = 9.0 + CONFIG.suspicion_s(6)
    run(doubting, in_time_at + 1.1, answering=(2, 3, 5, 6))
    assert Status.DOWN > doubting.records()[3].status
    run(doubting, in_time_at + CONFIG.contested_s + 2.2, answering=(2, 3, 5, 6))
    assert down(4) == doubting.record(peer(4))


@pytest.mark.parametrize("bare_first", [False, True])
@pytest.mark.parametrize("bare", [(), (evidence(4, 3),), (evidence(4, 3, boot=2),)])
def test_a_telling_that_proves_nothing_ends_no_doubt(
    bare: tuple[Evidence, ...], bare_first: bool
) -> None:
    """M14, M24: or one bad peer could have the far side of a split believed at once."""
    swim = silent_4()
    tellings = [(evidence(4, 2, 3, 5, doubted=True),), bare]
    for told in reversed(tellings) if bare_first else tellings:
        say(swim, 2, Gossip(Rumors((down(4),), (), told)), 9.0)
    assert record(4) == swim.record(peer(4))


def told_in_doubt(now: Seconds) -> tuple[Swim, int, tuple[int, ...], list[Effect]]:
    """A peer among twelve hears that one it has no link to is down, from a peer that doubts it;
    who that is, all others, and what it does."""
    swim = machine(*map(record, range(2, 13)), config=FEW)
    subject = next(each for each in range(2, 13) if not swim._view.watch.is_dialed(peer(each)))
    observers = [int(each, 16) for each in swim.observers(peer(subject))][:3]
    others = tuple(each for each in range(2, 13) if each != subject)
    for number in observers:
        swim.link_up(peer(number), 1.0)
    run(swim, now, answering=others)
    told = Rumors((down(subject),), (), (evidence(subject, *observers, doubted=True),))
    return swim, subject, others, say(swim, observers[0], Gossip(told), now)


@pytest.mark.parametrize(
    "linked, held_up_s", [(False, 1.0), (True, 8.0), (False, UNDECIDED_S - 0.1)]
)
def test_a_subject_without_a_link_is_dialed_to_be_asked(linked: bool, held_up_s: float) -> None:
    """M11: whoever stands on both sides of a split hears from each that the other is lost. A link
    that comes up speaks for a process that cannot; a dial is waited for as long as one takes."""
    now = 20.0
    swim, subject, others, effects = told_in_doubt(now)
    assert peer(subject) in dials(effects)
    assert [Notice(down(subject))] == sent(effects, Notice, peer(subject))
    if linked:
        swim.link_up(peer(subject), now + 0.3)
    run(swim, now + held_up_s, answering=others)
    assert record(subject) == swim.record(peer(subject))
    say(swim, subject, Gossip(Rumors((record(subject, incarnation=1),))), now + held_up_s)
    run(swim, now + 20.0, answering=others)
    assert record(subject, incarnation=1) == swim.record(peer(subject))


def test_a_dial_that_tells_nothing_is_not_waited_for_for_ever() -> None:
    """M10."""
    swim, subject, others, _ = told_in_doubt(20.0)
    run(swim, 20.0 + UNDECIDED_S + FEW.contested_s + 1.1, answering=others)
    assert down(subject) == swim.record(peer(subject))


OBSERVED = 7
FELLOWS = (4, 5, 6, 8, 10, 11)
"""Whom peer 1 watches in a group of twelve, and who does beside it."""
REST = tuple(each for each in range(2, 13) if each != OBSERVED)


def juror(now: Seconds) -> Swim:
    """Peer 1 accuses the one that it observes, whose host is lost since second 10."""
    swim = machine(*map(record, range(2, 13)))
    assert {*map(peer, FELLOWS), peer(1)} == set(swim.observers(peer(OBSERVED)))
    swim.link_up(peer(OBSERVED), 0.0)
    run(swim, 10.0, answering=(OBSERVED, *REST))
    swim.link_lost(peer(OBSERVED), LinkCause.SILENT, 10.0)
    run(swim, now, answering=REST)
    return swim


def accuse_as(swim: Swim, fellow: int, doubted: bool, now: Seconds) -> list[Effect]:
    """A fellow observer accuses the same one."""
    about = evidence(OBSERVED, fellow, doubted=doubted)
    return say(swim, fellow, Gossip(Rumors((suspect(OBSERVED),), (), (about,))), now)


def say_down(swim: Swim, by: int, *accusers: int, doubted: bool, now: Seconds) -> list[Effect]:
    """Somebody says that it is down."""
    about = evidence(OBSERVED, *accusers, doubted=doubted)
    return say(swim, by, Gossip(Rumors((down(OBSERVED),), (), (about,))), now)


def doubt_told(effects: list[Effect]) -> bool:
    """Whether the verdict is told with doubt, when it is told last."""
    verdicts = [each for each in carried(effects) if down(OBSERVED) in each.records]
    return verdicts[-1].evidence[0].doubted


@pytest.mark.parametrize("doubting, doubted", [(4, True), (1, False)])
def test_a_verdict_is_doubted_where_too_few_accuse_without_doubt(
    doubting: int, doubted: bool
) -> None:
    """M24: some observers have hardly a path across a split. They learn of it from the others, and
    one bad accuser that feigns a doubt changes nothing."""
    swim = juror(11.0)
    for number, fellow in enumerate(FELLOWS[:5]):
        accuse_as(swim, fellow, number < doubting, 11.0)
    assert doubted is doubt_told(only(run(swim, 30.0, answering=REST)))


def test_doubted_tellings_that_prove_only_together_are_doubted() -> None:
    """M11: each names few, where the quorum is smaller than here."""
    swim = machine(*map(record, range(2, 13)))
    run(swim, 10.0, answering=(OBSERVED, *REST))
    for accusers in (4, 5), (5, 6):
        say_down(swim, 9, *accusers, doubted=True, now=10.0)
    assert record(OBSERVED) == swim.record(peer(OBSERVED))


def test_what_an_accuser_says_last_of_its_doubt_holds() -> None:
    """It may see the split, or that there is none, only later."""
    swim = juror(11.0)
    for doubted in (True, False):
        for fellow in FELLOWS[:5]:
            accuse_as(swim, fellow, doubted, 11.0)
    assert not doubt_told(only(run(swim, 30.0, answering=REST)))


@pytest.mark.parametrize("accusers, doubting", [((4, 5, 6), (8,)), ((4, 5), ())])
def test_a_verdict_told_plainly_is_told_on_plainly(
    accusers: tuple[int, ...], doubting: tuple[int, ...]
) -> None:
    """Though few have accused it to me, or with doubt: those that told it knew more."""
    swim = juror(17.0)
    effects = [each for fellow in doubting for each in accuse_as(swim, fellow, True, 17.0)]
    effects += say_down(swim, 4, *accusers, doubted=False, now=18.0)
    assert not doubt_told(effects + only(run(swim, 24.0, answering=REST)))
    assert down(OBSERVED) == swim.record(peer(OBSERVED))


def test_whoever_stands_by_a_verdict_or_an_accusation_says_its_doubt() -> None:
    """M24: answers to those that ask must not end what they ask because of."""
    asking = Gossip(Rumors((suspect(OBSERVED),), (), (evidence(OBSERVED, 99),)))
    swim = juror(17.0)
    for number in REST[:3]:
        swim.link_lost(peer(number), LinkCause.SILENT, 17.0)
    run(swim, 30.0, answering=REST[3:])
    trial = swim._view.suspicions.get(peer(OBSERVED))
    assert trial is not None
    trial.accusers[peer(1)] = True
    (told,) = sent(say(swim, FELLOWS[-1], asking, 30.0), Gossip, peer(FELLOWS[-1]))
    assert (evidence(OBSERVED, 1, doubted=True),) == told.rumors.evidence

    swim = machine(*map(record, range(2, 13)))
    say_down(swim, 4, 4, 5, 6, doubted=True, now=1.0)
    run(swim, 30.0, answering=REST)
    assert down(OBSERVED) == swim.record(peer(OBSERVED))
    (told,) = sent(say(swim, 4, asking, 30.0), Gossip, peer(4))
    assert (True,) == tuple(each.doubted for each in told.rumors.evidence)


def test_whoever_inquires_about_a_claim_accuses_nobody_by_it() -> None:
    """It may have taken its own accusation back meanwhile, or doubt it."""
    swim = juror(15.0)
    say_down(swim, 4, 1, doubted=False, now=15.0)
    asked = [
        about
        for each in sent(only(run(swim, 60.0, answering=REST)), Gossip)
        for about in each.rumors.evidence
        if suspect(OBSERVED) in each.rumors.records and about.accusers != (peer(1),)
    ]
    assert asked
    assert all(peer(1) not in about.accusers for about in asked)


def test_whoever_sees_a_split_accuses_with_doubt() -> None:
    """M24: so that its fellows know of it."""
    swim = machine(*map(record, range(2, 13)))
    run(swim, 10.0, answering=(OBSERVED, *REST))
    for number in (OBSERVED, *REST[:3]):
        swim.link_lost(peer(number), LinkCause.SILENT, 10.0)
    effects = only(run(swim, 20.0, answering=REST[3:]))
    accused = [each for each in carried(effects) if suspect(OBSERVED) in each.records]
    assert accused
    assert all(about.doubted for each in accused for about in each.evidence)


def test_whoever_accused_before_a_split_showed_says_once_that_it_doubts() -> None:
    """M24: links take seconds to tell that they are silent, so the first accusations come before
    any sign of a split; a quorum of them would make a verdict plain."""
    swim = juror(15.0)
    trial = swim._view.suspicions.get(peer(OBSERVED))
    assert trial is not None
    assert not trial.accusers[peer(1)]
    effects: list[Effect] = []
    for number in (2, 3, 9, 12):
        effects += swim.link_lost(peer(number), LinkCause.SILENT, 15.0)

    told = [
        (each.to, each.message.rumors.evidence)
        for each in effects
        if isinstance(each, Send) and isinstance(each.message, Gossip)
    ]
    assert sorted(told) == [
        (peer(fellow), (evidence(OBSERVED, 1, doubted=True),)) for fellow in FELLOWS
    ]
    assert trial.accusers[peer(1)] is True
