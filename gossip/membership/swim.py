"""Who is here: SWIM semantics over lattice records, with links as a first hint.

Each peer keeps the whole member list. It probes one member an interval; a member that gives no
sign of life is suspected, and called down when it does not refute in time. Claims spread as
rumors; a full exchange with one random member now and then repairs what gossip lost; down members
are greeted again so that splits heal. Sources: Das et al., SWIM, DSN 2002; gossip/README.md.
This first form probes directly and one accuser suffices.

Invariants (gossip/README.md): a known key never falls (M2); only I raise my own
(boot, incarnation) (M4); nobody comes back from down or left without a larger one (M5); my own
record is never down, and left only after ``leave`` (M7).
"""

from __future__ import annotations

import random
from dataclasses import replace

from gossip.config import MembershipConfig
from gossip.machine import (
    Effect,
    Fault,
    LinkCause,
    Send,
    Tell,
    TurnedAway,
)
from gossip.membership.probe import Prober
from gossip.membership.rounds import Rounds
from gossip.membership.terms import Terms
from gossip.membership.view import View
from gossip.messages import (
    Ack,
    Gossip,
    Hello,
    MembershipMessage,
    Notice,
    PeerId,
    Phase,
    Ping,
    Progress,
    Record,
    Refused,
    Rumors,
    Seconds,
    Status,
    Sync,
    Welcome,
)

STARVED_INTERVALS = 2
"""This many probe intervals without an input, while one was due, mean that I was starved."""

DETAIL_CHARS_MAX = 500
"""Longest text of another peer that is shown to the owner."""


