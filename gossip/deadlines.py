"""Named deadlines; the earliest is what a machine reports as its own."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from gossip.messages import Seconds

Name = TypeVar("Name", bound=Hashable)


class Deadlines(Generic[Name]):
    """At most one deadline a name. Setting a name again moves it; ties ring in the order set.

    Invariant: ``earliest()`` is the minimum over the names set and not cleared, or ``math.inf``.
    Most are moved or cleared long before they come up, so they are kept in no order: when the
    earliest is over, the next is looked for among all. That costs as much as names are set, which
    are few, or many but seldom due (tombstones); a heap costs more each time that one is set. Worst
    are n names cleared in the order set, n^2 / 2 looks: 0.5 s for 10,000, interpreted.
    """

    __slots__ = ("_alarm", "_times", "at")

    def __init__(self) -> None:
        # In the order set.
        self._times: dict[Name, Seconds] = {}
        self._alarm: Alarm | None = None
        self.at: Seconds = math.inf
        """The same as ``earliest()``, to be read: it is asked for after every input."""

    def set(self, name: Name, at: Seconds) -> None:
        """Ring ``name`` at ``at``, whatever was set before."""
        before = self._times.pop(name, math.inf)
        self._times[name] = at
        if at < self.at:
            self._move(at)
        elif before <= self.at:
            self._look()

    def clear(self, name: Name) -> None:
        """Forget ``name``; clearing an unset name is allowed."""
        if self._times.pop(name, math.inf) <= self.at:
            self._look()

    def __contains__(self, name: Name) -> bool:
        return name in self._times

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        return self.at

    def due(self, now: Seconds) -> list[Name]:
        """Names whose time has come, earliest first; they are cleared."""
        if self.at > now:
            return []
        times = self._times
        names = [name for name, at in times.items() if at <= now]
        if len(names) > 1:
            names.sort(key=times.__getitem__)
        for name in names:
            del times[name]
        self._look()
        return names

    def _look(self) -> None:
        """The earliest is over, or was moved: find the next one."""
        earliest = math.inf
        for at in self._times.values():
            if at < earliest:
                earliest = at
        self._move(earliest)

    def _move(self, at: Seconds) -> None:
        before, self.at = self.at, at
        alarm = self._alarm
        if alarm is None:
            return
        if at < alarm.at:
            alarm.at = at
        elif before <= alarm.at:
            alarm.is_stale = True

    def heard_by(self, alarm: Alarm) -> None:
        """Tell this alarm of every change from now on."""
        self._alarm = alarm


class Alarm:
    """The earliest of several deadlines; they are not all asked after every input.

    Invariant: ``at`` is never later than the earliest of them, and equal to it unless it
    ``is_stale``.
    """

    __slots__ = ("_heard", "at", "is_stale")

    def __init__(self, *heard: Deadlines[Any]) -> None:
        self._heard = heard
        self.at: Seconds = math.inf
        self.is_stale = True
        for each in heard:
            each.heard_by(self)

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        if self.is_stale:
            at = math.inf
            for each in self._heard:
                at = min(at, each.at)
            self.at = at
            self.is_stale = False
        return self.at
