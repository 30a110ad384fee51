"""What is to happen, in order of time.

One heap of all events touches memory all over for each of them. So only the events of the next
few milliseconds are kept in a heap; later ones lie unsorted in slots of that width, each sorted
when its time comes. The order is that of one heap: by time, then by number.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

from gossip.messages import Seconds

Event: TypeAlias = tuple[Seconds, int, int, Any, Any]
"""When, a number that tells equal times apart, what kind, and two things that belong to it."""


class Agenda:
    """Events to come; ``near`` holds those of the present slot and is never empty before the end.

    ``push`` is written out once more where every frame passes (``World.send``).
    """

    __slots__ = ("_slots", "far", "near", "per_s", "slot")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.slot = 0
        self.near: list[Event] = []
        self.far: dict[int, list[Event]] = {}
        self._slots: list[int] = []

    def push(self, event: Event) -> None:
        """Take an event that is not before the last one popped."""
        slot = int(event[0] * self.per_s)
        if slot <= self.slot:
            heappush(self.near, event)
            return
        there = self.far.get(slot)
        if there is None:
            self.far[slot] = [event]
            heappush(self._slots, slot)
        else:
            there.append(event)

    def next_slot(self) -> bool:
        """Go on to the next slot that has events; False when there is none."""
        if not self._slots:
            return False
        self.slot = heappop(self._slots)
        self.near = self.far.pop(self.slot)
        heapify(self.near)
        return True
