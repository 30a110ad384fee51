"""What must hold of one life and of one side of one exchange, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gossip.config import ExchangeConfig
from gossip.exchange.table import State
from gossip.machine import Computed, Role, SwapClosed
from gossip.messages import ExchangeId, Outcome

if TYPE_CHECKING:
    from tests.gossip.exchange.model import ModelPeer


@dataclass
class Tally:
    """What one side of one exchange did, counted."""

    role: Role | None = None
    moves: int = 0
    undos: int = 0
    counted: int = 0
    closed: list[SwapClosed] = field(default_factory=list)


def is_zero(amount: Any) -> bool:
    """Exactly nothing, be it a number or a vector."""
    return not bool((amount != 0) if isinstance(amount, Fraction) else (amount != 0).any())


def check_fragments(life: ModelPeer) -> None:
    """Rule 1: one open swap a fragment, until the hook has answered."""
    book = life.swaps._book
    for fragment in range(life.world.config.fragments):
        holders = [
            swap.exchange
            for swap in book.swaps.values()
            if swap.fragment == fragment and swap.state is not State.PARKED
        ]
        held = [book.open[fragment].exchange] if fragment in book.open else []
        assert held == holders, f"fragment {fragment} of {life.life}"
    unanswered = [
        (queued.apply.fragment, queued.apply.transfer.exchange)
        for queued in life.hook
        if queued.apply is not None and not queued.apply.undo
    ]
    for fragment, exchange in unanswered:
        assert fragment in book.open, "the fragment is free before the hook has moved it"
        assert exchange == book.open[fragment].exchange


def check_bounds(life: ModelPeer, config: ExchangeConfig) -> None:
    """No collection grows without end."""
    book = life.swaps._book
    assert len(book.swaps) <= config.fragments + config.parked_max
    assert len(book._outcomes) <= config.outcomes_kept
    assert len(book.timers._times) <= 2 * len(book.swaps)
    open_blobs = {exchange for exchange, _ in life.reserved}
    assert open_blobs <= set(book.swaps), "bytes are kept for an exchange that is over"
    made = {exchange for exchange, _ in life.made}
    waiting = {each.transfer.exchange for each in life.inbox if isinstance(each, Computed)}
    assert made <= set(book.swaps) | waiting, "bytes are kept for an exchange that is over"


def check_tally(exchange: ExchangeId, tally: Tally) -> None:
    """A side moves once, ends once, and a responder that moved settles, refunds or counts."""
    assert len(tally.closed) <= 1, f"{exchange} closed twice"
    assert tally.moves <= 1
    assert tally.undos + tally.counted <= 1, f"{exchange}: refunded and counted, or twice"
    if not tally.closed:
        return
    closed = tally.closed[0]
    if closed.role is Role.INITIATOR:
        assert (0, 0) == (tally.undos, tally.counted)
    elif tally.moves:
        expected = {Outcome.APPLIED: (0, 0), Outcome.REFUSED: (1, 0), None: (0, 1)}
        assert expected[closed.outcome] == (tally.undos, tally.counted), closed
