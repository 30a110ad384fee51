"""From silence to an accusation, one dialogue at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.machine import Hangup, LinkCause, MemberChanged
from gossip.membership.probe import INDIRECT_FACTOR
from gossip.membership.roundtrip import INITIAL_S
from gossip.membership.sightings import UNDECIDED_S
from gossip.membership.swim import Swim
from gossip.messages import (
    Ack,
    Gossip,
    Nack,
    NackReason,
    Notice,
    Ping,
    PingReq,
    Rumors,
    Seconds,
    Status,
    Vouch,
)
from tests.gossip.membership.claims import evidence, peer, record, suspect, undialable
from tests.gossip.membership.dialogue import (
    CONFIG,
    MIN_S,
    OTHERS,
    PAIR_S,
    Timed,
    accusations,
    accuse,
    changed,
    first,
    group,
    lost,
    machine,
    only,
    reaches,
    run,
    say,
    sent,
    tell,
    told,
)


def asked_fellows(swim: Swim, since: Seconds = 0.0, nacks: bool = True) -> tuple[Timed, PingReq]:
    """Let peer 4 be silent until its fellows are asked; what happened, and one question."""
    effects: Timed = []
    until = since
    while not sent(only(effects), PingReq):
        until += 0.1
        effects += run(swim, until, answering=OTHERS, nacks=nacks)
    return effects, sent(only(effects), PingReq)[0]


def test_a_silent_peer_is_probed_then_asked_about_then_accused() -> None:
    """The direct time-out, then that of up to three fellows; only then other observers and the
    suspect itself hear of it. Nobody is down before the doubt has run (M16)."""
    swim = lost()
    effects, question = asked_fellows(swim)
    pinged_at = 0.0
    asked = [each for each in only(effects) if sent([each], PingReq)]
    asked_at = first(effects, PingReq)

    assert asked_at == pytest.approx(pinged_at + INITIAL_S)
    assert CONFIG.fellows_asked == len(asked)
    assert (peer(4), 1) == (question.subject, question.boot)
    assert peer(4) not in swim.reachable()

    effects = run(swim, asked_at + 2.0, answering=OTHERS)
    accused_at = asked_at + INDIRECT_FACTOR * INITIAL_S
    assert [pytest.approx(accused_at)] == changed(effects, Status.SUSPECT)
    assert list(map(peer, OTHERS)) == sorted(accusations(only(effects), of=4))
    assert [Notice(suspect(4))] == sent(only(effects), Notice, peer(4))
    assert evidence(4, 1) in sent(only(effects), Gossip, peer(2))[-1].rumors.evidence
    assert suspect(4) == swim.record(peer(4))  # on trial, and still a live member

    effects = run(swim, 100.0, answering=OTHERS)
    assert [] == changed(effects, Status.DOWN)  # I am the only one
    assert peer(4) in swim.live()


def test_a_closed_link_of_one_that_only_dials_out_does_not_speak_for_it() -> None:
    """No dial of mine will tell more about it, so its silence counts at once: but from the end of
    its link on, however long it was busy before."""
    swim = machine(*(undialable(4) if number == 4 else record(number) for number in range(2, 7)))
    swim.link_up(peer(4), 0.0)
    busy_s = 20.0
    assert [] == changed(run(swim, busy_s, answering=OTHERS), Status.SUSPECT)

    effects: Timed = [(busy_s, each) for each in swim.link_lost(peer(4), LinkCause.CLOSED, busy_s)]
    effects += run(swim, busy_s + 5.0, answering=OTHERS)
    (accused_at,) = changed(effects, Status.SUSPECT)
    assert accused_at < busy_s + UNDECIDED_S / 2
    for fellow in OTHERS[:2]:
        effects += [(accused_at, each) for each in accuse(swim, fellow, 4, accused_at)]
    effects += run(swim, busy_s + 30.0, answering=OTHERS)
    (down_at,) = changed(effects, Status.DOWN)
    assert busy_s + MIN_S <= down_at < busy_s + MIN_S + 1.0


def test_whoever_asks_about_an_accusation_accuses_nobody() -> None:
    """M14: where all ask whether others stand by what a bad accuser said, each would be counted as
    another accuser. Those that accuse the subject themselves say so."""
    swim = machine(*map(record, range(2, 7)))
    fellows = [each for each in OTHERS if peer(each) in swim.observers(peer(4))]
    asking = Gossip(Rumors((suspect(4),), (), (evidence(4, 9),)))
    for each in fellows:
        say(swim, each, asking, 1.0)
    assert Status.ALIVE == swim.records()[3].status

    assert changed(run(swim, 14.0, answering=OTHERS), Status.SUSPECT)
    told = sent(say(swim, fellows[0], asking, 14.0), Gossip, peer(fellows[0]))
    assert [Gossip(Rumors((suspect(4),), (), (evidence(4, 1),)))] == told


@pytest.mark.parametrize("met", [False, True])
def test_one_that_only_dials_out_gets_time_to_find_who_watches_it(met: bool) -> None:
    """M11: its silence tells nothing while it may not know of me, as when I am new, or it holds me
    down since a split. Whoever had a link to it or a word of it knows better."""
    swim = machine(*(undialable(4) if number == 4 else record(number) for number in range(2, 7)))
    assert peer(1) in swim.observers(peer(4))
    if met:
        swim.heard_from(peer(4), 0.0)
    (accused_at,) = changed(run(swim, 60.0, answering=OTHERS), Status.SUSPECT)
    waited_s = 0.0 if met else CONFIG.sync_interval_s
    assert waited_s < accused_at < waited_s + UNDECIDED_S


@pytest.mark.parametrize("closed", [False, True])
def test_a_link_that_outlasted_a_wrong_verdict_speaks_for_who_is_back(closed: bool) -> None:
    """M12: nobody tells of a link twice, and one that only dials out cannot be dialed."""
    swim = machine(*(undialable(4) if number == 4 else record(number) for number in range(2, 7)))
    swim.link_up(peer(4), 0.0)
    gone = replace(undialable(4), status=Status.DOWN)
    say(swim, 2, Gossip(Rumors((gone,), (), (evidence(4, 2, 3, 5),))), 10.0)
    run(swim, 30.0, answering=OTHERS)
    assert Status.DOWN == swim.records()[3].status
    if closed:
        swim.link_lost(peer(4), LinkCause.CLOSED, 30.0)

    tell(swim, 4, undialable(4, incarnation=1), now=31.0)
    assert peer(4) in swim.live()
    accused = changed(run(swim, 31.0 + 2 * UNDECIDED_S, answering=OTHERS), Status.SUSPECT)
    assert closed is bool(accused)


def test_an_answered_probe_accuses_nobody() -> None:
    """Any message in time will do."""
    swim = machine(record(2), record(3), record(4))
    effects = only(run(swim, 30.0, answering=(2, 3, 4), every_s=0.9))

    assert [] == sent(effects, Ping) + told(effects, MemberChanged)


def test_the_passive_one_pings_when_nothing_comes() -> None:
    """Each watched pair exchanges a sign of life in every interval; one side a little later."""
    times = []
    for number in (2, 3, 4, 5):
        swim = machine(record(number))
        run(swim, 3.0, answering=(number,))
        effects = run(swim, 10.0)
        times.append(next(at for at, each in effects if sent([each], Ping)) - 3.0)

    interval_s = CONFIG.probe_interval_s
    assert all(0.5 * interval_s <= each <= 1.75 * interval_s for each in times)
    assert max(times) - min(times) >= 0.25 * interval_s


def test_a_fellow_that_gets_through_ends_the_probe() -> None:
    """The peer is lost to me alone: no accusation, and mine of before is taken back."""
    swim = lost()
    for _ in range(20):
        _, question = asked_fellows(swim, swim._last_input_at)
        effects = say(swim, 2, Vouch(question.probe, peer(4), 1, 0), swim._last_input_at)
        assert [] == accusations(effects, of=4) == told(effects, MemberChanged)
        assert not swim._view.prober.is_open(peer(4))
    assert peer(4) not in swim.reachable()
    assert [] == say(swim, 2, Vouch(1, peer(9), 1, 0), swim._last_input_at)

    effects = only(run(swim, swim._last_input_at + 10.0, answering=OTHERS))
    assert accusations(effects, of=4)
    _, question = asked_fellows(swim, swim._last_input_at)
    assert None is not swim._view.suspicions.get(peer(4))
    say(swim, 2, Vouch(question.probe, peer(4), 1, 0), swim._last_input_at)
    assert None is swim._view.suspicions.get(peer(4))
    _, question = asked_fellows(swim, swim._last_input_at)
    say(swim, 2, Vouch(question.probe, peer(4), 1, 3), swim._last_input_at)
    assert record(4, incarnation=3) == swim.record(peer(4))


def test_fellows_that_say_nothing_mean_that_i_am_the_one_in_trouble() -> None:
    """M20, Lifeguard: a Nack is a sign of my own health, silence of its lack; answers heal."""
    answered, ignored = machine(*map(record, range(2, 7))), machine(*map(record, range(2, 7)))
    run(answered, 5.0, answering=OTHERS)
    effects = run(ignored, 5.0, answering=OTHERS, nacks=False)
    assert sent(only(effects), PingReq)

    assert (0, 1) == (answered.health, ignored.health)
    assert answered._rounds._look_s() * 2 == ignored._rounds._look_s()

    run(ignored, ignored._last_input_at + 20.0, answering=(*OTHERS, 4), every_s=8.0)
    assert 0 == ignored.health


def test_a_fellow_whose_link_to_it_lives_ends_the_probe_too_but_not_for_ever() -> None:
    """M12: it is busy, not gone; no accusation, until a link of my own would not excuse it."""
    swim = lost()
    while swim._last_input_at < CONFIG.busy_max_s - 8.0:
        effects, question = asked_fellows(swim, swim._last_input_at, nacks=False)
        busy = Nack(question.probe, peer(4), NackReason.BUSY)
        asked = next(each.to for each in only(effects) if sent([each], PingReq))
        say(swim, int(asked, 16), busy, swim._last_input_at)
        assert not swim._view.prober.is_open(peer(4))
        assert [] == accusations(only(effects), of=4) == changed(effects, Status.SUSPECT)

    run(swim, CONFIG.busy_max_s + 5.0, answering=OTHERS)
    effects, question = asked_fellows(swim, swim._last_input_at, nacks=False)
    asked = next(each.to for each in only(effects) if sent([each], PingReq))
    say(swim, int(asked, 16), Nack(question.probe, peer(4), NackReason.BUSY), swim._last_input_at)
    assert swim._view.prober.is_open(peer(4))


def test_who_was_not_asked_cannot_speak_for_a_peer() -> None:
    """And another reason is only a sign of the fellow's own life."""
    swim = lost()
    effects, question = asked_fellows(swim, nacks=False)
    asked = [int(each.to, 16) for each in only(effects) if sent([each], PingReq)]
    (other,) = [each for each in OTHERS if each not in asked]
    say(swim, other, Nack(question.probe, peer(4), NackReason.BUSY), swim._last_input_at)
    for reason in (NackReason.TIMEOUT, NackReason.UNKNOWN, NackReason.LIMIT):
        said = Nack(question.probe, peer(4), reason)
        assert [] == say(swim, asked.pop(), said, swim._last_input_at)

    assert swim._view.prober.is_open(peer(4))
    effects = run(swim, swim._last_input_at + 2.0, answering=OTHERS)
    assert accusations(only(effects), of=4)
    assert 0 == swim.health


