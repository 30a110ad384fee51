"""One peer's own clock, which may run fast or slow against the world's."""

from __future__ import annotations

from gossip.messages import Seconds

EDGE_S = 1e-9
"""A time told back to the world is this much late, so that rounding never makes it early."""


class Clock:
    """Local time as a line: changing ``rate`` keeps it unbroken, so it never goes back."""

    __slots__ = ("_local_s", "_rate", "_world_s")

    def __init__(self, now: Seconds, rate: float = 1.0) -> None:
        assert rate > 0, "time goes forward"
        self._world_s = now
        self._local_s = now
        self._rate = rate

    @property
    def rate(self) -> float:
        """Local seconds in a second of the world."""
        return self._rate

    def set_rate(self, now: Seconds, rate: float) -> None:
        """From now on it runs at another rate."""
        assert rate > 0, "time goes forward"
        self._local_s, self._world_s = self.local(now), now
        self._rate = rate

    def local(self, now: Seconds) -> Seconds:
        """What this clock shows at a time of the world."""
        return self._local_s + (now - self._world_s) * self._rate

    def world(self, local_s: Seconds) -> Seconds:
        """When this clock will show a time, or a moment later."""
        return self._world_s + (local_s - self._local_s) / self._rate + EDGE_S
