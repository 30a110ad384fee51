"""How finalise() decides that it is over (rule 9). Pure; the core owns one while finishing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gossip.config import Config
from gossip.messages import Phase, Seconds


def swaps_to_agree(peers: int, extra: int) -> int:
    """ceil(log2 N) + extra; 0 for one peer.

    A random matching halves the disagreement each round at any N, so log2 N rounds bring one
    peer's news to all, and each extra one halves what is left.
    """
    return 0 if peers < 2 else math.ceil(math.log2(peers)) + extra


class Finishing:
    """One finalise: first mix, then go on answering until the others are done too."""

    def __init__(self, config: Config, together: bool, now: Seconds) -> None:
        self._config = config.finish
        self._together = together
        self._settled = [0] * config.exchange.fragments
        self.is_mixing = True
        self.timed_out = False
        self.deadline: Seconds = now + self._config.deadline_s

    @property
    def swaps(self) -> int:
        """Swaps settled since the start, of the fragment with the fewest."""
        return min(self._settled)

    def settled(self, fragment: int) -> None:
        """A swap of this fragment moved both sides."""
        self._settled[fragment] += 1

    def has_enough(self, peers: int, now: Seconds) -> bool:
        """Whether mixing is over: enough swaps for ``peers`` peers, or out of time."""
        if self.swaps >= swaps_to_agree(peers, self._config.extra_swaps):
            return True
        self.timed_out = now >= self.deadline
        return self.timed_out

    def stop_mixing(self, now: Seconds) -> None:
        """From now on only answer."""
        self.is_mixing = False
        self.deadline = now + self._config.linger_s

    def may_go(self, phases: Sequence[Phase], now: Seconds) -> bool:
        """Whether nobody needs my answers any more, or I have lingered long enough."""
        waiting = (Phase.TRAINING, Phase.FINISHING) if self._together else (Phase.FINISHING,)
        return now >= self.deadline or not any(phase in waiting for phase in phases)
