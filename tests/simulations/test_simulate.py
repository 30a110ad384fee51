"""The command ``gossip simulate``: what it prints, and what it says of wrong words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peers.cli import main
from simulations.execution import Execution
from tests.simulations.worlds import SMALL


def small_file(folder: Path, extra: str = "") -> str:
    """A scenario in a file."""
    path = folder / "small.toml"
    path.write_text(SMALL + extra, encoding="utf-8")
    return str(path)


def test_the_command_prints_a_line_of_json_a_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With figures and faults, and what was not measured as null."""
    fault = '[[faults]]\nkind = "stall"\nat_s = 2\nfor_s = 0.2'
    code = main(["simulate", small_file(tmp_path, fault), "--json", "--seeds", "4..6"])

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 0 == code
    assert [4, 5, 6] == [line["seed"] for line in lines]
    for line in lines:
        assert line["ok"]
        assert {"stall": 1} == line["faults"]
        assert line["detect_p50_s"] is None
        assert line["events"] > 100
        assert 0 < line["idle_bytes_per_s"] < 5000


def test_the_command_tells_people_and_writes_a_transcript(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few lines, and a file with one line an event."""
    transcript = tmp_path / "transcript"
    code = main(["simulate", small_file(tmp_path), "--transcript", str(transcript)])

    printed = capsys.readouterr().out
    assert 0 == code
    assert printed.startswith("small: 3 peers, 20 s, seed 1: ok\n")
    lines = transcript.read_text(encoding="utf-8").splitlines()
    assert any("Ping<-" in line for line in lines)


def test_a_failure_names_rule_and_repeats_by_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rule at the same time."""
    path = small_file(tmp_path, "[expect]\nidle_bytes_per_s = 1")
    assert 1 == main(["simulate", path, "--json", "--seed", "9", "--peers", "4"])
    first = json.loads(capsys.readouterr().out)
    assert "M26" == first["rule"]
    assert f"gossip simulate {path} --seed 9 --peers 4" == first["repeat"]

    words = first["repeat"].split()[1:]
    assert 1 == main(words)
    assert first["broken"] in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["nowhere"], "no scenario 'nowhere': give a file or one of asymmetric_link"),
        (["calm", "--seed", "1", "--seeds", "1..2"], "--seed or --seeds"),
        (["calm", "--seeds", "3..1"], "not A..B"),
        (["calm", "--peers", "0"], "at least 1"),
        (["calm", "--ignore", "M99"], "invalid choice: 'M99' (choose from 'M2', 'M4',"),
        (["host_lost", "--peers", "22"], "host_lost needs at least 23 peers: with 22 not"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 64."""
    try:
        code = main(["simulate", *words])
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        code = ended.code

    assert 64 == code
    told = capsys.readouterr().err
    assert complaint in told
    assert 1 == told.count("\n")


def test_an_interrupted_run_tells_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C: what came of it so far, and 130."""

    def interrupt(execution: Execution) -> None:
        execution.world.run(3.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(Execution, "_measure_quiet", interrupt)

    assert 130 == main(["simulate", small_file(tmp_path), "--seeds", "1..9"])
    printed = capsys.readouterr().out
    assert "seed 1: interrupted" in printed
    assert "seed 2" not in printed


def test_a_bug_of_a_core_is_told_with_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The traceback on stderr, the command that repeats it in the summary."""

    def fail(execution: Execution) -> None:
        raise IndexError("a core is wrong")

    monkeypatch.setattr(Execution, "_measure_quiet", fail)

    assert 1 == main(["simulate", small_file(tmp_path), "--seed", "7"])
    printed = capsys.readouterr()
    assert "Traceback" in printed.err
    assert "bug: IndexError: a core is wrong" in printed.out
    assert "--seed 7" in printed.out
