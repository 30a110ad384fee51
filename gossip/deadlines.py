"""Named deadlines; the earliest is what a machine reports as its own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

from gossip.messages import Seconds

Name = TypeVar("Name", bound=Hashable)


STALE_MAX = 64
"""Moved or cleared entries that may wait in the heap before it is swept."""


class Deadlines(Generic[Name]):
    """At most one deadline a name. Setting a name again moves it; ties ring in the order set.

    Invariant: ``earliest()`` is the minimum over the names set and not cleared, or ``math.inf``.
    After each ``set`` the heap holds at most twice the names set, and STALE_MAX entries more.
    """

    __slots__ = ("_counter", "_current", "_heap", "at")

    def __init__(self) -> None:
        self._heap: list[tuple[Seconds, int, Name]] = []
        self._current: dict[Name, int] = {}
        self._counter = 0
        self.at: Seconds = math.inf
        """The same as ``earliest()``, to be read: it is asked for after every input."""

    def set(self, name: Name, at: Seconds) -> None:
        """Ring ``name`` at ``at``, whatever was set before."""
        self._counter += 1
        self._current[name] = self._counter
        heapq.heappush(self._heap, (at, self._counter, name))
        if len(self._heap) > 2 * len(self._current) + STALE_MAX:
            self._heap = [each for each in self._heap if self._current.get(each[2]) == each[1]]
            heapq.heapify(self._heap)
        self._look()

    def clear(self, name: Name) -> None:
        """Forget ``name``; clearing an unset name is allowed."""
        if self._current.pop(name, None) is not None:
            self._look()

    def __contains__(self, name: Name) -> bool:
        return name in self._current

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        return self.at

    def due(self, now: Seconds) -> list[Name]:
        """Names whose time has come, earliest first; they are cleared."""
        names: list[Name] = []
        while self.at <= now:
            _, _, name = heapq.heappop(self._heap)
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
                self.at = top[0]
                return
            heapq.heappop(heap)
        self.at = math.inf
