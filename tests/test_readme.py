"""The README's blocks run: Python as it stands, the two machines as two processes on loopback."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from peers.cli.flags import add_task_flags
from peers.cli.run import make_parser
from simulations import simulate
from simulations.scenario import shipped

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_HOST = "192.0.2.10"
"""Machine 1 in the README (an address reserved for documentation, RFC 5737)."""


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of each ``gossip`` command of a console block."""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        shlex.split(line.removeprefix("$ "), comments=True)
        for line in lines
        if line.startswith("$ gossip")
    ]


def test_there_are_blocks_to_run() -> None:
    """A README without them would make the other tests say nothing."""
    assert blocks("python")
    assert any(commands(each) for each in blocks("console"))


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    """Each in a process and a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize("words", [each for text in blocks("console") for each in commands(text)])
def test_run_commands_have_flags_that_exist(words: list[str]) -> None:
    """Every ``gossip run`` line in the README is accepted by the parser."""
    if words[1] == "run":
        assert make_parser().parse_args(words[2:]).task
    elif words[1] == "simulate":
        assert simulate.make_parser().parse_args(words[2:]).scenario in shipped()
    else:
        assert words[1] in ("compare", "demo", "local", "key", "replay")
    assert callable(add_task_flags)


@pytest.mark.processes
def test_the_two_machines_train_one_model(tmp_path: Path) -> None:
    """Machine 1 and machine 2, as written, but on loopback and with fewer samples."""
    (text,) = [each for each in blocks("console") if FIRST_HOST in each]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = []
    for number, words in enumerate(commands(text)):
        here = [word.replace(FIRST_HOST, "127.0.0.1").replace("29700", str(port)) for word in words]
        here = [word.replace("0.0.0.0", "127.0.0.1") for word in here]
        if words[1] == "run":
            for flag, value in (("--samples", "30000"), ("--dir", str(tmp_path / str(number)))):
                here[here.index(flag) + 1] = value
            if number > 1:  # the second machine listens on the same port of another host
                here[here.index("--listen") + 1] = "127.0.0.1:0"
        command = [sys.executable, "-m", "peers", *here[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if words[1] != "run":
            assert 0 == process.wait(timeout=60)
        processes.append(process)
    try:
        for process in processes:
            output, errors = process.communicate(timeout=90)
            assert 0 == process.returncode, errors.decode()
        assert b"agreed" in output
        assert (tmp_path / "2" / "model.safetensors").exists()
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
