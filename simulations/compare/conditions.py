"""What goes wrong in a comparison: lost swaps, slow peers, churn, attackers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gossip.errors import UsageError

CHURN_EVERY_STEPS = 25
"""A round of churn."""


class Attack(Enum):
    """What an attacker claims its model to be; its peers' corrections are made from that.

    NOISE: its model plus noise as large as the model. SIGN_FLIP: the start, and its progress
    backwards. INNER_PRODUCT: the start, and everybody's mean progress backwards, so that what it
    asks for points away from where the others go (Xie et al., "Fall of empires", UAI 2019, for
    gradients). STALE: the start, for ever. IDLE: the mean of the others, so no attack at all: what
    it costs that nobody learns from an attacker's samples, whatever it says.
    """

    NOISE = "noise"
    SIGN_FLIP = "sign-flip"
    INNER_PRODUCT = "inner-product"
    STALE = "stale"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Conditions:
    """loss: this share of all swaps does not happen. spread: the fastest peer takes so many times
    the steps of the slowest (speeds are evenly spaced; the total is the same). churn: this share
    of peers is replaced every CHURN_EVERY_STEPS steps by newcomers with another's model and no
    optimizer state. attackers: so many peers attack; they are left out of every average reported.
    """

    loss: float = 0.0
    spread: float = 1.0
    churn: float = 0.0
    attackers: int = 0
    attack: Attack = Attack.NOISE

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1 or not 0 <= self.churn < 1:
            raise UsageError("loss and churn are shares: at least 0 and below 1")
        if not self.spread >= 1:
            raise UsageError("spread must be at least 1 (all peers alike)")
        if self.attackers < 0:
            raise UsageError("attackers must not be negative")


def conditions_of(options: dict[str, str]) -> Conditions:
    """Conditions as typed. Raises UsageError for values that make no sense."""
    return Conditions(
        loss=float(options.get("loss", 0.0)),
        spread=float(options.get("spread", 1.0)),
        churn=float(options.get("churn", 0.0)),
        attackers=int(options.get("attackers", 0)),
        attack=Attack(options.get("attack", Attack.NOISE.value)),
    )
