"""What a check says when a rule of the design was broken."""

from __future__ import annotations

import argparse
import math
from typing import Final

from gossip.messages import NOBODY, PeerId, Seconds

RULES: Final = (
    *("M2", "M4", "M5", "M6", "M7", "M8", "M10", "M11", "M12", "M14", "M16", "M17", "M18", "M19"),
    *("M20", "M21", "M22", "M23", "M24", "M25", "M26", "M27", "M29", "non-vacuity"),
)
"""What a run of a scenario is checked for, by the names that it gives and takes."""


def add_ignore(parser: argparse.ArgumentParser) -> None:
    """The flag by which rules are counted and passed over."""
    parser.add_argument(
        "--ignore",
        action="extend",
        nargs="+",
        default=[],
        choices=RULES,
        metavar="RULE",
        help="count breaks of these rules (M12 ...), do not stop at them",
    )


class BrokenRule(AssertionError):
    """A core, or the bytes under it, did what the design forbids.

    ``rule`` is its number where it has one (M2 ... for membership), ``at_s`` the virtual time and
    ``peer`` whose step it was; the world it happened in is repeatable from its seed.
    """

    def __init__(
        self, text: str, rule: str = "", at_s: Seconds = math.nan, peer: PeerId = NOBODY
    ) -> None:
        where = "" if math.isnan(at_s) else f" (at {at_s:.6f} s, peer {peer})"
        super().__init__(f"{rule}: {text}{where}" if rule else text)
        self.rule = rule
        self.at_s = at_s
        self.peer = peer
