"""Named deadlines; the earliest is what a machine reports as its own."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Hashable
from typing import Generic, TypeVar

from gossip.messages import Seconds

Name = TypeVar("Name", bound=Hashable)


class Earliest:
    """The earliest of some deadlines, and who is told when it moves."""

    __slots__ = ("_alarm", "at")

    def __init__(self) -> None:
        self._alarm: Alarm | None = None
        self.at: Seconds = math.inf
        """The same as ``earliest()``, to be read: it is asked for after every input."""

    def earliest(self) -> Seconds:
        """The next time something is due, or ``math.inf``."""
        return self.at

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


class Deadlines(Earliest, Generic[Name]):
    """At most one deadline a name. Setting a name again moves it; ties ring in the order set.

    Invariant: ``earliest()`` is the minimum over the names set and not cleared, or ``math.inf``.
    Most are moved or cleared long before they come up, so they are kept in no order: when the
    earliest is over, the next is looked for among all. That costs as much as names are set, which
    are few (else see ``ManyDeadlines``); a heap costs more each time that one is set.
    """

    __slots__ = ("_times",)

    def __init__(self) -> None:
        super().__init__()
        # In the order set.
        self._times: dict[Name, Seconds] = {}

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


class Moment:
    """A time that so many names share."""

    __slots__ = ("at", "count")

    def __init__(self, at: Seconds) -> None:
        self.at = at
        self.count = 0


class ManyDeadlines(Earliest, Generic[Name]):
    """The same for thousands of names that are set at a few times, as tombstones are when a split
    takes half of a large group away: names set for one time share it.

    Invariant: ``_order`` are the times of all names, rising, and of no others. Setting a name looks
    through the times that are later, mostly none; clearing the last name of a time looks for it
    among all, by halves.
    """

    __slots__ = ("_moments", "_order")

    def __init__(self) -> None:
        super().__init__()
        # In the order set.
        self._moments: dict[Name, Moment] = {}
        self._order: list[Moment] = []

    def set(self, name: Name, at: Seconds) -> None:
        """Ring ``name`` at ``at``, whatever was set before."""
        before = self._moments.pop(name, None)
        moment = self._moment(at)
        moment.count += 1
        self._moments[name] = moment
        if before is not None:
            self._leave(before)
        self._look()

    def clear(self, name: Name) -> None:
        """Forget ``name``; clearing an unset name is allowed."""
        moment = self._moments.pop(name, None)
        if moment is not None:
            self._leave(moment)
            self._look()

    def __contains__(self, name: Name) -> bool:
        return name in self._moments

    def due(self, now: Seconds) -> list[Name]:
        """Names whose time has come, earliest first; they are cleared."""
        if self.at > now:
            return []
        found = [(name, moment) for name, moment in self._moments.items() if moment.at <= now]
        found.sort(key=lambda each: each[1].at)
        for name, moment in found:
            del self._moments[name]
            self._leave(moment)
        self._look()
        return [name for name, _ in found]

    def _moment(self, at: Seconds) -> Moment:
        """The moment of this time, made if there is none."""
        order = self._order
        place = len(order)
        while place and order[place - 1].at > at:
            place -= 1
        if place and order[place - 1].at == at:
            return order[place - 1]
        moment = Moment(at)
        order.insert(place, moment)
        return moment

    def _leave(self, moment: Moment) -> None:
        """One name fewer is set for this time."""
        moment.count -= 1
        if not moment.count:
            del self._order[bisect_left(self._order, moment.at, key=_at)]

    def _look(self) -> None:
        earliest = self._order[0].at if self._order else math.inf
        if earliest != self.at:
            self._move(earliest)


def _at(moment: Moment) -> Seconds:
    return moment.at


class Alarm:
    """The earliest of several deadlines; they are not all asked after every input.

    Invariant: ``at`` is never later than the earliest of them, and equal to it unless it
    ``is_stale``.
    """

    __slots__ = ("_heard", "at", "is_stale")

    def __init__(self, *heard: Earliest) -> None:
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
