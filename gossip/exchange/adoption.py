"""How a newcomer gets the model (rule 8): one consistent snapshot, pulled from one member.

``Adoption`` is the newcomer's side, ``Donations`` the member's. Neither decides whom to ask:
the core does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gossip.config import ExchangeConfig
from gossip.deadlines import Deadlines
from gossip.exchange.patience import STALL_STRETCH_MAX, Patience
from gossip.exchange.pull import Pull, is_sane
from gossip.exchange.uploads import Uploads, asked_bytes, is_too_much
from gossip.machine import (
    AnchorNotFinite,
    Compute,
    Computed,
    Effect,
    Fault,
    Release,
    Replace,
    Reserve,
    Send,
    Tell,
)
from gossip.messages import (
    SNAPSHOT_CODEC,
    Adopt,
    Blob,
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeId,
    Gone,
    Leg,
    Outcome,
    PeerId,
    Seconds,
    Snapshot,
    Transfer,
    Want,
)


class AdoptionState(Enum):
    """Where the newcomer stands."""

    IDLE = auto()
    ASKED = auto()
    PULLING = auto()
    REPLACING = auto()


class Adoption:
    """At most one adoption at a time; giving up returns to IDLE and changes nothing else."""

    __slots__ = (
        "_config",
        "_exchange",
        "_patience",
        "_pull",
        "_snapshot",
        "_timers",
        "_wanted",
        "donor",
        "state",
    )

    def __init__(self, config: ExchangeConfig) -> None:
        self._config = config
        self._timers: Deadlines[str] = Deadlines()
        self._exchange: ExchangeId | None = None
        self._wanted = b""
        self._pull: Pull | None = None
        self._patience: Patience | None = None
        self._snapshot: Snapshot | None = None
        self.state = AdoptionState.IDLE
        self.donor: PeerId | None = None

    def deadline(self) -> Seconds:
        """When something is due next."""
        return self._timers.earliest()

    def is_mine(self, exchange: ExchangeId) -> bool:
        """Whether this exchange is the adoption under way."""
        return exchange == self._exchange

    def start(
        self, donor: PeerId, exchange: ExchangeId, lineage: bytes, now: Seconds
    ) -> list[Effect]:
        """Ask one member for its snapshot; only when idle."""
        assert self.state is AdoptionState.IDLE
        self.state = AdoptionState.ASKED
        self.donor, self._exchange, self._wanted = donor, exchange, lineage
        self._progress(now)
        return [Send(donor, Adopt(exchange, lineage))]

    def hear_snapshot(self, sender: PeerId, snapshot: Snapshot, now: Seconds) -> list[Effect]:
        """The donor's answer: start to pull."""
        ours = self.is_mine(snapshot.exchange) and sender == self.donor
        if not ours or self.state is not AdoptionState.ASKED:
            return []
        blob = snapshot.snapshot
        expected = snapshot.lineage == self._wanted and snapshot.codec == SNAPSHOT_CODEC
        if not expected or not is_sane(blob, self._config.blob_bytes_max):
            return [Tell(Fault(sender, "snapshot", "not what was asked")), *self.give_up()]
        self.state = AdoptionState.PULLING
        self._snapshot = snapshot
        transfer = Transfer(snapshot.exchange, Leg.SNAPSHOT)
        self._pull = Pull(transfer, blob, self._config.window_bytes)
        self._patience = Patience(self._config, self._pull.chunk_bytes, now)
        self._progress(now)
        reserve = Reserve(transfer, blob, -1, snapshot.codec, source=sender)
        return [reserve, *(Send(sender, want) for want in self._pull.ask())]

    def hear_chunk(self, sender: PeerId, chunk: Chunk, now: Seconds) -> list[Effect]:
        """A stored chunk of the snapshot."""
        if self._pull is None or sender != self.donor or chunk.transfer != self._pull.transfer:
            return []
        new = self._pull.take(chunk)
        if new is None:
            return [Tell(Fault(sender, "chunk", "not a chunk of the snapshot"))]
        if self.state is not AdoptionState.PULLING or not (new or self._pull.may_repeat):
            return []
        if new and self._patience is not None:
            self._patience.arrived(now)
        self._progress(now)
        if not new:
            return []
        if not self._pull.is_complete:
            self._pull.widen(now, self._config.window_max_bytes)
            return [Send(sender, want) for want in self._pull.ask()]
        assert self._snapshot is not None
        self.state = AdoptionState.REPLACING
        self._timers.clear("silence")
        self._timers.clear("stalled")
        snapshot = self._snapshot
        replace = Replace(self._pull.transfer, snapshot.snapshot, snapshot.codec, snapshot.lineage)
        return [replace]

    def replaced(self, applied: bool) -> tuple[bytes, list[Effect]]:
        """The hook answered: the adopted lineage (empty if it could not), and a word of thanks."""
        assert self._exchange is not None
        assert self.donor is not None
        outcome = Outcome.APPLIED if applied else Outcome.REFUSED
        done = Send(self.donor, Done(self._exchange, outcome))
        lineage = self._wanted if applied else b""
        return lineage, [done, *self.give_up()]

    def partner_lost(self, peer: PeerId) -> list[Effect]:
        """The donor is gone, unless its bytes are all here already."""
        if peer != self.donor or self.state is AdoptionState.REPLACING:
            return []
        return self.give_up()

    def wake(self, now: Seconds) -> list[Effect]:
        """Ask again after silence; give up when stalled."""
        effects: list[Effect] = []
        for name in self._timers.due(now):
            if self.donor is None or self._exchange is None:
                continue
            if name == "stalled":
                effects += self.give_up()
            elif self.state is AdoptionState.ASKED:
                self._timers.set("silence", now + self._config.retry_s)
                effects.append(Send(self.donor, Adopt(self._exchange, self._wanted)))
            elif self._pull is not None:
                effects += [Send(self.donor, want) for want in self._pull.ask_again()]
                if self._patience is not None:
                    self._patience.asked_again()
                    self._timers.set("silence", now + self._patience.silence_s)
        return effects

    def give_up(self) -> list[Effect]:
        """Back to idle; the bytes are let go."""
        effects: list[Effect] = []
        if self._pull is not None:
            effects.append(Release(self._pull.transfer))
        self.state = AdoptionState.IDLE
        self.donor = self._exchange = self._pull = self._patience = self._snapshot = None
        self._timers.clear("silence")
        self._timers.clear("stalled")
        return effects

    def _progress(self, now: Seconds) -> None:
        pace, config = self._patience, self._config
        self._timers.set("silence", now + (pace.silence_s if pace else config.retry_s))
        self._timers.set("stalled", now + (pace.stall_s if pace else config.withdraw_after_s))


