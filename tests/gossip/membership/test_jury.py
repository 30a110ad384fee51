"""From an accusation to a verdict, one dialogue at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.config import MembershipConfig
from gossip.machine import Fault, MemberChanged
from gossip.membership.records import COUNT_MAX
from gossip.messages import Ack, Gossip, Notice, Ping, Rumors, Status
from tests.gossip.membership.claims import down, evidence, peer, record, suspect
from tests.gossip.membership.dialogue import (
    CONFIG,
    MIN_S,
    OTHERS,
    PAIR_S,
    accuse,
    changed,
    first,
    group,
    lost,
    machine,
    only,
    run,
    say,
    sent,
    tell,
    told,
)


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
