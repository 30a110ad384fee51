"""What a peer of the miniature swarm averages: an anchor and its ledger."""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import Any, Protocol

from gossip.machine import Apply
from gossip.messages import ExchangeId

Content = Hashable
"""What a blob says: a rational, or bytes. Equal contents decode alike."""


class Anchor(Protocol):
    """One life's phi and its ledger."""

    def encode(self, fragment: int, codec: str) -> tuple[Content, str]:
        """The code, and the codec it is in: the one asked for, or another."""

    def correct(self, fragment: int, code: Any, codec: str, reply_codec: str) -> Content: ...

    def move(self, queued: Apply, correction: Any) -> None: ...

    def publish(self, fragment: int, amount: int) -> None: ...

    def replace(self, value: int) -> None: ...

    def booked(self) -> dict[ExchangeId, Any]:
        """The sum of this life's corrections, by exchange."""

    def is_balanced(self) -> bool:
        """What phi holds was adopted, published and corrected."""


class RationalAnchor:
    """Exact numbers, one a fragment. Codec "coarse" rounds to fourths: any lossy codec."""

    def __init__(self, fragments: int, value: int) -> None:
        self.phi = [Fraction(value)] * fragments
        self.adopted = list(self.phi)
        self.published = [Fraction(0)] * fragments
        self.corrections: list[tuple[ExchangeId, int, Fraction]] = []

    def encode(self, fragment: int, codec: str) -> tuple[Fraction, str]:
        return self._rounded(self.phi[fragment], codec), codec

    def correct(self, fragment: int, code: Fraction, codec: str, reply_codec: str) -> Fraction:
        return self._rounded(self.phi[fragment] - code, reply_codec)

    def move(self, queued: Apply, correction: Fraction) -> None:
        amount = Fraction(queued.signed_weight) * correction
        self.phi[queued.fragment] += amount
        self.corrections.append((queued.transfer.exchange, queued.fragment, amount))

    def publish(self, fragment: int, amount: int) -> None:
        self.phi[fragment] += Fraction(amount, 8)
        self.published[fragment] += Fraction(amount, 8)

    def replace(self, value: int) -> None:
        for fragment, before in enumerate(self.phi):
            self.adopted[fragment] += value - before
            self.phi[fragment] = Fraction(value)

    def booked(self) -> dict[ExchangeId, Fraction]:
        sums: dict[ExchangeId, Fraction] = {}
        for exchange, _, amount in self.corrections:
            sums[exchange] = sums.get(exchange, Fraction(0)) + amount
        return sums

    def is_balanced(self) -> bool:
        for fragment, phi in enumerate(self.phi):
            moved = sum(amount for _, each, amount in self.corrections if each == fragment)
            if phi != self.adopted[fragment] + self.published[fragment] + moved:
                return False
        return True

    @staticmethod
    def _rounded(value: Fraction, codec: str) -> Fraction:
        return Fraction(round(value * 4), 4) if codec == "coarse" else value
