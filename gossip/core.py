"""The composed machine: one peer's whole protocol, and the only file that knows its parts.

It routes inputs to membership, swaps, adoption and finishing, and joins them where one must hear
of the other: a member that is down ends its swaps, a better lineage is adopted, a due swap needs a
partner. It decides nothing that one of the parts could decide alone.
"""

from __future__ import annotations

import math
import random
from typing import Final, assert_never, cast, get_args

from gossip.config import Config, Layout
from gossip.deadlines import Deadlines
from gossip.exchange.adoption import Adoption, AdoptionState, Donations
from gossip.exchange.finish import Finishing, Stand
from gossip.exchange.swap import Footing
from gossip.exchange.swaps import Swaps
from gossip.exchange.uploads import Uploads
from gossip.machine import (
    Applied,
    Asked,
    Computed,
    ContactFailed,
    Declined,
    Departed,
    DialFailed,
    Effect,
    Fault,
    Finish,
    Input,
    Join,
    Leave,
    LineageChanged,
    LinkLost,
    LinkUp,
    MemberChanged,
    PhaseChanged,
    Reach,
    ReachChanged,
    Received,
    Submitted,
    SwapClosed,
    Tell,
    Woke,
)
from gossip.membership.known import Known
from gossip.membership.lineages import Lineages
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import (
    NO_LINEAGE,
    Adopt,
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeMessage,
    Gone,
    Hello,
    Leg,
    MembershipMessage,
    Message,
    Outcome,
    PeerId,
    Phase,
    Record,
    Seconds,
    Snapshot,
    Status,
    Want,
)
from gossip.topology.turns import Turns

LINEAGE_CHECK_S: Final = 0.5
MEMBERSHIP_TYPES: Final = frozenset(get_args(MembershipMessage))


