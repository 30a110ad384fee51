"""How far this peer may trust its own judgement of others (Lifeguard's local health).

A peer that misses answers it should have got, or has to refute suspicions of itself, is likely
the one in trouble: it probes more slowly and waits longer before it accuses anybody.
Source: Dadgar, Phillips and Currey, "Lifeguard: local health awareness for more accurate failure
detection", arXiv 1707.00788, section 3.A (score 0 to 7; intervals and time-outs times 1 + score).
"""

from __future__ import annotations

from typing import Final

SCORE_MAX: Final = 7


class Health:
    """Invariant (M20): the score stays in 0 .. SCORE_MAX, and intervals are times 1 + score."""

    __slots__ = ("score",)

    def __init__(self) -> None:
        self.score = 0

    @property
    def factor(self) -> int:
        """What intervals and time-outs are multiplied by."""
        return 1 + self.score

    def better(self) -> None:
        """A probe was answered in time."""
        if self.score:
            self.score -= 1

    def worse(self, by: int = 1) -> None:
        """A sign that this peer is the one in trouble."""
        self.score = min(SCORE_MAX, self.score + by)
