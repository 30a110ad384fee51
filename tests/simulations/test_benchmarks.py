"""The benchmarks at tiny sizes: they run, they check what they measured, they print JSON."""

from __future__ import annotations

import json
import math
from functools import cache, partial
from typing import Any

import pytest
import torch

from simulations.benchmarks import exchange, stacking, throughput
from simulations.benchmarks.children import Child
from simulations.benchmarks.results import Spread, WrongResult, ratios
from simulations.benchmarks.swapper import pieces

SIDE = {"applied": True, "error": 0.0, "sent_bytes": 4096 + 500, "received_bytes": 4096 + 500}
TRAINED = {"steps": 100, "wall_s": 2.0, "loss": 0.5, "swaps": 2, "disagreement": 0.1}


@pytest.mark.processes
@pytest.mark.parametrize("peers, codec", [(2, "fp32"), (4, "int8")])
def test_exchange_measures_verified_swaps_beside_bare_ones(
    peers: int, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object: every pair swapped, both ways, and so did the bare pairs."""
    code = exchange.main(
        [f"--peers={peers}", "--elements=300000", f"--codec={codec}", "--repeats=2", "--json"]
    )
    figures = json.loads(capsys.readouterr().out)

    assert 0 == code
    assert figures["verified"] is True
    assert (peers, codec) == (figures["peers"], figures["codec"])
    assert figures["wire_bytes"]["smallest"] >= peers * figures["leg_bytes"]
    for name in ("transfer_s", "applied_s", "done_s", "bare_s", "tcp_s", "copy_s"):
        assert 2 == figures[name]["count"]
        assert figures[name]["smallest"] > 0
    assert figures["applied_s"]["median"] > figures["transfer_s"]["median"]


@pytest.mark.processes
def test_throughput_compares_loops_that_swap_with_loops_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object: swaps on and off, and what the hook took. One loop alone is enough here,
    where three would be run with the very same words."""
    monkeypatch.setattr(throughput, "run_once", cache(throughput.run_once))
    code = throughput.main(
        ["--seconds=1", "--repeats=1", "--width=64", "--swaps-per-s=8", "--json"]
    )
    figures = json.loads(capsys.readouterr().out)

    assert 0 == code
    assert figures["verified"] is True
    assert figures["swaps_per_s"]["smallest"] >= 1.0
    assert figures["on_to_off"]["median"] > 0
    assert 0 < figures["hook_mean_s"]["median"] <= figures["hook_max_s"]["largest"]


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"applied": False}, "not applied"),
        ({"error": 1e-3}, "away from the mean"),
        ({"error": math.nan}, "away from the mean"),
        ({"sent_bytes": 4095}, "sent_bytes"),
        ({"received_bytes": 100_000}, "received_bytes"),
    ],
)
def test_a_swap_that_went_wrong_is_no_measurement(wrong: dict[str, Any], why: str) -> None:
    """Not applied, not the mean, or not the bytes it should take."""
    settings = exchange.Settings(elements=1024)
    exchange.verify(settings, SIDE)

    with pytest.raises(WrongResult, match=why):
        exchange.verify(settings, SIDE | wrong)


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"steps": 0}, "did not train"),
        ({"loss": math.inf}, "did not train"),
        ({"swaps": 1}, "only 1 swaps in 2.0 s"),
        ({"disagreement": math.nan}, "disagreement"),
    ],
)
def test_training_that_hardly_swapped_is_no_measurement(wrong: dict[str, Any], why: str) -> None:
    """At least one swap a second, finite loss and disagreement."""
    throughput.verify([[TRAINED]], 1.0)

    with pytest.raises(WrongResult, match=why):
        throughput.verify([[TRAINED, TRAINED | wrong]], 1.0)


