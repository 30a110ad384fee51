"""One side of one exchange: its state, and the messages and effects that speak of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gossip.exchange.patience import Patience
from gossip.exchange.pull import Pull
from gossip.exchange.table import State
from gossip.machine import Apply, Compute, Role, Send
from gossip.messages import (
    Blob,
    BusyReason,
    ExchangeId,
    Leg,
    Offer,
    Outcome,
    PeerId,
    Reply,
    Seconds,
    Transfer,
)


@dataclass(frozen=True, slots=True)
class Footing:
    """How this peer stands when it starts a swap or is offered one.

    ``decline`` is the reason to answer Busy, if any; ``clip_bound`` the largest norm of a
    correction it will take.
    """

    lineage: bytes
    decline: BusyReason | None
    clip_bound: float = math.inf


@dataclass(slots=True)
class Swap:
    """One side of one exchange; only the actions change it.

    ``hook_answered``: the hook has applied (or could not apply) this side's correction.
    ``park_when_applied``: the partner went silent before that; park as soon as it has.
    ``asked_bytes``: what the partner's Wants asked of my blob so far, repetitions included;
    ``asker`` is the pace of those Wants, from the first one on.
    """

    exchange: ExchangeId
    role: Role
    partner: PeerId
    fragment: int
    state: State
    opened_at: Seconds
    codec: str
    reply_codec: str
    footing: Footing
    clip_bound: float
    code: Blob | None = None
    correction: Blob | None = None
    weight: float = 0.0
    clip: float = 1.0
    disagreement: float = 0.0
    pull: Pull | None = None
    patience: Patience | None = None
    asker: Patience | None = None
    outcome: Outcome | None = None
    hook_answered: bool = False
    park_when_applied: bool = False
    asked_bytes: int = 0

    def transfer(self, leg: Leg) -> Transfer:
        """The key of one of this exchange's blobs."""
        return Transfer(self.exchange, leg)

    def offer(self) -> Send:
        """A's opening message."""
        assert self.code is not None
        offer = Offer(
            self.exchange,
            self.footing.lineage,
            self.fragment,
            self.code,
            self.codec,
            self.reply_codec,
            self.clip_bound,
        )
        return Send(self.partner, offer)

    def reply(self) -> Send:
        """B's answer."""
        assert self.correction is not None
        reply = Reply(
            self.exchange,
            self.fragment,
            self.correction,
            self.reply_codec,
            self.weight,
            self.clip,
        )
        return Send(self.partner, reply)

    def correct(self) -> Compute:
        """B's work: the correction from A's code."""
        return Compute(
            self.transfer(Leg.CORRECTION),
            self.fragment,
            self.codec,
            self.code,
            self.reply_codec,
            self.clip_bound,
        )

    def apply(self, signed_weight: float, undo: bool = False) -> Apply:
        """Move this side by ``signed_weight`` times the correction; the one that another made
        must keep the bound that it was told."""
        assert self.correction is not None
        return Apply(
            self.transfer(Leg.CORRECTION),
            self.fragment,
            self.correction,
            self.reply_codec,
            signed_weight,
            undo,
            self.clip_bound if self.role is Role.INITIATOR else math.inf,
            self.clip,
            self.partner,
        )
