"""What a run would take on a link, and how often peers swap there by themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gossip.errors import UsageError
from peers.tasks.digits import DigitsTask
from simulations.compare.cadence import auto_every, with_cadence
from simulations.compare.links import (
    LINKS,
    Link,
    Machine,
    link_of,
    links_with,
    run_s,
    seconds_to,
    slowest_of,
)
from simulations.compare.registry import read_spec
from tests.simulations.compare.outcomes import JOB, outcome_of


def test_modelled_time_grows_with_all_that_costs_time() -> None:
    """Blocking methods pay bytes, latency and the slowest peer; others a full line, and swaps that
    take longer than the steps between them: 100 of them, two ways of 80 ms each."""
    machine = Machine(0.1, 0.2)
    waits, goes_on = (outcome_of(JOB, blocking=blocking) for blocking in (True, False))
    assert run_s(goes_on, LINKS[0], machine) == pytest.approx(10.0)
    assert run_s(goes_on, LINKS[1], machine) == pytest.approx(100 * (0.16 + 2 * 8e4 / 100e6))
    assert run_s(replace(goes_on, events=10), LINKS[1], machine) == pytest.approx(10.0)
    times = [run_s(waits, link, machine) for link in LINKS]
    assert 10.0 < times[0] < times[1] < times[2]
    flooded = outcome_of(JOB, sent=1e9)
    assert run_s(flooded, LINKS[2], machine) == pytest.approx(1616.0)
    assert run_s(replace(flooded, paired=False), LINKS[2], machine) == pytest.approx(800.0)
    assert slowest_of(8, 25, machine) < slowest_of(64, 25, machine)
    assert slowest_of(8, 25, Machine(0.1, 0.0)) == pytest.approx(2.5)


def test_slow_peers_cost_a_barrier_more_than_they_cost_gossip() -> None:
    """Speeds from a quarter to one: a barrier waits for the slowest, four times as long; who does
    not wait loses what the mean speed loses."""
    job = replace(JOB, conditions=(("spread", "4.0"),))
    machine = Machine(0.1, 0.0)
    waits, goes_on = (outcome_of(job, blocking=blocking, sent=0.0) for blocking in (True, False))
    endless = Link("endless", math.inf, 0.0)
    assert run_s(waits, endless, machine) == pytest.approx(40.0)
    assert run_s(goes_on, endless, machine) == pytest.approx(10 / 0.625)


def test_swaps_that_are_denser_early_are_charged_early() -> None:
    """Two thirds of all bytes in the first half are two thirds of the messages; where that is more
    than the line carries, the half with fewer does not make up for it."""
    evenly = outcome_of(JOB)
    curve = tuple(
        replace(p, sent_bytes=1e6 * (min(p.step, 50) * 4 + max(0, p.step - 50) * 2) / 300)
        for p in evenly.curve
    )
    early, slow, machine = replace(evenly, curve=curve), Link("slow", 1e9, 0.05), Machine()

    assert run_s(evenly, slow, machine) == pytest.approx(100 * 0.1, rel=0.01)
    assert run_s(early, slow, machine, 50) == pytest.approx(200 / 3 * 0.1, rel=0.01)
    assert run_s(early, slow, machine) == pytest.approx(200 / 3 * 0.1 + 50 * 0.1, rel=0.01)


def test_a_link_has_a_name_or_a_bandwidth_and_a_latency() -> None:
    """Own ones come beside the three that all tables show."""
    assert link_of("slow") == LINKS[2]
    assert link_of("20/40") == Link("20/40", 20e6, 0.04)
    assert links_with(LINKS[1]) == LINKS
    assert links_with(link_of("0.5/0")) == (*LINKS, Link("0.5/0", 5e5, 0.0))


@pytest.mark.parametrize("text", ["", "fast", "20", "20/40/1", "0/40", "20/-1", "nan/1", "inf/0"])
def test_no_other_text_is_a_link(text: str) -> None:
    """And what is said names what would be."""
    with pytest.raises(UsageError, match="link"):
        link_of(text)


def test_points_of_a_curve_may_fall_on_one_step() -> None:
    """As in a short run of slow and fast peers: they cost what the last of them says, no more."""
    once = outcome_of(JOB, sent=1e9)
    first, *others = once.curve
    early = replace(first, step=0, sent_bytes=0.4 * first.sent_bytes)
    twice = replace(first, sent_bytes=0.7 * first.sent_bytes)
    often = replace(once, curve=(early, twice, first, *others))
    for link in LINKS:
        assert run_s(often, link, Machine()) == run_s(once, link, Machine())
        assert run_s(often, link, Machine(), 7.5) == run_s(once, link, Machine(), 7.5)
        assert math.isfinite(seconds_to(often, 1.2, link, Machine()))


def test_seconds_to_a_target_are_read_off_the_curve() -> None:
    """Half-way down an even fall is half the time; what is never reached takes for ever."""
    run = outcome_of(JOB)
    assert seconds_to(run, 1.5, LINKS[0], Machine()) == pytest.approx(5.0)
    assert math.isinf(seconds_to(run, 0.5, LINKS[0], Machine()))


def test_auto_cadence_never_waits_and_never_idles() -> None:
    """A swap is over before the next begins, and one step earlier it would not be; more bits a
    second never mean rarer swaps; on an endless line, one at every step."""
    machine = Machine(0.1)
    links = [Link("x", bits, 0.01) for bits in (1e6, 1e7, 1e8, 1e12)]
    every = [auto_every(1e6, link, machine) for link in links]
    assert every == sorted(every, reverse=True)
    assert every[-1] == 1
    for link, steps in zip(links[:-1], every, strict=False):
        assert (steps - 1) * machine.step_s < link.swap_s(1e6) <= steps * machine.step_s


def test_an_auto_cadence_is_a_cadence_and_a_delay() -> None:
    """On the link of the comparison, for the bytes of the model's codes; others stay as typed."""
    task, machine = DigitsTask(hidden=(16, 12)), Machine(0.1)
    typed = read_spec("gossip:every=auto,offer=int8")
    near, far = (with_cadence(typed, task, link, machine) for link in (LINKS[0], LINKS[1]))
    assert dict(near.options) == {"every": "1", "delay": "0", "offer": "int8"}
    assert dict(far.options) == {"every": "2", "delay": "1", "offer": "int8"}
    assert far.text == typed.text
    assert near.curve == read_spec("gossip:offer=int8").curve
    fixed = read_spec("gossip:every=5")
    assert with_cadence(fixed, task, LINKS[1], machine) == fixed
