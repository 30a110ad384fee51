"""Searching for a small scenario that breaks a rule, and writing it down so that it repeats."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.errors import UsageError
from peers.cli import main
from simulations.conditions import Conditions
from simulations.drawing import FAULTS_MAX, Case, cases
from simulations.execution import Execution, Manner, Outcome
from simulations.sabotage import SABOTAGE
from simulations.scenario import (
    PATHS,
    Expected,
    Fault,
    FaultKind,
    Limit,
    Profile,
    Scenario,
    Start,
    load,
    parse,
    shipped,
)
from simulations.scenario_text import as_toml
from simulations.search import Hunt, Search

amounts = st.floats(0.0, 1e300)
shares = st.floats(0.0, 1.0, exclude_max=True)
counts = st.integers(0, 2**63)
ranges = st.tuples(amounts, amounts).map(lambda pair: (min(pair), max(pair)))
texts = st.text(st.characters(exclude_categories=["Cs"]))
rates = st.floats(1e-9, 1e9)
points = st.dictionaries(st.integers(1, 10**6), st.floats(-1e9, 1e9), min_size=1)
limits = points.map(lambda each: Limit(tuple(sorted(each.items()))))
bounds = st.none() | amounts | limits


def split_of(fault: Fault, sides: int, bridge: int, one_way: bool) -> Fault:
    """The same times, but of a split."""
    kind = FaultKind.SPLIT
    return replace(fault, kind=kind, share=0.1, sides=sides, bridge=bridge, one_way=one_way)


def any_faults() -> st.SearchStrategy[Fault]:
    """Of any kind with any numbers, as far as they make sense together."""
    whole = st.builds(
        Fault,
        st.sampled_from(FaultKind),
        at_s=st.floats(0.0, 99.0),
        count=st.integers(1, 99),
        share=st.floats(0.0, 1.0),
        for_s=ranges,
        restart_after_s=st.none() | ranges,
        disk=st.booleans() | st.floats(0.0, 1.0),
        rate=st.tuples(rates, rates).map(lambda pair: (min(pair), max(pair))),
        loss=st.floats(0.0, 1.0),
    )

    def vary(fault: Fault) -> st.SearchStrategy[Fault]:
        often = st.floats(1e-9, 1e9)
        named = st.lists(counts, min_size=2, max_size=2, unique=True).map(tuple)
        sides = st.tuples(st.integers(2, 9), st.integers(0, 9), st.booleans())
        return st.one_of(
            st.just(fault),
            sides.map(lambda each: split_of(fault, *each)),
            often.map(lambda rate: replace(fault, at_s=None, per_minute=rate)),
            often.map(lambda rate: replace(fault, at_s=None, share_per_minute=rate)),
            named.map(lambda ends: replace(fault, kind=PATHS[0], count=1, share=0.0, targets=ends)),
        )

    return whole.flatmap(vary)


def any_conditions() -> st.SearchStrategy[Conditions]:
    """Of any network."""
    tails = st.just((0.0, 0.0)) | st.tuples(st.floats(1e-9, 1.0), rates)
    tail = tails.map(lambda pair: {"tail_share": pair[0], "tail_s": pair[1]})
    return st.builds(lambda usual, late: replace(usual, **late), usual_conditions(), tail)


def usual_conditions() -> st.SearchStrategy[Conditions]:
    """But that no frame is late beyond what others are."""
    return st.builds(
        Conditions,
        ranges,
        amounts,
        shares,
        shares,
        shares,
        st.just(math.inf) | rates,
        amounts,
        amounts,
        ranges,
    )


def any_expectation() -> st.SearchStrategy[Expected]:
    """With limits of every form, and without."""
    maybe, number = st.none() | amounts, st.none() | counts
    return st.builds(Expected, number, bounds, bounds, bounds, number, maybe, maybe, number)


any_scenario = st.builds(
    Scenario,
    st.just("mine"),
    texts,
    st.integers(1, 10**6),
    seconds=st.floats(200.0, 1e6),
    calm_s=st.floats(50.0, 100.0),
    quiet_s=st.floats(0.0, 50.0),
    profile=st.sampled_from(Profile),
    start=st.sampled_from(Start),
    dial_out_share=st.floats(0.0, 1.0),
    conditions=any_conditions(),
    every_fault=st.booleans(),
    faults=st.lists(any_faults(), max_size=3).map(tuple),
    expect=any_expectation(),
)


@settings(max_examples=150)
@given(any_scenario)
def test_a_scenario_comes_back_from_its_file(scenario: Scenario) -> None:
    """To the last bit of the last number, whatever it holds."""
    assert scenario == parse(as_toml(scenario), "mine")


@settings(max_examples=100)
@given(cases())
def test_what_is_drawn_is_small_and_can_be_written_down(case: Case) -> None:
    """Few peers, few faults, each with targets that there are, and peer 0 stays."""
    scenario = case.scenario

    assert scenario == parse(as_toml(scenario), scenario.name)
    assert 2 <= scenario.peers <= 10
    assert 1 <= len(scenario.faults) <= FAULTS_MAX
    for fault in scenario.faults:
        assert bool(fault.targets) is (fault.kind is not FaultKind.RESTART_ALL)
        assert max(fault.targets, default=0) < scenario.peers
        assert fault.at_s is not None
        assert fault.at_s + fault.for_s[1] <= scenario.calm_at_s
        if fault.kind in (FaultKind.CRASH, FaultKind.LEAVE, FaultKind.LOSE_HOST, FaultKind.REPLACE):
            assert 0 not in fault.targets


def test_shipped_scenarios_come_back_too() -> None:
    """With their limits by peers and their profiles."""
    for name in shipped():
        scenario = load(name)
        assert scenario == parse(as_toml(scenario), name)


def test_small_random_scenarios_keep_every_rule() -> None:
    """The same ones each time; what breaks a rule is told as a file and its seed."""
    search = Search(Hunt(examples=110))
    found = search.run()

    assert found is None, found.told(search.tried, f"gossip simulate FILE --seed {found.case.seed}")
    assert search.tried.runs > 80


def run(path: Path, seed: int, bug: str | None) -> Outcome:
    """A file under a seed, as ``gossip simulate`` does it."""
    with nullcontext() if bug is None else SABOTAGE[bug].at_work():
        return Execution(load(str(path)), seed, Manner(lines=True)).run()


@pytest.mark.parametrize(
    "bug, rule, peers, seed", [("leave_without_a_word", "M19", 3, 1), ("no_knocks", "M23", 5, 6)]
)
def test_a_bug_is_found_and_shrunk_to_a_file_that_repeats_it(
    bug: str, rule: str, peers: int, seed: int, tmp_path: Path
) -> None:
    """Few peers, one fault, the same events at the same times; and without the bug it passes."""
    found = Search(Hunt(seed=seed, examples=200, bug=SABOTAGE[bug])).run()
    assert found is not None
    path = tmp_path / "found.toml"
    path.write_text(found.toml, encoding="utf-8")

    again = run(path, found.case.seed, bug)

    assert rule == again.rule
    assert found.outcome.broken == again.broken
    assert (found.outcome.events, found.outcome.frames) == (again.events, again.frames)
    assert again.peers <= peers
    assert 1 == len(found.case.scenario.faults)
    assert len(found.case.scenario.faults) <= len(found.first.scenario.faults)
    assert run(path, found.case.seed, None).ok


def test_the_command_writes_what_it_finds_and_how_to_repeat_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rule, the scenario, the command; which then says the same."""
    path = tmp_path / "found.toml"
    words = ["search", "--examples", "50", "--out", str(path), "--sabotage", "no_trial"]
    assert 1 == main(["simulate", *words])

    printed = capsys.readouterr().out
    assert "search: BROKEN\nM16: " in printed
    assert path.read_text(encoding="utf-8") in printed
    (repeat,) = [line for line in printed.splitlines() if line.startswith("repeat: ")]
    assert 1 == main(repeat.removeprefix("repeat: gossip ").split())
    assert printed.splitlines()[1] in capsys.readouterr().out


