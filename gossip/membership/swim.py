"""Who is here: SWIM semantics over lattice records, with fixed observers and links as witnesses.

Each peer keeps the whole member list and watches a few others (``rings``). A watched peer that
gives no sign of life is probed, directly and then through its other observers. Silence alone is a
private verdict. It becomes an accusation only when no link shows that the peer is merely busy;
and only several accusers that persist make the group's verdict, which moves shards. Claims spread
along the watch graph; comparisons with neighbors repair what gossip lost; down members are greeted
again so that splits heal. Sources: Das et al., SWIM, DSN 2002; Dadgar et al., Lifeguard, 2017;
Suresh et al., Rapid, ATC 2018; gossip/README.md.

Invariants (gossip/README.md): a known key never falls (M2); only I raise my own
(boot, incarnation) (M4); nobody comes back from down or left without a larger one (M5); my own
record is never down, and left only after ``leave`` (M7).
"""

from __future__ import annotations

import random
from typing import Final

from gossip.config import MembershipConfig
from gossip.deadlines import Alarm
from gossip.machine import Effect, Fault, LinkCause, Send, Tell
from gossip.membership.claims import Claims, about_whom, by_subject
from gossip.membership.health import Health
from gossip.membership.judgment import Judgment
from gossip.membership.jury import Jury
from gossip.membership.known import Known
from gossip.membership.rounds import Rounds
from gossip.membership.sightings import OF_CAUSE, Witness
from gossip.membership.terms import Terms
from gossip.membership.view import View
from gossip.messages import (
    NO_RUMORS,
    Ack,
    Diff,
    Digest,
    Gossip,
    Hello,
    Lookup,
    MembershipMessage,
    Nack,
    Notice,
    PeerId,
    Phase,
    Ping,
    PingReq,
    Progress,
    Record,
    Refused,
    Rumors,
    Seconds,
    Status,
    Vouch,
    Welcome,
)

STARVED_INTERVALS: Final = 2
"""This many probe intervals without an input, while one was due, mean that I was starved."""

STARVED_SCORE_MAX: Final = 3
"""Most that one starved spell costs of my trust in my own judgement."""


