"""One ``gossip run`` process: started, signaled, and seen through the lines it writes.

Everything known about a peer comes from its ``events.jsonl`` and its exit status, as it would for
a peer on another machine; nothing reaches into it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from peers.identity import write_whole
from simulations.local.sights import EVENTS, Sights

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
STDERR_LINES: Final = 12


class State(Enum):
    """What a peer is doing, as far as this machine can tell."""

    STARTING = "starting"
    JOINED = "joined"
    TRAINING = "training"
    FINISHING = "finishing"
    FROZEN = "frozen"
    FINISHED = "finished"
    KILLED = "killed"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether the process is gone."""
        return self in (State.FINISHED, State.KILLED, State.ENDED, State.FAILED)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """The last status or result line of a peer; see ``peers.runner``."""

    phase: str = ""
    step: int = 0
    samples: int = 0
    samples_total: int = 0
    loss: float = math.nan
    figures: dict[str, float] = field(default_factory=dict)
    partner: str = ""
    swaps: int = 0
    swaps_failed: int = 0
    one_sided: int = 0
    disagreement: float = math.nan
    sent_bytes: int = 0
    received_bytes: int = 0
    members: int = 0
    census: dict[str, int] = field(default_factory=dict)
    shards: tuple[int, ...] = ()
    stall_s: float = 0.0
    gap_s: float = 0.0

    @staticmethod
    def of(line: dict[str, object]) -> PeerStatus:
        """Out of one line; fields it lacks keep their defaults."""
        figures, shards = line.get("figures"), line.get("shards")
        census = line.get("census")
        return PeerStatus(
            phase=str(line.get("phase", "")),
            step=int(_number(line, "step")),
            samples=int(_number(line, "samples")),
            samples_total=int(_number(line, "samples_total")),
            loss=_number(line, "loss", math.nan),
            figures=dict(figures) if isinstance(figures, dict) else {},
            partner=str(line.get("partner", "")),
            swaps=int(_number(line, "swaps")),
            swaps_failed=int(_number(line, "swaps_failed")),
            one_sided=int(_number(line, "one_sided")),
            disagreement=_number(line, "disagreement", math.nan),
            sent_bytes=int(_number(line, "sent_bytes")),
            received_bytes=int(_number(line, "received_bytes")),
            members=int(_number(line, "members")),
            census=dict(census) if isinstance(census, dict) else {},
            shards=tuple(shards) if isinstance(shards, list) else (),
            stall_s=_number(line, "stall_s"),
            gap_s=_number(line, "gap_s"),
        )


class Tail:
    """The lines that were added to a file since the last look; a half line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_bytes = 0

    def lines(self) -> list[bytes]:
        """Whole new lines; none while there is no file."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset_bytes)
            content = file.read()
        whole, newline, _ = content.rpartition(b"\n")
        self._offset_bytes += len(whole) + len(newline)
        return whole.split(b"\n") if newline else []


class PeerProcess:
    """A peer of a local run. ``look`` brings everything public up to date.

    sights         how it sees each of the others.
    first_shards   the shards it trained on first.
    start_s        from its start as a process until it had a model.
    """

    def __init__(self, index: int, folder: Path, peer: str) -> None:
        self.index = index
        self.folder = folder
        self.peer = peer
        self.status = PeerStatus()
        self.sights = Sights()
        self.address: str | None = None
        self.join_s = math.nan
        self.start_s = math.nan
        self.first_shards: tuple[int, ...] = ()
        self.has_result = False
        self.frozen = False
        self.killed = False
        self.ended = False
        self.heard_at_s = time.monotonic()
        self._began_s = 0.0
        self._code: int | None = None
        self._tail = Tail(folder / "events.jsonl")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str]) -> None:
        """Start ``gossip run`` with these arguments in a session of its own.

        Its identity is written first, so that where shards are placed follows from the run.
        """
        self.folder.mkdir(parents=True)
        identity = json.dumps({"peer": self.peer, "boot": 0})
        write_whole(self.folder / "identity.json", identity.encode())
        command = [sys.executable, "-m", "peers", "run", *arguments, "--dir", str(self.folder)]
        self._began_s = self.heard_at_s = time.monotonic()
        with (
            (self.folder / "stdout.log").open("wb") as stdout,
            (self.folder / "stderr.log").open("wb") as stderr,
        ):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
                preexec_fn=dies_with(os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Of the process; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """Of the process; None before its end."""
        return None if self._process is None else self._process.poll()

    @property
    def state(self) -> State:
        """What it was doing at the last look."""
        code = self._code
        if code is not None:
            if self.killed and code == -signal.SIGKILL:
                return State.KILLED
            if self.ended:
                return State.ENDED
            return State.FINISHED if code == 0 and self.has_result else State.FAILED
        if self.frozen:
            return State.FROZEN
        if self.address is None:
            return State.STARTING
        if self.status.phase.startswith("finish"):
            return State.FINISHING
        return State.TRAINING if self.status.step else State.JOINED

    def look(self) -> None:
        """See whether it still runs, and read what it has written since the last look."""
        self._code = self.returncode  # first: what it wrote before its end is then read below
        for text in self._tail.lines():
            self.heard_at_s = time.monotonic()
            line = json.loads(text)
            match line["event"]:
                case "joined":
                    self.address = str(line["address"])
                    self.join_s = float(line["join_s"])
                    self.start_s = time.monotonic() - self._began_s
                case "status" | "result":
                    self.status = PeerStatus.of(line)
                    self.has_result = line["event"] == "result"
                    self.first_shards = self.first_shards or self.status.shards
                case event if event in EVENTS:
                    self.sights.hear(line)
                case _:
                    continue

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False when it is gone already."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for its end, so long; whether it came. True for one never started."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        path = self.folder / "stderr.log"
        if not path.exists():
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-STDERR_LINES:])


def peer_id(run: str, seed: int, index: int) -> str:
    """The id of peer ``index`` of a run: the same for the same run and seed."""
    return hashlib.blake2b(f"{run}/{seed}/{index}".encode(), digest_size=8).hexdigest()


def dies_with(parent: int) -> Callable[[], None] | None:
    """For a child to run before it becomes a peer: kernel, end me when ``parent`` ends.

    So nothing is left over even when the parent is killed. None where the system has no such wish
    (it is Linux's); a terminal's Ctrl-C and SIGTERM are answered everywhere.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def wish() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the wish was made
            os._exit(128 + signal.SIGKILL)

    return wish


def _number(line: dict[str, object], key: str, otherwise: float = 0.0) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else otherwise