def test_the_command_says_when_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How much was tried; and no file."""
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["simulate", "search", "--examples", "5", "--peers", "3"])

    assert "search: 5 scenarios, " in capsys.readouterr().out
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["search", "--seeds", "1..2"], "--seeds cannot be given with search"),
        (["search", "--keep-going"], "--keep-going cannot be given with search"),
        (["calm", "--examples", "3"], "belong to search, which calm is not"),
        (["search", "--sabotage", "no_trial", "--out", "/nowhere/x"], "cannot write /nowhere/x"),
    ],
)
def test_a_wrong_search_is_told_in_one_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 64."""
    assert 64 == main(["simulate", *words])

    told = capsys.readouterr().err
    assert complaint in told
    assert 1 == told.count("\n")


def test_without_hypothesis_the_search_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes with the tests, and nothing else of the product needs it."""
    monkeypatch.delitem(sys.modules, "simulations.search", raising=False)
    monkeypatch.delitem(sys.modules, "simulations.drawing", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)

    assert 64 == main(["simulate", "search"])

    told = capsys.readouterr().err
    assert "search needs hypothesis, which is not installed: pip install" in told


TARGETED = [
    (FaultKind.CRASH, (2, 4), "crashes"),
    (FaultKind.LEAVE, (2, 4), "is asked to leave"),
    (FaultKind.STALL, (1, 3), "stalls"),
    (FaultKind.CUT, (1, 3), "1 and 3 are cut"),
    (FaultKind.SPLIT, (1, 3), "split into [[0, 2, 4, 5], [1, 3]]"),
    (FaultKind.ACCUSE, (3,), "hears nothing"),
]


@pytest.mark.parametrize("kind, targets, text", TARGETED)
def test_a_fault_hits_those_it_names(kind: FaultKind, targets: tuple[int, ...], text: str) -> None:
    """And nobody else, under any seed."""
    fault = Fault(kind, at_s=5.0, for_s=(2.0, 2.0), targets=targets)
    loose = Expected(false_downs=None)
    scenario = Scenario("mine", "", 6, 20.0, 10.0, 5.0, faults=(fault,), expect=loose)
    for seed in (1, 2):
        execution = Execution(scenario, seed, Manner(lines=True, keep_going=True))
        outcome = execution.run()

        hits = [line for line in outcome.transcript if text in line]
        if "p" + str(targets[0]) in hits[0]:
            assert [f"p{number}#1" for number in targets] == [line.split()[2] for line in hits]
        else:
            assert 1 == len(hits)


@pytest.mark.parametrize(
    "kind, changes, complaint",
    [
        ("crash", "targets = [1]\ncount = 2", "give targets, or how many there are"),
        ("crash", "targets = [1]\nshare = 0.5", "give targets, or how many there are"),
        ("crash", "targets = [-1]", "targets are numbers of peers"),
        ("crash", "targets = [1, 1]", "targets must be different peers"),
        ("crash", "targets = [0.5]", r"targets\[0\] must be a whole number"),
        ("cut", "targets = [1]", "a path has two targets"),
        ("accuse", "targets = [1, 2]", "one target accuses"),
        ("restart_all", "targets = [1]", "restart_all hits everybody"),
    ],
)
def test_wrong_targets_are_told(kind: str, changes: str, complaint: str) -> None:
    """Where the file is read."""
    start = 'summary = "s"\npeers = 3\nseconds = 40\n[[faults]]\n'
    with pytest.raises(UsageError, match=complaint):
        parse(f'{start}kind = "{kind}"\nat_s = 1\n{changes}', "mine")
