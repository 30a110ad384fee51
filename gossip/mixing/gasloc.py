"""Accelerated gossip on the iterates after local steps: outer momentum between mixings.

    z = mean over the pair (or neighborhood) of theta ;  theta = z + mu (z - z of the last round)

Our reading of GASLoC's abstract (arXiv 2606.11081, 2026: "gossip with outer momentum, seen as an
acceleration of communication; on a complete graph it is DiLoCo"); the paper's exact rule was not at
hand. It fits both claims: with all peers in z this *is* DiLoCo's Nesterov step with momentum mu and
rate 1, and without training it is second-order gossip (Muthukrishnan, Ghosh and Schultz, "First-
and second-order diffusive methods", 1998), which brings a ring together in the square root of the
rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gossip.errors import UsageError


@dataclass(frozen=True, slots=True)
class AcceleratedStep:
    """``mu`` in [0, 1): for mixing matrices without negative eigenvalues, as averaging in pairs or
    lazily with neighbors, every such value is stable. Raises UsageError outside."""

    mu: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.mu < 1:
            raise UsageError(f"gasloc: mu={self.mu} must be at least 0 and below 1")


def accelerated_step_(step: AcceleratedStep, mixed_N: Tensor, last_N: Tensor) -> None:
    """``mixed_N`` becomes theta, ``last_N`` what was mixed; before the first round both are to be
    the start. The last dimension is the vector; any before it count peers."""
    theta_N = mixed_N + step.mu * (mixed_N - last_N)
    last_N.copy_(mixed_N)
    mixed_N.copy_(theta_N)
