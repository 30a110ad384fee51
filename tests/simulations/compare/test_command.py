"""The command, the store, the sweep, the report; and the order of methods on a small task."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest

from gossip.errors import UsageError
from peers.cli import main
from peers.tasks.digits import DigitsTask
from simulations.compare import results, summary
from simulations.compare.cadence import auto_every, with_cadence
from simulations.compare.chart import Axis, Series, draw
from simulations.compare.links import (
    LINKS,
    Link,
    Machine,
    run_s,
    seconds_to,
    slowest_of,
)
from simulations.compare.registry import METHODS, make_method, read_spec, read_specs
from simulations.compare.results import Job, Outcome, Point, Store
from simulations.compare.summary import Row, front_of, helpful_peers, interval, rows_of
from simulations.compare.sweep import Group, Plan

JOB = Job("digits", (), "diloco", "sgd", 0.1, 8, 0, 100, "disjoint", ())


def outcome_of(job: Job, loss: float = 1.0, blocking: bool = False, sent: float = 1e6) -> Outcome:
    """A made-up run that ends at ``loss``, falling evenly from twice that."""
    curve = tuple(Point(s, 10 * s, sent * s / 100, loss * (2 - s / 100)) for s in range(5, 101, 5))
    return Outcome(
        key=job.key,
        job=job,
        loss=loss,
        worst=loss,
        typical=loss,
        finished=loss,
        accuracy=math.nan,
        finished_accuracy=math.nan,
        disagreement=0.0,
        wrapped=0.0,
        parameters=1000,
        batch=8,
        sent_bytes=sent,
        events=100,
        messages=2,
        blocking=blocking,
        paired=not blocking,
        code="",
        seconds=1.0,
        curve=curve,
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_made_by_name(name: str) -> None:
    """With the options it has by default."""
    make_method(read_spec(name), 8)


@pytest.mark.parametrize(
    "text, says",
    [
        ("dilico", "unknown method 'dilico'; known are ddp"),
        ("diloco:h=5", "its options are every=25, a=0.9, b=0.7"),
        ("diloco:every", "unknown option 'every'"),
        ("ddp:a=1", "its options are none"),
        ("diloco:every=x", "must be a whole number"),
        ("diloco:a=x", "must be a number"),
        ("gossip:dither=maybe", "must be true or false"),
        ("gossip:early=1.5", "share of the run"),
        ("gossip:early=0.5,every=2,delay=1", "no delay"),
        ("gossip:meeting=never", "must be one of neighbors, recent, random"),
        ("gossip:offer=int4", "differences"),
        ("gossip:every=0", "at least 1"),
        ("gossip:clip=1", "offer int8"),
        ("noloco:a=0.9", "stable for a < b"),
    ],
)
def test_wrong_methods_are_told_what_is_right(text: str, says: str) -> None:
    """One line, before anything runs."""
    from tests.simulations.compare.test_training import field_of

    with pytest.raises(UsageError, match=says):
        field_of(make_method(read_spec(text), 8))


def test_no_method_at_all_is_an_error() -> None:
    """An empty list compares nothing."""
    with pytest.raises(UsageError, match="no method"):
        read_specs(" ; ")


def test_a_store_keeps_outcomes_and_survives_a_torn_line(tmp_path: Path) -> None:
    """What was written whole comes back, infinity and all; a half-written end is left out and
    does not spoil what follows."""
    store = Store(tmp_path / "runs")
    first = outcome_of(JOB)
    second = outcome_of(replace(JOB, seed=1), math.inf)
    store.add(first)
    store.add(second)
    file = tmp_path / "runs" / results.RUNS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 40])

    again = Store(tmp_path / "runs")
    known = again.get(JOB)
    assert known is not None
    assert known.curve == first.curve
    assert again.get(second.job) is None
    again.add(second)
    last = Store(tmp_path / "runs").get(second.job)
    assert last is not None
    assert math.isinf(last.loss)
    assert Store(tmp_path / "runs").get(JOB) is not None


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="cannot keep results"):
        Store(tmp_path / "runs")


def test_the_grid_grows_until_the_best_lies_inside() -> None:
    """A loss that is best at 0.4 is found from a grid of 0.1 and 0.2, at the factor of the grid."""
    plan = Plan(JOB, (read_spec("diloco"),), {"sgd": (0.1, 0.2)}, (0, 1, 2))
    group = Group(plan, plan.specs[0], "sgd", 8)
    asked: list[float] = []
    for _ in range(10):
        jobs = group.wanted()
        if group.best_rate is not None:
            break
        for job in jobs:
            asked.append(job.rate)
            group.note(outcome_of(job, abs(math.log(job.rate / 0.4)) + 1))
    assert group.best_rate == 0.4
    assert sorted(asked) == [0.1, 0.2, 0.4, 0.8]
    assert [job.seed for job in group.wanted()] == [1, 2]


def test_intervals_are_students() -> None:
    """Three values 1, 2, 3: 2 +- 4.303 / sqrt(3)."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert math.isnan(interval([1.0])[1])


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


