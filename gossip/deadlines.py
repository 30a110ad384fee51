"""Named deadlines; the earliest is what a machine reports as its own."""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, TypeVar

from gossip.messages import Seconds

Name = TypeVar("Name", bound=Hashable)


STALE_MAX: Final = 64
"""Moved or cleared entries that may wait in the heap before it is swept."""


class Deadlines(Generic[Name]):
    """At most one deadline a name. Setting a name again moves it; ties ring in the order set.

    Invariant: ``earliest()`` is the minimum over the names set and not cleared, or ``math.inf``.
    After each ``set`` the heap holds at most twice the names set, and STALE_MAX entries more.
    """

    __slots__ = ("_alarm", "_counter", "_current", "_heap", "at")

    def __init__(self) -> None:
        self._heap: list[tuple[Seconds, int, Name]] = []
        self._current: dict[Name, int] = {}
        self._counter = 0
        self._alarm: Alarm | None = None
        self.at: Seconds = math.inf
        """The same as ``earliest()``, to be read: it is asked for after every input."""

    def set(self, name: Name, at: Seconds) -> None:
        """Ring ``name`` at ``at``, whatever was set before."""
        current = self._current
        was_set = name in current
        self._counter += 1
        current[name] = self._counter
        heappush(self._heap, (at, self._counter, name))
        if len(self._heap) > 2 * len(current) + STALE_MAX:
            self._heap = [each for each in self._heap if current.get(each[2]) == each[1]]
            heapify(self._heap)
        if was_set:
            self._look()
        elif at < self.at:
            self._move(at)

    def clear(self, name: Name) -> None:
        """Forget ``name``; clearing an unset name is allowed."""
        number = self._current.pop(name, None)
        if number is not None and self._heap[0][1] == number:
            self._look()  # else the earliest is still there

    def __contains__(self, name: Name) -> bool:
        return name in self._current

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        return self.at

    def due(self, now: Seconds) -> list[Name]:
        """Names whose time has come, earliest first; they are cleared."""
        names: list[Name] = []
        if self.at > now:
            return names
        while self.at <= now:
            _, _, name = heappop(self._heap)
            del self._current[name]
            names.append(name)
            self._look()
        return names

    def _look(self) -> None:
        """Drop what was moved or cleared from the top of the heap."""
        heap, current = self._heap, self._current
        while heap:
            top = heap[0]
            if current.get(top[2]) == top[1]:
                self._move(top[0])
                return
            heappop(heap)
        self._move(math.inf)

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