class Core:
    """One peer's protocol; satisfies ``gossip.machine.Machine``.

    ``me`` is the peer's own record (its boot must be above every earlier one of this peer).
    ``known``: a swarm that this peer is part of from the start, if not alone.
    """

    def __init__(
        self,
        me: Record,
        layout: Layout,
        config: Config,
        rng: random.Random,
        now: Seconds,
        known: Known | None = None,
    ) -> None:
        self._me = me.peer
        self._config = config
        self._rng = rng
        self._lineage = NO_LINEAGE if known is None else known.lineage
        self._phase = Phase.TRAINING if self._lineage else Phase.JOINING
        self._samples = 0
        self._samples_before = 0
        self._boots: dict[PeerId, int] = {}
        self._leaving = False
        self._departed = False
        self._timers: Deadlines[str] = Deadlines()
        self._exchange_due = self._clip_bound = math.inf
        self._finishing: Finishing | None = None
        terms = Terms(layout.digest, config.exchange.fragments, layout.segments)
        self.swim = Swim(me, terms, config.membership, rng, now, known)
        self._lineages = Lineages(self.swim)
        self._turns = Turns(config.exchange, me.peer, rng)
        self._uploads = uploads = Uploads(config.exchange.upload_bytes_per_s, now)
        self._swaps = Swaps(me.peer, me.boot, config.exchange, uploads)
        self._adoption = Adoption(config.exchange)
        self._donations = Donations(config.exchange, uploads)
        self.swim.publish(0, self._lineage, self._phase, now)

    # What the owner may look at.

    @property
    def lineage(self) -> bytes:
        """The model family this peer belongs to; empty until it founded or adopted one."""
        return self._lineage

    @property
    def phase(self) -> Phase:
        """This peer's own phase."""
        return self._phase

    @property
    def samples_total(self) -> int:
        """Samples the whole swarm trained on in this lineage, as far as heard (grow-only)."""
        return self.swim.samples_total(self._lineage) if self._lineage else 0

    @property
    def unsettled_swaps(self) -> int:
        """Swaps that hold a fragment or still want an outcome."""
        return self._swaps.unsettled_count

    def hello(self) -> Hello:
        """How this peer introduces itself to a contact."""
        return self.swim.hello()

    def training_members(self) -> list[PeerId]:
        """Live members of this lineage, this peer included if it has one, sorted."""
        others = self._lineages.live(self._lineage)
        return sorted([*others, self._me]) if self._lineage else others

    def shares(self, now: Seconds) -> tuple[tuple[PeerId, float], ...]:
        """How much of the data each training member is given."""
        return tuple((peer, self._lineages.share(peer, now)) for peer in self.training_members())

    # The machine.

    def handle(self, happened: Input, now: Seconds) -> list[Effect]:
        """Take one input; return what to do, in order."""
        is_due = self._is_due(now)
        effects = self._route(happened, now)
        more = self._follow_up(effects, now) if effects else []
        if not more and self._concerns_membership_alone(happened, is_due):
            return effects
        effects += more
        if self._finishing is not None:
            effects += self._step_finishing(now)
        if self._leaving and not self._departed and self._swaps.unsettled_count == 0:
            effects += self._depart(now)
        effects += self._uploads.pump(now)
        ends = (self._swaps.deadline(), self._adoption.deadline(), self._donations.deadline())
        self._exchange_due = min(*ends, self._uploads.deadline())
        return effects

    def deadline(self) -> Seconds:
        """When to say Woke."""
        return min(min(self._timers.at, self._exchange_due), self.swim.deadline())

    def _is_due(self, now: Seconds) -> bool:
        """Whether the time of anything but membership has come."""
        return now >= self._exchange_due or now >= self._timers.at

    def _concerns_membership_alone(self, happened: Input, was_due: bool) -> bool:
        """Whether nothing but membership can have changed: most inputs of an idle peer."""
        seeks = self._lineage == NO_LINEAGE and self.swim.any_lineage
        if seeks or self._leaving or self._finishing is not None:
            return False
        if type(happened) is Received:
            return type(happened.message) in MEMBERSHIP_TYPES
        return type(happened) is Woke and not was_due

    def _route(self, happened: Input, now: Seconds) -> list[Effect]:
        if isinstance(happened, Received):
            return self._received(happened.sender, happened.message, now)
        match happened:
            case Submitted():
                return self._submitted(happened, now)
            case Computed(transfer):
                if transfer.leg is Leg.SNAPSHOT:
                    return self._donations.computed(happened)
                return self._swaps.computed(happened, now)
            case Applied(exchange, applied):
                if self._adoption.is_mine(exchange):
                    return self._adopted(applied, now)
                return self._swaps.applied(happened, now)
            case LinkUp(peer):
                return self.swim.link_up(peer, now) + self._swaps.link_up(peer, now)
            case LinkLost(peer, cause):
                effects = self.swim.link_lost(peer, cause, now)
                return effects + self._swaps.link_lost(peer, now) + self._partner_lost(peer)
            case DialFailed(address, cause):
                return [Tell(ContactFailed(address, cause))]
            case Asked(command):
                return self._asked(command, now)
            case Woke():
                return self.swim.wake(now) + (self._ring(now) if self._is_due(now) else [])
            case _:
                assert_never(happened)

    def _received(self, sender: PeerId, message: Message, now: Seconds) -> list[Effect]:
        if sender == self._me:
            return [Tell(Fault(sender, "sender", "a message in my own name"))]
        if type(message) in MEMBERSHIP_TYPES:
            effects = self.swim.receive(sender, cast(MembershipMessage, message), now)
            if self._lineage == NO_LINEAGE and self.swim.any_lineage:
                effects += self._seek_lineage(now)
            return effects
        effects = self.swim.heard_from(sender, now)
        return effects + self._hear_exchange(sender, cast(ExchangeMessage, message), now)

    def _hear_exchange(
        self, sender: PeerId, message: ExchangeMessage, now: Seconds
    ) -> list[Effect]:
        match message:
            case Adopt():
                lineage = NO_LINEAGE if self._footing().decline is not None else self._lineage
                return self._donations.hear_adopt(sender, message, lineage, now)
            case Snapshot():
                return self._adoption.hear_snapshot(sender, message, now)
            case Chunk(transfer) if transfer.leg is Leg.SNAPSHOT:
                return self._hear_snapshot_chunk(sender, message, now)
            case Want(transfer) if self._donations.knows(transfer.exchange):
                return self._donations.hear_want(sender, message, now)
            case Done(exchange) if self._donations.knows(exchange):
                return self._donations.hear_done(sender, exchange)
            case Busy(exchange) | Gone(exchange) if self._adoption.is_mine(exchange):
                return self._adoption.partner_lost(sender)
            case Busy(exchange, reason) if self._swaps.knows(exchange):
                self._retry_soon(now)
                effects = self._swaps.hear(sender, message, self._footing(), now)
                return [Tell(Declined(sender, reason)), *effects]
            case _:
                return self._swaps.hear(sender, message, self._footing(), now)

    def _hear_snapshot_chunk(self, sender: PeerId, chunk: Chunk, now: Seconds) -> list[Effect]:
        effects = self._adoption.hear_chunk(sender, chunk, now)
        if self._adoption.state is AdoptionState.REPLACING and effects:
            # Corrections queued for the old model are applied or withdrawn before it is replaced.
            effects = self._swaps.cancel(now, keep_moved=False) + effects
        return effects

    def _ring(self, now: Seconds) -> list[Effect]:
        effects = self._swaps.wake(now) + self._adoption.wake(now) + self._donations.wake(now)
        for name in self._timers.due(now):
            match name:
                case "swap":
                    effects += self._start_swap(now)
                case "lineage":
                    effects += self._seek_lineage(now)
                    self._timers.set("lineage", now + LINEAGE_CHECK_S)
                case "found":
                    effects += self._found_if_first(now)
                case "depart":
                    effects += self._swaps.cancel(now, keep_moved=False)
                    effects += [] if self._departed else self._depart(now)
        return effects

    def _asked(self, command: Join | Finish | Leave, now: Seconds) -> list[Effect]:
        match command:
            case Join(contacts, remembered):
                self._timers.set("lineage", now + LINEAGE_CHECK_S)
                if contacts or remembered:
                    return self.swim.join(contacts, now, remembered)
                # Who dialed first may have brought a model already: that one is taken then.
                has_one = self._lineage != NO_LINEAGE
                adopting = self._adoption.state is not AdoptionState.IDLE
                return [] if has_one or adopting or self._leaving else self._found(now)
            case Finish(together):
                self._finishing = Finishing(self._config, together, now)
                return self._set_phase(Phase.FINISHING, now)
            case Leave():
                self._leaving = True
                self._timers.set("depart", now + self._config.finish.leave_grace_s)
                return self._swaps.cancel(now, keep_moved=True) + self._adoption.give_up()
            case _:
                assert_never(command)

    def _depart(self, now: Seconds) -> list[Effect]:
        self._departed = True
        return [*self.swim.leave(now), Tell(Departed())]

    def _follow_up(self, effects: list[Effect], now: Seconds) -> list[Effect]:
        """What one part's report means for the others."""
        more: list[Effect] = []
        for report in [effect.report for effect in effects if isinstance(effect, Tell)]:
            match report:
                case MemberChanged(record):
                    more += self._member_changed(record, now)
                case ReachChanged(peer, reach) if reach is not Reach.OPEN:
                    freed = self._swaps.partner_quiet(peer, now)
                    if freed:
                        self._retry_soon(now)
                    more += freed
                case SwapClosed(outcome=Outcome.APPLIED):
                    self._turns.met(report.partner, report.fragment)
                    if self._finishing is not None:
                        self._finishing.settled(report.fragment, report.disagreement)
        return more

    def _member_changed(self, record: Record, now: Seconds) -> list[Effect]:
        peer, boot = record.peer, self._boots.get(record.peer)
        self._boots[peer] = record.boot
        if record.status in (Status.DOWN, Status.LEFT):
            del self._boots[peer]
            return self._swaps.partner_down(peer, now) + self._partner_lost(peer)
        if boot is not None and boot < record.boot:
            return self._swaps.partner_down(peer, now, record.boot) + self._partner_lost(peer)
        if self._lineage == NO_LINEAGE and "found" not in self._timers:
            self._timers.set("found", now + self._config.membership.found_after_s)
        return []

    def _partner_lost(self, peer: PeerId) -> list[Effect]:
        return self._adoption.partner_lost(peer) + self._donations.partner_lost(peer)

    # Lineage (rule 8).

    def _found(self, now: Seconds) -> list[Effect]:
        self._lineage = self._rng.getrandbits(64).to_bytes(8, "big")
        founded = Tell(LineageChanged(self._lineage, None))
        return [founded, *self._set_phase(Phase.TRAINING, now)]

    def _found_if_first(self, now: Seconds) -> list[Effect]:
        """Nobody has a model: the lowest id of those who see each other founds."""
        if self._lineage != NO_LINEAGE:
            return []
        idle = self._adoption.state is AdoptionState.IDLE  # if not: its donor may yet be lost
        lowest = all(self._me < peer for peer in self.swim.live())
        if idle and lowest and self._lineages.nobody_has_one():
            return self._found(now)
        self._timers.set("found", now + self._config.membership.found_after_s)
        return []

    def _seek_lineage(self, now: Seconds) -> list[Effect]:
        """Ask a member of a better lineage, if there is one, for its model."""
        if not self.swim.any_lineage:
            return []
        if self._adoption.state is not AdoptionState.IDLE or self._leaving:
            return []
        better = self._lineages.better_than(self._lineage)
        if better == NO_LINEAGE:
            return []
        donor = self._rng.choice(self._lineages.reachable(better))
        asked = self._adoption.start(donor, self._swaps.next_exchange(), better, now)
        return [*self.swim.link(donor), *asked]

    def _adopted(self, applied: bool, now: Seconds) -> list[Effect]:
        donor = self._adoption.donor
        lineage, effects = self._adoption.replaced(applied)
        if not lineage:
            return effects
        self._lineage = lineage
        self._samples_before += self._samples
        self._samples = 0
        phase = Phase.TRAINING if self._finishing is None else Phase.FINISHING
        changed = Tell(LineageChanged(lineage, donor))
        return [*effects, changed, *self._set_phase(phase, now)]

    def _set_phase(self, phase: Phase, now: Seconds) -> list[Effect]:
        changed = phase is not self._phase
        self._phase = phase
        self.swim.publish(self._samples, self._lineage, phase, now)
        return [Tell(PhaseChanged(phase))] if changed else []

    # Swaps: when and with whom.

    def _footing(self) -> Footing:
        decline = None
        if self._leaving:
            decline = BusyReason.LEAVING
        elif self._lineage == NO_LINEAGE or self._adoption.state is AdoptionState.REPLACING:
            decline = BusyReason.NOT_ADOPTED
        return Footing(self._lineage, decline, self._clip_bound)

    def _submitted(self, news: Submitted, now: Seconds) -> list[Effect]:
        self._clip_bound = news.clip_bound
        if self._lineage == NO_LINEAGE or self._departed:
            return []
        self._samples = max(self._samples, news.samples - self._samples_before)
        self.swim.publish(self._samples, self._lineage, self._phase, now)
        if not news.swap_due or self._leaving:
            return []
        effects: list[Effect] = []
        if self._finishing is None:
            effects += self._set_phase(Phase.TRAINING, now)
        self._turns.grant(self._config.exchange.attempts_max)
        return [*effects, *self._start_swap(now)]

    def _start_swap(self, now: Seconds) -> list[Effect]:
        """Open a swap on the next free fragment, if there is one and somebody to swap with."""
        footing = self._footing()
        if footing.decline is not None:
            return []
        partners = self._lineages.reachable(self._lineage)
        turn = self._turns.next(self._swaps.is_free, partners, self._finishing is not None)
        if turn is None:
            return []
        codec = "" if self._finishing is None else self._config.exchange.finish_codec
        offered = self._swaps.start(turn.partner, turn.fragment, footing, now, codec)
        return [*self.swim.link(turn.partner), *offered]

    def _retry_soon(self, now: Seconds) -> None:
        """Rule 2: after Busy a random back-off and another partner."""
        self._timers.set("swap", now + self._turns.backoff_s())

    # Finishing (rule 9).

    def _step_finishing(self, now: Seconds) -> list[Effect]:
        finishing = self._finishing
        assert finishing is not None
        others = self._lineages.live(self._lineage)
        stand = finishing.judge([self._lineages.phase(peer) for peer in others], now)
        self._timers.set("finish", finishing.deadline)
        if stand is Stand.MIXING:
            return self._enter_phase(Phase.FINISHING, now) + self._mix_more(now)
        effects = self._enter_phase(Phase.FINISHED, now)
        self._timers.clear("swap")
        self._turns.grant(0)
        if stand is Stand.OVER:
            self._finishing = None
            effects.append(Tell(finishing.report()))
        return effects

    def _enter_phase(self, phase: Phase, now: Seconds) -> list[Effect]:
        return [] if phase is self._phase else self._set_phase(phase, now)

    def _mix_more(self, now: Seconds) -> list[Effect]:
        if "swap" in self._timers:
            return []
        self._turns.grant(1)
        self._retry_soon(now)
        return self._start_swap(now)