@dataclass(slots=True)
class _Donation:
    to: PeerId
    blob: Blob | None = None
    lineage: bytes = b""
    asked_bytes: int = 0


class Donations:
    """Snapshots this peer serves; bounded in number, dropped after a stall.

    A newcomer is waited for as long as it may wait for chunks itself: on a slow link its Wants are
    far apart. If it is gone for good, its link or the group says so first.
    """

    __slots__ = ("_config", "_donations", "_stall_s", "_timers", "_uploads")

    def __init__(self, config: ExchangeConfig, uploads: Uploads) -> None:
        self._config = config
        self._stall_s = STALL_STRETCH_MAX * config.withdraw_after_s
        self._uploads = uploads
        self._donations: dict[ExchangeId, _Donation] = {}
        self._timers: Deadlines[ExchangeId] = Deadlines()

    def deadline(self) -> Seconds:
        """When something is due next."""
        return self._timers.earliest()

    def knows(self, exchange: ExchangeId) -> bool:
        """Whether this exchange is a donation under way."""
        return exchange in self._donations

    def hear_adopt(
        self, sender: PeerId, adopt: Adopt, lineage: bytes, now: Seconds
    ) -> list[Effect]:
        """Somebody wants my model; ``lineage`` empty means I have none to give."""
        known = self._donations.get(adopt.exchange)
        if known is not None:
            return self._answer(adopt.exchange, known) if known.to == sender else []
        if adopt.exchange.initiator != sender:
            return [Tell(Fault(sender, "adopt", "exchange id is not the sender's"))]
        if not lineage:
            return [Send(sender, Busy(adopt.exchange, BusyReason.NOT_ADOPTED))]
        if adopt.lineage != lineage:
            return [Send(sender, Busy(adopt.exchange, BusyReason.FOREIGN_LINEAGE))]
        if len(self._donations) >= self._config.donations_max:
            return [Send(sender, Busy(adopt.exchange, BusyReason.LIMIT))]
        self._donations[adopt.exchange] = _Donation(sender, None, lineage)
        self._timers.set(adopt.exchange, now + self._stall_s)
        return [Compute(Transfer(adopt.exchange, Leg.SNAPSHOT), -1, SNAPSHOT_CODEC)]

    def computed(self, happened: Computed) -> list[Effect]:
        """The snapshot is ready."""
        exchange = happened.transfer.exchange
        donation = self._donations.get(exchange)
        if donation is None:
            return [Release(happened.transfer)] if happened.blob is not None else []
        if happened.blob is None:
            gone = Send(donation.to, Gone(exchange))
            return [Tell(AnchorNotFinite(-1)), gone, *self.drop(exchange)]
        donation.blob = happened.blob
        return self._answer(exchange, donation)

    def hear_want(self, sender: PeerId, want: Want, now: Seconds) -> list[Effect]:
        """Serve chunks of a snapshot."""
        donation = self._donations[want.transfer.exchange]
        if donation.to != sender or donation.blob is None:
            return []
        donation.asked_bytes += asked_bytes(want, donation.blob)
        if is_too_much(donation.asked_bytes, donation.blob):
            return []  # the stall goes on
        self._timers.set(want.transfer.exchange, now + self._stall_s)
        is_snapshot = want.transfer.leg is Leg.SNAPSHOT
        if not is_snapshot or not self._uploads.serve(sender, want, donation.blob):
            return [Tell(Fault(sender, "want", "bytes outside the blob"))]
        return []

    def hear_done(self, sender: PeerId, exchange: ExchangeId) -> list[Effect]:
        """The newcomer has it, or gives up; nobody else may say so."""
        return self.drop(exchange) if self._donations[exchange].to == sender else []

    def drop(self, exchange: ExchangeId) -> list[Effect]:
        """Served, given up, or the newcomer is gone."""
        if self._donations.pop(exchange, None) is None:
            return []
        self._timers.clear(exchange)
        transfer = Transfer(exchange, Leg.SNAPSHOT)
        self._uploads.forget(transfer)
        return [Release(transfer)]

    def partner_lost(self, peer: PeerId) -> list[Effect]:
        """Drop what was meant for a peer that is gone."""
        effects: list[Effect] = []
        for exchange in [key for key, each in self._donations.items() if each.to == peer]:
            effects += self.drop(exchange)
        return effects

    def wake(self, now: Seconds) -> list[Effect]:
        """Drop what stalled."""
        effects: list[Effect] = []
        for exchange in self._timers.due(now):
            effects += self.drop(exchange)
        return effects

    def _answer(self, exchange: ExchangeId, donation: _Donation) -> list[Effect]:
        if donation.blob is None:
            return []
        snapshot = Snapshot(exchange, donation.lineage, donation.blob, SNAPSHOT_CODEC)
        return [Send(donation.to, snapshot)]