class Swim:
    """The membership machine of one peer.

    Feed it every sign of the others; it answers with effects. ``heard_from`` comes before ``hear``
    for each message. Nothing heard makes it raise. A Notice about the speaker itself is a plain
    claim; about the listener it is what the group believes, to be refuted or obeyed.
    """

    def __init__(
        self,
        me: Record,
        terms: Terms,
        config: MembershipConfig,
        rng: random.Random,
        now: Seconds,
    ) -> None:
        self._terms = terms
        self._config = config
        self._prober = Prober(rng, config.probe_timeout_s)
        self._view = View(me, config, self._prober)
        self._roster = self._view.roster
        self._myself = self._view.myself
        self._rounds = Rounds(self._view, self._prober, terms, config, rng, now)
        self._last_input_at = now

    # ---------------------------------------------------------------- what others may look at

    @property
    def me(self) -> Record:
        """My own record."""
        return self._roster.me

    def hello(self) -> Hello:
        """How I introduce myself."""
        return self._rounds.hello()

    def record(self, peer: PeerId) -> Record | None:
        """What is known about one peer, me included."""
        return self._roster.get(peer)

    def records(self) -> list[Record]:
        """All that is known, my own record and tombstones included, sorted by peer."""
        return self._roster.all()

    def live(self) -> list[PeerId]:
        """Alive or suspect, without me, sorted."""
        return list(self._roster.live)

    def reachable(self) -> list[PeerId]:
        """With whom to swap now: alive, not suspect, link not lost; sorted."""
        return self._view.reachable()

    def progress_of(self, peer: PeerId) -> Progress | None:
        """A peer's account of its newest boot."""
        return self._view.account.newest(peer)

    def samples_total(self, lineage: bytes) -> int:
        """Samples trained on under a lineage, over all peers and boots ever heard of."""
        return self._view.account.total(lineage)

    def deadline(self) -> Seconds:
        """When ``wake`` is due, or ``math.inf``."""
        if self._view.owes_notices:
            return self._last_input_at
        return min(
            self._rounds.deadline(),
            self._prober.deadline(),
            self._view.suspicions.deadline(),
            self._view.tombstones.earliest(),
        )

    # ---------------------------------------------------------------- what happens to me

    def join(self, contacts: tuple[str, ...], now: Seconds) -> list[Effect]:
        """Enter through these addresses; repeated until each is a live member's."""
        self._note_input(now)
        return self._closing(self._rounds.join(contacts, now), now)

    def leave(self, now: Seconds) -> list[Effect]:
        """Say farewell to all live members at once; from here on I only pass on news."""
        self._note_input(now)
        if self._myself.has_left:
            return []
        self._myself.leave()
        self._prober.void()
        self._view.suspicions.clear_all()
        self._rounds.stop()
        self._view.news.add_record(self.me)
        self._view.news.add_progress(self._myself.progress)
        farewell = self._view.about_me()
        return self._closing([Send(peer, farewell) for peer in self._roster.live], now)

    def publish(self, samples: int, lineage: bytes, phase: Phase, now: Seconds) -> None:
        """Take my latest count of samples; a new lineage or phase is news at once."""
        self._note_input(now)
        before = self._myself.progress
        if not self._myself.publish(samples, lineage, phase):
            return
        if (before.lineage, before.phase) != (lineage, phase):
            self._rounds.tell_progress(now)
        else:
            self._rounds.tell_progress_soon(now)
        self._rounds.arm(now)

    def link_up(self, peer: PeerId, now: Seconds) -> list[Effect]:
        """Greet on every new link."""
        self._note_input(now)
        if peer == self.me.peer or self._myself.has_left:
            return []
        self._view.restore_link(peer)
        return self._closing([self._rounds.met(peer)], now)

    def link_lost(self, peer: PeerId, cause: LinkCause, now: Seconds) -> list[Effect]:
        """Swap no more with the peer, and probe it at once.

        A refused connection means that its process is gone: the suspicion starts without waiting
        for the probe. It is never called down at once: it may be restarting.
        """
        self._note_input(now)
        self._rounds.lost(peer)
        if self._myself.has_left or not self._view.is_live(peer):
            return []
        self._view.lose_link(peer)
        effects: list[Effect] = [self._rounds.probe(peer, now)]
        if cause == LinkCause.REFUSED:
            effects += self._accuse(peer, "link refused", now)
        return self._closing(effects, now)

    def heard_from(self, sender: PeerId, now: Seconds) -> None:
        """Any message is a sign of life: it answers an open probe.

        It does not clear a suspicion, which the whole group shares; but a suspect that speaks is
        told of it at once, so that it can refute.
        """
        self._note_input(now)
        self._prober.heard(sender)
        record = self._roster.get(sender)
        if record is not None and record.status in (Status.SUSPECT, Status.DOWN):
            self._view.owe_notice(sender, now)

    def hear(self, sender: PeerId, message: MembershipMessage, now: Seconds) -> list[Effect]:
        """Take one message; one from myself came through a contact address of mine."""
        self._note_input(now)
        if sender == self.me.peer:
            return []
        return self._closing(self._heed(sender, message, now), now)

    def wake(self, now: Seconds) -> list[Effect]:
        """Do what is due; harmless early, late or twice."""
        self._note_input(now)
        effects: list[Effect] = []
        for peer in self._prober.due(now):
            effects += self._accuse(peer, "no answer to a probe", now)
        for suspect in self._view.suspicions.due(now):
            verdict = replace(suspect, status=Status.DOWN)
            effects += self._view.take(verdict, "suspicion ran out", now)
        for peer in self._view.suspicions.to_ask(now):
            effects.append(self._rounds.probe(peer, now))
        self._view.bury(now)
        effects += self._rounds.due(now)
        return self._closing(effects, now)

    # ---------------------------------------------------------------- messages

    def _heed(self, sender: PeerId, message: MembershipMessage, now: Seconds) -> list[Effect]:
        match message:
            case Hello():
                return self._on_hello(sender, message, now)
            case Welcome():
                return self._on_welcome(sender, message, now)
            case Refused():
                self._rounds.refused(sender)
                detail = message.detail[:DETAIL_CHARS_MAX]
                return [Tell(TurnedAway(sender, detail, message.segments, message.reason))]
            case Ping():
                return self._on_ping(sender, message, now)
            case Ack():
                return self._on_ack(sender, message, now)
            case Gossip():
                return self._view.learn(sender, message.rumors, "gossip", now)
            case Sync():
                effects = self._view.learn(sender, message.rumors, "sync", now)
                if message.reply_wanted:
                    effects.append(Send(sender, Sync(self._view.everything(), False)))
                return effects
            case Notice():
                return self._on_notice(sender, message.record, now)

    def _on_hello(self, sender: PeerId, hello: Hello, now: Seconds) -> list[Effect]:
        if hello.record.peer != sender or hello.progress.peer != sender:
            return [Tell(Fault(sender, "greeting", f"speaks for {hello.record.peer[:20]!r}"))]
        refusal = self._terms.refusal(hello)
        if refusal is not None:
            fault = Fault(sender, refusal.reason.name.lower(), refusal.detail)
            return [Send(sender, refusal), Tell(fault)]
        claims = Rumors((hello.record,), (hello.progress,))
        effects = self._view.learn(sender, claims, "greeting", now)
        effects.append(Send(sender, self._welcome()))
        return effects

    def _welcome(self) -> Welcome:
        terms = self._terms
        return Welcome(self._view.everything(), terms.layout_digest, terms.fragments)

    def _on_welcome(self, sender: PeerId, welcome: Welcome, now: Seconds) -> list[Effect]:
        refusal = self._terms.refusal(welcome)
        if refusal is not None:
            detail = f"welcomed all the same: {refusal.detail}"
            return [Tell(Fault(sender, refusal.reason.name.lower(), detail))]
        # What the first one tells a newcomer is news to nobody else.
        spread = not self._rounds.answered()
        return self._view.learn(sender, welcome.rumors, "welcome", now, spread)

    def _on_ping(self, sender: PeerId, ping: Ping, now: Seconds) -> list[Effect]:
        effects = self._view.learn(sender, ping.rumors, "ping", now)
        if ping.boot > self.me.boot and not self._myself.has_left:
            effects += self._view.refute(sender, ping.boot, 0)
        me = self.me
        ack = Ack(ping.probe, me.boot, me.incarnation, self._view.some_news())
        effects.append(Send(sender, ack))
        if ping.boot != me.boot or self._myself.has_left:
            effects.append(Send(sender, Notice(me)))
        return effects

    def _on_ack(self, sender: PeerId, ack: Ack, now: Seconds) -> list[Effect]:
        self._view.probe_answered(sender, ack.probe)
        effects = self._view.learn(sender, ack.rumors, "ack", now)
        record = self._roster.get(sender)
        if record and record.boot == ack.boot and record.incarnation < ack.incarnation:
            # In one boot only the incarnation ever changes, so the Ack says the whole record.
            said = replace(record, incarnation=ack.incarnation, status=Status.ALIVE)
            effects += self._view.learn(sender, Rumors((said,)), "ack", now)
        return effects

    def _on_notice(self, sender: PeerId, record: Record, now: Seconds) -> list[Effect]:
        before = self.me.key
        effects = self._view.learn(sender, Rumors((record,)), "notice", now)
        if record.peer == self.me.peer and record.key < before:
            effects.append(Send(sender, self._view.about_me()))
        return effects

    # ---------------------------------------------------------------- after every input

    def _accuse(self, peer: PeerId, why: str, now: Seconds) -> list[Effect]:
        record = self._roster.get(peer)
        if record is None or record.status != Status.ALIVE:
            return []
        effects = self._view.take(replace(record, status=Status.SUSPECT), why, now)
        self._view.owe_notice(peer, now)
        return effects

    def _note_input(self, now: Seconds) -> None:
        """Notice that this peer itself was starved: then the others were not heard, not silent.

        The gap is given to every suspect, and open probes prove nothing (gossip/README.md, M17).
        """
        gap_s = now - max(self._last_input_at, self.deadline())
        if gap_s > STARVED_INTERVALS * self._config.probe_interval_s:
            self._view.suspicions.extend(gap_s)
            self._prober.void()
        self._last_input_at = max(now, self._last_input_at)

    def _closing(self, effects: list[Effect], now: Seconds) -> list[Effect]:
        """Add the notices owed, and see which rounds are needed now."""
        effects += self._view.notices()
        self._rounds.arm(now)
        return effects
