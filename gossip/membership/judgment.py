"""The group's verdicts as this peer hears them: believed now, after a while, or not yet.

``verdicts`` counts; here is what follows from the count. Whoever has heard the subject itself just
now, or stands in a link with it, gives it time to refute; whoever is told of a split that it sees
no sign of asks the subject; a claim that nobody confirms is inquired about once and given up. That
a member has left is contested in the same way, unless it says so itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from gossip.config import MembershipConfig
from gossip.machine import Effect, Reach, Send
from gossip.membership.records import evidence_flaw
from gossip.membership.sightings import UNDECIDED_S, Witness
from gossip.membership.verdicts import Claim, Weight, evidence_for, joined
from gossip.membership.view import View
from gossip.messages import Evidence, Gossip, PeerId, Record, Rumors, Seconds, Status


class Judgment:
    """Judges claims over one peer's view."""

    __slots__ = ("_config", "_view")

    def __init__(self, view: View, config: MembershipConfig) -> None:
        self._view = view
        self._config = config

    def judge(self, record: Record, about: Evidence | None, why: str, now: Seconds) -> list[Effect]:
        """A member is said to be down. It is told on so that its subject hears of it, whatever I
        make of it; but not about a peer that I have never heard of."""
        view = self._view
        about = None if about is None or evidence_flaw(about) else about
        accusers = () if about is None else about.accusers
        doubted = about is not None and about.doubted
        # A telling that proves nothing by itself ends no doubt; it may bring one, as several that
        # are doubted may prove it together.
        plainly = about is not None and not doubted and view.verdicts.proves(about, now)
        waiting = view.verdicts.waiting_about(record.peer)
        known = 0 if waiting is None else len(waiting.accusers)
        was_doubted = waiting is not None and waiting.is_doubtful
        heard = view.verdicts.hear(record, accusers, now, doubted, plainly)
        if heard is None:
            return []
        claim, is_new = heard
        if not is_new and len(claim.accusers) == known and claim.is_doubtful == was_doubted:
            return []  # nothing new is said; the claim is weighed again as time goes on
        if is_new and view.roster.get(record.peer) is not None:
            view.news.add_record(record, self._evidence(record, claim.accusers, now))
        return self._weigh(claim, why, now)

    def contest(self, record: Record, now: Seconds) -> bool:
        """A live member is said to have left, and not by itself: does it wait for a denial?"""
        view = self._view
        if not view.roster.is_live(record.peer) or not self._contests(record, now):
            return False
        heard = view.verdicts.hear(record, (), now)
        if heard is None:
            return False
        claim, _ = heard
        claim.apply_at = min(claim.apply_at, claim.since + self._config.contested_s)
        view.owe_notice(record.peer, now)
        return True

    def _weigh(self, claim: Claim, why: str, now: Seconds) -> list[Effect]:
        view, record = self._view, claim.record
        if claim.asked and claim.apply_at > now:
            return []  # the answers count, not the same accusers again, now that they are live here
        if not view.is_welcomed:
            return []  # of the few I know one accuser might be enough, and it may be a bad one
        accusers = self.accusers_of(record)
        weight = view.verdicts.weigh(record, accusers, now, claim.is_doubtful)
        if weight == Weight.TOO_FEW or record.status != Status.DOWN:
            return []
        contested_s = self._config.contested_s
        if now < self._tried_at(claim, now):
            return []
        if weight == Weight.IN_TIME:
            if not claim.doubted:
                self._tell_subject(record.peer, now)
            claim.doubted = True
            in_time_at = claim.since + self._config.suspicion_s(view.roster.others + 1)
            if math.isinf(claim.apply_at) or now < in_time_at:
                claim.apply_at = max(now, min(claim.apply_at, in_time_at))
            return []  # others are asked, and my own link, before it is believed
        if claim.doubted and not claim.asked:
            return self._ask_around(claim, now)
        if not claim.asked and self._never_meets(record.peer):
            return self._ask_around(claim, now)
        if not claim.asked and self._sees_less_than_tellers(claim, now):
            return self._ask_around(claim, now)
        if not self._contests(record, now):
            claim.apply_at = now
        elif view.sightings.heard_within(record.peer, contested_s, now):
            claim.apply_at = now + contested_s  # its refutation may be on the way
        else:
            claim.apply_at = claim.since + contested_s
        if claim.apply_at <= now:
            return self.believe(record, why, now)
        view.owe_notice(record.peer, now)
        return []

    def _tried_at(self, claim: Claim, now: Seconds) -> Seconds:
        """When accusers of a trial may count beside those of a verdict, too few alone: after the
        least time to refute, which nobody shortens by having said before what others doubt now."""
        trial = self._view.suspicions.get(claim.record.peer)
        if trial is None:
            return now
        if self._view.verdicts.weigh(claim.record, claim.accusers, now) != Weight.TOO_FEW:
            return now
        return trial.began_at + trial.min_s

    def _contests(self, record: Record, now: Seconds) -> bool:
        """Whether I have reason to think that a member said to be gone may yet refute: a word of
        its own in this life, or a link to it that stands."""
        known, seen = self._view.roster.get(record.peer), self._view.sightings.of(record.peer)
        if known is None or seen is None or known.boot != record.boot:
            return False
        fresh_s = 2 * self._config.probe_interval_s
        return now - seen.heard_at < fresh_s or seen.witness == Witness.UP

    def _never_meets(self, peer: PeerId) -> bool:
        """Whether no link of mine could speak for a member, in a group where everybody has one to
        everybody but for us two, who both only dial out."""
        view = self._view
        hidden = not view.roster.me.control_address and not view.roster.is_dialable(peer)
        return hidden and view.watch.dial_all()

    def _sees_less_than_tellers(self, claim: Claim, now: Seconds) -> bool:
        """Whether those that tell it see a split that I see no sign of, as on both sides of it:
        then the subject is within my reach, and is asked."""
        view, peer = self._view, claim.record.peer
        if not claim.is_doubtful or view.sightings.reach(peer) == Reach.LOST:
            return False
        return not view.verdicts.is_doubtful(peer, now)

    def accusers_of(self, record: Record) -> tuple[PeerId, ...]:
        """Who accuses a member in this life: to me in a trial, or in a verdict that waits."""
        view = self._view
        trial, claim = view.suspicions.get(record.peer), view.verdicts.waiting_about(record.peer)
        accusers: tuple[PeerId, ...] = ()
        if claim is not None and _is_same_life(claim.record, record):
            accusers = claim.accusers
        if trial is not None and _is_same_life(trial.suspect, record):
            accusers = joined(accusers, tuple(trial.accusers))
        return accusers

    def weigh_again(self, now: Seconds) -> list[Effect]:
        """Claims whose time has come, or that count more since others came, went or fell silent."""
        view, config = self._view, self._config
        effects: list[Effect] = []
        longest_s = view.verdicts.longest_s
        for claim in view.verdicts.waiting:
            peer = claim.record.peer
            if claim.apply_at > now:
                if not (claim.doubted and claim.is_doubtful):  # waits for its time
                    effects += self._weigh(claim, "accused by its observers", now)
            elif view.sightings.heard_within(peer, config.contested_s, now):
                claim.apply_at = now + config.contested_s  # its refutation is on the way
                view.owe_notice(peer, now)
            elif self._asks_once_more(claim):
                effects += self._ask_around(claim, now)
            elif claim.is_doubtful and (self._speaks_for(peer) or self._dial_may_tell(claim, now)):
                claim.apply_at = now + config.contested_s  # it is held up, and cannot refute yet
            else:
                effects += self.believe(claim.record, "not refuted in time", now)
            if claim.apply_at > now and now - claim.since > longest_s:
                effects += self._inquire(claim)
                view.verdicts.settle(peer)
        return effects

    def _ask_around(self, claim: Claim, now: Seconds) -> list[Effect]:
        """Before a claim that had to wait is believed: has any of my neighbors heard of a
        refutation? News reaches nearly everybody, and each of a thousand that come back at once
        has a thousand to miss one. Who knows better answers a claim by itself."""
        view, accusers = self._view, self.accusers_of(claim.record)
        weight = view.verdicts.weigh(claim.record, accusers, now, claim.is_doubtful)
        claim.apply_at = now + self._config.contested_s
        effects: list[Effect] = []
        if self._sees_less_than_tellers(claim, now):
            dials = view.watch.link(claim.record.peer)
            claim.dialed |= bool(dials)
            effects += dials
        self._tell_subject(claim.record.peer, now)
        if self._speaks_for(claim.record.peer) and weight != Weight.ENOUGH:
            return effects  # my own link knows better than peers that are not live here
        peers = dict.fromkeys([*self._others_that_watch(claim), *self._whom_to_ask()])
        claim.asked += bool(peers)  # with nobody to ask it waits, until it is given up
        evidence = self._evidence(claim.record, accusers, now)
        asked = Gossip(Rumors((claim.record,), (), (evidence,)))
        return effects + [Send(peer, asked) for peer in peers]

    def _asks_once_more(self, claim: Claim) -> bool:
        """Whether others are asked before a claim whose time has come is believed. Those that watch
        a subject which I cannot ask are asked twice: they tell it first, and know better then."""
        if claim.record.status != Status.DOWN:
            return False
        return not claim.asked or (claim.asked == 1 and bool(self._others_that_watch(claim)))

    def _others_that_watch(self, claim: Claim) -> list[PeerId]:
        """Where a split is told of and I cannot ask the subject, as no link between us was ever up
        and I cannot dial it: its observers that I get through to and that do not accuse it."""
        view, peer = self._view, claim.record.peer
        seen = view.sightings.of(peer)
        if not claim.is_doubtful or view.roster.is_dialable(peer):
            return []
        if seen is not None and not seen.is_unmet:
            return []
        met = [each for each in view.roster.observers(peer) if each in view.sightings.seen]
        return [each for each in met if each not in claim.accusers and self._is_linked(each)]

    def _speaks_for(self, peer: PeerId) -> bool:
        """Whether a link of mine witnesses that a member's process, or its host, is there."""
        seen = self._view.sightings.of(peer)
        return seen is not None and seen.witness in (Witness.UP, Witness.FROZEN)

    def _dial_may_tell(self, claim: Claim, now: Seconds) -> bool:
        """Whether the subject was dialed to be asked, and the dial has told nothing yet: its
        process may stand still."""
        seen = self._view.sightings.of(claim.record.peer)
        is_silent = seen is None or seen.witness == Witness.NONE
        return claim.dialed and is_silent and now - claim.since < UNDECIDED_S

    def _tell_subject(self, peer: PeerId, now: Seconds) -> None:
        """Nobody knows better than the subject. News may not reach it: those that watch it in the
        group as it is now may still hold it down, or be lost to it."""
        view = self._view
        is_met = peer in view.sightings.seen or view.watch.is_dialed(peer)
        if is_met and view.sightings.reach(peer) != Reach.LOST:
            view.owe_notice(peer, now)

    def _whom_to_ask(self) -> list[PeerId]:
        """The next of my neighbors; in place of those that I do not get through to, others that I
        am linked to: a split may have taken all my neighbors away."""
        view, fanout = self._view, self._config.gossip_fanout
        turn = view.watch.in_turn(fanout)
        near = [peer for peer in turn if peer in view.sightings.seen and view.is_reachable(peer)]
        if len(near) == len(turn):
            return near
        met = (peer for peer in view.sightings.seen if peer not in turn)
        others = (peer for peer in met if view.roster.is_live(peer) and self._is_linked(peer))
        return [*near, *islice(others, fanout - len(near))]

    def _is_linked(self, peer: PeerId) -> bool:
        """Whether a word to this member, which I have met, arrives as far as I know: one that
        cannot be dialed has dialed me."""
        view = self._view
        is_mine = view.watch.is_dialed(peer) or not view.roster.is_dialable(peer)
        return is_mine and view.is_reachable(peer)

    def _inquire(self, claim: Claim) -> list[Effect]:
        """A claim was neither refuted nor confirmed: do its observers stand by it? Those that
        believed it long ago accuse no more, and what I heard of them may be old."""
        view = self._view
        suspect = replace(claim.record, status=Status.SUSPECT)
        accusers = [each for each in claim.accusers if each != view.roster.me.peer]  # I only ask
        asked = Gossip(Rumors((suspect,), (), (evidence_for(suspect, accusers),)))
        effects: list[Effect] = []
        for peer in view.roster.observers(suspect.peer):
            if peer != view.roster.me.peer:
                effects += [*view.watch.link(peer), Send(peer, asked)]
        return effects

    def _evidence(self, record: Record, accusers: Iterable[PeerId], now: Seconds) -> Evidence:
        """What to tell with a verdict: whom it stands on, and whether it is in doubt. It is where I
        see signs of a split, or all who told me did, or too few accuse it to me without a doubt."""
        verdicts = self._view.verdicts
        claim = verdicts.waiting_about(record.peer)
        if claim is not None and claim.record.key != record.key:
            claim = None
        doubted = claim is not None and claim.is_doubtful
        if not doubted and (claim is None or not claim.told_plainly):
            doubted = self._is_tried_in_doubt(record, now)
        return evidence_for(record, accusers, doubted or verdicts.is_doubtful(record.peer, now))

    def _is_tried_in_doubt(self, record: Record, now: Seconds) -> bool:
        """Whether of those that accuse it to me some doubt it, and those that do not are too few.
        Some see no split that others see, since most of their own paths happen to lie on their side
        of it."""
        trial = self._view.suspicions.get(record.peer)
        if trial is None or trial.suspect.key[:2] != record.key[:2]:
            return False
        observers = self._view.roster.observers(record.peer)
        doubts = [doubts for each, doubts in trial.accusers.items() if each in observers]
        quorum = self._view.verdicts.quorum(observers, now)
        return any(doubts) and doubts.count(False) < quorum

    def believe(self, record: Record, why: str, now: Seconds) -> list[Effect]:
        """The group's verdict holds here too, on what is known against the member."""
        evidence = None
        if record.status == Status.DOWN:
            evidence = self._evidence(record, self.accusers_of(record), now)
        return self._view.take(record, why, now, evidence=evidence)


def _is_same_life(one: Record, other: Record) -> bool:
    """Whether two claims about a member are of the same boot and incarnation."""
    return one.boot == other.boot and one.incarnation == other.incarnation
