"""NoLoCo's outer step: momentum on a pair's progress and on its disagreement at once.

    m = a m + b (mean of the pair's theta - phi) ;  phi = theta = phi + m

Source: Kolehmainen et al., "NoLoCo", 2025, equations 2 and 3, with the rate of consensus gamma
equal to b, as in the authors' code. Their form averages theta - phi and phi separately and sends
both; with gamma = b the two sum to the mean of theta alone, at half the bytes. The exchange must be
in lock-step: both peers of a pair step at the same time on the same mean. So it is offered where
that holds, in comparisons, and not to peers that never wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gossip.errors import UsageError


@dataclass(frozen=True, slots=True)
class NoLoCoStep:
    """Momentum ``a`` in [0, 1) and rate ``b`` in (0, 1]. Raises UsageError unless a < b.

    For pairs the step is stable only for a < gamma (their equation 74); here gamma is b.
    """

    a: float = 0.5
    b: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.a < 1 or not 0 < self.b <= 1:
            raise UsageError(f"noloco: a={self.a} must be in [0, 1) and b={self.b} in (0, 1]")
        if not self.a < self.b:
            raise UsageError(
                f"noloco is stable for a < b only, not a={self.a} b={self.b}: its momentum would "
                "feed on the peers' disagreement"
            )


def noloco_step_(step: NoLoCoStep, phi_N: Tensor, m_N: Tensor, pair_mean_N: Tensor) -> None:
    """One outer step in place; ``pair_mean_N`` is the mean of the pair's theta. The caller sets
    theta to phi. The last dimension is the vector; any before it count peers."""
    m_N.mul_(step.a).add_(pair_mean_N - phi_N, alpha=step.b)
    phi_N.add_(m_N)
