"""When which peer is killed, frozen or added: typed on a command line, checked before a start.

Times are seconds from the moment all initial peers have joined. Peers are numbered from 0, late
ones after the initial ones in the order of their times.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from enum import Enum

from gossip.errors import UsageError


class Deed(Enum):
    """What is done to a peer's process."""

    START = "start"
    KILL = "kill"
    FREEZE = "freeze"
    THAW = "thaw"


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL of peer ``index``."""

    index: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGSTOP of peer ``index``, and SIGCONT ``for_s`` later."""

    index: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Action:
    """One deed that is due."""

    at_s: float
    index: int
    deed: Deed


@dataclass(frozen=True, slots=True)
class Schedule:
    """All faults of a run; ``late_s`` are the times at which further peers join."""

    kills: tuple[Kill, ...] = ()
    stops: tuple[Stop, ...] = ()
    late_s: tuple[float, ...] = ()

    def check(self, peers: int) -> None:
        """Raise UsageError when it names a peer that a run of ``peers`` initial ones lacks."""
        everybody = peers + len(self.late_s)
        for index in [*(each.index for each in self.kills), *(each.index for each in self.stops)]:
            if index >= everybody:
                last = everybody - 1
                raise UsageError(f"no peer {index}: peers are numbered 0 to {last}")

    def actions(self, peers: int) -> list[Action]:
        """Every deed, earliest first."""
        found = [Action(kill.at_s, kill.index, Deed.KILL) for kill in self.kills]
        for stop in self.stops:
            found.append(Action(stop.at_s, stop.index, Deed.FREEZE))
            found.append(Action(stop.at_s + stop.for_s, stop.index, Deed.THAW))
        for place, late_s in enumerate(sorted(self.late_s)):
            found.append(Action(late_s, peers + place, Deed.START))
        return sorted(found, key=lambda action: (action.at_s, action.index))


def kill(text: str) -> Kill:
    """IDX@SECONDS."""
    index, at, seconds = text.partition("@")
    if not at:
        raise argparse.ArgumentTypeError(f"{text!r} is not IDX@SECONDS")
    return Kill(_index(index), moment(seconds))


def stop(text: str) -> Stop:
    """IDX@SECONDS:FOR."""
    index, at, rest = text.partition("@")
    seconds, colon, length = rest.partition(":")
    if not at or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not IDX@SECONDS:FOR")
    return Stop(_index(index), moment(seconds), moment(length))


def moment(text: str) -> float:
    """Seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} seconds: must be 0 or more")
    return value


def _index(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a peer's number")
    return int(text)
