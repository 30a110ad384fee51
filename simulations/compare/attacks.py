"""Peers that lie about their model."""

from __future__ import annotations

from torch import Tensor, randn, stack

from gossip.errors import UsageError
from simulations.compare.conditions import Attack
from simulations.compare.field import Field


class Attackers:
    """The last rows of the stack; what they claim is made anew at every swap.

    Raises UsageError when nobody honest would be left.
    """

    def __init__(self, field: Field) -> None:
        count = field.conditions.attackers
        if count >= field.peers - 1:
            raise UsageError(f"{count} attackers among {field.peers} peers leave no honest pair")
        self._first = field.peers - count
        self._attack = field.conditions.attack
        self._start_N = field.stack.theta_PN[0].clone()
        self._theta_PN = field.stack.theta_PN
        self._generator = field.generator("attack")

    def shown_PN(self) -> Tensor:
        """What all peers say that they are."""
        claims = [
            self.claim_n(row, 0, self._theta_PN.shape[1], self._theta_PN)
            for row in range(self._theta_PN.shape[0])
        ]
        return stack(claims)

    def claim_n(self, row: int, start: int, stop: int, values_PN: Tensor) -> Tensor:
        """What peer ``row`` says its slice is: the truth, or an attack on the parameters."""
        true_n = values_PN[row, start:stop]
        if row < self._first or values_PN is not self._theta_PN:
            return true_n
        start_n = self._start_N[start:stop]
        match self._attack:
            case Attack.NOISE:
                size = float(true_n.square().mean().sqrt())
                return true_n + size * randn(true_n.shape, generator=self._generator)
            case Attack.SIGN_FLIP:
                return 2 * start_n - true_n
            case Attack.INNER_PRODUCT:
                return 2 * start_n - values_PN[: self._first, start:stop].mean(dim=0)
            case Attack.STALE:
                return start_n
            case Attack.IDLE:
                return values_PN[: self._first, start:stop].mean(dim=0)


def attackers_of(field: Field) -> Attackers | None:
    """The field's attackers, if it has any."""
    return Attackers(field) if field.conditions.attackers else None


def shown_PN(field: Field, attackers: Attackers | None) -> Tensor:
    """What peers say that they are: their models (the tensor itself), but for attackers."""
    return field.stack.theta_PN if attackers is None else attackers.shown_PN()
