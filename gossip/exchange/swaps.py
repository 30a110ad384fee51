"""All swaps of one peer, in both roles: turns messages and driver answers into table events.

It knows nothing of membership: the core says with whom to swap and who is down. Methods return
effects, in order, and never raise on remote input.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from gossip.config import ExchangeConfig
from gossip.exchange.actions import STEPS, abandon, start_pull
from gossip.exchange.book import Book
from gossip.exchange.patience import Patience
from gossip.exchange.pull import is_sane
from gossip.exchange.swap import Footing, Swap
from gossip.exchange.table import TABLE, Event, State
from gossip.exchange.uploads import Uploads, asked_bytes, is_too_much
from gossip.machine import (
    AnchorNotFinite,
    Applied,
    Compute,
    Computed,
    Effect,
    Fault,
    Release,
    Role,
    Send,
    Tell,
)
from gossip.messages import (
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeId,
    Gone,
    Leg,
    Offer,
    Outcome,
    PeerId,
    Reply,
    Seconds,
    Want,
)

SwapMessage: TypeAlias = Offer | Reply | Done | Busy | Gone | Want | Chunk


class Swaps:
    """See the module."""

    __slots__ = ("_book", "_config", "_me")

    def __init__(self, me: PeerId, boot: int, config: ExchangeConfig, uploads: Uploads) -> None:
        self._me = me
        self._config = config
        self._book = Book(me, boot, config, uploads)

    def next_exchange(self) -> ExchangeId:
        """A fresh exchange id of mine."""
        return self._book.next_exchange()

    def is_free(self, fragment: int) -> bool:
        """Whether no swap is open on this fragment."""
        return fragment not in self._book.open

    def knows(self, exchange: ExchangeId) -> bool:
        """Whether this exchange is a swap in the book."""
        return exchange in self._book.swaps

    @property
    def unsettled_count(self) -> int:
        """Swaps that hold a fragment or still want an outcome."""
        return len(self._book.swaps)

    def deadline(self) -> Seconds:
        """When something is due next."""
        return self._book.timers.earliest()

    def start(
        self, partner: PeerId, fragment: int, footing: Footing, now: Seconds, codec: str = ""
    ) -> list[Effect]:
        """Open a swap as initiator: first the code of my anchor. The fragment must be free.

        ``codec``, if given, is used on both legs instead of the configured ones.
        """
        swap = Swap(
            exchange=self._book.next_exchange(),
            role=Role.INITIATOR,
            partner=partner,
            fragment=fragment,
            state=State.ENCODING,
            opened_at=now,
            codec=codec or self._config.codec,
            reply_codec=codec or self._config.reply_codec,
            footing=footing,
            clip_bound=footing.clip_bound,
        )
        self._book.add(swap)
        return [Compute(swap.transfer(Leg.CODE), fragment, swap.codec)]

    def cancel(self, now: Seconds, keep_moved: bool) -> list[Effect]:
        """End what can be ended. With ``keep_moved``, responders that moved await their Done."""
        effects: list[Effect] = []
        for swap in list(self._book.swaps.values()):
            moved = swap.state in (State.REPLIED, State.PARKED)
            if not (keep_moved and moved):
                effects += self._happen(swap, Event.CANCEL, now)
        return effects

    def link_lost(self, peer: PeerId, now: Seconds) -> list[Effect]:
        """The transport lost this peer; a verdict may follow or not."""
        effects: list[Effect] = []
        for swap in self._book.of_partner(peer):
            effects += self._happen(swap, Event.LINK_LOST, now)
        return effects

    def link_up(self, peer: PeerId, now: Seconds) -> list[Effect]:
        """The peer can be reached again: ask for the outcomes still owed."""
        effects: list[Effect] = []
        for swap in self._book.of_partner(peer):
            if swap.state in (State.REPLIED, State.PARKED):
                effects += self._happen(swap, Event.SILENCE, now)
        return effects

    def partner_quiet(self, peer: PeerId, now: Seconds) -> list[Effect]:
        """The peer answers nothing, not even a probe: free what waits for it, for somebody else.

        What has moved is parked, and settled when the peer is itself again.
        """
        effects: list[Effect] = []
        for swap in self._book.of_partner(peer):
            if swap.state is not State.PARKED:
                effects += self._happen(swap, Event.STALLED, now)
        return effects

    def partner_down(self, peer: PeerId, now: Seconds, boot: int | None = None) -> list[Effect]:
        """The group says down or left; or, with ``boot``, the peer lives a new life."""
        effects: list[Effect] = []
        for swap in self._book.of_partner(peer):
            old_life = boot is None or swap.role is Role.INITIATOR or swap.exchange.boot < boot
            if old_life:
                effects += self._happen(swap, Event.PARTNER_DOWN, now)
        return effects

    def computed(self, happened: Computed, now: Seconds) -> list[Effect]:
        """A code or correction is ready, or could not be made."""
        swap = self._book.swaps.get(happened.transfer.exchange)
        if swap is None:
            return [Release(happened.transfer)] if happened.blob is not None else []
        if happened.blob is None:
            mine = swap.role is Role.INITIATOR and happened.transfer.leg is Leg.CODE
            fault = Fault(swap.partner, "code", "bytes refused by the codec")
            report = Tell(AnchorNotFinite(swap.fragment) if mine else fault)
            return [report, *self._happen(swap, Event.BROKEN, now)]
        if happened.transfer.leg is Leg.CODE:
            swap.code = happened.blob
            swap.codec = happened.codec or swap.codec
        else:
            swap.correction = happened.blob
            swap.weight = self._config.weight
            swap.clip = happened.clip
        return self._happen(swap, Event.MADE, now)

    def applied(self, happened: Applied, now: Seconds) -> list[Effect]:
        """The hook applied a correction, or could not."""
        swap = self._book.swaps.get(happened.exchange)
        if swap is None:
            return []
        swap.hook_answered = True
        swap.disagreement = happened.disagreement
        return self._happen(swap, Event.APPLIED if happened.applied else Event.NOT_APPLIED, now)

    def wake(self, now: Seconds) -> list[Effect]:
        """Ring what is due."""
        effects: list[Effect] = []
        for event, exchange in self._book.timers.due(now):
            swap = self._book.swaps.get(exchange)
            if swap is not None:
                effects += self._happen(swap, event, now)
        return effects

    def hear(
        self, sender: PeerId, message: SwapMessage, footing: Footing, now: Seconds
    ) -> list[Effect]:
        """One message of the swap."""
        match message:
            case Offer():
                return self._hear_offer(sender, message, footing, now)
            case Reply():
                return self._hear_reply(sender, message, now)
            case Want():
                return self._hear_want(sender, message, now)
            case Chunk():
                return self._hear_chunk(sender, message, now)
            case Done():
                refused = message.outcome is Outcome.REFUSED
                event = Event.DONE_REFUSED if refused else Event.DONE_APPLIED
                return self._hear_plain(sender, message.exchange, event, now)
            case Busy():
                return self._hear_plain(sender, message.exchange, Event.BUSY, now)
            case Gone():
                return self._hear_plain(sender, message.exchange, Event.GONE, now)
            case _:
                assert_never(message)

    def _happen(self, swap: Swap, event: Event, now: Seconds) -> list[Effect]:
        action = TABLE.get((swap.role, swap.state, event))
        return [] if action is None else STEPS[action](self._book, swap, now)

    def _hear_plain(
        self, sender: PeerId, exchange: ExchangeId, event: Event, now: Seconds
    ) -> list[Effect]:
        swap = self._book.swaps.get(exchange)
        if swap is None or swap.partner != sender:
            return []
        return self._happen(swap, event, now)

    def _hear_offer(
        self, sender: PeerId, offer: Offer, footing: Footing, now: Seconds
    ) -> list[Effect]:
        known = self._book.swaps.get(offer.exchange)
        if known is not None and known.partner == sender:
            return self._happen(known, Event.OFFER, now)
        fault = self._offer_fault(sender, offer)
        if fault is not None:
            return [Tell(Fault(sender, "offer", fault)), Send(sender, Gone(offer.exchange))]
        if not self._book.is_new(offer.exchange):
            return [Send(sender, Gone(offer.exchange))]
        effects: list[Effect] = []
        mine = self._book.open.get(offer.fragment)
        if mine is not None and mine.role is Role.INITIATOR and mine.partner == sender:
            # Rule 2, crossing offers: the lower id's wins; theirs is withdrawn when mine arrives.
            if mine.state is State.OFFERED and self._me < sender:
                return []
            if mine.state in (State.ENCODING, State.OFFERED):
                effects += abandon(self._book, mine, now)
        decline = footing.decline
        if decline is None and offer.lineage != footing.lineage:
            decline = BusyReason.FOREIGN_LINEAGE
        if decline is None and not self.is_free(offer.fragment):
            decline = BusyReason.FRAGMENT_OPEN
        self._book.remember(offer.exchange)
        if decline is not None:
            return [*effects, Send(sender, Busy(offer.exchange, decline))]
        return effects + self._accept(sender, offer, footing, now)

    def _offer_fault(self, sender: PeerId, offer: Offer) -> str | None:
        if offer.exchange.initiator != sender or offer.exchange.seq < 1:
            return "exchange id is not the sender's"
        if not 0 <= offer.fragment < self._config.fragments:
            return f"no fragment {offer.fragment}"
        if not is_sane(offer.code, self._config.blob_bytes_max):
            return f"blob of {offer.code.size_bytes} bytes in chunks of {offer.code.chunk_bytes}"
        if not offer.clip_bound >= 0:
            return f"clip bound {offer.clip_bound}"
        return None

    def _accept(self, sender: PeerId, offer: Offer, footing: Footing, now: Seconds) -> list[Effect]:
        swap = Swap(
            exchange=offer.exchange,
            role=Role.RESPONDER,
            partner=sender,
            fragment=offer.fragment,
            state=State.PULLING,
            opened_at=now,
            codec=offer.codec,
            reply_codec=offer.reply_codec,
            footing=footing,
            clip_bound=min(offer.clip_bound, footing.clip_bound),
            code=offer.code,
        )
        self._book.add(swap)
        return start_pull(self._book, swap, Leg.CODE, offer.code, now)

    def _hear_reply(self, sender: PeerId, reply: Reply, now: Seconds) -> list[Effect]:
        swap = self._book.swaps.get(reply.exchange)
        if swap is None:
            return self._book.recorded(sender, reply.exchange)
        if swap.partner != sender or swap.state is not State.OFFERED:
            return []
        sound = (
            reply.fragment == swap.fragment
            and is_sane(reply.correction, self._config.blob_bytes_max)
            and 0 < reply.weight <= 0.5
            and 0 <= reply.clip <= 1
            and reply.codec == swap.reply_codec
        )
        if not sound:
            fault = Tell(Fault(sender, "reply", "fields out of range"))
            return [fault, *self._happen(swap, Event.BROKEN, now)]
        swap.correction = reply.correction
        swap.weight = reply.weight
        swap.clip = reply.clip
        return self._happen(swap, Event.REPLY, now)

    def _hear_want(self, sender: PeerId, want: Want, now: Seconds) -> list[Effect]:
        swap = self._book.swaps.get(want.transfer.exchange)
        if swap is None:
            return self._book.recorded(sender, want.transfer.exchange)
        parked = swap.state is State.PARKED
        if swap.partner != sender or (parked and want.transfer.leg is Leg.CORRECTION):
            return [Send(sender, Gone(swap.exchange))]
        if want.transfer.leg is Leg.CODE and swap.state is State.OFFERED:
            blob = swap.code
        elif want.transfer.leg is Leg.CORRECTION and swap.state is State.REPLIED:
            blob = swap.correction
        else:
            blob = None  # a Want that was delayed or repeated: its bytes are no longer needed
        if blob is None:
            return []
        swap.asked_bytes += asked_bytes(want, blob)
        if is_too_much(swap.asked_bytes, blob):
            return []  # the stall goes on
        if swap.asker is None:
            swap.asker = Patience(self._config, asked_bytes(want, blob), now)
        else:
            swap.asker.arrived(now)
        self._book.progress(swap, now)
        if not self._book.uploads.serve(sender, want, blob):
            return [Tell(Fault(sender, "want", "bytes outside the blob"))]
        return []

    def _hear_chunk(self, sender: PeerId, chunk: Chunk, now: Seconds) -> list[Effect]:
        swap = self._book.swaps.get(chunk.transfer.exchange)
        if swap is None or swap.partner != sender or swap.pull is None:
            return []
        if swap.pull.transfer != chunk.transfer or swap.state is not State.PULLING:
            return []
        new = swap.pull.take(chunk)
        if new is None:
            return [Tell(Fault(sender, "chunk", "not a chunk of the blob"))]
        assert swap.patience is not None
        if new:
            swap.patience.arrived(now)
        if new or swap.pull.may_repeat:
            self._book.progress(swap, now)
        if not new:
            return []
        if swap.pull.is_complete:
            self._book.remember_pace(swap)
            return self._happen(swap, Event.ARRIVED, now)
        swap.pull.widen(now, self._book.config.window_max_bytes)
        return [Send(sender, want) for want in swap.pull.ask()]
