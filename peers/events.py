"""What happened to this peer, one JSON object per line, for people and for programs.

Every line has ``at_s`` (seconds since the peer began) and ``event``. The file is only appended to,
a line at a time, so a reader never sees half of one, and kill -9 loses at most the last.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TextIO

from gossip.errors import UsageError
from gossip.machine import (
    AnchorNotFinite,
    Declined,
    Fault,
    MemberChanged,
    ReachChanged,
    Report,
    SwapClosed,
    TurnedAway,
)
from gossip.transport.transport import LinkClosed, LinkOpened

log = logging.getLogger("gossip.peer")
log.addHandler(logging.NullHandler())

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

EVENTS_BYTES_MAX = 256 << 20

QUIET = (SwapClosed, Declined, Fault)
"""Reports that come many a second: counted in the status line, not logged one by one."""


def plain(value: object) -> Plain:
    """A value as JSON knows it: dataclasses by field, enums by name, bytes in hex, NaN as null."""
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value)


class EventLog:
    """Writes ``events.jsonl``; stops, and warns once, when the disk is full."""

    def __init__(self, path: Path | None, peer: str) -> None:
        self._began_s = time.monotonic()
        self._peer = peer
        self._file: TextIO | None = None
        self._left_bytes = EVENTS_BYTES_MAX
        self._faults_told_s: dict[str, float] = {}
        if path is not None:
            try:
                self._file = path.open("a", encoding="utf-8", buffering=1)
            except OSError as wrong:
                raise UsageError(f"cannot write {path}: {wrong.strerror}") from wrong

    def write(self, event: str, values: Mapping[str, object]) -> None:
        """Append one line; any thread (one ``write`` call of the file per line)."""
        file = self._file
        if file is None:
            return
        line: dict[str, Plain] = {
            "at_s": round(time.monotonic() - self._began_s, 4),
            "unix_s": round(time.time(), 3),
            "event": event,
            "reporter": self._peer,
        }
        line.update((key, plain(value)) for key, value in values.items())
        text = json.dumps(line, allow_nan=False) + "\n"
        self._left_bytes -= len(text)
        try:
            if self._left_bytes < 0:
                raise OSError(0, f"the file reached {EVENTS_BYTES_MAX >> 20} MiB")
            # The other thread may close the file at the end of a peer's life.
            with contextlib.suppress(ValueError):
                file.write(text)
        except OSError as wrong:
            self._file = None
            with contextlib.suppress(OSError):  # what could not be written cannot be flushed
                file.close()
            log.warning("events are no longer written: %s; training goes on", wrong.strerror)

    def report(self, report: Report) -> None:
        """One report of the core: a line in the file, and in the log if people care."""
        name = _snake(type(report).__name__)
        if isinstance(report, Fault) and not self._is_worth_a_line(report):
            return
        values = plain(report)
        assert isinstance(values, dict)
        self.write(name, values)
        if isinstance(report, TurnedAway):
            # The peer itself says it in words for people.
            log.debug("turned away by %s: %s", report.by[:6], report.detail)
        elif isinstance(report, MemberChanged):
            record = report.record
            status = record.status.name.lower()
            log.info(
                "member %s at %s is %s: %s",
                record.peer[:6],
                record.control_address,
                status,
                report.why,
            )
        elif isinstance(report, ReachChanged):
            reach = report.reach.name.lower()
            log.info("reach of %s is %s: %s", report.peer[:6], reach, report.why)
        elif isinstance(report, AnchorNotFinite):
            log.warning(
                "this peer's parameters are not finite any more: it trains on, but swaps no more"
            )
        elif not isinstance(report, QUIET):
            log.info("%s %s", name, " ".join(f"{key}={each}" for key, each in values.items()))

    def link(self, event: LinkOpened | LinkClosed) -> None:
        """A link opened or was lost, and why: evidence beside the verdicts of the core."""
        values = plain(event)
        assert isinstance(values, dict)
        self.write(_snake(type(event).__name__), values)
        if isinstance(event, LinkClosed):
            log.debug("link to %s lost: %s", event.peer[:6], event.cause.name.lower())

    def close(self) -> None:
        """Flush and close."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as wrong:
            log.warning("the last events are lost: %s", wrong.strerror)

    def _is_worth_a_line(self, fault: Fault) -> bool:
        """One line a kind and second: strangers must not be able to fill the disk."""
        now_s = time.monotonic()
        if now_s - self._faults_told_s.get(fault.kind, -math.inf) < 1.0:
            return False
        self._faults_told_s[fault.kind] = now_s
        return True


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")
