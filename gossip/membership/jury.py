"""From silence to a verdict: probes that run out, accusations, trials, and what ends them.

An observer accuses only what it has good reason to think gone: the direct probe ran out, no
fellow observer got through either, and no link witnesses that the process lives. It tells the
suspect's other observers and the suspect itself; the group hears of it only as a verdict.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from gossip.machine import Effect, Fault, LinkCause, MemberChanged, Reach, Send, Tell
from gossip.membership.alone import is_judge, out_of_reach, stands_in
from gossip.membership.claims import Claims
from gossip.membership.health import Health
from gossip.membership.judgment import Judgment
from gossip.membership.probe import Favor, Probe, Stage
from gossip.membership.records import ACCUSERS_MAX
from gossip.membership.rounds import Rounds
from gossip.membership.sightings import UNDECIDED_S, Sighting, Witness
from gossip.membership.suspicion import Trial
from gossip.membership.verdicts import Weight, evidence_for
from gossip.membership.view import View
from gossip.messages import (
    Evidence,
    Gossip,
    Nack,
    NackReason,
    Notice,
    PeerId,
    Ping,
    PingReq,
    Record,
    Rumors,
    Seconds,
    Status,
    Vouch,
)

CREDIT_S: Final = 4.0
"""A doubt counts from the first silence, but at most this long before the accusation: what a
transport needs to tell a busy peer from a lost one must not be paid twice."""


class Jury:
    """The probes and trials of one peer over its view."""

    __slots__ = ("_claims", "_config", "_health", "_judgment", "_rng", "_rounds", "_view")

    def __init__(
        self,
        view: View,
        claims: Claims,
        judgment: Judgment,
        rounds: Rounds,
        health: Health,
        rng: random.Random,
    ) -> None:
        self._view = view
        self._claims = claims
        self._judgment = judgment
        self._rounds = rounds
        self._health = health
        self._config = view.config
        self._rng = rng

    def due(self, now: Seconds) -> list[Effect]:
        """Probes that ran out, favors that failed, trials whose time is up."""
        view = self._view
        effects: list[Effect] = []
        for peer, probe in view.prober.due(now):
            if probe.stage == Stage.DIRECT:
                effects += self._unanswered(peer, probe, now)
            else:
                if probe.asked:  # fellows that are as silent as the subject: is it me?
                    self._health.worse()
                effects += self._conclude(peer, "nobody gets through to it", now)
        for favor in view.prober.favors_failed(now):
            busy = view.sightings.reach(favor.subject) == Reach.BUSY
            reason = NackReason.BUSY if busy else NackReason.TIMEOUT
            effects.append(Send(favor.asker, Nack(favor.number, favor.subject, reason)))
        for trial in view.suspicions.due(now):
            effects += self._close(trial, now)
        for peer in out_of_reach(view):
            effects += self._accuse(peer, "nobody is left to hear of it", now)
        return effects

    def link_lost(self, peer: PeerId, cause: LinkCause, now: Seconds) -> list[Effect]:
        """The link to a member was lost. One that is not being probed is probed; if a probe had
        failed before and only the link spoke for it, that is held against it now. Who is found
        frozen is accused no more; one more silent path may show a split."""
        view = self._view
        if cause == LinkCause.FROZEN:
            view.suspicions.retract(peer, view.roster.me.peer)
        effects: list[Effect] = []
        if not view.prober.is_open(peer):
            if view.sightings.at(peer).failing_since is None:
                effects.append(self._rounds.probe(peer, now))
            else:
                effects += self._conclude(peer, "nobody gets through to it", now)
        if cause == LinkCause.SILENT:
            effects += self._doubt_after_all(now)
        return effects

    def _doubt_after_all(self, now: Seconds) -> list[Effect]:
        """Whoever I accused before paths fell silent together, I doubt now: the first accusations
        of a split come before any sign of it."""
        view, me = self._view, self._view.roster.me.peer
        effects: list[Effect] = []
        for peer, trial in view.suspicions.open.items():
            if trial.accusers.get(me) is False and view.verdicts.is_doubtful(peer, now):
                trial.accusers[me] = True
                effects += self._tell_fellows(trial.suspect, True)
        return effects

    # ---------------------------------------------------------------- probes

    def _unanswered(self, peer: PeerId, probe: Probe, now: Seconds) -> list[Effect]:
        """A direct probe ran out: a private doubt; ask fellow observers before any accusation."""
        view = self._view
        seen = view.sightings.at(peer)
        if seen.failing_since is None:
            seen.failing_since = now
        effects = view.look_again(peer, "no answer to a probe")
        if seen.witness == Witness.REFUSED:
            return effects + self._conclude(peer, "its process is gone", now)
        able = [each for each in self._fellows(peer) if view.is_reachable(each)]
        fellows = self._rng.sample(able, min(self._config.fellows_asked, len(able)))
        if not fellows:
            return effects + self._conclude(peer, "no answer to a probe", now)
        record = view.roster.get(peer)
        assert record is not None
        view.prober.ask(peer, fellows, now)
        for fellow in fellows:
            effects += view.watch.link(fellow)
            effects.append(Send(fellow, PingReq(probe.number, peer, record.boot, probe.timeout_s)))
        return effects

    def _conclude(self, peer: PeerId, why: str, now: Seconds) -> list[Effect]:
        """The probe failed. Whether that is held against the peer depends on its link."""
        view = self._view
        view.prober.close(peer)
        seen = view.sightings.at(peer)
        if self._is_excused(peer, now):
            return []
        if not is_judge(view, peer, now):
            return []
        cause = seen.witness.name.lower()
        detail = why if seen.witness in (Witness.NONE, Witness.UP) else f"{why}, link {cause}"
        return self._accuse(peer, detail, now)

    def _is_excused(self, peer: PeerId, now: Seconds) -> bool:
        """Whether a link speaks for a silent peer (M12); not for ever."""
        view, seen = self._view, self._view.sightings.of(peer) or Sighting()
        silent_s = 0.0 if seen.failing_since is None else now - seen.failing_since
        if seen.witness == Witness.CLOSED and not view.roster.is_dialable(peer):
            return False  # no dial of mine will find out why
        if seen.is_unmet and view.roster.me.control_address and not view.roster.is_dialable(peer):
            return silent_s < self._config.sync_interval_s  # it may not know yet whom to dial
        excused = seen.is_excused(view.watch.is_dialed(peer), now)
        busy_max_s = self._config.busy_max_s
        # A path that was cut for longer says nothing of its end.
        was_cut = seen.up_at - seen.closed_at >= busy_max_s
        is_fresh = was_cut and now - seen.up_at < UNDECIDED_S
        return excused and (silent_s < busy_max_s or is_fresh)

    def _began_at(self, peer: PeerId, now: Seconds) -> Seconds:
        """From when on a doubt counts: from my own first, if I had one; about one that cannot be
        dialed not from before the end of its link, which spoke for it."""
        seen = self._view.sightings.of(peer)
        if seen is None or seen.failing_since is None:
            return now
        began_at = max(seen.failing_since, now - CREDIT_S)
        if seen.witness == Witness.CLOSED and not self._view.roster.is_dialable(peer):
            return max(began_at, seen.closed_at)
        return began_at

    def _fellows(self, peer: PeerId) -> list[PeerId]:
        me = self._view.roster.me.peer
        return [each for each in self._view.roster.observers(peer) if each != me]

    def hear_ping_req(self, asker: PeerId, asked: PingReq, now: Seconds) -> list[Effect]:
        """A fellow observer asks me to probe for it."""
        view, subject = self._view, asked.subject
        me, record = view.roster.me, view.roster.get(subject)
        if not view.prober.is_fair(asked.within_s):
            return [Tell(Fault(asker, "probe", f"wants to know within {asked.within_s} s"))]
        if subject == me.peer:
            return [Send(asker, Vouch(asked.probe, subject, me.boot, me.incarnation))]
        if record is None or record.status >= Status.DOWN:
            told = view.with_evidence(() if record is None else (record,))
            nack = Nack(asked.probe, subject, NackReason.UNKNOWN)
            return [Send(asker, nack), *([Send(asker, Gossip(told))] if record else [])]
        number = view.prober.favor(Favor(asker, subject, asked.probe), asked.within_s, now)
        if number is None:
            return [Send(asker, Nack(asked.probe, subject, NackReason.LIMIT))]
        return [*view.watch.link(subject), Send(subject, Ping(number, record.boot))]

    def hear_ack(
        self, sender: PeerId, number: int, boot: int, incarnation: int, now: Seconds
    ) -> list[Effect]:
        """An answer: to a probe of mine, or to one I made for somebody else."""
        view = self._view
        favor = view.prober.favor_done(number, sender)
        if favor is not None:
            return [Send(favor.asker, Vouch(favor.number, sender, boot, incarnation))]
        seen = view.sightings.at(sender)
        given = view.prober.answered(sender, number, now)
        if given and number > seen.lost_probe and seen.witness not in (Witness.NONE, Witness.UP):
            # Both ways are open, whatever became of the link I dialed.
            seen.witness = Witness.NONE
            return view.look_again(sender, "answers again")
        return []

    def hear_life(self, peer: PeerId, boot: int, incarnation: int, now: Seconds) -> list[Effect]:
        """The peer itself said which life and incarnation it is in."""
        record = self._view.roster.get(peer)
        if record is None or record.boot != boot or record.incarnation >= incarnation:
            return []
        # In one boot only the incarnation ever changes, so this says the whole record.
        said = replace(record, incarnation=incarnation, status=Status.ALIVE)
        return self._claims.learn(peer, Rumors((said,)), "ack", now)

    def hear_vouch(self, fellow: PeerId, vouch: Vouch, now: Seconds) -> list[Effect]:
        """A fellow observer gets through: the peer is lost to me alone."""
        view, subject = self._view, vouch.subject
        view.prober.said(fellow, subject)
        if view.prober.close(subject) is None:
            return []
        view.suspicions.retract(subject, view.roster.me.peer)
        return self.hear_life(subject, vouch.boot, vouch.incarnation, now)

    def hear_nack(self, fellow: PeerId, nack: Nack, now: Seconds) -> list[Effect]:
        """A fellow does not get through either. If its link lives, the peer is busy, not gone: no
        accusation this time, as if my own link spoke for it, and no longer than that would."""
        view, subject = self._view, nack.subject
        asked = view.prober.said(fellow, subject)
        if not asked or nack.reason != NackReason.BUSY:
            return []
        since = view.sightings.at(subject).failing_since
        if since is not None and now - since < self._config.busy_max_s:
            view.prober.close(subject)
            view.suspicions.retract(subject, view.roster.me.peer)
        return []

    # ---------------------------------------------------------------- accusations

    def _accuse(self, peer: PeerId, why: str, now: Seconds) -> list[Effect]:
        view = self._view
        record = view.roster.get(peer)
        if record is None or record.status != Status.ALIVE:
            return []
        suspect, me = replace(record, status=Status.SUSPECT), view.roster.me.peer
        doubts = view.verdicts.is_doubtful(peer, now)
        before = view.suspicions.get(peer)
        doubted = before is not None and before.accusers.get(me, False)
        effects = self._hold_trial(suspect, me, why, now, doubts)
        trial = view.suspicions.get(peer)
        if trial is not None and not trial.may_tell(now):
            trial.accusers[me] |= doubted  # what I said holds until I say something else
            return effects
        effects += self._tell_fellows(suspect, doubts)
        effects.append(Send(peer, Notice(suspect)))
        return effects

    def _tell_fellows(self, suspect: Record, doubts: bool) -> list[Effect]:
        """My accusation, to all others that watch the suspect."""
        about = evidence_for(suspect, (self._view.roster.me.peer,), doubts)
        told = Gossip(Rumors((suspect,), (), (about,)))
        effects: list[Effect] = []
        for fellow in self._fellows(suspect.peer):
            effects += self._view.watch.link(fellow)
            effects.append(Send(fellow, told))
        return effects

    def hear_accusation(
        self, sender: PeerId, suspect: Record, about: Evidence | None, now: Seconds
    ) -> list[Effect]:
        """A fellow observer accuses somebody: count it, and form a judgement of my own. One that is
        not among the accusers itself only asks whether those stand by it."""
        view, peer = self._view, suspect.peer
        me = view.roster.me.peer
        known = view.roster.get(peer)
        if peer == me:
            if not view.myself.contradicted_by(suspect):
                return []
            self._health.worse()
            return view.refute(sender, suspect.boot, suspect.incarnation)
        if known is None or known.key > suspect.key or known.status != Status.ALIVE:
            return [] if known is None else [Send(sender, Gossip(self._stand_by(known)))]
        effects: list[Effect] = []
        if known.key[:2] != suspect.key[:2]:  # news of a later incarnation, which is its own claim
            effects += self._claims.learn(
                sender, Rumors((replace(suspect, status=Status.ALIVE),)), "accusation", now
            )
            known = view.roster.get(peer)
            if known is None or known.key[:2] != suspect.key[:2]:
                return effects
        suspect = replace(known, status=Status.SUSPECT)
        observers = view.roster.observers(peer)
        if sender not in observers or me not in observers:
            return effects
        if view.sightings.heard_within(peer, self._config.probe_interval_s, now):
            effects.append(Send(peer, Notice(suspect)))
        elif not view.prober.is_open(peer):
            effects.append(self._rounds.probe(peer, now))
        if about is None or sender not in about.accusers:
            return effects + self._answer(sender, suspect)
        why = "accused by an observer"
        return effects + self._hold_trial(suspect, sender, why, now, about.doubted)

    def _answer(self, asker: PeerId, suspect: Record) -> list[Effect]:
        """Tell one that asks of my own accusation."""
        trial, me = self._view.suspicions.get(suspect.peer), self._view.roster.me.peer
        if trial is None or me not in trial.accusers or trial.suspect.key != suspect.key:
            return []
        accusation = evidence_for(suspect, (me,), trial.accusers[me])
        return [Send(asker, Gossip(Rumors((suspect,), (), (accusation,))))]

    def _stand_by(self, known: Record) -> Rumors:
        """What to tell who doubts a member too: the later record, or the verdict I believed, and
        that I have heard nothing of it since either."""
        view = self._view
        told = view.with_evidence((known,))
        if known.status != Status.DOWN or not told.evidence or view.sightings.of(known.peer):
            return told
        accusers = dict.fromkeys((view.roster.me.peer, *told.evidence[0].accusers))
        names = list(accusers)[:ACCUSERS_MAX]
        return Rumors((known,), (), (evidence_for(known, names, told.evidence[0].doubted),))

    def _hold_trial(
        self, suspect: Record, accuser: PeerId, why: str, now: Seconds, doubts: bool
    ) -> list[Effect]:
        view, config = self._view, self._config
        is_new = view.suspicions.get(suspect.peer) is None
        min_s, max_s = config.suspicion_s(view.roster.others + 1), view.verdicts.longest_s
        enough = self._enough(suspect.peer, now)
        began_at = self._began_at(suspect.peer, now)
        ends_at = began_at + max_s
        trial = Trial(suspect, began_at, min_s, max_s, enough, ends_at)
        view.suspicions.accuse(trial, accuser, doubts)
        effects: list[Effect] = [Tell(MemberChanged(suspect, why))] if is_new else []
        held = view.suspicions.get(suspect.peer)
        if held is not None and now >= held.ends_at:  # fewer may be enough by now
            effects += self._close(held, now)
        return effects

    def _enough(self, peer: PeerId, now: Seconds) -> int:
        """How many accusers it takes, of the observers that I can hear of; of one that stands in
        for them never so many that a trial is shortened."""
        if stands_in(self._view, now):
            return self._config.accusers + 1
        return self._view.verdicts.quorum(self._view.roster.observers(peer), now)

    def _close(self, trial: Trial, now: Seconds) -> list[Effect]:
        """The suspect had its time: down, if enough observers say so; else it stays open."""
        view, suspect = self._view, trial.suspect
        peer = suspect.peer
        if not view.roster.is_live(peer):
            view.suspicions.clear(peer)
            return []
        if not is_judge(view, peer, now):
            # Others stand nearer to it by now: it is theirs to judge, and I hear no more of it.
            view.suspicions.clear(peer)
            return []
        view.suspicions.look_again(trial, now)
        fresh_s = 2 * self._config.probe_interval_s
        if self._is_excused(peer, now) or view.sightings.heard_within(peer, fresh_s, now):
            return []
        if not stands_in(view, now) and not self._are_enough(suspect, now):
            return []
        down = replace(suspect, status=Status.DOWN)
        cause = "suspicion ran out"
        return self._judgment.believe(down, cause, now)

    def _are_enough(self, suspect: Record, now: Seconds) -> bool:
        """Whether those that accuse are a quorum of its observers."""
        verdicts, accusers = self._view.verdicts, self._judgment.accusers_of(suspect)
        if verdicts.weigh(suspect, accusers, now) == Weight.ENOUGH:
            return True
        observers = self._view.roster.observers(suspect.peer)
        return verdicts.are_enough(accusers, observers, now)
