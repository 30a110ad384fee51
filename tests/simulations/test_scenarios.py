"""Scenario files, the faults they ask for, and what a run of one says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from gossip.errors import UsageError
from gossip.messages import Ack, Gossip, Message, PeerId, Ping, Record, Rumors, Status
from gossip.wire.frames import encode_control, run_digest
from simulations.conditions import WAN
from simulations.execution import Execution, Manner, judge
from simulations.figures import Figures, Histogram, News
from simulations.scenario import (
    IDLE_BYTES_PER_S,
    Expected,
    Fault,
    FaultKind,
    Limit,
    Scenario,
    load,
    parse,
    shipped,
)
from simulations.traffic import Meter, framing_bytes
from tests.simulations.worlds import SMALL


def test_the_shipped_scenarios_are_whole() -> None:
    """Fifteen of them, each with a summary and a phase of calm."""
    names = {
        *("calm", "lossy_wan", "stalls", "churn", "mass_restart", "split_and_heal"),
        *("asymmetric_link", "one_bad_accuser", "host_lost", "ten_thousand"),
        *("lossy_ten_minutes", "stalled_ten_minutes", "dial_out", "short_splits"),
        "partial_splits",
    }
    assert names == set(shipped())
    for name in names:
        scenario = load(name)
        assert name == scenario.name
        assert scenario.summary
        assert 0 < scenario.quiet_s <= scenario.calm_s
        assert 0 == scenario.expect.false_downs
        assert IDLE_BYTES_PER_S == scenario.expect.idle_bytes_per_s


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("peers = ", "not TOML"),
        (SMALL + "pears = 3", "unknown key pears"),
        (SMALL.replace("peers = 3", 'peers = "3"'), "peers must be a whole number, not '3'"),
        (SMALL.replace("peers = 3", "peers = 3.5"), "peers must be a whole number"),
        (SMALL.replace("peers = 3", "peers = true"), "peers must be a whole number"),
        (SMALL.replace("peers = 3\n", ""), "peers is missing"),
        (SMALL.replace("seconds = 20", "seconds = nan"), "seconds must be a number"),
        (SMALL.replace("calm_s = 10", "calm_s = 30"), "calm_s must be at most seconds"),
        (SMALL + 'profile = "moon"', "profile must be one of lan, wan, not 'moon'"),
        (SMALL + "conditions = 3", "conditions must be a table"),
        (SMALL + "[conditions]\nlos = 0.1", "unknown key conditions.los"),
        (SMALL + "[conditions]\nloss = 1.5", "conditions: with loss 1 nothing ever happens"),
        (SMALL + "[conditions]\nlatency_s = [1, 2, 3]", "conditions.latency_s must be a number or"),
        (SMALL + "faults = 1", "faults must be a list"),
        (SMALL + "[[faults]]\nat_s = 1", r"faults\[0\].kind is missing"),
        (SMALL + '[[faults]]\nkind = "bite"\nat_s = 1', r"faults\[0\].kind must be one of crash"),
        (SMALL + '[[faults]]\nkind = "crash"', r"faults\[0\]: give one of at_s, per_minute"),
        (
            SMALL + '[[faults]]\nkind = "crash"\nat_s = 15',
            "15 s comes when the calm has begun",
        ),
        (SMALL + '[[faults]]\nkind = "stall"\nat_s = 1\nfor_s = [3, 2]', "least, most"),
        (
            SMALL + '[[faults]]\nkind = "crash"\nat_s = 1\ndisk = "no"',
            r"faults\[0\].disk must be true, false or a share, not 'no'",
        ),
        (
            SMALL + '[[faults]]\nkind = "crash"\nat_s = 1\ndisk = 1.5',
            r"faults\[0\]: disk must be true, false, or a share",
        ),
        (SMALL + "[expect]\nfalse_downs = 0.5", "expect.false_downs must be a whole number"),
    ],
)
def test_a_wrong_scenario_is_told_in_one_line(text: str, complaint: str) -> None:
    """With the key that is wrong."""
    with pytest.raises(UsageError, match=complaint) as wrong:
        parse(text, "mine")

    assert str(wrong.value).startswith("scenario mine: ")
    assert "\n" not in str(wrong.value)


def test_conditions_change_those_of_the_profile() -> None:
    """One number may stand for a range."""
    scenario = parse(SMALL + 'profile = "wan"\n[conditions]\nloss = 0.1\nredial_s = 1', "mine")

    assert (0.02, 0.2) == scenario.conditions.latency_s
    assert 0.1 == scenario.conditions.loss
    assert (1.0, 1.0) == scenario.conditions.redial_s


def scenario_with(*faults: Fault, peers: int = 6, expect: Expected | None = None) -> Scenario:
    """Half a minute of faults, then calm."""
    loose = expect or Expected(false_downs=None)
    return Scenario("mine", "", peers, 100.0, 70.0, 5.0, faults=faults, expect=loose)


@pytest.mark.parametrize("kind", list(FaultKind), ids=str)
def test_every_kind_of_fault_happens_and_is_over_in_the_end(kind: FaultKind) -> None:
    """Counted, and all agree again once nothing goes wrong any more."""
    fault = Fault(kind, at_s=10.0, for_s=(5.0, 8.0), restart_after_s=(1.0, 5.0), count=2)
    outcome = Execution(scenario_with(fault), 3).run()

    assert outcome.ok, outcome.broken
    assert outcome.injected[kind] > 0
    assert math.isfinite(outcome.figures.agreed_s)


def test_a_fault_without_a_restart_leaves_a_gap_that_all_know_of() -> None:
    """Detection is measured at every survivor."""
    fault = Fault(FaultKind.LOSE_HOST, at_s=10.0, count=2)
    outcome = Execution(scenario_with(fault), 3).run()

    assert outcome.ok, outcome.broken
    assert 2 * 4 == outcome.figures.detection.count
    assert 3.0 < outcome.figures.detection.largest_s < 20.0


def test_a_declared_fault_that_never_happens_fails_the_run() -> None:
    """There is nobody to cut off from anybody."""
    fault = Fault(FaultKind.CUT, at_s=10.0)
    outcome = Execution(scenario_with(fault, peers=1), 1).run()

    assert not outcome.ok
    assert "non-vacuity" == outcome.rule
    assert "cut" in outcome.broken


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.CUT_ONE_WAY, FaultKind.LOSSY_LINK])
def test_bad_paths_run_where_a_link_is_and_what_they_took_is_counted(kind: FaultKind) -> None:
    """Among forty, two drawn blindly seldom have a link."""
    fault = Fault(kind, per_minute=20.0, for_s=(5.0, 8.0), loss=0.9)
    run = Execution(scenario_with(fault, peers=40), 3)
    outcome = run.run()

    assert outcome.ok, outcome.broken
    assert outcome.injected[kind] > 3
    assert outcome.dropped[kind] >= outcome.injected[kind]


def test_bad_paths_that_took_nothing_fail_the_run() -> None:
    """It lasts no time at all."""
    fault = Fault(FaultKind.CUT, at_s=10.0, for_s=(0.0, 0.0))
    outcome = Execution(scenario_with(fault), 3).run()

    assert "non-vacuity" == outcome.rule
    assert "dropped nothing: cut" in outcome.broken


@pytest.mark.parametrize("name", ["loss", "duplication", "reordering"])
def test_declared_conditions_are_counted_and_must_hit_a_frame(name: str) -> None:
    """A share that is too small for any frame shows nothing."""
    often = replace(scenario_with(), conditions=replace(WAN, **{name: 0.1}))
    never = replace(scenario_with(), conditions=replace(WAN, **{name: 1e-12}))
    hit, missed = Execution(often, 3).run(), Execution(never, 3).run()

    assert hit.ok, hit.broken
    assert 1 == sum(n > 0 for n in (hit.randomly_lost, hit.duplicated, hit.reordered))
    assert "non-vacuity" == missed.rule
    assert f"hit no frame: {name}" in missed.broken


@pytest.mark.parametrize("disk, least, most", [(True, 40, 40), (False, 0, 0), (0.5, 10, 30)])
def test_all_crash_and_each_is_back_after_its_own_crash(
    disk: bool | float, least: int, most: int
) -> None:
    """Some are back before others crash; so many as asked for keep their disks."""
    fault = Fault(
        FaultKind.RESTART_ALL, at_s=5.0, for_s=(0.0, 20.0), restart_after_s=(1.0, 4.0), disk=disk
    )
    run = Execution(scenario_with(fault, peers=40), 3)
    outcome = run.run()

    assert outcome.ok, outcome.broken
    assert {FaultKind.RESTART_ALL: 40} == outcome.injected
    first, again = run.world.lives[:40], run.world.lives[40:]
    ended_at_s = {life.number: run.guard.truth.subjects[life.me.peer].ended_at_s for life in first}
    pauses_s = [life.started_at - ended_at_s[life.number] for life in again]
    assert 40 == len(again)
    assert 1.0 <= min(pauses_s)
    assert max(pauses_s) <= 4.0
    assert min(life.started_at for life in again) < max(ended_at_s.values()) - 10.0
    assert least <= sum(life.birth.me.boot > 1 for life in again) <= most


def test_a_boot_may_be_had_twice_where_a_disk_was_lost_between() -> None:
    """The life after it ends before it has heard of those that were before it."""

    def crash(at_s: float, disk: bool) -> Fault:
        pause_s = (1.0, 1.0)
        return Fault(FaultKind.CRASH, at_s=at_s, targets=(1,), restart_after_s=pause_s, disk=disk)

    faults = (crash(5.0, True), crash(9.0, True), crash(13.0, False), crash(14.0005, True))
    run = Execution(scenario_with(*faults), 3)
    outcome = run.run()

    assert outcome.ok, outcome.broken
    assert [1, 2, 3, 1, 2] == [life.birth.me.boot for life in run.world.lives if life.number == 1]


def test_disabled_faults_do_not_happen_and_are_not_missed() -> None:
    """And the others are what they were."""
    faults = (Fault(FaultKind.CRASH, at_s=10.0), Fault(FaultKind.STALL, at_s=12.0))
    without = Manner(disabled=(FaultKind.CRASH,), lines=True)
    outcome = Execution(scenario_with(*faults), 1, without).run()
    whole = Execution(scenario_with(*faults), 1, replace(without, disabled=())).run()

    assert outcome.ok, outcome.broken
    assert {FaultKind.STALL: 1} == outcome.injected
    stalled = [[line for line in each.transcript if "stalls" in line] for each in (outcome, whole)]
    assert stalled[0] == stalled[1]


def test_what_is_expected_is_compared() -> None:
    """Each limit with its measure; what is not given is not asked."""
    figures = Figures(false_downs=1, agreed_s=9.0, idle_bytes_per_s=100.0)
    figures.idle_messages_per_s, figures.idle_gossip_messages = 3.0, 4
    figures.known.add(5.0)
    figures.news[News.LEFT].add(4.2)
    strict = Expected(0, 4.0, 4.0, 8.0, 1, 99.0, 2.0, 3)

    def rules(found: Figures, expect: Expected, peers: int = 100) -> list[str]:
        return [each.rule for each in judge(found, expect, peers, round_s=0.5)]

    assert {"M10", "M11", "M22", "M23", "M25", "M26"} == {*rules(figures, strict)}
    assert [] == rules(figures, Expected(false_downs=None))
    assert ["M23"] == rules(Figures(idle_bytes_per_s=0.0), Expected(agree_s=1.0))
    assert ["M26"] == rules(Figures(idle_bytes_per_s=2001.0), Expected(false_downs=None))
    assert ["M26"] == rules(Figures(), Expected())  # nothing was measured
    news = Expected(false_downs=None, rounds_over_log2=1)
    assert ["M22"] == rules(figures, news, peers=128)  # nine rounds, eight are allowed
    assert [] == rules(figures, news, peers=129)
    assert ["M22"] == rules(Figures(idle_bytes_per_s=0.0), news)  # nothing was new


def test_a_limit_goes_with_the_logarithm_of_the_peers() -> None:
    """As given where it is given; beyond that it stays."""
    limit = Limit(((100, 9.0), (1000, 11.0), (10_000, 15.0)))

    assert [9.0, 9.0, 11.0, 15.0, 15.0] == [limit.at(n) for n in (1, 100, 1000, 10_000, 100_000)]
    assert limit.at(316) == pytest.approx(10.0, abs=0.01)
    assert limit.at(3162) == pytest.approx(13.0, abs=0.01)


def test_a_scenario_expects_more_time_of_more_peers() -> None:
    """From its file, whatever ``--peers`` says."""
    base = "summary = 's'\npeers = 3\nseconds = 40\n[expect]\n"
    scenario = parse(base + "agree_s = { 100 = 45, 1000 = 60 }", "limits")

    assert Limit(((100, 45.0), (1000, 60.0))) == scenario.expect.agree_s
    for wrong, said in (
        ("agree_s = {}", "expect.agree_s: a limit by peers needs"),
        ("agree_s = { ten = 1 }", "expect.agree_s.ten must be a number of peers"),
        ("agree_s = { 10 = 'x' }", "expect.agree_s.10 must be a number"),
        ("agree_s = { 10 = 1, 5 = 2 }", "expect.agree_s: numbers of peers must rise"),
        ("rounds_over_log2 = { 10 = 1 }", "expect.rounds_over_log2 must be a whole number"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            parse(base + wrong, "limits")


def test_a_histogram_knows_its_quantiles() -> None:
    """Within its resolution, and none when it is empty."""
    histogram = Histogram()
    assert math.isnan(histogram.quantile_s(0.5))
    for hundredth in range(1, 101):
        histogram.add(hundredth / 10)

    assert histogram.quantile_s(0.5) == pytest.approx(5.0, abs=0.03)
    assert histogram.quantile_s(0.99) == pytest.approx(9.9, abs=0.03)
    assert 10.0 == histogram.largest_s


def test_an_accusation_does_not_shorten_the_time_to_refute() -> None:
    """What a deaf peer said of everybody adds to what is doubted since, but not to its age."""
    accused = Fault(FaultKind.ACCUSE, at_s=6.8, for_s=(1.0, 1.0), targets=(3,))
    crash = Fault(FaultKind.CRASH, at_s=7.8, targets=(1, 2))
    scenario = replace(scenario_with(accused, crash, peers=8, expect=Expected()), conditions=WAN)
    for seed in range(1, 5):
        outcome = Execution(scenario, seed).run()
        assert outcome.ok, outcome.broken


def record(number: int) -> Record:
    """Somebody."""
    host, peer = f"10.0.0.{number}", PeerId(f"{number:016x}")
    return Record(peer, 1, 0, Status.ALIVE, f"{host}:4100", f"{host}:4101", host)


def rumor(claims: int) -> Gossip:
    """News about so many."""
    return Gossip(Rumors(tuple(record(number) for number in range(claims))))


@pytest.mark.parametrize(
    "message_of",
    [
        lambda at: Ping(at, 1),
        lambda at: Ack(at, 1, 0, Rumors((record(at % 5),) * (at % 3))),
        lambda at: rumor(at * 7 % 20),
    ],
    ids=["ping", "ack", "gossip"],
)
def test_counted_bytes_are_those_of_the_wire(message_of: Callable[[int], Message]) -> None:
    """Within a few percent, though few messages are encoded."""
    meter, exact, me = Meter("run"), 0, record(1).peer
    for at in range(5000):
        message = message_of(at)
        meter.count(me, message)
        frame = encode_control(run_digest("run"), me, message)  # type: ignore[arg-type]  # there are no chunks here
        exact += len(frame) + framing_bytes(len(frame))

    (kind,) = meter.kinds.values()
    assert kind.encoded < 300
    assert meter.sent_bytes == pytest.approx(exact, rel=0.03)


# The command.