def test_options_with_alternatives_are_several_methods() -> None:
    """Every combination once; a method's curve does not depend on how it was typed."""
    specs = read_specs("diloco:every=10|25,a=0.5|0.9 ddp ddp")
    assert [spec.text for spec in specs] == [
        "diloco:every=10,a=0.5",
        "diloco:every=10,a=0.9",
        "diloco:every=25,a=0.5",
        "diloco:every=25,a=0.9",
        "ddp",
    ]
    assert read_spec("diloco:a=0.9,every=25").curve == read_spec("diloco").curve
    one, two = "gossip:fragments=3,offer=int8", "gossip:offer=int8,fragments=3"
    assert read_spec(one).curve == read_spec(two).curve


def row_of(loss: float, sent: float = 1e6, peers: int = 8) -> Row:
    """A made-up row of one run."""
    job = replace(JOB, peers=peers)
    plan = Plan(job, (read_spec("diloco"),), {"sgd": (0.1,)}, (0,))
    store, group = Store(None), Group(plan, plan.specs[0], "sgd", peers)
    for wanted in group.wanted():
        outcome = outcome_of(wanted, loss, sent=sent)
        store.add(outcome)
        group.note(outcome)
    assert not group.wanted()
    return rows_of(plan, store, {group.key: group}, Machine())[0]


def test_the_front_holds_what_nobody_beats_in_both() -> None:
    """Fewer bytes or a lower loss than every other."""
    rows = [row_of(2.0, 1e6), row_of(1.5, 5e6), row_of(1.9, 6e6), row_of(1.4, 9e6)]
    assert [row.loss for row in front_of(rows)] == [2.0, 1.5, 1.4]


def test_more_peers_help_while_the_loss_stays() -> None:
    """The largest number within two in a hundred of the best."""
    rows = [row_of(2.0, peers=2), row_of(2.03, peers=4), row_of(2.2, peers=8)]
    assert helpful_peers(rows) == 4


class _Checker(HTMLParser):
    """Counts what a page holds, and that all that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in ("meta", "line", "circle", "polyline", "polygon"):
            self.open.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href"), f"{tag} loads {value}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_comparison_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits cut by label, four peers: at fewer bytes than DiLoCo or local SGD, gossip is nearer
    to DDP; a second call does nothing again; the report is one sound page that loads nothing."""
    page, folder = tmp_path / "report.html", tmp_path / "runs"
    methods = "ddp server local-sgd:every=20 diloco:every=20 gossip:fragments=2"
    words = ["compare", "digits", "--steps", "120", "--inner", "sgd", "--rates", "0.05,0.1"]
    words += ["--methods", methods, "--peers", "4", "--processes", "1", "--json"]
    words += ["--html", str(page), "--resume", str(folder), "--seeds", "0,1"]
    assert main(words) == 0
    rows = {row["spec"].split(":")[0]: row for row in json.loads(capsys.readouterr().out)}

    assert rows["ddp"]["loss"] == rows["server"]["loss"]
    assert rows["ddp"]["sent_bytes"] == pytest.approx(1.5 * rows["server"]["sent_bytes"])
    for rare in ("local-sgd", "diloco"):
        assert rows["gossip"]["sent_bytes"] < rows[rare]["sent_bytes"]
        assert rows["gossip"]["loss"] < rows[rare]["loss"]
    assert rows["gossip"]["finished"] < 1.1 * rows["gossip"]["loss"]

    lines = (folder / results.RUNS_FILE).read_text().count("\n")
    assert main(words) == 0
    assert (folder / results.RUNS_FILE).read_text().count("\n") == lines

    checker = _Checker()
    checker.feed(page.read_text())
    assert checker.open == []
    assert checker.seen["svg"] == 4
    assert all(spec in page.read_text() for spec in ("local-sgd", "gossip:fragments=2"))
    assert page.stat().st_size < 1_000_000