class Swim:
    """The membership machine of one peer.

    Feed it every sign of the others; it answers with effects. ``heard_from`` comes before ``hear``
    for each message. Nothing heard makes it raise. A Notice about the speaker itself is a plain
    claim; about the listener it is what the group believes, to be refuted or obeyed.
    ``known`` is what this peer knows from the start, if not nothing.
    """

    __slots__ = (
        "_alarm", "_claimed", "_claims", "_config", "_gone", "_health", "_id", "_is_hidden",
        "_jury", "_last_input_at", "_myself", "_probed", "_roster", "_rounds", "_seen",
        "_starved_s", "_terms", "_tried", "_view",
    )  # fmt: skip

    def __init__(
        self,
        me: Record,
        terms: Terms,
        config: MembershipConfig,
        rng: random.Random,
        now: Seconds,
        known: Known | None = None,
    ) -> None:
        self._terms = terms
        self._config = config
        self._health = Health()
        self._view = View(me, config, known)
        self._roster = self._view.roster
        self._myself = self._view.myself
        judgment = Judgment(self._view, config)
        self._claims = Claims(self._view, judgment)
        self._rounds = Rounds(self._view, judgment, self._health, terms, config, rng, now)
        self._jury = Jury(self._view, self._claims, judgment, self._rounds, self._health, rng)
        self._id = me.peer
        self._starved_s = STARVED_INTERVALS * config.probe_interval_s
        self._last_input_at = now
        view = self._view
        self._seen = view.sightings.seen
        self._probed = view.prober.open
        self._tried = view.suspicions.open
        self._claimed = view.verdicts.open
        self._gone = self._roster.gone
        self._is_hidden = not me.control_address
        self._alarm = Alarm(
            view.prober.deadlines,
            view.prober.favor_deadlines,
            view.suspicions.deadlines,
            view.tombstones,
            view.told,
        )
        if known is not None:
            self._rounds.belong()
            self._rounds.arm(now)

    # ---------------------------------------------------------------- what others may look at

    @property
    def me(self) -> Record:
        """My own record."""
        return self._roster.me

    @property
    def health(self) -> int:
        """How far I distrust my own judgement, 0 to 7."""
        return self._health.score

    def hello(self) -> Hello:
        """How I introduce myself."""
        return self._rounds.hello()

    def record(self, peer: PeerId) -> Record | None:
        """What is known about one peer, me included; a suspect is a live member on trial here."""
        trial = self._view.suspicions.get(peer)
        return self._roster.get(peer) if trial is None else trial.suspect

    def records(self) -> list[Record]:
        """All that is known, my own record and tombstones included, sorted by peer."""
        return [self.record(record.peer) or record for record in self._roster.all()]

    def live(self) -> list[PeerId]:
        """Live members without me, sorted."""
        return list(self._roster.live)

    def live_count(self) -> int:
        """How many live members there are beside me."""
        return self._roster.others

    def observers(self, peer: PeerId) -> list[PeerId]:
        """Who watches a peer, in my view of the group."""
        return self._roster.observers(peer)

    def neighbors(self) -> list[PeerId]:
        """Whom I watch."""
        return list(self._view.watch.neighbors)

    def reachable(self) -> list[PeerId]:
        """With whom to swap now: live, and open to me as far as I know; sorted."""
        return self._view.reachable()

    def is_steady(self, peer: PeerId, now: Seconds) -> bool:
        """Whether a member stays long enough to be given shards."""
        return self._view.flaps.is_steady(peer, now)

    def progress_of(self, peer: PeerId) -> Progress | None:
        """A peer's account of its newest boot."""
        return self._view.account.newest(peer)

    @property
    def any_lineage(self) -> bool:
        """Whether anybody was ever heard to have a model."""
        return self._view.account.any_lineage

    def samples_total(self, lineage: bytes) -> int:
        """Samples trained on under a lineage, over all peers and boots ever heard of."""
        return self._view.account.total(lineage)

    def deadline(self) -> Seconds:
        """When ``wake`` is due, or ``math.inf``."""
        if self._view.owed:
            return self._last_input_at
        alarm = self._alarm
        return min(self._rounds.ticks.at, alarm.earliest() if alarm.is_stale else alarm.at)

    # ---------------------------------------------------------------- what happens to me

    def join(
        self, contacts: tuple[str, ...], now: Seconds, remembered: tuple[str, ...] = ()
    ) -> list[Effect]:
        """Enter through these addresses; repeated until each is a live member's."""
        self._note_input(now)
        return self._closing(self._rounds.join(contacts, now, remembered), now)

    def leave(self, now: Seconds) -> list[Effect]:
        """Say farewell at once; from here on I only pass on news."""
        self._note_input(now)
        if self._myself.has_left:
            return []
        self._myself.leave()
        self._view.prober.void()
        self._view.suspicions.clear_all()
        self._rounds.stop()
        self._view.news.add_record(self.me)
        self._view.news.add_progress(self._myself.progress)
        farewell = self._view.about_me()
        told = self._roster.live if self._view.watch.dial_all() else self._view.watch.neighbors
        return self._closing([Send(peer, farewell) for peer in told], now)

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

    def link(self, peer: PeerId) -> list[Effect]:
        """Have a link to this member, since I want something of it."""
        return self._view.watch.link(peer)

    def link_up(self, peer: PeerId, now: Seconds) -> list[Effect]:
        """Greet on every new link."""
        self._note_input(now)
        if peer == self.me.peer or self._myself.has_left:
            return []
        self._view.sightings.came_up(peer, now)
        effects = self._view.look_again(peer, "the link is up")
        return self._closing([*effects, self._rounds.met(peer)], now)

    def link_lost(self, peer: PeerId, cause: LinkCause, now: Seconds) -> list[Effect]:
        """Swap no more with the peer, and probe it at once. It is never called down at once: it
        may be restarting, and what gets through to others counts as well."""
        self._note_input(now)
        self._rounds.lost(peer)
        if self._myself.has_left or not self._roster.is_live(peer):
            self._view.sightings.forget(peer)
            return []
        self._view.sightings.lose(peer, OF_CAUSE[cause], self._view.prober.last_number, now)
        effects = self._view.look_again(peer, f"link {cause.name.lower()}")
        return self._closing(effects + self._jury.link_lost(peer, cause, now), now)

    def heard_from(self, sender: PeerId, now: Seconds) -> list[Effect]:
        """Any message is a sign of life: it answers an open probe and ends a private doubt.

        It does not end a trial, which others may have reason to hold; but a suspect that speaks
        is told of it at once, so that it can refute.
        """
        self._note_input(now)
        seen = self._seen.get(sender)
        if seen is None:
            if self._roster.get(sender) is None:
                return []  # of strangers nothing is kept but the links to them
            seen = self._view.meet(sender)
            self._view.sightings.speaks_again(sender, now)
        seen.heard_at = now
        if seen.witness is Witness.SILENT:
            self._view.sightings.mended(sender, now)
        if sender in self._probed:
            self._view.prober.close(sender)
            self._health.better()
        effects: list[Effect] = []
        if seen.failing_since is not None:
            if now - seen.failing_since > self._config.probe_interval_s:
                self._rounds.hears_again(now)
            seen.failing_since = None
            self._view.suspicions.retract(sender, self._id)
            effects = self._view.look_again(sender, "heard from")
        if sender in self._gone or sender in self._tried or sender in self._claimed:
            self._view.owe_notice(sender, now)
        return effects

    def hear(self, sender: PeerId, message: MembershipMessage, now: Seconds) -> list[Effect]:
        """Take one message; one from myself came through a contact address of mine."""
        self._note_input(now)
        if sender == self._id:
            return []
        return self._closing(self._heed(sender, message, now), now)

    def receive(self, sender: PeerId, message: MembershipMessage, now: Seconds) -> list[Effect]:
        """``heard_from`` and ``hear``, as one input."""
        effects = self.heard_from(sender, now)
        more = self.hear(sender, message, now)
        return effects + more if effects else more

    def wake(self, now: Seconds) -> list[Effect]:
        """Do what is due; harmless early, late or twice."""
        self._note_input(now)
        effects: list[Effect] = []
        if self._is_hidden or self._alarm.earliest() <= now:  # mostly nothing but a round is due
            effects += self._jury.due(now)
            self._view.bury(now)
        effects += self._rounds.due(now)
        return self._closing(effects, now)

    # ---------------------------------------------------------------- messages

    def _heed(self, sender: PeerId, message: MembershipMessage, now: Seconds) -> list[Effect]:
        match message:
            case Gossip():
                return self._learn(sender, message.rumors, "gossip", now)
            case Ping():
                return self._on_ping(sender, message, now)
            case Ack():
                return self._on_ack(sender, message, now)
            case Hello():
                return self._on_hello(sender, message, now)
            case Welcome():
                return self._on_welcome(sender, message, now)
            case Refused():
                return [Tell(self._rounds.refused(sender, message))]
            case PingReq():
                return self._jury.hear_ping_req(sender, message, now)
            case Vouch():
                return self._jury.hear_vouch(sender, message, now)
            case Nack():
                return self._jury.hear_nack(sender, message, now)
            case Digest() | Diff() | Lookup():
                return self._compare(sender, message, now)
            case Notice():
                return self._on_notice(sender, message.record, now)

    def _learn(
        self, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        effects = self._claims.learn(sender, rumors, why, now, spread)
        suspects = [record for record in rumors.records if record.status is Status.SUSPECT]
        told = by_subject(rumors.evidence) if suspects else {}
        for suspect in suspects:
            about = about_whom(suspect, told)
            effects += self._jury.hear_accusation(sender, suspect, about, now)
        return effects

    def _on_hello(self, sender: PeerId, hello: Hello, now: Seconds) -> list[Effect]:
        if hello.record.peer != sender or hello.progress.peer != sender:
            return [Tell(Fault(sender, "greeting", f"speaks for {hello.record.peer[:20]!r}"))]
        refusal = self._terms.refusal(hello)
        if refusal is not None:
            fault = Fault(sender, refusal.reason.name.lower(), refusal.detail)
            return [Send(sender, refusal), Tell(fault)]
        effects = self._reconcile(sender)
        effects += self._learn(sender, Rumors((hello.record,), (hello.progress,)), "greeting", now)
        if self._roster.is_live(sender):
            self._view.meet(sender).heard_at = now
        if hello.newcomer:
            self._rounds.welcomed(sender)
        told = self._view.everything() if hello.newcomer else self._view.about_me().rumors
        terms = self._terms
        effects.append(Send(sender, Welcome(told, terms.layout_digest, terms.fragments)))
        return effects

    def _on_welcome(self, sender: PeerId, welcome: Welcome, now: Seconds) -> list[Effect]:
        refusal = self._terms.refusal(welcome)
        if refusal is not None:
            detail = f"welcomed all the same: {refusal.detail}"
            return [Tell(Fault(sender, refusal.reason.name.lower(), detail))]
        effects = self._reconcile(sender)
        # What the first one tells a newcomer is news to nobody else.
        first = self._rounds.answered()
        effects += self._learn(sender, welcome.rumors, "welcome", now, spread=not first)
        return effects + self._rounds.tell_early() if first else effects

    def _reconcile(self, sender: PeerId) -> list[Effect]:
        """One that I held down speaks, as after a split: what else do we differ in?"""
        record = self._roster.get(sender)
        if record is None or record.status != Status.DOWN:
            return []
        return [Send(sender, self._rounds.sync.digest())]

    def _on_ping(self, sender: PeerId, ping: Ping, now: Seconds) -> list[Effect]:
        effects: list[Effect] = []
        if ping.rumors is not NO_RUMORS:
            effects += self._learn(sender, ping.rumors, "ping", now)
        me, has_left = self._roster.me, self._myself.has_left
        if ping.boot > me.boot and not has_left:
            effects += self._view.refute(sender, ping.boot, 0)
            me = self.me
        effects.append(Send(sender, Ack(ping.probe, me.boot, me.incarnation)))
        effects += self._rounds.sync.pinged_by(sender)
        if ping.boot != me.boot or has_left:
            effects.append(Send(sender, Notice(me)))
        return effects

    def _on_ack(self, sender: PeerId, ack: Ack, now: Seconds) -> list[Effect]:
        effects = self._jury.hear_ack(sender, ack.probe, ack.boot, ack.incarnation, now)
        if ack.rumors is not NO_RUMORS:
            effects += self._learn(sender, ack.rumors, "ack", now)
        return effects + self._jury.hear_life(sender, ack.boot, ack.incarnation, now)

    def _compare(
        self, sender: PeerId, message: Digest | Diff | Lookup, now: Seconds
    ) -> list[Effect]:
        sync = self._rounds.sync
        match message:
            case Digest():
                diff = sync.diff(message)
                effects = self._learn(sender, Rumors((), message.progress), "comparison", now)
                return effects if diff is None else [*effects, Send(sender, diff)]
            case Diff():
                lookup = sync.lookup(message)
                return [] if lookup is None else [Send(sender, lookup)]
            case Lookup():
                answer = sync.answer(message)
                effects = self._learn(sender, message.rumors, "comparison", now)
                return [*effects, Send(sender, Gossip(answer))] if answer.records else effects

    def _on_notice(self, sender: PeerId, record: Record, now: Seconds) -> list[Effect]:
        before = self.me.key
        effects = self._learn(sender, Rumors((record,)), "notice", now)
        if record.peer == self.me.peer and record.key < before:
            effects.append(Send(sender, self._view.about_me()))
        return effects

    def _note_input(self, now: Seconds) -> None:
        """Notice that this peer itself was starved: then the others were not heard, not silent.

        The gap is given to everyone who is doubted or silent, at least one more interval to be
        heard of, open probes prove nothing, and I trust myself less (gossip/README.md, M17).
        """
        if now - self._last_input_at > self._starved_s:
            gap_s = now - max(self._last_input_at, self.deadline())
            if gap_s > self._starved_s:
                interval_s = self._config.probe_interval_s
                self._view.suspicions.extend(gap_s, now + interval_s)
                self._view.verdicts.extend(gap_s)
                self._view.sightings.extend(gap_s)
                self._view.prober.void()
                self._health.worse(min(STARVED_SCORE_MAX, int(gap_s / interval_s)))
        if now > self._last_input_at:
            self._last_input_at = now

    def _closing(self, effects: list[Effect], now: Seconds) -> list[Effect]:
        """Add the notices owed, and see which rounds are needed now."""
        if self._view.owed:
            effects += self._view.notices()
        self._rounds.arm(now)
        return effects
