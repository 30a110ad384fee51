"""One side of a swap on the bench: a real ``Swaps``, its partner and driver spoken by hand.

``Bench.initiator(state)`` and ``Bench.responder(state)`` bring a fresh side to a state by the
shortest honest dialogue, so that a test starts where it gets interesting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gossip.config import ExchangeConfig
from gossip.exchange.swap import Footing, Swap
from gossip.exchange.swaps import SwapMessage, Swaps
from gossip.exchange.table import State
from gossip.exchange.uploads import Uploads
from gossip.machine import Applied, Computed, Effect
from gossip.messages import (
    Blob,
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeId,
    Leg,
    Offer,
    Outcome,
    PeerId,
    Reply,
    Seconds,
    Transfer,
)

LOW, HIGH, STRANGER = PeerId("1" * 16), PeerId("2" * 16), PeerId("3" * 16)
"""Two partners, and somebody who has nothing to do with them."""

LINEAGE = b"lineage!"
EIGHT_BITS = ExchangeConfig(codec="int8", reply_codec="int8")
"""What both sides of these dialogues say; blobs of no codec's length stand for the bytes."""

CODE = Blob(b"c" * 16, 700, 256)
CORRECTION = Blob(b"r" * 16, 600, 256)
BOOT = 7


def footing(lineage: bytes = LINEAGE) -> Footing:
    """A peer that has adopted and will swap."""
    return Footing(lineage, None)


def chunks(transfer: Transfer, blob: Blob) -> list[Chunk]:
    """All chunks of a blob, in order."""
    starts = range(0, blob.size_bytes, blob.chunk_bytes)
    lengths = [min(blob.chunk_bytes, blob.size_bytes - start) for start in starts]
    return [Chunk(transfer, *each) for each in zip(starts, lengths, strict=True)]


def offer_of(
    exchange: ExchangeId,
    fragment: int = 0,
    code: Blob = CODE,
    lineage: bytes = LINEAGE,
    clip_bound: float = math.inf,
) -> Offer:
    """An honest Offer unless told otherwise."""
    return Offer(exchange, lineage, fragment, code, "int8", "int8", clip_bound)


def reply_of(
    exchange: ExchangeId,
    fragment: int = 0,
    correction: Blob = CORRECTION,
    codec: str = "int8",
    weight: float = 0.5,
) -> Reply:
    """An honest Reply unless told otherwise."""
    return Reply(exchange, fragment, correction, codec, weight)


def done_of(exchange: ExchangeId, outcome: Outcome = Outcome.APPLIED) -> Done:
    """The initiator's last word."""
    return Done(exchange, outcome)


@dataclass
class Bench:
    """``me`` under test; ``partner`` is whoever the test speaks for."""

    me: PeerId = LOW
    partner: PeerId = HIGH
    config: ExchangeConfig = EIGHT_BITS
    now: Seconds = 100.0

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.config.upload_bytes_per_s, self.now)
        self.swaps = Swaps(self.me, BOOT, self.config, self.uploads)
        self.mine = ExchangeId(self.me, BOOT, 1)
        self.theirs = ExchangeId(self.partner, BOOT, 1)

    # One event each.

    def hear(self, message: SwapMessage, sender: PeerId | None = None) -> list[Effect]:
        """The partner, or somebody else, says something."""
        who = self.partner if sender is None else sender
        effects = self.swaps.hear(who, message, footing(), self.now)
        return [*effects, *self.uploads.pump(self.now)]

    def hear_busy(self, exchange: ExchangeId) -> list[Effect]:
        """The partner declines."""
        return self.hear(Busy(exchange, BusyReason.FRAGMENT_OPEN))

    def start(self, fragment: int = 0) -> list[Effect]:
        """I open a swap."""
        return self.swaps.start(self.partner, fragment, footing(), self.now)

    def computed(self, exchange: ExchangeId, leg: Leg, blob: Blob | None) -> list[Effect]:
        """The driver has made a blob, or could not."""
        return self.swaps.computed(Computed(Transfer(exchange, leg), blob), self.now)

    def applied(self, exchange: ExchangeId, ok: bool = True) -> list[Effect]:
        """The hook has moved the anchor, or could not."""
        return self.swaps.applied(Applied(exchange, ok), self.now)

    def wait(self, by_s: float) -> list[Effect]:
        """Time goes on; everything due on the way rings in turn."""
        until = self.now + by_s
        effects: list[Effect] = []
        while self.swaps.deadline() <= until:
            self.now = max(self.now, self.swaps.deadline())
            effects += self.swaps.wake(self.now)
        self.now = until
        return effects

    def receive(self, exchange: ExchangeId, leg: Leg, blob: Blob) -> list[Effect]:
        """All chunks of a blob arrive."""
        effects: list[Effect] = []
        for chunk in chunks(Transfer(exchange, leg), blob):
            effects += self.hear(chunk)
        return effects

    # What there is to see.

    def swap(self, exchange: ExchangeId) -> Swap | None:
        """The swap in the book, if it is open or parked."""
        return self.swaps._book.swaps.get(exchange)

    def state(self, exchange: ExchangeId) -> State | None:
        """Where a swap stands; None when it is over or never was."""
        swap = self.swap(exchange)
        return None if swap is None else swap.state

    # To where it gets interesting.

    @classmethod
    def initiator(cls, state: State, config: ExchangeConfig | None = None) -> Bench:
        """A side that asked, in ``state``."""
        bench = cls(config=config or EIGHT_BITS)
        exchange = bench.mine
        bench.start()
        if state is not State.ENCODING:
            bench.computed(exchange, Leg.CODE, CODE)
        if state not in (State.ENCODING, State.OFFERED):
            bench.hear(reply_of(exchange))
        if state is State.APPLYING:
            bench.receive(exchange, Leg.CORRECTION, CORRECTION)
        assert state is bench.state(exchange)
        return bench

    @classmethod
    def responder(cls, state: State, config: ExchangeConfig | None = None) -> Bench:
        """A side that was asked, in ``state``; SETTLING as after Done(applied)."""
        bench = cls(config=config or EIGHT_BITS)
        exchange = bench.theirs
        bench.hear(offer_of(exchange))
        if state is not State.PULLING:
            bench.receive(exchange, Leg.CODE, CODE)
        if state not in (State.PULLING, State.CORRECTING):
            bench.computed(exchange, Leg.CORRECTION, CORRECTION)
        if state is State.SETTLING:
            bench.hear(done_of(exchange))
        if state is State.PARKED:
            bench.applied(exchange)
            bench.swaps.link_lost(bench.partner, bench.now)
        assert state is bench.state(exchange)
        return bench
