"""From silence to a verdict, one dialogue at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.config import MembershipConfig
from gossip.machine import Effect, Fault, Hangup, LinkCause, MemberChanged
from gossip.membership.probe import INDIRECT_FACTOR
from gossip.membership.records import COUNT_MAX
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
from tests.gossip.membership.claims import down, evidence, peer, record, suspect, undialable
from tests.gossip.membership.dialogue import (
    CONFIG,
    accusations,
    accuse,
    group,
    machine,
    only,
    reaches,
    run,
    say,
    sent,
    tell,
    told,
)

OTHERS = (2, 3, 5, 6)
"""The fellows, where peer 4 of six is the one in doubt."""

MIN_S = CONFIG.suspicion_s(6)
PAIR_S = CONFIG.suspicion_s(2)
Timed = list[tuple[Seconds, Effect]]


def changed(effects: Timed, status: Status) -> list[Seconds]:
    """When peer 2 or 4 was told to be in a status."""
    return [
        at
        for at, effect in effects
        for change in told([effect], MemberChanged)
        if change.record.status == status
    ]


def first(effects: Timed, kind: type[object]) -> Seconds:
    """When a message of a kind went to peer 2 or 4 first."""
    return next(at for at, each in effects if sent([each], kind))


def lost(size: int = 6) -> Swim:
    """Peer 1 among so many, to whom the dial to peer 4 (or 2, in a pair) has found nobody."""
    swim = machine(*map(record, range(2, size + 1)))
    swim.link_lost(peer(4 if size > 3 else 2), LinkCause.SILENT, 0.0)
    return swim


def asked_fellows(swim: Swim, since: Seconds = 0.0, nacks: bool = True) -> tuple[Timed, PingReq]:
    """Let peer 4 be silent until its fellows are asked; what happened, and one question."""
    effects: Timed = []
    until = since
    while not sent(only(effects), PingReq):
        until += 0.1
        effects += run(swim, until, answering=OTHERS, nacks=nacks)
    return effects, sent(only(effects), PingReq)[0]


# -------------------------------------------------------------------- probes


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


# -------------------------------------------------------------------- links as witnesses


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


# -------------------------------------------------------------------- trials


def test_enough_independent_accusers_end_the_trial_in_the_shortest_time() -> None:
    """M13, M16: me and two fellows of five observers; each verdict is told with its accusers."""
    swim = lost()
    accused_at = first(run(swim, 10.0, answering=OTHERS), Notice)
    accuse(swim, 2, 4, now=10.0)
    assert [] == changed(run(swim, 12.0, answering=OTHERS), Status.DOWN)
    effects = accuse(swim, 3, 4, now=12.0)
    ended = [(12.0, each) for each in effects] + run(swim, 40.0, answering=OTHERS)

    (down_at,) = changed(ended, Status.DOWN)
    assert down_at <= max(12.0, accused_at + MIN_S)
    assert down_at >= accused_at - 4.0 + MIN_S
    assert down(4) == swim.record(peer(4))
    kept = swim._view.verdicts.evidence_of([down(4)])
    assert (evidence(4, 1, 2, 3),) == kept


def test_a_late_accuser_ends_a_trial_whose_time_is_up() -> None:
    """It had no deadline any more, but it is not forgotten."""
    swim = lost()
    run(swim, 10.0, answering=OTHERS)
    accuse(swim, 2, 4, now=10.0)
    effects = run(swim, 80.0, answering=OTHERS)
    assert [] == changed(effects, Status.DOWN)

    effects = accuse(swim, 3, 4, now=80.0)
    assert [Status.DOWN] == [each.record.status for each in told(effects, MemberChanged)]


def test_one_that_accuses_everybody_buries_nobody() -> None:
    """M14: however often it repeats itself; the accused that I hear are told."""
    swim = group(6)
    for second in range(1, 60):
        run(swim, second, answering=(*OTHERS, 4))
        for number in (3, 4, 5, 6):
            effects = accuse(swim, 2, number, now=second)
            assert [Notice(suspect(number))] == sent(effects, Notice, peer(number))[:1]

    assert list(map(peer, (2, 3, 4, 5, 6))) == swim.live() == swim.reachable()


def test_only_observers_are_heard_as_accusers() -> None:
    """In a large group, and only by observers."""
    few = MembershipConfig(observers=2, accusers=2, links_max=8)
    swim = machine(*map(record, range(2, 31)), config=few)
    watched = swim.neighbors()
    subject = int(watched[0], 16)
    others = [number for number in range(2, 31) if peer(number) not in (*watched, watched[0])]
    stranger = next(each for each in others if peer(each) not in swim.observers(peer(subject)))

    assert [] == told(accuse(swim, stranger, subject, now=0.1), MemberChanged)
    assert None is swim._view.suspicions.get(peer(subject))
    accuse(swim, subject, stranger, now=0.1)
    assert None is swim._view.suspicions.get(peer(stranger))


def test_a_fellow_s_accusation_makes_me_look_for_myself() -> None:
    """A silent peer is probed at once, and the fellow counted; one just heard is only told."""
    swim = machine(*map(record, range(2, 7)))
    run(swim, 0.5, answering=(5,))
    effects = accuse(swim, 2, 4, now=0.5)
    assert 1 == len(sent(effects, Ping, peer(4)))
    assert [] == sent(accuse(swim, 3, 4, now=0.6), Ping)
    assert [suspect(4)] == [each.record for each in told(effects, MemberChanged)]

    effects = accuse(swim, 2, 5, now=0.7)
    assert ([], [Notice(suspect(5))]) == (sent(effects, Ping), sent(effects, Notice, peer(5))[:1])


def test_a_suspect_that_speaks_is_told_and_not_cleared_by_it() -> None:
    """Only its refutation clears it; the notice is not repeated for every message."""
    swim = group(6)
    accuse(swim, 2, 4, now=2.5)
    assert [] == swim.heard_from(peer(4), 3.1)
    assert swim.deadline() <= 3.1
    assert [Notice(suspect(4))] == sent(swim.wake(3.1), Notice, peer(4))
    assert [] == sent(say(swim, 4, Gossip(Rumors()), 3.2), Notice)
    assert None is not swim._view.suspicions.get(peer(4))

    tell(swim, 4, record(4, incarnation=1), now=3.3)

    assert None is swim._view.suspicions.get(peer(4))
    assert record(4, incarnation=1) == swim.record(peer(4))


def test_an_ack_carries_a_refutation() -> None:
    """A higher incarnation from the peer itself ends the trial; an equal one does not."""
    swim = group(6)
    accuse(swim, 2, 4, now=1.0)
    say(swim, 4, Ack(1, 1, 0), 1.1)
    assert None is not swim._view.suspicions.get(peer(4))

    say(swim, 4, Ack(1, 1, 1), 1.2)
    assert None is swim._view.suspicions.get(peer(4))


def test_a_refutation_in_the_inbox_wins_over_a_trial_that_is_due() -> None:
    """M18: the inbox is heard before timers."""
    swim = lost(2)
    (suspected_at,) = changed(run(swim, 5.0), Status.SUSPECT)
    due_at = suspected_at + PAIR_S
    run(swim, due_at - 0.1)
    tell(swim, 2, record(2, incarnation=1), now=due_at + 0.1)
    effects = swim.wake(due_at + 0.1)

    assert [] == told(effects, MemberChanged)
    assert [peer(2)] == swim.live()


def test_any_word_in_time_saves_the_suspect() -> None:
    """M18: even if its refutation was lost, it was heard within two intervals."""
    swim = machine(record(2), record(3), record(4))
    for accuser in (3, 4):
        accuse(swim, accuser, 2, now=0.1)
    due_at = swim._view.suspicions.deadline()
    run(swim, due_at - 0.1, answering=(3, 4))
    swim.heard_from(peer(2), due_at - 0.05)

    assert [] == changed(run(swim, due_at + 2.0, answering=(3, 4)), Status.DOWN)


def test_a_starved_peer_gives_suspects_the_time_it_was_away() -> None:
    """M17: it could not hear their refutations, and what it probed meanwhile proves nothing."""
    swim = lost(2)
    (suspected_at,) = changed(run(swim, 4.0), Status.SUSPECT)
    left_s = suspected_at + PAIR_S - 4.0
    assert [] == told(swim.wake(200.0), MemberChanged)
    assert 3 == swim.health

    (down_at,) = changed(run(swim, 300.0), Status.DOWN)
    assert 200.0 + left_s - CONFIG.probe_interval_s <= down_at <= 200.0 + left_s + 1.0


def test_a_suspect_whose_time_was_nearly_up_is_not_judged_on_coming_to() -> None:
    """M11: what it said meanwhile was lost with links that closed (soak, seed 600100)."""
    swim = lost(2)
    (suspected_at,) = changed(run(swim, 4.0), Status.SUSPECT)
    run(swim, suspected_at + PAIR_S - 0.3)
    assert [] == told(swim.wake(200.0), MemberChanged)
    (down_at,) = changed(run(swim, 300.0), Status.DOWN)

    assert 200.0 + CONFIG.probe_interval_s <= down_at <= 203.0


def test_a_starved_peer_does_not_hold_its_absence_against_the_busy() -> None:
    """M12 and M17: the time in which it could hear nobody is not theirs."""
    for silent_until in (5.0, 20.0):
        swim = group(2)
        run(swim, 5.0, answering=(2,))
        run(swim, silent_until)
        swim.wake(silent_until + 2 * CONFIG.busy_max_s)
        effects = run(swim, silent_until + 2 * CONFIG.busy_max_s + 60.0)

        assert [] == changed(effects, Status.SUSPECT)
        assert [peer(2)] == swim.live()


def test_a_full_inbox_is_not_mistaken_for_starvation() -> None:
    """Timers may wait for it: only silence of inputs counts as a gap."""
    swim = lost(3)
    run(swim, 4.0, answering=(3,))
    for tenth in range(40, 100):
        swim.heard_from(peer(3), tenth / 10)

    assert 0 == swim.health
    assert [Status.DOWN] == [each.record.status for each in told(swim.wake(10.0), MemberChanged)]


# -------------------------------------------------------------------- about lives


def test_an_accusation_of_a_later_incarnation_is_news_of_it() -> None:
    """Its subject raised it itself; the accused record is the one known, whatever else is said."""
    swim = machine(*map(record, range(2, 7)))
    later = replace(suspect(4, incarnation=2), control_address="10.9.9.9:1")
    say(swim, 2, Gossip(Rumors((later,), (), (evidence(4, 2, incarnation=2),))), 0.5)
    assert later == swim.record(peer(4))
    assert peer(4) in swim.live()
    trial = swim._view.suspicions.get(peer(4))
    assert trial is not None
    assert later == trial.suspect

    other = replace(later, control_address="10.8.8.8:1")
    say(swim, 3, Gossip(Rumors((other,), (), ())), 0.6)
    assert later == trial.suspect


@pytest.mark.parametrize(
    "forged", [suspect(4, boot=COUNT_MAX + 1), replace(suspect(4, 2), capacity=float("nan"))]
)
def test_an_absurd_accusation_is_a_fault_and_opens_no_trial(forged: object) -> None:
    """M4: no verdict may stand on it."""
    swim = machine(*map(record, range(2, 7)))
    assert isinstance(forged, type(record(4)))
    for fellow in OTHERS:
        effects = say(swim, fellow, Gossip(Rumors((forged,))), 0.5)
        assert ["rumor"] == [each.kind for each in told(effects, Fault)]

    assert None is swim._view.suspicions.get(peer(4))
    assert [] == told(only(run(swim, 2.0)), MemberChanged)


def test_who_accuses_a_member_that_has_refuted_or_gone_is_corrected() -> None:
    """Before its doubt ends in a false verdict; of strangers there is nothing to say."""
    swim = machine(record(2), record(3, incarnation=1), record(5, status=Status.LEFT))

    for number in (3, 5):
        effects = accuse(swim, 2, number, now=1.0)
        known = swim.record(peer(number))
        assert [Gossip(Rumors((known,)))] == sent(effects, Gossip, peer(2))
    assert [] == accuse(swim, 2, 77, now=1.1)
    assert [] == list(swim._view.suspicions.open)


@pytest.mark.parametrize("how", ["gossip", "notice"])
def test_an_accusation_of_me_is_refuted_and_a_sign_of_my_health(how: str) -> None:
    """Lifeguard: who has to refute is likely slow; the same accusation again is old news."""
    swim = group(6)
    said = Gossip(Rumors((suspect(1),))) if how == "gossip" else Notice(suspect(1))
    effects = say(swim, 2, said, 1.0)
    assert record(1, incarnation=1) == swim.me
    assert swim.me in sent(effects, Gossip, peer(2))[0].rumors.records
    assert 1 == swim.health

    effects = say(swim, 3, said, 1.1)
    assert record(1, incarnation=1) == swim.me
    assert 1 == swim.health


def test_a_trial_ends_with_the_member() -> None:
    """M27: whether it leaves, is called down by others, or comes back in a new life."""
    for claim in (record(4, status=Status.LEFT), record(4, boot=2)):
        swim = machine(*map(record, range(2, 7)))
        accuse(swim, 2, 4, now=0.5)
        tell(swim, 3, claim, now=0.6)
        assert [] == list(swim._view.suspicions.open)


def test_a_trial_ends_when_it_is_no_more_mine_to_hold() -> None:
    """M23: newcomers stand nearer to the suspect by now, so I hear no more of it, nor that its
    accuser does. It is not doubted here for ever."""
    swim = group(5, MembershipConfig(observers=4, links_max=8))
    accuse(swim, 2, 4, now=1.0)
    assert suspect(4) == swim.record(peer(4))
    newcomers = range(6, 21)
    tell(swim, 2, *map(record, newcomers), now=2.0)
    assert peer(1) not in swim.observers(peer(4))

    run(swim, 80.0, answering=(2, 3, 5, *newcomers))
    assert record(4) == swim.record(peer(4))
