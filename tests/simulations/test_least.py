"""What ``gossip simulate`` refuses because of too few peers, and whom it counts on."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import simulations
from peers.cli import main
from simulations.execution import Execution
from simulations.least import peers_least
from simulations.rules import RULES
from simulations.scenario import Expected, Fault, FaultKind, Scenario, load

CHECKS = ("calm", "execution", "guard")
"""Modules that say which rule was broken."""


@pytest.mark.parametrize(
    "name, least", [("lossy_wan", 11), ("dial_out", 15), ("split_and_heal", 2), ("calm", 1)]
)
def test_with_the_least_peers_all_that_was_declared_happens(name: str, least: int) -> None:
    """And with one fewer it does not, where that leaves out a whole kind. How soon so few know is
    another matter: fewer watch each, and one that is starved is a larger part of them."""
    scenario = load(name)
    assert least == peers_least(scenario)
    unasked = replace(scenario.expect, detect_p50_s=None, detect_p99_s=None)
    scenario = replace(scenario, expect=unasked)
    outcome = Execution(replace(scenario, peers=least), 1).run()
    assert outcome.ok, outcome.broken
    if name == "split_and_heal":
        assert not Execution(replace(scenario, peers=least - 1), 1).run().ok


@pytest.mark.parametrize(
    "faults, least",
    [
        ([Fault(FaultKind.STALL, at_s=1.0, count=4)], 4),
        ([Fault(FaultKind.CRASH, at_s=1.0, count=4)], 5),
        ([Fault(FaultKind.CRASH, at_s=1.0, count=4)] * 2, 9),
        ([Fault(FaultKind.CRASH, at_s=1.0, count=4, restart_after_s=(1.0, 2.0))] * 2, 5),
        ([Fault(FaultKind.CUT, per_minute=1.0)], 2),
        ([Fault(FaultKind.FREEZE, at_s=1.0, count=4), Fault(FaultKind.LEAVE, at_s=3.0)], 5),
        ([Fault(FaultKind.FREEZE, at_s=1.0, count=4), Fault(FaultKind.LEAVE, at_s=6.5)], 4),
        ([Fault(FaultKind.SPLIT, at_s=1.0, targets=(1, 2))], 3),
        ([Fault(FaultKind.SPLIT, at_s=1.0, targets=(1, 2), bridge=2)], 5),
        ([Fault(FaultKind.SPLIT, at_s=1.0, sides=3, bridge=2)], 5),
        ([Fault(FaultKind.ACCUSE, at_s=1.0, targets=(7,))], 8),
    ],
)
def test_the_least_number_of_peers_follows_from_the_faults(faults: list[Fault], least: int) -> None:
    """Counts, targets, and who has to be left; what is gone for good is not hit again."""
    scenario = Scenario("mine", "", 1, 60.0, faults=tuple(faults))
    assert least == peers_least(scenario)
    assert 1 == peers_least(replace(scenario, every_fault=False))


def test_newcomers_may_be_targets_too() -> None:
    """They have the numbers after those that were there."""
    come = Fault(FaultKind.REPLACE, at_s=1.0, count=2)
    hit = Fault(FaultKind.STALL, at_s=9.0, targets=(5,))
    scenario = Scenario("mine", "", 1, 60.0, faults=(hit, come))
    assert 4 == peers_least(scenario)
    often = replace(come, at_s=None, per_minute=1.0, count=1)
    assert 2 == peers_least(replace(scenario, faults=(hit, often)))
    heard = Expected(rounds_over_log2=1)
    assert 3 == peers_least(replace(scenario, faults=(often,), expect=heard))


def test_the_rules_that_can_be_ignored_are_those_that_checks_name() -> None:
    """All of them, and no others."""
    named = set()
    for check in CHECKS:
        tree = ast.parse((Path(simulations.__file__).parent / f"{check}.py").read_text("utf-8"))
        texts = (each.value for each in ast.walk(tree) if isinstance(each, ast.Constant))
        named |= {text for text in texts if re.fullmatch(r"M\d+|non-vacuity", str(text))}
    assert set(RULES) == named


def test_each_of_many_seeds_has_a_transcript_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, the last one was all that was left."""
    words = ["simulate", "mass_restart", "--peers", "2", "--seeds", "3..4"]
    assert 0 == main([*words, "--transcript", str(tmp_path / "run.txt")])
    assert 2 == capsys.readouterr().out.count(": ok")
    texts = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    assert {"run-3.txt", "run-4.txt"} == set(texts)
    assert texts["run-3.txt"] != texts["run-4.txt"]
