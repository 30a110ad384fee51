"""What one run came to, and a folder that keeps it.

A folder holds one JSON line per run in ``runs.jsonl``, keyed by a digest of everything that decides
the run's outcome, so that what is done is never done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gossip.errors import UsageError

RUNS_FILE = "runs.jsonl"
FORMAT = 2
"""Part of every key; raised when what a field means changes."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that decides a run's outcome. ``method`` names what is trained (see ``Spec.curve``);
    options and conditions are as typed, sorted."""

    task: str
    task_options: tuple[tuple[str, str], ...]
    method: str
    inner: str
    rate: float
    peers: int
    seed: int
    steps: int
    split: str
    conditions: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """A digest of all fields."""
        text = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Point:
    """The mean model somewhere along a run. ``samples`` of all peers; ``sent_bytes`` per peer."""

    step: int
    samples: int
    sent_bytes: float
    loss: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; losses are on held-out data, infinite when it diverged.

    worst, typical: the worst and the mean of single peers before any finishing; finished: the
    worst after it (gossip alone finishes). accuracy: of the mean model, NaN for tasks without.
    events: exchanges per peer; messages, blocking, paired: see Traffic. code: see ``version``.
    """

    key: str
    job: Job
    loss: float
    worst: float
    typical: float
    finished: float
    accuracy: float
    finished_accuracy: float
    disagreement: float
    wrapped: float
    parameters: int
    batch: int
    sent_bytes: float
    events: int
    messages: int
    blocking: bool
    paired: bool
    code: str
    seconds: float
    curve: tuple[Point, ...]


class Store:
    """Outcomes by key; in a folder, or (None) in memory alone.

    Raises UsageError when the folder cannot be read or written. A last line cut short by a crash is
    left out, and its run done again.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / RUNS_FILE
        self._outcomes: dict[str, Outcome] = {}
        if folder is None or self._file is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._file.read_bytes().splitlines() if self._file.exists() else []
        except OSError as wrong:
            raise UsageError(f"cannot keep results in {folder}: {wrong.strerror}") from wrong
        for line in lines:
            outcome = _read(line)
            if outcome is not None:
                self._outcomes[outcome.key] = outcome

    def get(self, job: Job) -> Outcome | None:
        """What is known of a job."""
        return self._outcomes.get(job.key)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; on disk before this returns. Raises UsageError when it cannot be."""
        self._outcomes[outcome.key] = outcome
        if self._file is None:
            return
        line = json.dumps(plain(asdict(outcome))) + "\n"
        try:
            with self._file.open("ab") as file:
                if file.tell() and not _ends_whole(self._file):
                    file.write(b"\n")
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as wrong:
            raise UsageError(
                f"cannot write {self._file}: {wrong.strerror}; what was done before is kept there"
            ) from wrong


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def plain(value: Any) -> Any:
    """As JSON can say it: it has no infinity and no NaN, which are written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _read(line: bytes) -> Outcome | None:
    """One line back, or None when it is no whole outcome of this format."""
    try:
        raw = json.loads(line)
        job = Job(**{**raw["job"], **{key: _pairs(raw["job"][key]) for key in PAIRS}})
        curve = tuple(
            Point(each["step"], each["samples"], float(each["sent_bytes"]), float(each["loss"]))
            for each in raw["curve"]
        )
        values: dict[str, Any] = {
            each.name: float(raw[each.name]) if each.type == "float" else raw[each.name]
            for each in fields(Outcome)
            if each.name not in ("job", "curve")
        }
        outcome = Outcome(job=job, curve=curve, **values)
    except (ValueError, KeyError, TypeError):
        return None
    return outcome if outcome.key == job.key else None


PAIRS = ("task_options", "conditions")


def _pairs(raw: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in raw)
