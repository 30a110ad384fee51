"""The book of all exchanges of one peer: which are open, which are over, and what is due.

Invariants
- at most one swap per fragment is open (settled and parked ones no longer count);
- every exchange this peer initiated ends with a recorded outcome, kept for repeated Replies;
- all collections are bounded.
"""

from __future__ import annotations

from collections import OrderedDict

from gossip.config import ExchangeConfig
from gossip.deadlines import Deadlines
from gossip.exchange.patience import Pace
from gossip.exchange.swap import Swap
from gossip.exchange.table import Event, State
from gossip.exchange.uploads import Uploads
from gossip.machine import Effect, Release, Role, Send, SwapClosed, Tell
from gossip.messages import (
    Done,
    ExchangeId,
    Gone,
    Leg,
    Outcome,
    PeerId,
    Seconds,
)

PEERS_REMEMBERED_MAX = 100_000

PACES_REMEMBERED_MAX = 1000


class Book:
    """See the module."""

    __slots__ = (
        "_boot",
        "_highest",
        "_me",
        "_outcomes",
        "_paces",
        "_seq",
        "config",
        "open",
        "swaps",
        "timers",
        "uploads",
    )

    def __init__(self, me: PeerId, boot: int, config: ExchangeConfig, uploads: Uploads) -> None:
        self.config = config
        self.uploads = uploads
        self.swaps: dict[ExchangeId, Swap] = {}
        self.open: dict[int, Swap] = {}
        self.timers: Deadlines[tuple[Event, ExchangeId]] = Deadlines()
        self._me = me
        self._boot = boot
        self._seq = 0
        self._highest: OrderedDict[PeerId, tuple[int, int]] = OrderedDict()
        self._outcomes: OrderedDict[int, tuple[PeerId, Outcome]] = OrderedDict()
        self._paces: OrderedDict[PeerId, Pace] = OrderedDict()

    def next_exchange(self) -> ExchangeId:
        """A fresh id; the sequence only rises within one boot (rule 3)."""
        self._seq += 1
        return ExchangeId(self._me, self._boot, self._seq)

    def add(self, swap: Swap) -> None:
        """Enter a new swap; its fragment must be free."""
        assert swap.fragment not in self.open, f"fragment {swap.fragment} has an open swap"
        self.swaps[swap.exchange] = self.open[swap.fragment] = swap

    def of_partner(self, peer: PeerId) -> list[Swap]:
        """All swaps with one partner, oldest first."""
        return [swap for swap in self.swaps.values() if swap.partner == peer]

    def parked(self) -> list[Swap]:
        """Swaps that wait for an outcome without holding a fragment, oldest first."""
        return [swap for swap in self.swaps.values() if swap.state is State.PARKED]

    def is_new(self, exchange: ExchangeId) -> bool:
        """Whether this offer is above all ever seen of its initiator (rule 3)."""
        highest = self._highest.get(exchange.initiator, (-1, -1))
        return (exchange.boot, exchange.seq) > highest

    def remember(self, exchange: ExchangeId) -> None:
        """Never take this offer, or an older one of its initiator, again."""
        self._highest[exchange.initiator] = (exchange.boot, exchange.seq)
        self._highest.move_to_end(exchange.initiator)
        if len(self._highest) > PEERS_REMEMBERED_MAX:
            self._highest.popitem(last=False)

    def recorded(self, sender: PeerId, exchange: ExchangeId) -> list[Effect]:
        """Answer about an exchange that is over: its outcome if it was mine, else Gone."""
        mine = exchange.initiator == self._me and exchange.boot == self._boot
        record = self._outcomes.get(exchange.seq) if mine else None
        if record is None or record[0] != sender:
            return [Send(sender, Gone(exchange))]
        return [Send(sender, Done(exchange, record[1]))]

    def pace_of(self, peer: PeerId) -> Pace | None:
        """How the last complete pull from this peer went, if that was seen."""
        return self._paces.get(peer)

    def remember_pace(self, swap: Swap) -> None:
        """A pull is complete: the next one from this peer begins with what it has shown.

        Where its first chunk was asked for twice, that was too soon or it was lost: next time it
        is waited for twice as long.
        """
        assert swap.pull is not None
        assert swap.patience is not None
        known = self._paces.pop(swap.partner, None)
        pace = swap.patience.pace(swap.pull.arrived_bytes)
        if pace is None and known is not None:
            pace = known._replace(first_s=2 * known.first_s)
        if pace is not None:
            self._paces[swap.partner] = pace
        if len(self._paces) > PACES_REMEMBERED_MAX:
            self._paces.popitem(last=False)

    def progress(self, swap: Swap, now: Seconds) -> None:
        """Something moved: silence and stall count from now; the partner is not lost."""
        swap.park_when_applied = False
        self.listen(swap, now)
        self.timers.set((Event.STALLED, swap.exchange), now + self._stall_s(swap))

    def _stall_s(self, swap: Swap) -> Seconds:
        config = self.config
        match swap.state:
            case State.PULLING if swap.patience is not None:
                return swap.patience.stall_s
            case State.REPLIED if not swap.asked_bytes:
                return config.park_after_s
            case State.PARKED:
                return config.forget_after_s
            case State.OFFERED | State.REPLIED if swap.asker is not None:
                return swap.asker.stall_s  # what was sent may be on a slow link still
            case _:
                return config.withdraw_after_s

    def listen(self, swap: Swap, now: Seconds) -> None:
        """I spoke: silence is counted from now, the stall goes on."""
        pulling = swap.patience if swap.state is State.PULLING else None
        silence_s = self.config.retry_s if pulling is None else pulling.silence_s
        self.timers.set((Event.SILENCE, swap.exchange), now + silence_s)

    def quiet(self, swap: Swap) -> None:
        """Nothing is awaited from the partner."""
        self.timers.clear((Event.SILENCE, swap.exchange))
        self.timers.clear((Event.STALLED, swap.exchange))

    def free(self, swap: Swap) -> None:
        """The swap no longer holds its fragment."""
        if self.open.get(swap.fragment) is swap:
            del self.open[swap.fragment]

    def close(self, swap: Swap, why: str, now: Seconds) -> list[Effect]:
        """End this side, record its outcome if it is mine, let go of all bytes."""
        del self.swaps[swap.exchange]
        self.free(swap)
        self.quiet(swap)
        if swap.role is Role.INITIATOR:
            # Not "or": Outcome.APPLIED is 0.
            outcome = Outcome.REFUSED if swap.outcome is None else swap.outcome
            self._outcomes[swap.exchange.seq] = (swap.partner, outcome)
            if len(self._outcomes) > self.config.outcomes_kept:
                self._outcomes.popitem(last=False)
        return [
            *self.release(swap, Leg.CODE),
            *self.release(swap, Leg.CORRECTION),
            Tell(
                SwapClosed(
                    swap.exchange,
                    swap.partner,
                    swap.role,
                    swap.fragment,
                    swap.outcome,
                    why,
                    now - swap.opened_at,
                    swap.disagreement,
                )
            ),
        ]

    def release(self, swap: Swap, leg: Leg) -> list[Effect]:
        """Let go of one blob's bytes, queued chunks included."""
        self.uploads.forget(swap.transfer(leg))
        return [Release(swap.transfer(leg))]
