"""The command line: one clear line and a documented exit code for everything that is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peers.cli import main
from tests.lab.peers import a_peer, small_model, wait_until


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code, and what went to standard error without log lines."""
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    return code, "\n".join(lines)


@pytest.mark.parametrize(
    "words, says",
    [
        (["run"], "TASK"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "nosuch"], "known are digits, line"),
        (["run", "nosuch.py:task"], "nosuch.py"),
        (["run", "line", "--every", "0"], "at least 1"),
        (["run", "line", "--samples", "many"], "'many' is not a whole number"),
        (["run", "line", "--seconds", "-1"], "above 0"),
        (["run", "line", "--codec", "int9"], "int9"),
        (["run", "line", "--codec", "int4"], "int4"),
        (["run", "line", "--codec", "wrap4", "--reply-codec", "fp32"], "could not be read"),
        (["run", "line", "--reply-codec", "wrap4"], "wrap4"),
        (["run", "line", "--join", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["run", "line", "--listen", "127.0.0.1:99999"], "not HOST:PORT"),
        (["run", "line", "--upload", "0.2"], "0.2 must be at least 0.21 MB/s"),
        (["run", "line", "--device", "abacus"], "unknown device 'abacus'"),
        (["run", "line", "--device", "cuda:77"], "cuda:77"),
        (["run", "line", "-o", "foo=1"], "unknown option 'foo'"),
        (["run", "line", "-o", "foo"], "NAME=VALUE"),
        (["run", "line", "--outer-every", "5"], "gossip-nesterov"),
        (["run", "line", "--dir", "/dev/null/x"], "cannot make the folder"),
        (["run", "line", "--listen", "0.0.0.0:0"], "--key"),
        (["run", "line", "--dial-out"], "needs a contact"),
        (["run", "line", "--dial-out", "--listen", "127.0.0.1:0"], "leave out --listen"),
        (["run", "line", "--dial-out", "--advertise", "x", "--join", "y:1"], "to advertise"),
        (["replay", "/nowhere/journal"], "cannot read"),
        (["key", "/nowhere/key"], "cannot write"),
    ],
)
def test_bad_use_is_one_line_and_64(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """The line says what is wrong, not where in our code; no other peer's port is in the way."""
    if words[0] == "run" and len(words) > 1 and not {"--listen", "--dial-out"} & set(words):
        words = [*words, "--listen", "127.0.0.1:0"]
    code, text = run(capsys, *words)
    assert (64, 1) == (code, len(text.splitlines())), text
    assert says in text


def test_an_unreachable_contact_is_69(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens there."""
    code, text = run(
        capsys,
        "run",
        "line",
        "--listen",
        "127.0.0.1:0",
        "--join",
        "127.0.0.1:1",
        "--join-timeout",
        "1",
    )
    assert (69, 1) == (code, len(text.splitlines())), text
    assert "127.0.0.1:1 (refused)" in text


def test_a_port_in_use_is_71(capsys: pytest.CaptureFixture[str]) -> None:
    """And the port is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = run(capsys, "run", "line", "--listen", f"127.0.0.1:{port}")
    assert (71, 1) == (code, len(text.splitlines())), text
    assert str(port) in text


def test_another_model_is_65(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The swarm trains something else than ``line``: one line names the tensor that differs, and
    says what to do; nothing of what the peers told each other is logged beside it."""
    caplog.set_level("INFO")
    with a_peer(small_model(1), run="line") as founder:
        code, text = run(
            capsys, "run", "line", "--listen", "127.0.0.1:0", "--join", founder.address
        )
    assert (65, 1) == (code, len(text.splitlines())), text
    assert "weight" in text
    assert "nothing was mixed. Give both the same task" in text
    assert not any("turned" in each.message or "layout" in each.message for each in caplog.records)


def test_a_run_ends_with_a_result_and_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``--samples`` stops it; the result is one JSON line; the model is on disk."""
    code = main(
        [
            "run",
            "line",
            "--listen",
            "127.0.0.1:0",
            "--samples",
            "1600",
            "--dir",
            str(tmp_path),
            "--json",
        ]
    )
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 == code
    assert 1600 <= result["samples"] == result["samples_total"]
    assert (tmp_path / "model.safetensors").stat().st_size > 0


def test_a_key_is_written_once_and_for_its_owner_only(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Mode 0600, and never over an old one."""
    path = tmp_path / "run.key"
    assert 0 == main(["key", str(path)])
    assert 0o600 == path.stat().st_mode & 0o777
    written = path.read_bytes()
    code, text = run(capsys, "key", str(path))
    assert 64 == code
    assert "never overwritten" in text
    assert written == path.read_bytes()


def start_endless_peer(folder: Path) -> subprocess.Popen[bytes]:
    """A real process that trains until it is told to stop."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "peers",
            "run",
            "line",
            "--listen",
            "127.0.0.1:0",
            "--dir",
            str(folder),
            "--pace",
            "50",
            "--threads",
            "1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    events = folder / "events.jsonl"
    wait_until(lambda: events.exists() and '"joined"' in events.read_text(), "the peer joined", 60)
    return process


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_politely_with_0(tmp_path: Path, number: signal.Signals) -> None:
    """The result and the model are written, and the leave is told."""
    process = start_endless_peer(tmp_path)
    process.send_signal(number)
    assert 0 == process.wait(timeout=20)
    assert '"departed"' in (tmp_path / "events.jsonl").read_text()
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.processes
def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    """128 plus the signal's number, whatever is under way."""
    process = start_endless_peer(tmp_path)
    # Frozen while both signals are sent, so that neither can be missed.
    os.kill(process.pid, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    began_s = time.monotonic()
    assert process.wait(timeout=20) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert time.monotonic() - began_s < 10
