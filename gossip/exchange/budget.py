"""A token bucket: at most so many bytes a second, with a burst of one second's worth."""

from __future__ import annotations

import math

from gossip.messages import Seconds


class TokenBucket:
    """Tokens are bytes; they grow with time up to one second's worth, at least ``burst_min_bytes``.

    Invariant: over any span of t seconds at most ``burst + rate * t`` bytes are taken.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, bytes_per_s: float, burst_min_bytes: int, now: Seconds) -> None:
        assert bytes_per_s > 0
        self._rate = bytes_per_s
        self._burst = max(bytes_per_s, float(burst_min_bytes))
        self._tokens = self._burst
        self._at = now

    def take(self, size_bytes: int, now: Seconds) -> bool:
        """Take the tokens if they are there; False changes nothing but the clock."""
        if math.isinf(self._rate):
            return True
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < size_bytes:
            return False
        self._tokens -= size_bytes
        return True

    def ready_at(self, size_bytes: int) -> Seconds:
        """When ``take(size_bytes)`` will succeed if nothing else is taken.

        A hair later than the exact time, so that rounding never makes the owner spin.
        """
        if math.isinf(self._rate):
            return self._at
        missing = max(0.0, size_bytes - self._tokens)
        return self._at + missing / self._rate + 1e-6
