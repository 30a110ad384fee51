"""What is to happen, in order of time.

One heap of all events touches memory all over for each of them. So only the events of the next
few milliseconds are kept in order; later ones lie unsorted in slots of that width, each sorted
when its time comes. The order is that of one heap: by time, then by number.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from gossip.messages import Seconds

Event: TypeAlias = tuple[Seconds, int, int, Any, Any]
"""When, a number that tells equal times apart, what kind, and two things that belong to it."""


SOON: Final = 1024
"""Slots that are found without a search: nearly all frames and most timers are not later."""


class Agenda:
    """Events to come. ``near`` are those of the present slot, the next one last: each is let go
    while it is at hand."""

    __slots__ = ("_far", "_slots", "_soon", "near", "per_s", "slot")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.slot = 0
        self.near: list[Event] = []
        # The next slots by their number, modulo SOON; beyond them by number.
        self._soon: list[list[Event]] = [[] for _ in range(SOON)]
        self._far: dict[int, list[Event]] = {}
        # Of both, the slots that have events; some twice.
        self._slots: list[int] = []

    def push(self, event: Event) -> None:
        """Take an event that is not before the last one popped."""
        slot = int(event[0] * self.per_s)
        if slot <= self.slot:
            at = len(self.near)
            while at and self.near[at - 1] < event:
                at -= 1
            self.near.insert(at, event)
            return
        is_soon = slot - self.slot < SOON
        there = self._soon[slot % SOON] if is_soon else self._far.setdefault(slot, [])
        if not there:
            heappush(self._slots, slot)
        there.append(event)

    def next_slot(self) -> bool:
        """Go on to the next slot that has events; False when there is none."""
        if not self._slots:
            return False
        slot = self.slot = heappop(self._slots)
        while self._slots and self._slots[0] == slot:
            heappop(self._slots)
        self.near, self._soon[slot % SOON] = self._soon[slot % SOON], []
        self.near += self._far.pop(slot, ())
        self.near.sort(reverse=True)
        return True
