"""What a check says when a rule of the design was broken."""

from __future__ import annotations

import math

from gossip.messages import NOBODY, PeerId, Seconds


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
