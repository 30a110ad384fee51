"""How finalise() decides that it is over (rule 9). Pure; the core owns one while finishing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from gossip.config import Config, ExchangeConfig
from gossip.machine import Finalised
from gossip.messages import Phase, Seconds

AGREED: Final = 1e-5
"""Two models agree when their difference is no longer than this share of their length. Training
noise is a thousand times that, rounding to fp32 a hundredth."""

EXACT_CODEC: Final = "fp32"
"""Codes of anchors in any other one round too coarsely for peers ever to come so near."""


class Stand(Enum):
    """What a finishing peer does next: open swaps, only answer, or go."""

    MIXING = auto()
    ANSWERING = auto()
    OVER = auto()


def swaps_to_agree(peers: int, extra: int) -> int:
    """ceil(log2 N) + extra; 0 for one peer.

    A random matching halves the disagreement each round at any N, so log2 N rounds bring one
    peer's news to all, and each extra one halves what is left.
    """
    return 0 if peers < 2 else math.ceil(math.log2(peers)) + extra


def is_exact(config: ExchangeConfig) -> bool:
    """Whether swaps while finishing can bring peers together to the last bits."""
    codecs = (config.finish_codec,) if config.finish_codec else (config.codec, config.reply_codec)
    return set(codecs) == {EXACT_CODEC}


class Finishing:
    """One finalise: first mix, then go on answering until the others are done too.

    Mixing takes ``swaps_to_agree`` swaps of each fragment. Where swaps are exact, and nobody trains
    any more, the last few of them must also have found both sides in agreement: how fast peers
    come together depends on who meets whom, and on when each of them stopped training. Who has
    stopped mixing begins again when a swap shows a difference, or when the last one has ended its
    training.
    """

    def __init__(self, config: Config, together: bool, now: Seconds) -> None:
        self._config = config.finish
        self._together = together
        self._exact = is_exact(config.exchange)
        fragments = range(config.exchange.fragments)
        last = max(1, self._config.extra_swaps)
        self._settled = [0 for _ in fragments]
        self._shown: list[deque[float]] = [deque(maxlen=last) for _ in fragments]
        self._mix_until = now + self._config.deadline_s
        self._is_mixing = True
        self._agreed = False
        self.deadline: Seconds = self._mix_until

    @property
    def swaps(self) -> int:
        """Swaps settled since the start, of the fragment with the fewest."""
        return min(self._settled)

    @property
    def disagreement(self) -> float:
        """The largest that the last few swaps of any fragment showed; 0 with no swap."""
        return max((each for shown in self._shown for each in shown), default=0.0)

    def report(self) -> Finalised:
        """What came of it, once OVER; inf for others that no swap has shown."""
        known = self._agreed or self.swaps > 0
        return Finalised(self.swaps, self._agreed, self.disagreement if known else math.inf)

    def settled(self, fragment: int, disagreement: float) -> None:
        """A swap of this fragment moved both sides, which were so far apart before; NaN, of models
        that are not finite, is as far as can be."""
        self._settled[fragment] += 1
        self._shown[fragment].append(math.inf if math.isnan(disagreement) else disagreement)

    def judge(self, phases: Sequence[Phase], now: Seconds) -> Stand:
        """What to do now, the other members being where they say."""
        enough = self._has_enough(phases)
        late = now >= self._mix_until
        if self._is_mixing and (enough or late):
            self._is_mixing = False
            self.deadline = now + self._config.linger_s
        elif not (self._is_mixing or enough or late):
            self._is_mixing = True
            self.deadline = self._mix_until
        if self._is_mixing:
            return Stand.MIXING
        waiting = (Phase.TRAINING, Phase.FINISHING) if self._together else (Phase.FINISHING,)
        if now < self.deadline and any(phase in waiting for phase in phases):
            return Stand.ANSWERING
        # Those who train on move away: who expected them to end does not agree with them. Nor does
        # who was left before it had come near.
        left_apart = not phases and self._exact and self.disagreement > AGREED
        moving = self._together and Phase.TRAINING in phases
        self._agreed = enough and not left_apart and not moving
        return Stand.OVER

    def _has_enough(self, phases: Sequence[Phase]) -> bool:
        wanted = swaps_to_agree(len(phases) + 1, self._config.extra_swaps)
        if self.swaps < wanted:
            return False
        measurable = self._exact and Phase.TRAINING not in phases
        return not (wanted and measurable) or self.disagreement <= AGREED