def test_the_question_says_how_long_the_asker_waits_for_a_probe() -> None:
    """Its own time-out, as stretched by its health: an answer in that time is not late."""
    for health in (0, 2):
        swim = machine(*map(record, range(2, 7)))
        swim._health.worse(health)
        swim.link_lost(peer(4), LinkCause.SILENT, 0.0)
        effects, question = asked_fellows(swim)
        assert first(effects, PingReq) == pytest.approx(question.within_s)
        assert (1 + health) * INITIAL_S == question.within_s


@pytest.mark.parametrize("cause", [None, LinkCause.FROZEN])
def test_a_peer_with_a_living_link_is_busy_and_not_accused_for_long(
    cause: LinkCause | None,
) -> None:
    """M12: not before busy_max, counted from the last word; a swap goes elsewhere meanwhile."""
    swim = group(6)
    run(swim, 5.0, answering=(*OTHERS, 4))
    if cause is not None:
        swim.link_lost(peer(4), cause, 5.0)
    effects = run(swim, 5.0 + CONFIG.busy_max_s - 1.0, answering=OTHERS)

    assert [] == accusations(only(effects), of=4) == changed(effects, Status.SUSPECT)
    assert peer(4) not in swim.reachable()
    assert peer(4) in swim.live()
    assert {(peer(4), "BUSY")} >= set(reaches(only(effects)))

    effects = run(swim, 5.0 + CONFIG.busy_max_s + 8.0, answering=OTHERS)
    assert accusations(only(effects), of=4)
    assert 5.0 + CONFIG.busy_max_s <= changed(effects, Status.SUSPECT)[0]


