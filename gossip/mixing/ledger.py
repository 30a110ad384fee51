"""Who moved phi, and by how much: the conservation law as bookkeeping (gossip/README.md, rule 5).

    phi = adopted + published + sum of corrections

Over a swarm, both sides of a swap book the same amount with opposite signs, so the sum of all phi
is the sum of what was adopted and published, plus corrections that stayed one-sided.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Entry(NamedTuple):
    """One correction: the exchange it belongs to, where it starts, and the signed amount (fp64)."""

    exchange: Hashable
    start: int
    amount_n: Tensor


class Ledger(Protocol):
    """What a Replica reports. Only the trainer's thread calls it."""

    @property
    def keeps(self) -> bool:
        """Whether anything is kept; if not, the other calls need not be made."""
        ...

    def adopt(self, before_N: Tensor, after_N: Tensor) -> None:
        """A snapshot (or the model at the start) replaced phi."""
        ...

    def publish(self, before_N: Tensor, after_N: Tensor) -> None:
        """A publish moved phi."""
        ...

    def correct(self, exchange: Hashable, start: int, c_n: Tensor, signed_weight: float) -> None:
        """A correction of ``signed_weight * c_n`` was added to phi from ``start`` on."""
        ...


class NoLedger:
    """Keeps nothing and costs nothing: for real runs."""

    keeps = False

    def adopt(self, before_N: Tensor, after_N: Tensor) -> None:
        """Keep nothing."""

    def publish(self, before_N: Tensor, after_N: Tensor) -> None:
        """Keep nothing."""

    def correct(self, exchange: Hashable, start: int, c_n: Tensor, signed_weight: float) -> None:
        """Keep nothing."""


class ExactLedger:
    """Keeps every amount in fp64: for tests and small simulations.

    Costs 16 bytes an element, and 8 more per corrected element; grows with every correction.
    """

    keeps = True

    def __init__(self, elements: int) -> None:
        self.adopted_N = torch.zeros(elements, dtype=torch.float64)
        self.published_N = torch.zeros(elements, dtype=torch.float64)
        self.corrections: list[Entry] = []

    def adopt(self, before_N: Tensor, after_N: Tensor) -> None:
        """See Ledger."""
        self.adopted_N += after_N.double() - before_N.double()

    def publish(self, before_N: Tensor, after_N: Tensor) -> None:
        """See Ledger."""
        self.published_N += after_N.double() - before_N.double()

    def correct(self, exchange: Hashable, start: int, c_n: Tensor, signed_weight: float) -> None:
        """See Ledger."""
        self.corrections.append(Entry(exchange, start, c_n.double() * signed_weight))

    def corrected_N(self) -> Tensor:
        """Sum of all corrections (fp64)."""
        total_N = torch.zeros_like(self.adopted_N)
        for entry in self.corrections:
            total_N[entry.start : entry.start + entry.amount_n.numel()] += entry.amount_n
        return total_N

    def balance_error(self, phi_N: Tensor) -> float:
        """Largest |phi - (adopted + published + corrections)|.

        Zero on dyadic values; otherwise within corrections x ulp of fp32.
        """
        booked_N = self.adopted_N + self.published_N + self.corrected_N()
        return float((phi_N.double() - booked_N).abs().max())
