"""What a person sees of ``gossip run`` while it trains."""

from __future__ import annotations

import logging
import os

import pytest

from peers import runner
from peers.cli import main
from peers.settings import PeerConfig
from peers.tasks.line import LineTask


def test_a_run_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Samples of how many, speed, loss, swaps and peers; not once a step."""
    monkeypatch.setattr(runner, "WORD_EVERY_S", 0.05)
    plan = runner.Plan(samples=4_000, pace=500.0)
    with caplog.at_level(logging.INFO, "gossip.peer"):
        result = runner.Runner(LineTask(), plan, PeerConfig()).run([])

    words = [each for each in caplog.messages if "steps/s here" in each]
    assert 1 <= len(words) <= result.steps / 10
    assert " of 4,000 samples, " in words[-1]
    assert words[-1].endswith(" 0 swaps, 1 peers")


def test_flags_are_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped flag could mean another."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "line", "--sample", "100"])
    assert ended.value.code == 64
    assert "unrecognized arguments: --sample" in capsys.readouterr().err


def test_threads_that_wait_do_not_spin_unless_somebody_wants_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command asks OpenMP for it before torch is imported."""
    for before, after in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if before is not None:
            monkeypatch.setenv("OMP_WAIT_POLICY", before)
        with pytest.raises(SystemExit):
            main(["key", "--help"])
        assert os.environ["OMP_WAIT_POLICY"] == after
    capsys.readouterr()
