"""Every deliberate bug is noticed by a rule that should, and by none where there is no bug."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

import simulations
from simulations import simulate
from simulations.execution import Outcome
from simulations.sabotage import SABOTAGE, Bug
from simulations.scenario import Scenario
from simulations.self_test import SEEDS_MAX, control, hunt, main, table
from simulations.small_scenarios import QUIET

BUGS = list(SABOTAGE.values())


@functools.cache
def without_bug(scenario: Scenario, seed: int) -> Outcome:
    """The same for all bugs that share a scenario."""
    return control(scenario, seed)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_deliberate_bug_is_noticed(bug: Bug) -> None:
    """Within a few seeds, by a rule that tells what is wrong; without it they all pass."""
    found = hunt(bug)

    assert found.rule, f"nothing noticed under seeds 1 to {SEEDS_MAX} that {bug.broken}"
    assert found.rule in bug.rules, found.text
    for seed in range(1, found.seed + 1):
        outcome = without_bug(bug.scenario, seed)
        assert outcome.ok, outcome.broken


def test_there_are_bugs_of_all_kinds() -> None:
    """Records, verdicts, news and traffic: all rules of membership but those that are laws of
    single objects, or of bytes; ``test_properties_bite`` has bugs for them."""
    assert len(BUGS) >= 16
    rules = {rule for bug in BUGS for rule in bug.rules}
    laws = {*(f"M{n}" for n in (1, 3, 9, 13, 15, 27))}
    assert rules == {*(f"M{n}" for n in range(1, 30))} - laws


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_ends_with_its_block(bug: Bug) -> None:
    """Else it would break whatever runs next in this process."""
    places = [(owner, name) for owner, name, _ in bug.replacements()]
    before = [inspect.getattr_static(owner, name) for owner, name in places]

    with bug.at_work():
        assert before != [inspect.getattr_static(owner, name) for owner, name in places]
    with pytest.raises(KeyError), bug.at_work():
        raise KeyError

    assert before == [inspect.getattr_static(owner, name) for owner, name in places]


def test_a_bug_that_nothing_notices_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A change that breaks nothing is not noticed, and the command fails on it."""
    harmless = Bug("harmless", "nothing", replace(QUIET, peers=4), ("M2",), list)
    assert not hunt(harmless, seeds_max=1).ok

    SABOTAGE["harmless"] = harmless
    try:
        assert main(["harmless", "--seeds", "1"]) == 1
    finally:
        del SABOTAGE["harmless"]
    assert "BAD harmless: NOT NOTICED" in capsys.readouterr().out


def test_the_table_of_the_readme_is_that_of_the_bugs() -> None:
    """``python -m simulations.self_test --table`` writes it."""
    text = (Path(simulations.__file__).parent / "README.md").read_text(encoding="utf-8")

    assert table() in text


def test_any_scenario_can_be_sabotaged(capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line, which then fails; the command to repeat it says so."""
    arguments = ["split_and_heal", "--peers", "8", "--sabotage", "no_knocks"]
    assert simulate.main(arguments) == 1

    assert "repeat: gossip simulate split_and_heal --seed 1 --peers 8 --sabotage no_knocks" in (
        capsys.readouterr().out
    )
