"""What must hold in every world, checked from outside: from inputs, effects and ledgers only.

``Watch`` looks after each event; the functions look at a world that has come to rest. A broken
rule is a ``BrokenRule``: the world it happened in is repeatable from its seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gossip.machine import (
    Applied,
    Apply,
    Compute,
    Effect,
    Input,
    Reserve,
    SwapClosed,
    Tell,
)
from gossip.messages import NO_LINEAGE, ExchangeId, Leg, PeerId
from gossip.mixing.disagreement import disagreement
from simulations.rules import BrokenRule as BrokenRule
from simulations.simulated_peer import SimulatedPeer
from simulations.workload import TensorBody


class Watch:
    """One peer's swaps, seen from outside.

    - While a correction of a fragment is queued, no code or correction of that fragment is made
      (rule 1: an overlap would count a difference twice).
    - A peer has at most one open swap of its own making per fragment.
    - Every swap begins and ends in one lineage, the same on both sides (rule 8).
    """

    def __init__(self) -> None:
        self._queued: dict[tuple[str, int], ExchangeId] = {}
        self._initiated: dict[tuple[str, int], ExchangeId] = {}
        self._fragment: dict[tuple[str, ExchangeId], int] = {}
        self._lineage: dict[ExchangeId, bytes] = {}

    def look(self, life: SimulatedPeer, happened: Input, effects: Iterable[Effect]) -> None:
        """Take one step of one core. Raises BrokenRule."""
        if isinstance(happened, Applied):
            fragment = self._fragment.pop((life.name, happened.exchange), None)
            if fragment is not None:
                self._queued.pop((life.name, fragment), None)
        for effect in effects:
            match effect:
                case Compute() if effect.transfer.leg is not Leg.SNAPSHOT:
                    self._makes(life, effect)
                case Reserve(transfer) if transfer.leg is Leg.CODE:
                    self._is_even(life, effect.fragment, transfer.exchange)
                case Apply() if not effect.undo:
                    self._moves(life, effect)
                case Tell(SwapClosed() as closed):
                    self._ends(life, closed)
                case _:
                    pass

    def began(self, life: SimulatedPeer) -> None:
        """See Check."""

    def ended(self, life: SimulatedPeer) -> None:
        """See Check."""

    def split(self) -> None:
        """See Check."""

    def healed(self) -> None:
        """See Check."""

    def _makes(self, life: SimulatedPeer, effect: Compute) -> None:
        exchange = effect.transfer.exchange
        self._is_even(life, effect.fragment, exchange)
        lineage = life.core.lineage
        if lineage == NO_LINEAGE or self._lineage.setdefault(exchange, lineage) != lineage:
            raise BrokenRule(f"{life.name} mixes across lineages in {exchange}")
        if effect.transfer.leg is Leg.CODE:
            key = (life.name, effect.fragment)
            if key in self._initiated:
                raise BrokenRule(f"{life.name} has {self._initiated[key]} open beside {exchange}")
            self._initiated[key] = exchange

    def _is_even(self, life: SimulatedPeer, fragment: int, exchange: ExchangeId) -> None:
        queued = self._queued.get((life.name, fragment))
        if queued is not None:
            raise BrokenRule(f"{life.name} reads its anchor for {exchange}, {queued} is queued")

    def _moves(self, life: SimulatedPeer, effect: Apply) -> None:
        exchange = effect.transfer.exchange
        self._is_even(life, effect.fragment, exchange)
        if self._lineage.get(exchange) != life.core.lineage:
            raise BrokenRule(f"{life.name} applies {exchange} of a foreign lineage")
        self._queued[(life.name, effect.fragment)] = exchange
        self._fragment[(life.name, exchange)] = effect.fragment

    def _ends(self, life: SimulatedPeer, closed: SwapClosed) -> None:
        key = (life.name, closed.fragment)
        if self._initiated.get(key) == closed.exchange:
            del self._initiated[key]


def bodies(lives: Sequence[SimulatedPeer]) -> list[tuple[SimulatedPeer, TensorBody]]:
    """The lives that carry tensors."""
    return [(life, life.body) for life in lives if isinstance(life.body, TensorBody)]


def check_ledgers(lives: Sequence[SimulatedPeer], tolerance: float = 1e-4) -> None:
    """Every anchor is what its ledger says. Raises BrokenRule."""
    for life, body in bodies(lives):
        error = body.ledger.balance_error(body.replica.phi_N)
        if not error <= tolerance:
            raise BrokenRule(f"{life.name}: the anchor is {error:g} off its ledger")


def one_sided(lives: Sequence[SimulatedPeer]) -> dict[ExchangeId, Tensor]:
    """Exchanges whose two sides do not cancel, with what is left (fp64, from the ledgers).

    Both sides book the same frozen correction with opposite signs, so what cancels does exactly.
    """
    left: dict[tuple[ExchangeId, int], Tensor] = {}
    for _, body in bodies(lives):
        for entry in body.ledger.corrections:
            exchange = entry.exchange
            assert isinstance(exchange, ExchangeId), "every correction belongs to an exchange"
            key = (exchange, entry.start)
            left[key] = left[key] + entry.amount_n if key in left else entry.amount_n.clone()
    return {exchange: rest for (exchange, _), rest in left.items() if bool(rest.any())}


def check_conservation(lives: Sequence[SimulatedPeer]) -> int:
    """Whatever did not cancel was counted one-sided, is a crashed peer's, or is still open.

    Call it after calm. Returns how many did not cancel. Raises BrokenRule.
    """
    counted = {exchange for life in lives for exchange in life.one_sided}
    crashed = {life.me.peer for life in lives if life.crashed}
    left = one_sided(lives)
    for exchange in left:
        if exchange not in counted and not _parties(lives, exchange) & crashed:
            raise BrokenRule(f"{exchange} stayed one-sided and nobody counted it")
    return len(left)


def _parties(lives: Sequence[SimulatedPeer], exchange: ExchangeId) -> set[PeerId]:
    """Both sides of an exchange, as far as reports and ledgers tell."""
    parties = {exchange.initiator}
    for life, body in bodies(lives):
        if any(entry.exchange == exchange for entry in body.ledger.corrections):
            parties.add(life.me.peer)
        parties |= {
            closed.partner for _, closed in life.closed_swaps if closed.exchange == exchange
        }
    return parties


def worst_error(lives: Sequence[SimulatedPeer]) -> float:
    """Largest distance of any parameter of any of these peers to the task's known answer."""
    return max(body.task.evaluate(body.model)["error"] for _, body in bodies(lives))


def spread(lives: Sequence[SimulatedPeer]) -> float:
    """Disagreement of the anchors of these peers."""
    return disagreement([body.replica.phi_N for _, body in bodies(lives)])


def same_theta(lives: Sequence[SimulatedPeer]) -> bool:
    """Whether all live models are equal bit for bit."""
    thetas = [body.theta_N() for _, body in bodies(lives)]
    return all(torch.equal(thetas[0], other) for other in thetas[1:])
