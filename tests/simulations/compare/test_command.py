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
import torch

from gossip.errors import UsageError
from peers.cli import main
from simulations.compare import results, summary
from simulations.compare.chart import Axis, Series, draw
from simulations.compare.links import Machine
from simulations.compare.registry import METHODS, make_method, read_spec, read_specs
from simulations.compare.results import Store
from simulations.compare.summary import Row, front_of, helpful_peers, interval, rows_of
from simulations.compare.sweep import RATES, Group, Plan
from tests.simulations.compare.outcomes import JOB, outcome_of


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


def test_ddp_is_compared_at_the_rest_that_suits_it_best() -> None:
    """Each method has a rest of its own; another optimizer is another matter."""
    losses = {"muon": (1.0, 2.0), "muon:rest=0.5": (1.25, 1.5), "adamw": (3.0, 6.0)}
    specs = (read_spec("ddp"), read_spec("gossip"))
    plan = Plan(JOB, specs, dict.fromkeys(losses, (0.1,)), (0,))
    store, groups = Store(None), {}
    for inner, pair in losses.items():
        for spec, loss in zip(specs, pair, strict=True):
            group = groups[spec.curve, inner, JOB.peers] = Group(plan, spec, inner, JOB.peers)
            for wanted in group.wanted():
                store.add(outcome_of(wanted, loss))
                group.note(outcome_of(wanted, loss))
            assert not group.wanted()
    gaps = {(row.spec.name, row.inner): row.gap for row in rows_of(plan, store, groups, Machine())}
    assert gaps["gossip", "muon:rest=0.5"] == pytest.approx(0.5)
    assert gaps["ddp", "muon:rest=0.5"] == pytest.approx(0.25)
    assert gaps["gossip", "muon"] == gaps["gossip", "adamw"] == pytest.approx(1.0)


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
    to DDP, and than NoLoCo and groups, too; a second call does nothing again; the report is one
    sound page that loads nothing."""
    page, folder = tmp_path / "report.html", tmp_path / "runs"
    methods = "ddp server local-sgd:every=20 diloco:every=20 noloco:every=20 group:every=20"
    methods += " gossip:fragments=2"
    words = ["compare", "digits", "--steps", "120", "--inner", "sgd", "--rates", "0.05,0.1"]
    words += ["--methods", methods, "--peers", "4", "--processes", "1", "--json"]
    words += ["--html", str(page), "--resume", str(folder), "--seeds", "0,1"]
    assert main(words) == 0
    rows = {row["spec"].split(":")[0]: row for row in json.loads(capsys.readouterr().out)}

    assert rows["ddp"]["loss"] == rows["server"]["loss"]
    assert rows["ddp"]["sent_bytes"] == pytest.approx(1.5 * rows["server"]["sent_bytes"])
    for rare in ("local-sgd", "diloco", "noloco", "group"):
        sends_all = rare in ("local-sgd", "diloco")
        assert not sends_all or rows["gossip"]["sent_bytes"] < rows[rare]["sent_bytes"]
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


def test_an_inner_optimizer_is_one_however_it_is_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither beside itself nor in a folder that is taken up again is it run twice."""
    words = ["compare", "digits", "--steps", "5", "--rates", "0.01", "--peers", "2", "--json"]
    words += ["--methods", "local-sgd", "--processes", "1", "--resume", str(tmp_path)]
    assert main([*words, "--inner", "muon,muon:rest=1,muon:rest=.5,muon:rest=0.50"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["inner"] for row in rows] == ["muon", "muon:rest=0.5"]

    assert main([*words, "--inner", "muon:rest=1.0,muon:rest=5e-1"]) == 0
    assert rows == json.loads(capsys.readouterr().out)
    assert (tmp_path / results.RUNS_FILE).read_text().count("\n") == 2


@pytest.mark.processes
def test_a_run_does_not_depend_on_how_many_run_at_once(tmp_path: Path) -> None:
    """To the last bit; with two threads a longer run of digits ends otherwise than with one."""
    words = ["compare", "digits", "--steps", "60", "--rates", "0.1", "--peers", "2", "--json"]
    words += ["--methods", "ddp", "--inner", "sgd"]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for processes in ("1", "2"):
            kept = ["--processes", processes, "--resume", str(tmp_path / processes)]
            assert main([*words, *kept]) == 0
        assert 2 == torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)
    alone, beside = (
        [point["loss"] for point in json.loads(runs.read_text())["curve"]]
        for runs in sorted(tmp_path.glob("*/" + results.RUNS_FILE))
    )
    assert alone == beside


def test_a_quick_comparison_tries_one_rate_fewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lowest is left out."""
    words = ["compare", "line", "--quick", "--steps", "5", "--inner", "sgd", "--json"]
    words += ["--methods", "ddp", "--peers", "2", "--processes", "1", "--resume", str(tmp_path)]
    assert main(words) == 0
    capsys.readouterr()
    runs = (tmp_path / results.RUNS_FILE).read_text().splitlines()
    tried = [json.loads(line)["job"]["rate"] for line in runs]
    assert list(RATES["sgd"][1:]) == tried[:2]


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


def test_a_lie_is_told_from_the_samples_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where attackers lie, the table names the run without the lie; that run needs no remark."""
    words = ["compare", "line", "--steps", "5", "--inner", "sgd", "--rates", "0.1", "--peers", "4"]
    words += ["--methods", "gossip", "--processes", "1", "--resume", str(tmp_path)]
    said = {}
    for more in ("", "--attackers 1", "--attackers 1 --attack idle"):
        assert main([*words, *more.split()]) == 0
        said[more] = "--attack idle" in " ".join(capsys.readouterr().out.split())
    assert list(said.values()) == [False, True, False]


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
