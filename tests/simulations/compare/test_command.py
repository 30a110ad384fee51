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
from simulations.compare import results
from simulations.compare.chart import Axis, Series, draw
from simulations.compare.links import (
    LINKS,
    Link,
    Machine,
    auto_every,
    run_s,
    seconds_to,
    slowest_of,
)
from simulations.compare.registry import METHODS, make_method, read_spec, read_specs
from simulations.compare.results import Job, Outcome, Point, Store
from simulations.compare.summary import interval
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
        ("gossip:meeting=never", "must be one of recent, random"),
        ("gossip:offer=int4", "differences"),
        ("gossip:every=0", "at least 1"),
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
    group = Group(plan, plan.specs[0], "sgd")
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
    """Blocking methods pay bytes, latency and the slowest peer; others pay only a full line."""
    machine = Machine(0.1, 0.2)
    waits, goes_on = (outcome_of(JOB, blocking=blocking) for blocking in (True, False))
    assert run_s(goes_on, LINKS[1], machine) == pytest.approx(10.0)
    times = [run_s(waits, link, machine) for link in LINKS]
    assert 10.0 < times[0] < times[1] < times[2]
    flooded = outcome_of(JOB, sent=1e9)
    assert run_s(flooded, LINKS[2], machine) == pytest.approx(800.0)
    assert slowest_of(8, 25, machine) < slowest_of(64, 25, machine)
    assert slowest_of(8, 25, Machine(0.1, 0.0)) == pytest.approx(2.5)


def test_seconds_to_a_target_are_read_off_the_curve() -> None:
    """Half-way down an even fall is half the time; what is never reached takes for ever."""
    run = outcome_of(JOB)
    assert seconds_to(run, 1.5, LINKS[0], Machine()) == pytest.approx(5.0)
    assert math.isinf(seconds_to(run, 0.5, LINKS[0], Machine()))


def test_auto_cadence_fills_the_link_and_never_waits() -> None:
    """More bits a second never mean rarer swaps; on an endless line, one at every step."""
    machine = Machine(0.1)
    every = [auto_every(1e6, Link("x", bits, 0.01), machine) for bits in (1e6, 1e7, 1e8, 1e12)]
    assert every == sorted(every, reverse=True)
    assert every[-1] == 1
    for bits, steps in zip((1e6, 1e7, 1e8), every, strict=False):
        assert 8 * 1e6 <= bits * steps * machine.step_s


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


@pytest.mark.parametrize(
    "words, says",
    [
        (["nosuch"], "unknown task"),
        (["digits", "--methods", "nosuch"], "unknown method"),
        (["digits", "--peers", "1"], "at least 2"),
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