def test_several_numbers_of_peers_get_equal_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two and four peers: half the steps each; one command tells both, and the page draws a curve
    over the number of peers."""
    page = tmp_path / "report.html"
    words = ["compare", "digits", "--steps", "40", "--inner", "sgd", "--rates", "0.1"]
    words += ["--methods", "gossip", "--peers", "2,4", "--processes", "1", "--html", str(page)]
    assert main([*words, "--resume", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["peers"] for row in rows] == [2, 4]
    assert rows[0]["sent_bytes"] == pytest.approx(2 * rows[1]["sent_bytes"], rel=0.1)
    assert page.read_text().count("<svg") == 9
    assert main([*words, "--resume", str(tmp_path)]) == 0
    assert "of equal samples is within" in " ".join(capsys.readouterr().out.split())


def test_runs_of_other_code_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may be older than the code; its figures are shown, and that they are."""
    words = ["compare", "digits", "--steps", "10", "--inner", "sgd", "--rates", "0.1"]
    words += ["--methods", "gossip", "--peers", "2", "--processes", "1", "--resume", str(tmp_path)]
    assert main(words) == 0
    assert "other code" not in capsys.readouterr().out
    monkeypatch.setattr(summary, "code_digest", lambda: "changed")
    assert main(words) == 0
    assert "other code" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_costs_no_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and the runs are in the folder."""
    words = ["compare", "digits", "--steps", "10", "--inner", "sgd", "--rates", "0.1"]
    words += ["--methods", "gossip", "--peers", "2", "--processes", "1", "--resume", str(tmp_path)]
    assert main([*words, "--html", str(tmp_path / "no" / "page.html")]) == UsageError.exit_code
    assert "cannot write" in capsys.readouterr().err
    assert (tmp_path / results.RUNS_FILE).read_text().count("\n") == 1


@pytest.mark.parametrize(
    "words, says",
    [
        (["nosuch"], "unknown task"),
        (["digits", "--methods", "nosuch"], "unknown method"),
        (["digits", "--peers", "1"], "at least 2"),
        (["digits", "--peers", "few"], "should look like"),
        (["digits", "--target", "-1"], "above 0"),
        (["digits", "--methods", "diloco:every=auto"], "only gossip"),
        (["digits", "--methods", "gossip:every=auto,fragments=x"], "whole number"),
        (["digits", "--step-ms", "0"], "take some time"),
        (["digits", "--methods", "gossip:every=2,delay=2"], "must not exceed every"),
        (["digits", "--inner", "lion"], "unknown inner optimizer"),
        (["digits", "--seeds", "a..b"], "should look like"),
        (["digits", "--rates", "fast"], "should look like"),
        (["digits", "--rates", "-1"], "above 0"),
        (["digits", "--set", "shards"], "should look like"),
        (["digits", "--steps", "5", "--budget", "5"], "not both"),
        (["digits", "--budget", "5"], "below one step"),
        (["digits", "--loss", "1.5"], "shares"),
        (["digits", "--spread", "0.5"], "at least 1"),
    ],
)
def test_wrong_words_are_one_line_and_exit_64(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing runs, nothing is written."""
    assert main(["compare", *words]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_a_chart_draws_what_is_finite() -> None:
    """Infinite and non-positive values on a logarithmic axis are left out, not drawn wrongly."""
    series = [Series("a", [0.0, 1.0, 10.0], [1.0, math.inf, 2.0], 0)]
    svg = draw(series, Axis("x", log=True), Axis("y"), "t")
    assert "nan" not in svg
    assert "inf" not in svg
    assert svg.count("polyline") == 1


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_comparison_that_is_ended_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Its processes end with it, however it ends."""
    words = ["compare", "digits", "--steps", "100000", "--inner", "sgd", "--processes", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "peers", *words, "--resume", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        begun = psutil.Process(command.pid)
        children = wait_for(lambda: [each for each in begun.children() if busy(each)] or None)
        command.send_signal(number)
        command.wait(30)
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert gone
        assert not alive
    finally:
        command.kill()


def busy(process: psutil.Process) -> bool:
    """Whether it has begun to train."""
    return process.is_running() and sum(process.cpu_times()[:2]) > 3.0


def wait_for(look: Callable[[], list[psutil.Process] | None]) -> list[psutil.Process]:
    """What ``look`` finds, within a minute."""
    until_s = time.monotonic() + 60.0
    pause = threading.Event()
    while time.monotonic() < until_s:
        found = look()
        if found is not None:
            return found
        pause.wait(0.2)
    raise AssertionError("nothing began to train within a minute")
