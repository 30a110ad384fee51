"""The outer step: what a peer does with its own progress since the last publish.

    delta = theta - phi ;  m = a*m + b*delta ;  z = phi + b*delta + a*m ;  theta = phi = z

This is torch's SGD(lr=b, momentum=a, nesterov=True) on the gradient -delta, the outer optimizer
of DiLoCo (Douillard et al., 2023), taken by each peer alone. Momentum sees the peer's own delta
only, never the disagreement that swaps even out (NoLoCo's sees both, and blows up when a is not
below its rate of consensus).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gossip.errors import UsageError


@dataclass(frozen=True, slots=True)
class OuterStep:
    """Momentum ``a`` in [0, 1) and rate ``b`` in (0, 1]. Raises UsageError outside.

    a = 0, b = 1 is plain gossip averaging: publishing then leaves theta as it is, bit for bit.
    """

    a: float = 0.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.a < 1:
            raise UsageError(f"outer momentum a must be at least 0 and below 1, not {self.a}")
        if not 0 < self.b <= 1:
            raise UsageError(f"outer rate b must be above 0 and at most 1, not {self.b}")

    @property
    def plain(self) -> bool:
        """Whether this is plain averaging."""
        return self.a == 0 and self.b == 1


def outer_step_(step: OuterStep, theta_n: Tensor, phi_n: Tensor, m_n: Tensor | None) -> None:
    """Take one outer step in place: afterwards ``theta_n`` and ``phi_n`` both hold z.

    All are fp32 on one device and of one length; ``m_n`` may be None when a = 0. Call it chunk
    by chunk, so that the five passes stay in cache.
    """
    delta_n = theta_n.sub_(phi_n)
    phi_n.add_(delta_n, alpha=step.b)
    if m_n is not None:
        m_n.mul_(step.a).add_(delta_n, alpha=step.b)
        phi_n.add_(m_n, alpha=step.a)
    theta_n.copy_(phi_n)
