"""Random scenarios: what they hold, that they keep the rules, and how a soak tells of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from simulations import soak, soaking
from simulations.execution import Execution
from simulations.sabotage import SABOTAGE
from simulations.soaking import LATER, SOAK, soak_scenario


@pytest.mark.parametrize("name", LATER)
def test_random_scenarios_hold_what_came_to_the_menu_later_now_and_then(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what else they hold under a seed is as it was before they did."""
    later = LATER[name]
    whole = [soak_scenario(seed) for seed in range(1, 60)]
    monkeypatch.setattr(soaking, "LATER", {})
    bare = [soak_scenario(seed) for seed in range(1, 60)]
    for full, before in zip(whole, bare, strict=True):
        assert replace(full, faults=full.faults[: len(before.faults)]) == before
    drawn = [[replace(fault, per_minute=1.0) for fault in each.faults] for each in whole]
    assert 5 < sum(later in each for each in drawn) < 30


@pytest.mark.parametrize("seed", range(1, 6))
def test_random_scenarios_run_and_differ(seed: int) -> None:
    """Chaos, then agreement, and no rule is broken on the way."""
    scenario = replace(soak_scenario(seed), peers=min(8, soak_scenario(seed).peers))
    outcome = Execution(scenario, seed).run()

    assert scenario.faults != soak_scenario(seed + 1).faults
    assert outcome.ok, outcome.broken


@pytest.mark.parametrize("seed", [312, 5018])
def test_a_seed_that_once_failed_keeps_every_rule(seed: int) -> None:
    """312: a newcomer is welcomed between two splits by a peer that has not heard of the end of the
    first. 5018: a link is lost to a peer that a dial had found frozen while it was up, and the
    world did not say frozen again."""
    outcome = Execution(soak_scenario(seed), seed).run()

    assert outcome.ok, outcome.broken


def test_a_soak_counts_and_tells_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A tally as JSON, and for each bad seed the command that repeats it."""
    code = soak.main(["--seeds", "3", "--first", "24", "--json"])

    printed = capsys.readouterr()
    tally = json.loads(printed.out)
    assert 3 == tally["seeds"]
    assert tally["events"] > 0
    assert (0, []) == (code, tally["failed_seeds"])


def test_a_soak_tells_how_to_repeat_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """The bad seeds, and for each the command."""
    with SABOTAGE["busy_ignored"].at_work():
        code = soak.main(["--seeds", "3", "--first", "24", "--json"])

    printed = capsys.readouterr()
    failed = json.loads(printed.out)["failed_seeds"]
    assert 1 == code
    assert failed
    assert all(f"gossip simulate {SOAK} --seed {seed}" in printed.err for seed in failed)