def test_the_cadence_makes_up_for_swaps_that_do_not_come_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where offers cross and every second swap is lost, twice as many are due."""
    cadences: list[int | None] = []

    def run_once(settings: throughput.Settings, every: int | None) -> list[dict[str, Any]]:
        cadences.append(every)
        steps = int(90 * settings.seconds)
        swaps = steps / every if every else 0
        return [TRAINED | {"steps": steps, "wall_s": settings.seconds, "swaps": swaps}] * 2

    monkeypatch.setattr(throughput, "run_once", run_once)

    measured = throughput.measure(throughput.Settings(repeats=1, swaps_per_s=1.5))

    assert [None, 120, None, 60, None] == cadences
    assert [60] == measured.every


def test_a_wrong_result_prints_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of complaint, exit code 1."""

    def fail(settings: exchange.Settings) -> exchange.Measured:
        raise WrongResult("a swap was not applied")

    monkeypatch.setattr(exchange, "measure", fail)

    assert 1 == exchange.main(["--elements=1"])
    printed = capsys.readouterr()
    assert "" == printed.out
    assert "exchange: a swap was not applied\n" == printed.err


@pytest.mark.parametrize(
    "run, arguments",
    [
        (exchange.main, ["--peers=3"]),
        (exchange.main, ["--elements=0"]),
        (throughput.main, ["--swaps-per-s=0.5"]),
        (throughput.main, ["--seconds=0"]),
        (throughput.main, ["--device=tpu"]),
        (throughput.main, ["--device=cuda"]),
        (stacking.main, ["--threads=0"]),
        (stacking.main, ["--in-a-row=0"]),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    run: Any,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 64; a machine without a CUDA device is such a case."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(SystemExit) as ended:
        run(arguments)

    assert 64 == ended.value.code
    printed = capsys.readouterr()
    assert "" == printed.out
    assert 1 == printed.err.count("\n")


@pytest.mark.processes
def test_a_child_that_fails_is_noticed_and_gone(capfd: pytest.CaptureFixture[str]) -> None:
    """Its end ends the measurement, and nothing waits for it."""
    child = Child("simulations.benchmarks.bare")

    with pytest.raises(RuntimeError, match="ended early"):
        child.ask("no such action")
    child.close()

    assert "KeyError" in capfd.readouterr().err


@pytest.mark.parametrize("threads, clock", [(1, "CPU"), (2, "wall")])
def test_steps_of_many_threads_are_told_in_wall_time(
    threads: int, clock: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """CPU time of all threads together says nothing of how long a step takes."""
    before = torch.get_num_threads()
    try:
        words = ["--task=line", "--peers=2", "--repeats=1", "--in-a-row=2"]
        words.append(f"--threads={threads}")
        assert 0 == stacking.main(words)
        assert threads == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    printed = capsys.readouterr().out
    told = f"line: {clock} time, torch's threads: {threads}, steps in a row: 2\n"
    assert printed.startswith(told)
    assert "whole steps: together" in printed


def test_steps_in_a_row_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way takes as many in its turn, and the seconds are those of one."""
    taken: list[str] = []
    monkeypatch.setattr(stacking.time, "process_time", lambda: 3.0 * len(taken))
    monkeypatch.setattr(stacking.time, "perf_counter", lambda: 3.0 * len(taken))
    ways = {name: partial(taken.append, name) for name in "ab"}
    assert {"a": 3.0, "b": 3.0} == stacking._best_s(ways, repeats=2, in_a_row=2)
    assert list("aabbaabb") == taken


def test_both_sides_know_what_the_other_filled_in() -> None:
    """Values depend on repeat and side alone, and differ between them."""
    mine, theirs, again, later = (
        torch.cat([values for _, values in pieces(repeat, index, (1 << 20) + 512)])
        for repeat, index in [(3, 0), (3, 1), (3, 0), (4, 0)]
    )

    assert torch.equal(mine, again)
    assert not torch.equal(mine, theirs)
    assert not torch.equal(mine, later)
    assert 1.0 >= float(mine.abs().amax()) > 0.99


def test_a_ratio_is_taken_repeat_by_repeat() -> None:
    """So that a machine that slows down for a while does not spoil it."""
    assert Spread(2.0, 1.5, 3.0, 3) == ratios([2.0, 30.0, 3.0], [1.0, 10.0, 2.0])
