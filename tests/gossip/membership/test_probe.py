"""A probe runs out once, a sign of life closes it, and its answer is measured."""

from __future__ import annotations

import math

import pytest

from gossip.membership.probe import INDIRECT_FACTOR, Favor, Prober, Stage
from gossip.membership.roundtrip import INITIAL_S, RoundTrips
from tests.gossip.membership.claims import peer


def prober(favors_max: int = 64) -> Prober:
    """One that has not measured anything."""
    return Prober(RoundTrips(0.1, 3.0), favors_max)


def test_a_silent_peer_is_due_at_the_time_out_once() -> None:
    """Not before, and not twice."""
    probes = prober()
    probes.start(peer(2), 10.0, 1)

    assert 10.0 + INITIAL_S == probes.deadline()
    assert [] == probes.due(10.9)
    assert [(peer(2), Stage.DIRECT)] == [(who, each.stage) for who, each in probes.due(11.0)]
    assert [] == probes.due(99.0)
    assert probes.is_open(peer(2))


def test_an_unhealthy_peer_waits_longer() -> None:
    """Lifeguard: the time-out is stretched by the factor."""
    probes = prober()
    probes.start(peer(2), 10.0, 3)

    assert 10.0 + 3 * INITIAL_S == probes.deadline()


def test_a_second_probe_does_not_put_off_the_time_out_of_the_first() -> None:
    """Else a lost link that flaps would hide a silent peer."""
    probes = prober()
    assert [1, 2] == [probes.start(peer(2), 10.0, 1), probes.start(peer(2), 10.4, 1)]

    assert [peer(2)] == [who for who, _ in probes.due(11.0)]


def test_fellows_are_given_their_time_and_crossed_off_as_they_answer() -> None:
    """Those left at the end were as silent as the subject."""
    probes = prober()
    probes.start(peer(2), 10.0, 1)
    probes.due(11.0)
    probes.ask(peer(2), [peer(3), peer(4)], 11.0)
    probes.said(peer(3), peer(2))
    probes.said(peer(3), peer(9))

    assert 11.0 + INDIRECT_FACTOR * INITIAL_S == probes.deadline()
    ((who, probe),) = probes.due(99.0)
    assert (peer(2), Stage.INDIRECT, [peer(4)]) == (who, probe.stage, list(probe.asked))


def test_any_sign_of_life_closes_the_probe() -> None:
    """Closing what is not open is nothing."""
    probes = prober()
    probes.start(peer(2), 10.0, 1)

    assert None is not probes.close(peer(2))
    assert None is probes.close(peer(2))
    assert [] == probes.due(99.0)
    assert math.inf == probes.deadline()


def test_voided_probes_accuse_nobody() -> None:
    """A starved peer heard nobody, and what comes late by its own fault is not measured."""
    probes = prober()
    number = probes.start(peer(2), 10.0, 1)
    probes.void()

    assert [] == probes.due(99.0)
    assert probes.answered(peer(2), number, 99.0)
    probes.start(peer(2), 100.0, 1)
    assert 100.0 + INITIAL_S == probes.deadline()


def test_an_answer_is_measured_though_a_sign_of_life_closed_the_probe_before() -> None:
    """Every message is first a sign of life, and only then read."""
    probes = prober()
    number = probes.start(peer(2), 10.0, 1)
    probes.close(peer(2))

    assert probes.answered(peer(2), number, 10.4)
    probes.start(peer(2), 20.0, 1)
    assert 20.0 + 0.4 + 4 * 0.2 == pytest.approx(probes.deadline())


def test_only_the_very_answer_is_measured_and_once() -> None:
    """Karn: whose round trip an older number was is not known; a repeated Ack took longer."""
    probes = prober()
    first = probes.start(peer(2), 10.0, 1)
    second = probes.start(peer(2), 10.1, 1)

    assert probes.answered(peer(2), second, 10.2)
    assert not probes.answered(peer(2), second + 1, 10.2)
    assert not probes.answered(peer(2), 0, 10.2)
    assert probes.answered(peer(3), first, 10.2)
    probes.close(peer(2))
    probes.start(peer(2), 20.0, 1)
    assert 20.0 + INITIAL_S == probes.deadline()


def test_what_was_sent_to_a_peer_that_went_is_forgotten() -> None:
    """M27: the memory is that of the members."""
    probes = prober()
    number = probes.start(peer(2), 10.0, 1)
    probes.forget(peer(2))

    assert not probes.is_open(peer(2))
    assert probes.answered(peer(2), number, 10.4)
    probes.start(peer(2), 20.0, 1)
    assert 20.0 + INITIAL_S == probes.deadline()


def test_a_favor_is_done_once_by_its_subject_alone() -> None:
    """Or fails in time; a number that was given for somebody else proves nothing."""
    probes = prober()
    asked = Favor(peer(3), peer(2), 77)
    number = probes.favor(asked, 9.0, 10.0)
    other = probes.favor(Favor(peer(4), peer(5), 1), 9.0, 10.5)
    assert number is not None
    assert other is not None

    assert None is probes.favor_done(number, peer(5))
    assert None is probes.favor_done(number + 9, peer(2))
    assert asked == probes.favor_done(number, peer(2))
    assert None is probes.favor_done(number, peer(2))
    assert 10.5 + INITIAL_S == probes.deadline()
    assert [Favor(peer(4), peer(5), 1)] == probes.favors_failed(11.5)
    assert [] == probes.favors_failed(99.0)


def test_what_others_can_ask_for_is_bounded() -> None:
    """M27: at most so many favors at a time."""
    probes = prober(favors_max=2)
    numbers = [probes.favor(Favor(peer(3), peer(2), each), 9.0, 0.0) for each in range(3)]

    assert [False, False, True] == [number is None for number in numbers]
    probes.favors_failed(9.0)
    assert None is not probes.favor(Favor(peer(3), peer(2), 3), 9.0, 9.0)


def test_a_favor_ends_in_the_time_given() -> None:
    """A slow link would take three seconds; who asked waits little more than one."""
    probes = prober()
    probes.start(peer(2), 0.0, 1)
    probes.answered(peer(2), 1, 2.5)
    probes.close(peer(2))
    for within_s, ends_at in ((0.4, 10.4), (9.0, 13.0)):
        assert None is not probes.favor(Favor(peer(3), peer(2), 1), within_s, 10.0)
        assert ends_at == pytest.approx(probes.deadline())
        probes.favors_failed(20.0)


@pytest.mark.parametrize("within_s", [0.0, -1.0, math.nan, math.inf, 24.1])
def test_no_honest_peer_gives_such_a_time(within_s: float) -> None:
    """At most the longest time-out, stretched for the least healthy."""
    assert prober().is_fair(24.0)
    assert not prober().is_fair(within_s)
