"""Starting ``gossip local`` and ``gossip demo`` as a user does, and seeing what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0
"""Far above what a run takes; a run that reaches it fails its test."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line of stdout, as JSON."""
        found = json.loads(self.stdout.splitlines()[-1])
        assert isinstance(found, dict)
        return found


class Run:
    """One ``gossip`` command with temporary files of its own, and all processes it started."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peers", *words],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._folder = folder

    def peers(self) -> list[psutil.Process]:
        """Peers' processes that run now, whoever their parent is: their folders are ours."""
        found = []
        for each in psutil.process_iter(["cmdline", "status"]):
            words = each.info["cmdline"] or []
            zombie = each.info["status"] == psutil.STATUS_ZOMBIE
            if "run" in words and any(str(self._folder) in word for word in words) and not zombie:
                found.append(each)
        return found

    def leftovers(self) -> list[str]:
        """Temporary files it left, but for the folder of torch's compiler, which torch keeps."""
        names = [each.name for each in self.temporary.iterdir()]
        return [name for name in names if not name.startswith("torchinductor_")]

    def wait(self) -> Ended:
        """Wait for its end. Raises TimeoutExpired, and kills it, when that takes too long."""
        try:
            stdout, stderr = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Ended(self.process.returncode, stdout, stderr)

    def left(self) -> list[psutil.Process]:
        """Peers that still run a moment after its end; they are killed, to spare the next test."""
        _, alive = psutil.wait_procs(self.peers(), timeout=5.0)
        for each in alive:
            each.kill()
        return list(alive)


def ended(words: Sequence[str], folder: Path) -> Ended:
    """A command from start to end."""
    return Run(words, folder).wait()


def lines(peer_folder: Path, event: str) -> list[dict[str, Any]]:
    """All lines of one kind that a peer wrote."""
    path = peer_folder / "events.jsonl"
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    return [line for line in map(json.loads, whole) if line["event"] == event]


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    """Look again and again until it holds; fails after ``limit_s``."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.05)
