"""The network of a simulated world: what becomes of a frame, and which links stand.

It knows no events and no clock: the world asks when a frame arrives and does the rest. Control
and bulk are planes of their own, as in the real transport: only bulk queues behind bulk.

Frames are lost, repeated and reordered one by one, which is harsher than TCP (that loses a whole
link at once); so what holds here holds there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from gossip.messages import PeerId, Seconds


@dataclass(frozen=True, slots=True)
class Conditions:
    """How good the network is.

    latency_s     each pair of peers has one latency, drawn once from this range.
    jitter_s      each frame takes up to this much longer, so frames overtake each other.
    loss          share of frames that never arrive, either plane.
    duplication   share of frames that arrive twice.
    bytes_per_s   uplink of each peer for bulk frames (inf: no limit).
    silent_s      after this long without a sign a link is reported lost.
    """

    latency_s: tuple[float, float] = (0.0005, 0.003)
    jitter_s: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    bytes_per_s: float = math.inf
    silent_s: float = 6.0

    def __post_init__(self) -> None:
        assert 0 <= self.latency_s[0] <= self.latency_s[1], "latency_s is (least, most)"
        assert 0 <= self.loss < 1, "with loss 1 nothing ever happens"
        assert 0 <= self.duplication <= 1, "duplication is a share"


class Network:
    """Links, cuts and the fate of frames.

    A link belongs to the peer that dialed it; frames go both ways over it. It is *wanted* from
    the dial to the hang-up, and *up* while it carries frames.
    """

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        self._rng = rng
        self._latency_s: dict[tuple[PeerId, PeerId], Seconds] = {}
        self._up: dict[tuple[PeerId, PeerId], bool] = {}
        self._cuts: dict[tuple[PeerId, PeerId], None] = {}
        self._side: dict[PeerId, int] = {}
        self._uplink_free_at: dict[PeerId, Seconds] = {}
        self.frames = 0
        self.lost_frames = 0

    # What becomes of a frame.

    def latency_s(self, a: PeerId, b: PeerId) -> Seconds:
        """One way between two peers, the same in both directions."""
        key = (min(a, b), max(a, b))
        if key not in self._latency_s:
            self._latency_s[key] = self._rng.uniform(*self.conditions.latency_s)
        return self._latency_s[key]

    def arrivals(
        self, sender: PeerId, to: PeerId, bulk_bytes: int, now: Seconds
    ) -> tuple[Seconds, ...]:
        """When copies of a frame sent now arrive: none, one or two times.

        ``bulk_bytes`` is 0 for a control frame.
        """
        self.frames += 1
        leaves_at = now
        if bulk_bytes and not math.isinf(self.conditions.bytes_per_s):
            leaves_at = max(now, self._uplink_free_at.get(sender, now))
            leaves_at += bulk_bytes / self.conditions.bytes_per_s
            self._uplink_free_at[sender] = leaves_at
        if not self._carries(sender, to) or self._rng.random() < self.conditions.loss:
            self.lost_frames += 1
            return ()
        copies = 2 if self._rng.random() < self.conditions.duplication else 1
        base_at = leaves_at + self.latency_s(sender, to)
        return tuple(
            base_at + self._rng.uniform(0.0, self.conditions.jitter_s) for _ in range(copies)
        )

    def _carries(self, a: PeerId, b: PeerId) -> bool:
        linked = self._up.get((a, b), False) or self._up.get((b, a), False)
        return linked and not self.is_cut(a, b)

    # Links.

    def want(self, dialer: PeerId, to: PeerId) -> None:
        """A dial: keep this link from now on."""
        self._up.setdefault((dialer, to), False)

    def is_wanted(self, dialer: PeerId, to: PeerId) -> bool:
        """Whether the dialer keeps this link, up or not."""
        return (dialer, to) in self._up

    def is_up(self, dialer: PeerId, to: PeerId) -> bool:
        """Whether this link carries frames."""
        return self._up.get((dialer, to), False)

    def set_up(self, dialer: PeerId, to: PeerId, up: bool) -> None:
        """A wanted link came up or was lost."""
        assert (dialer, to) in self._up, "nobody wants this link"
        self._up[(dialer, to)] = up

    def hang_up(self, dialer: PeerId, to: PeerId) -> None:
        """The dialer no longer keeps this link."""
        self._up.pop((dialer, to), None)

    def dialers(self, to: PeerId) -> list[PeerId]:
        """Who keeps a link to this peer, oldest dial first."""
        return [dialer for dialer, each in self._up if each == to]

    def pairs(self) -> list[tuple[PeerId, PeerId]]:
        """All wanted links, oldest dial first."""
        return list(self._up)

    def forget(self, dialer: PeerId) -> None:
        """The process is gone, and with it all links it dialed."""
        for key in [key for key in self._up if key[0] == dialer]:
            del self._up[key]

    # Cuts.

    def is_cut(self, a: PeerId, b: PeerId) -> bool:
        """Whether no frame can pass between the two."""
        return self._side.get(a, 0) != self._side.get(b, 0) or (min(a, b), max(a, b)) in self._cuts

    def cut(self, a: PeerId, b: PeerId) -> None:
        """Nothing passes between these two until ``mend``."""
        self._cuts[(min(a, b), max(a, b))] = None

    def mend(self, a: PeerId, b: PeerId) -> None:
        """Undo one ``cut``."""
        self._cuts.pop((min(a, b), max(a, b)), None)

    def split(self, sides: Sequence[Sequence[PeerId]]) -> None:
        """Nothing passes between the sides; peers not named stand with the first."""
        self._side = {peer: index for index, side in enumerate(sides) for peer in side}

    def heal(self) -> None:
        """Undo the split."""
        self._side = {}