def test_a_link_that_is_being_dialed_speaks_for_its_peer_for_a_while() -> None:
    """A dial that never tells anything ends that; a swap goes elsewhere meanwhile."""
    swim = machine(*map(record, range(2, 7)))
    effects = run(swim, 30.0, answering=OTHERS)

    failed_at = next(at for at, each in effects if reaches([each]) == [(peer(4), "LOST")])
    (accused_at,) = changed(effects, Status.SUSPECT)
    assert failed_at + UNDECIDED_S <= accused_at <= failed_at + UNDECIDED_S + 5.0


def test_a_link_that_is_up_again_speaks_for_a_peer_that_was_silent_for_long() -> None:
    """M12: the silence before, longer than any peer may be busy, was the split's. It speaks on once
    it has had time to."""
    swim = group(6)
    run(swim, 5.0, answering=(*OTHERS, 4))
    swim.link_lost(peer(4), LinkCause.SILENT, 5.0)
    up_at = 5.0 + CONFIG.busy_max_s + 10.0
    assert accusations(only(run(swim, up_at, answering=OTHERS)), of=4)

    swim.link_up(peer(4), up_at)
    assert not accusations(only(run(swim, up_at + UNDECIDED_S, answering=OTHERS)), of=4)
    assert accusations(only(run(swim, up_at + UNDECIDED_S + 60.0, answering=OTHERS)), of=4)


