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

    def __init__(self) -> None:
        self._heap: list[tuple[Seconds, int, Name]] = []
        self._current: dict[Name, int] = {}
        self._counter = 0

    def set(self, name: Name, at: Seconds) -> None:
        """Ring ``name`` at ``at``, whatever was set before."""
        self._counter += 1
        self._current[name] = self._counter
        heapq.heappush(self._heap, (at, self._counter, name))
        if len(self._heap) > 2 * len(self._current) + STALE_MAX:
            self._heap = [each for each in self._heap if self._current.get(each[2]) == each[1]]
            heapq.heapify(self._heap)

    def clear(self, name: Name) -> None:
        """Forget ``name``; clearing an unset name is allowed."""
        self._current.pop(name, None)

    def __contains__(self, name: Name) -> bool:
        return name in self._current

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: Seconds) -> list[Name]:
        """Names whose time has come, earliest first; they are cleared."""
        names: list[Name] = []
        while self.earliest() <= now:
            _, _, name = heapq.heappop(self._heap)
            del self._current[name]
            names.append(name)
        return names
