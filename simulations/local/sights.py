"""How one peer of a local run sees each other peer, put together from the lines it writes.

What became of its links, whom it does not reach, and which verdicts of the group it took over come
as events of their own; here they meet, so that who looks on can tell a loss and its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gossip.machine import Reach
from gossip.messages import Status

EVENTS: Final = ("link_opened", "link_closed", "reach_changed", "member_changed")
"""Kinds of lines that say something of this."""


@dataclass(slots=True)
class Sight:
    """How one peer sees another.

    cause   why the link was lost, as events say it; empty while nothing is known.
    lost    whether it does not get through to it, in its own opinion.
    down    whether it holds the group's verdict that the other is down.
    at_s    since when it is one or the other, in ``unix_s``.
    """

    cause: str = ""
    lost: bool = False
    down: bool = False
    at_s: float = 0.0

    @property
    def gone(self) -> bool:
        """Lost or down."""
        return self.lost or self.down


class Sights:
    """How one peer sees all others; ``about`` holds each by its id."""

    def __init__(self) -> None:
        self.about: dict[str, Sight] = {}

    def hear(self, line: Mapping[str, object]) -> None:
        """One of its lines, of any of ``EVENTS``."""
        record = line.get("record")
        told = record if isinstance(record, Mapping) else line
        peer = str(told["peer"])
        sight = self.about.setdefault(peer, Sight())
        was_gone = sight.gone
        match line["event"]:
            case "link_opened":
                sight.cause = ""
            case "link_closed":
                sight.cause = str(line["cause"])
            case "reach_changed":
                sight.lost = line["reach"] == Reach.LOST.name.lower()
            case "member_changed" if told["status"] == Status.LEFT.name.lower():
                del self.about[peer]  # it said farewell; nobody lost it
            case "member_changed":
                sight.down = told["status"] == Status.DOWN.name.lower()
                # Of who is down nobody has an opinion of its own; it begins anew with a return.
                sight.lost = sight.lost and not sight.down
        if sight.gone and not was_gone:
            at_s = line.get("unix_s")
            sight.at_s = float(at_s) if isinstance(at_s, int | float) else 0.0
