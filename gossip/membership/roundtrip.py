"""How long an answer takes on each link, so that nobody has to guess a time-out.

Source: RFC 6298, section 2 (Jacobson and Karels): smoothed round trip and its mean deviation, the
time-out four deviations above it. Only probes whose very answer came count (Karn's algorithm).
"""

from __future__ import annotations

from typing import Final

from gossip.messages import PeerId, Seconds

SMOOTHING: Final = 1 / 8
DEVIATION_SMOOTHING: Final = 1 / 4
DEVIATIONS: Final = 4.0
INITIAL_S: Final = 1.0
"""Before the first measurement (RFC 6298, 2.1)."""


class RoundTrips:
    """One estimate for each peer probed."""

    __slots__ = ("_estimates", "_least_s", "most_s")

    def __init__(self, least_s: Seconds, most_s: Seconds) -> None:
        self._least_s = least_s
        self.most_s = most_s
        """No time-out is longer."""
        self._estimates: dict[PeerId, tuple[Seconds, Seconds]] = {}

    def measured(self, peer: PeerId, took_s: Seconds) -> None:
        """A probe was answered after so long."""
        known = self._estimates.get(peer)
        if known is None:
            self._estimates[peer] = (took_s, took_s / 2)
            return
        smooth_s, deviation_s = known
        deviation_s += DEVIATION_SMOOTHING * (abs(smooth_s - took_s) - deviation_s)
        self._estimates[peer] = (smooth_s + SMOOTHING * (took_s - smooth_s), deviation_s)

    def timeout_s(self, peer: PeerId) -> Seconds:
        """When an answer of this peer is late."""
        known = self._estimates.get(peer)
        if known is None:
            return min(max(INITIAL_S, self._least_s), self.most_s)
        smooth_s, deviation_s = known
        return min(max(smooth_s + DEVIATIONS * deviation_s, self._least_s), self.most_s)

    def forget(self, peer: PeerId) -> None:
        """The peer went."""
        self._estimates.pop(peer, None)