def test_a_link_that_comes_and_goes_excuses_nobody_for_ever() -> None:
    """M12: a hung process behind a kernel that accepts is accused once its time is over."""
    swim, now = group(6), 5.0
    run(swim, now, answering=(*OTHERS, 4))
    effects: Timed = []
    while now < 5.0 + CONFIG.busy_max_s + 20.0:
        swim.link_lost(peer(4), LinkCause.CLOSED, now)
        swim.link_up(peer(4), now + 1.0)
        effects += run(swim, now := now + UNDECIDED_S - 2.0, answering=OTHERS)
    assert accusations(only(effects), of=4)
    assert 5.0 + CONFIG.busy_max_s <= changed(effects, Status.SUSPECT)[0]


@pytest.mark.parametrize("cause", list(LinkCause))
def test_a_lost_link_ends_swaps_and_is_probed_at_once(cause: LinkCause) -> None:
    """Nobody is down, or even accused, at once: it may be restarting."""
    swim = group(6)
    effects = swim.link_lost(peer(4), cause, 1.0)

    assert 1 == len(sent(effects, Ping, peer(4)))
    assert peer(4) not in swim.reachable()
    assert peer(4) in swim.live()
    assert [] == told(effects, MemberChanged)
    assert [(peer(4), "BUSY" if cause == LinkCause.FROZEN else "LOST")] == reaches(effects)


def test_a_process_that_is_gone_is_accused_without_asking_anybody() -> None:
    """REFUSED: its kernel says so itself; with no answer to one more probe that is enough."""
    swim = group(6)
    run(swim, 5.0, answering=(*OTHERS, 4))
    swim.link_lost(peer(4), LinkCause.REFUSED, 5.0)
    effects = run(swim, 5.0 + INITIAL_S, answering=OTHERS)

    assert [] == sent(only(effects), PingReq)
    assert [pytest.approx(5.0 + INITIAL_S)] == changed(effects, Status.SUSPECT)


def test_a_closed_link_waits_for_what_the_fresh_dial_finds() -> None:
    """CLOSED, then SILENT: fellows are asked, then it is accused; the doubt counts from the first
    silence, but at most four seconds before the accusation."""
    swim = machine(record(2))
    run(swim, 5.0, answering=(2,))
    swim.link_lost(peer(2), LinkCause.CLOSED, 5.0)
    run(swim, 5.9)
    assert [] == sent(swim.link_lost(peer(2), LinkCause.SILENT, 5.9), Ping)
    effects = run(swim, 60.0)

    (suspected_at,) = changed(effects, Status.SUSPECT)
    assert suspected_at == pytest.approx(5.0 + INITIAL_S)
    assert [pytest.approx(suspected_at + PAIR_S)] == changed(effects, Status.DOWN)
    assert Hangup(peer(2)) in only(effects)
    assert [] == swim.live()


def test_a_lost_link_is_restored_by_an_ack_to_a_later_probe_only() -> None:
    """An Ack that was on its way when the link broke proves nothing, nor one never asked for."""
    swim = machine(record(2))
    (early,) = sent(only(run(swim, 1.0)), Ping, peer(2))
    (late,) = sent(swim.link_lost(peer(2), LinkCause.CLOSED, 1.0), Ping, peer(2)) or [None]
    assert late is None  # the early one is open
    say(swim, 2, Ack(early.probe, 1, 0), 1.1)
    assert [] == swim.reachable()

    (late,) = sent(swim.link_lost(peer(2), LinkCause.CLOSED, 1.2), Ping, peer(2))
    say(swim, 2, Ack(late.probe + 1, 1, 0), 1.3)
    assert [] == swim.reachable()
    say(swim, 2, Ack(late.probe, 1, 0), 1.4)
    assert [peer(2)] == swim.reachable()


def test_a_new_link_makes_a_member_reachable_again() -> None:
    """Whatever was said of the old one."""
    swim = machine(record(2))
    swim.link_lost(peer(2), LinkCause.SILENT, 1.0)

    assert [(peer(2), "OPEN")] == reaches(swim.link_up(peer(2), 1.1))
    assert [peer(2)] == swim.reachable()
