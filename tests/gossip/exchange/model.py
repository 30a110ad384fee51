"""A swarm in miniature: real ``Swaps`` machines, everything around them a model.

The network may lose, repeat and reorder any message; hooks and computations take as long as they
like and may fail; links come and go; peers crash and come back. What is assumed, and no more:

- a connection ends with the process at either end: what is in flight *to* a crashed life is lost
  (what it sent may still arrive), and others notice the loss before they meet the next life;
- a driver decodes a correction when told to Apply, answers each Apply that is no undo once, and
  never undoes what it could not apply;
- the hook works first in, first out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from gossip.config import ExchangeConfig
from gossip.exchange.swap import Footing
from gossip.exchange.swaps import SwapMessage, Swaps
from gossip.exchange.uploads import Uploads
from gossip.machine import (
    AnchorNotFinite,
    Applied,
    Apply,
    Compute,
    Computed,
    Effect,
    Fault,
    OneSided,
    Release,
    Reserve,
    Send,
    SwapClosed,
    Tell,
)
from gossip.messages import (
    Blob,
    BusyReason,
    Chunk,
    ExchangeId,
    Leg,
    PeerId,
    Transfer,
)
from tests.gossip.exchange.anchors import Anchor, Content, RationalAnchor
from tests.gossip.exchange.laws import Tally, check_bounds, check_fragments, check_tally, is_zero
from tests.lab.pair import LINEAGE

FLIGHTS_MAX = 400
CHUNK_BYTES = 256


class Life(NamedTuple):
    """One run of one peer."""

    peer: PeerId
    boot: int


class Flight(NamedTuple):
    """A message on its way; chunks carry the digest of the blob they were cut from."""

    to: PeerId
    sender: PeerId
    message: SwapMessage
    payload: bytes | None


@dataclass
class Queued:
    """What waits for the hook: a decoded correction (None: not decodable) or a new anchor."""

    apply: Apply | None
    correction: Any
    value: int = 0


class ModelPeer:
    """One life: the real machine and a model of its driver."""

    def __init__(self, world: World, life: Life, anchor: Anchor) -> None:
        self.world = world
        self.life = life
        self.anchor = anchor
        # Each peer has a weight of its own; the one in the Reply must count for both sides.
        weight = world.config.weight / (1 + world.ids.index(life.peer) % 2)
        config = replace(world.config, weight=weight)
        self.uploads = Uploads(config.upload_bytes_per_s, world.now)
        self.swaps = Swaps(life.peer, life.boot, config, self.uploads)
        self.made: dict[Transfer, bytes] = {}
        self.reserved: dict[Transfer, tuple[Blob, dict[int, bytes]]] = {}
        self.to_compute: deque[Compute] = deque()
        self.hook: deque[Queued] = deque()
        self.inbox: deque[Computed | Applied] = deque()
        self.unable: dict[ExchangeId, None] = {}
        self.tallies: dict[ExchangeId, Tally] = {}
        self.replacing = 0
        self.is_full = False

    # What the core asks for.

    def carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in [*effects, *self.uploads.pump(self.world.now)]:
            match effect:
                case Send(to, Chunk() as chunk):
                    payload = self.made.get(chunk.transfer)
                    self.world.send(Flight(to, self.life.peer, chunk, payload))
                case Send(to, message):
                    self.world.send(Flight(to, self.life.peer, message, None))
                case Reserve(transfer) if self.is_full:
                    self.inbox.append(Computed(transfer, None))
                    self.world.take_part(transfer.exchange, self.life)
                case Reserve(transfer, blob):
                    assert blob.size_bytes <= self.world.config.blob_bytes_max
                    self.reserved[transfer] = (blob, {})
                    self.world.take_part(transfer.exchange, self.life)
                case Release(transfer):
                    waiting = [each.apply for each in self.hook if each.apply is not None]
                    lent = [each.transfer for each in waiting if not each.undo]
                    assert transfer not in lent, "the hook has yet to read these bytes"
                    self.made.pop(transfer, None)
                    self.reserved.pop(transfer, None)
                case Compute():
                    self.to_compute.append(effect)
                    self.world.take_part(effect.transfer.exchange, self.life)
                case Apply(transfer, undo=undo):
                    self._queue(effect)
                    tally = self.tally(transfer.exchange)
                    tally.moves += not undo
                    tally.undos += undo
                case Tell(OneSided(exchange)):
                    self.tally(exchange).counted += 1
                case Tell(SwapClosed(exchange, role=role) as closed):
                    self.tally(exchange).role = role
                    self.tally(exchange).closed.append(closed)
                case Tell(AnchorNotFinite()):
                    pass  # its own code failed, and nobody is blamed
                case Tell(Fault(_, kind)):
                    assert kind == "code", f"honest peers are blamed: {effect}"
                case _:
                    raise AssertionError(f"nothing here asks for {effect}")

    def tally(self, exchange: ExchangeId) -> Tally:
        return self.tallies.setdefault(exchange, Tally())

    def _queue(self, apply: Apply) -> None:
        digest = self.made.get(apply.transfer)
        if digest is None:
            digest = self._complete(apply.transfer)
        sound = digest == apply.blob.digest
        self.hook.append(Queued(apply, self.world.contents[digest] if sound else None))

    def _complete(self, transfer: Transfer) -> bytes | None:
        """The digest of a pulled blob, if all of it is here and is what was announced."""
        blob, chunks = self.reserved.get(transfer, (None, {}))
        if blob is None or set(chunks) != set(range(0, blob.size_bytes, blob.chunk_bytes)):
            return None
        return blob.digest if set(chunks.values()) == {blob.digest} else None

    # What the driver does, when the schedule lets it.

    def compute(self, fails: bool) -> None:
        if not self.to_compute:
            return
        asked = self.to_compute.popleft()
        content: Content = None
        codec = asked.codec
        if not fails and asked.transfer.leg is Leg.CODE:
            content, codec = self.anchor.encode(asked.fragment, asked.codec)
        elif not fails:
            source = self._complete(Transfer(asked.transfer.exchange, Leg.CODE))
            if source is not None:
                code = self.world.contents[source]
                codecs = (asked.codec, asked.reply_codec)
                content = self.anchor.correct(asked.fragment, code, *codecs)
        blob = None if content is None else self.world.blob_of(content)
        if blob is not None:
            self.made[asked.transfer] = blob.digest
        told = "" if codec == asked.codec else codec
        self.inbox.append(Computed(asked.transfer, blob, told))

    def run_hook(self, count: int, refuse: bool) -> None:
        for _ in range(min(count, len(self.hook))):
            queued = self.hook.popleft()
            if queued.apply is None:
                self.anchor.replace(queued.value)
                self.replacing -= 1
                continue
            exchange, undo = queued.apply.transfer.exchange, queued.apply.undo
            failed = exchange in self.unable if undo else refuse
            if failed or queued.correction is None:
                self.unable[exchange] = None
            else:
                self.anchor.move(queued.apply, queued.correction)
            if not undo:
                self.inbox.append(Applied(exchange, exchange not in self.unable))

    def answer(self) -> None:
        """The core hears the oldest thing its driver did."""
        if self.inbox:
            happened, now = self.inbox.popleft(), self.world.now
            if isinstance(happened, Computed):
                self.carry_out(self.swaps.computed(happened, now))
            else:
                self.carry_out(self.swaps.applied(happened, now))

    def hear(self, flight: Flight) -> None:
        message = flight.message
        if isinstance(message, Chunk):
            blob, chunks = self.reserved.get(message.transfer, (None, {}))
            if blob is None or flight.payload is None:
                return
            chunks[message.offset_bytes] = flight.payload
        now = self.world.now
        self.carry_out(self.swaps.hear(flight.sender, message, self.footing, now))

    @property
    def footing(self) -> Footing:
        return Footing(LINEAGE, BusyReason.NOT_ADOPTED if self.replacing else None)

    def start(self, partner: PeerId, fragment: int) -> None:
        able = partner != self.life.peer and not self.replacing
        if able and self.swaps.is_free(fragment):
            now = self.world.now
            self.carry_out(self.swaps.start(partner, fragment, self.footing, now))

    def cancel(self, keep_moved: bool) -> None:
        self.carry_out(self.swaps.cancel(self.world.now, keep_moved))

    def adopt(self, value: int) -> None:
        """What the core does when a snapshot is all here."""
        self.cancel(keep_moved=False)
        self.hook.append(Queued(None, None, value))
        self.replacing += 1

    def wake(self) -> None:
        if min(self.swaps.deadline(), self.uploads.deadline()) <= self.world.now:
            self.carry_out(self.swaps.wake(self.world.now))

    @property
    def is_idle(self) -> bool:
        return not (self.to_compute or self.hook or self.inbox)


class World:
    """All lives, the network between them, and the laws they must keep."""

    def __init__(
        self,
        config: ExchangeConfig,
        peers: int,
        anchor: Callable[[int], Anchor] | None = None,
    ) -> None:
        self.config = config
        self.now = 100.0
        self.ids = [PeerId(f"{number:016x}") for number in range(1, peers + 1)]
        self.lives: dict[PeerId, ModelPeer] = {}
        self.crashed: list[ModelPeer] = []
        self.flights: list[Flight] = []
        self.contents: dict[bytes, Any] = {}
        self.cut_pairs: set[frozenset[PeerId]] = set()
        self.unnoticed: list[tuple[PeerId, PeerId]] = []
        self.parts: dict[ExchangeId, dict[Life, None]] = {}
        self._anchor = anchor or (lambda value: RationalAnchor(config.fragments, value))
        self._boots = dict.fromkeys(self.ids, 0)
        for number, peer in enumerate(self.ids):
            self.boot(peer, number * 3 - 4)

    # Events; each is a no-op where it makes no sense, so any schedule may call any of them.

    def boot(self, peer: PeerId, value: int) -> None:
        if peer in self.lives:
            return
        self.notice_all()
        self._boots[peer] += 1
        life = Life(peer, self._boots[peer])
        self.lives[peer] = ModelPeer(self, life, self._anchor(value))
        if life.boot > 1:
            for other in list(self.lives.values()):
                if other.life.peer != peer:
                    other.carry_out(other.swaps.link_up(peer, self.now))

    def crash(self, peer: PeerId) -> None:
        if peer in self.lives:
            self.crashed.append(self.lives.pop(peer))
            self.flights = [flight for flight in self.flights if flight.to != peer]
            self.unnoticed = [pair for pair in self.unnoticed if pair[0] != peer]
            self.unnoticed += [(other, peer) for other in self.lives]

    def notice_all(self) -> None:
        """Everybody sees the connections that a crash closed."""
        for other, peer in self.unnoticed:
            life = self.lives[other]
            life.carry_out(life.swaps.link_lost(peer, self.now))
        self.unnoticed = []

    def accuse(self, by: PeerId, peer: PeerId) -> None:
        """A verdict reaches ``by``: down, a new life, or a mistake."""
        life = self.lives.get(by)
        if life is not None and by != peer:
            boot = self._boots[peer] if peer in self.lives and self._boots[peer] > 1 else None
            life.carry_out(life.swaps.partner_down(peer, self.now, boot))

    def cut(self, one: PeerId, other: PeerId, noticed_by_both: bool) -> None:
        if one == other:
            return
        pair = frozenset((one, other))
        self.cut_pairs.add(pair)
        self.flights = [f for f in self.flights if frozenset((f.to, f.sender)) != pair]
        for me, peer in [(one, other), (other, one)][: 1 + noticed_by_both]:
            if me in self.lives:
                self.lives[me].carry_out(self.lives[me].swaps.link_lost(peer, self.now))

    def mend(self, one: PeerId, other: PeerId) -> None:
        pair = frozenset((one, other))
        if pair in self.cut_pairs:
            self.cut_pairs.remove(pair)
            for me, peer in [(one, other), (other, one)]:
                if me in self.lives:
                    self.lives[me].carry_out(self.lives[me].swaps.link_up(peer, self.now))

    def send(self, flight: Flight) -> None:
        lost = flight.to not in self.lives or frozenset(flight[:2]) in self.cut_pairs
        if not lost and len(self.flights) < FLIGHTS_MAX:
            self.flights.append(flight)

    def deliver(self, index: int) -> None:
        if self.flights:
            flight = self.flights.pop(index % len(self.flights))
            if flight.to in self.lives:
                self.lives[flight.to].hear(flight)

    def repeat(self, index: int) -> None:
        """One message will arrive twice."""
        if self.flights:
            self.send(self.flights[index % len(self.flights)])

    def drop(self, index: int) -> None:
        if self.flights:
            self.flights.pop(index % len(self.flights))

    def advance(self, by_s: float | None) -> None:
        """Time goes on by so much, or to the next deadline; whoever is due wakes."""
        due = [min(life.swaps.deadline(), life.uploads.deadline()) for life in self.lives.values()]
        until = self.now + by_s if by_s is not None else min(due, default=math.inf)
        if math.isfinite(until):
            self.now = max(self.now, until)
        for life in list(self.lives.values()):
            life.wake()

    def flush(self) -> None:
        """Everything that needs no clock happens, in order."""
        for _ in range(20_000):
            busy = [life for life in self.lives.values() if not life.is_idle]
            if not busy and not self.flights:
                return
            for life in busy:
                life.compute(fails=False)
                life.run_hook(len(life.hook), refuse=False)
                life.answer()
            self.deliver(0)
        raise AssertionError("messages never end")

    def heal(self) -> None:
        """Nothing is lost any more; after a bounded time no exchange is open."""
        self.notice_all()
        for pair in sorted(self.cut_pairs, key=sorted):
            self.mend(*sorted(pair))
        limit = self.now + self.config.forget_after_s + 3 * self.config.withdraw_after_s
        self.flush()
        while any(life.swaps.unsettled_count for life in self.lives.values()):
            assert self.now <= limit, "an exchange never ends"
            self.advance(None)
            self.flush()

    # Book-keeping of the model itself.

    def blob_of(self, content: Content) -> Blob:
        digest = (len(self.contents) + 1).to_bytes(16, "big")
        self.contents[digest] = content
        return Blob(digest, 2 * CHUNK_BYTES - 56, CHUNK_BYTES)

    def take_part(self, exchange: ExchangeId, life: Life) -> None:
        self.parts.setdefault(exchange, {})[life] = None

    def balances(self) -> dict[ExchangeId, Any]:
        """What all live peers' corrections of one exchange add up to."""
        sums: dict[ExchangeId, Any] = {}
        for life in self.lives.values():
            for exchange, amount in life.anchor.booked().items():
                sums[exchange] = sums[exchange] + amount if exchange in sums else amount
        return sums

    def is_counted(self, exchange: ExchangeId) -> bool:
        lives = [*self.lives.values(), *self.crashed]
        return any(life.tallies[exchange].counted for life in lives if exchange in life.tallies)

    def lost_a_side(self, exchange: ExchangeId) -> bool:
        gone = {life.life for life in self.crashed}
        return any(life in gone for life in self.parts[exchange])

    # The laws.

    def check(self) -> None:
        """What must hold at any moment."""
        for life in self.lives.values():
            assert life.anchor.is_balanced(), f"the ledger of {life.life} does not add up"
            check_fragments(life)
            check_bounds(life, self.config)
            for exchange, tally in life.tallies.items():
                check_tally(exchange, tally)
        pending = {
            queued.apply.transfer.exchange
            for life in self.lives.values()
            for queued in life.hook
            if queued.apply is not None
        }
        for exchange, amount in self.balances().items():
            if exchange not in pending and self._is_over(exchange):
                assert is_zero(amount) or self.is_counted(exchange), f"{exchange}: {amount}"

    def _is_over(self, exchange: ExchangeId) -> bool:
        """Both sides are alive and have closed it."""
        if self.lost_a_side(exchange):
            return False
        sides = [self.lives[part.peer] for part in self.parts[exchange]]
        return all(exchange in side.tallies and side.tallies[exchange].closed for side in sides)

    def unbalanced(self) -> dict[ExchangeId, Any]:
        """After ``heal``: exchanges that stand alone, each with its excuse checked."""
        alone = {key: amount for key, amount in self.balances().items() if not is_zero(amount)}
        for exchange in alone:
            assert self.is_counted(exchange) or self.lost_a_side(exchange), f"{exchange} is alone"
        return alone
