"""Push-sum over one-way links that lose, repeat and reorder: mass is exact by running sums.

Each peer holds mass x and weight w (1 at first), and its estimate is x / w. To send, it keeps one
share of both and adds the others to what it has ever sent over each link; a message carries that
running sum. A receiver takes what is new since the newest message it has seen. So a lost message is
made up for by the next, a repeated or late one brings nothing, and at any time

    sum of x + sum over links of (sent - taken) = what there was, exactly.

Source: Spiridonoff, Olshevsky and Paschalidis, "Robust asynchronous stochastic gradient-push"
(RASGP), JMLR 21:58, 2020. Costs a vector per link and side, and the sums grow for ever (kept in
fp64): for small models or links that truly cannot answer. Swaps need neither.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossip.errors import CodeError


@dataclass(frozen=True, slots=True)
class Push:
    """All that was ever sent over one link (fp64), and the number of the message."""

    number: int
    mass_N: Tensor
    weight: float


@dataclass(slots=True)
class PushSum:
    """One peer. ``mass_N`` is fp64; add training progress to it times ``weight``."""

    mass_N: Tensor
    weight: float = 1.0
    _sent: dict[Hashable, Push] = field(default_factory=dict)
    _taken: dict[Hashable, Push] = field(default_factory=dict)

    def estimate_N(self) -> Tensor:
        """What the peer believes the mean to be: x / w."""
        return self.mass_N / self.weight

    def add(self, progress_N: Tensor) -> None:
        """Move the estimate by ``progress_N``."""
        self.mass_N += progress_N.double() * self.weight

    def push(self, links: Sequence[Hashable]) -> list[Push]:
        """Split into equal shares, one kept; the message for each link, in order."""
        shares = len(links) + 1
        self.mass_N = self.mass_N / shares
        self.weight /= shares
        pushes: list[Push] = []
        for link in links:
            before = self._sent.get(link) or Push(0, torch.zeros_like(self.mass_N), 0.0)
            now = Push(before.number + 1, before.mass_N + self.mass_N, before.weight + self.weight)
            self._sent[link] = now
            pushes.append(now)
        return pushes

    def take(self, link: Hashable, push: Push) -> bool:
        """Take in a message from a link; False when it is no newer than what is known.

        Raises CodeError, and changes nothing, when it is of another length or not finite.
        """
        if push.mass_N.shape != self.mass_N.shape or not bool(push.mass_N.isfinite().all()):
            raise CodeError("a push of another length, or not finite")
        known = self._taken.get(link) or Push(0, torch.zeros_like(self.mass_N), 0.0)
        if not 0 < push.weight < float("inf"):
            raise CodeError(f"a push of weight {push.weight}")
        if push.number <= known.number:
            return False
        self.mass_N += push.mass_N - known.mass_N
        self.weight += push.weight - known.weight
        self._taken[link] = push
        return True

    def underway(self, other: PushSum, link: Hashable) -> tuple[Tensor, float]:
        """Mass and weight that this peer sent over a link and ``other`` has not taken."""
        none = Push(0, torch.zeros_like(self.mass_N), 0.0)
        sent, taken = self._sent.get(link, none), other._taken.get(link, none)
        return sent.mass_N - taken.mass_N, sent.weight - taken.weight
