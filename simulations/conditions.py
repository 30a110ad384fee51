"""How good the network of a simulated world is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Conditions:
    """How good the network is.

    latency_s     one way; each pair of peers has one, drawn once from this range.
    jitter_s      each frame takes up to this much longer, so frames overtake each other.
    loss          share of frames that never arrive, either plane.
    duplication   share of frames that arrive twice.
    reordering    share of frames that take up to twice the latency, far behind later ones.
    bytes_per_s   uplink of each peer (inf: no limit); control frames go before bulk.
    silent_s      after this long without a sign a link is reported lost.
    connect_s     a dial that nobody answers, or that is accepted in silence, ends after this.
    tail_share    share of frames that take up to ``tail_s`` longer than all this.
    redial_s      pause before a lost link is found again (least, most).
    """

    latency_s: tuple[float, float] = (0.0005, 0.003)
    jitter_s: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    bytes_per_s: float = math.inf
    silent_s: float = 3.0
    connect_s: float = 2.0
    redial_s: tuple[float, float] = (0.05, 0.5)
    tail_share: float = 0.0
    tail_s: float = 0.0

    def __post_init__(self) -> None:
        assert 0 <= self.latency_s[0] <= self.latency_s[1], "latency_s is (least, most)"
        assert 0 <= self.redial_s[0] <= self.redial_s[1], "redial_s is (least, most)"
        assert 0 <= self.loss < 1, "with loss 1 nothing ever happens"
        assert 0 <= self.duplication <= 1, "duplication is a share"
        assert 0 <= self.reordering <= 1, "reordering is a share"
        assert self.bytes_per_s > 0, "bytes_per_s must be above 0"
        assert 0 <= self.tail_share <= 1, "tail_share is a share"
        assert self.tail_s >= 0, "tail_s must not be negative"
        assert bool(self.tail_share) == bool(self.tail_s), "give both of tail_share and tail_s"

    @property
    def is_plain(self) -> bool:
        """Whether every frame arrives exactly once, at about the same pace, whatever its size."""
        limited = not math.isinf(self.bytes_per_s)
        late = self.reordering or self.tail_share
        return not (self.loss or self.duplication or late or limited)

    @property
    def calmer(self) -> Conditions:
        """The same network, but that no frame is lost, repeated or held back."""
        usual = replace(self, loss=0.0, duplication=0.0, reordering=0.0)
        return replace(usual, tail_share=0.0, tail_s=0.0)


LAN = Conditions()
WAN = Conditions(latency_s=(0.02, 0.2), jitter_s=0.02, redial_s=(0.1, 2.0))
"""Round trips of 40 to 400 ms."""
