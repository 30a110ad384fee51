"""One peer's view of the group, and what follows when a claim changes it.

A claim that wins over what is known is news, is told to the owner, and opens or closes links,
trials and tombstones. A claim that a live member is down is believed only when enough of its
observers say so (``verdicts``). A claim about myself that I did not make is refuted.

Invariants: every tombstone has an end; notices to one peer are ``NOTICE_SPACING_S`` apart unless
its record changes; trials and private verdicts are about live members only.
"""

from __future__ import annotations

from dataclasses import replace

from gossip.config import MembershipConfig
from gossip.deadlines import Deadlines
from gossip.machine import Effect, Fault, MemberChanged, Reach, ReachChanged, Send, Tell
from gossip.membership.account import Account
from gossip.membership.flaps import Flaps
from gossip.membership.known import Known
from gossip.membership.myself import Myself
from gossip.membership.probe import Prober
from gossip.membership.records import (
    COUNT_MAX,
    evidence_flaw,
    merge,
    progress_flaw,
    record_flaw,
)
from gossip.membership.roster import CHANGES_MAX, Roster
from gossip.membership.roundtrip import RoundTrips
from gossip.membership.rumors import CLAIMS_PER_MESSAGE, News
from gossip.membership.sightings import Sighting, Sightings, Witness
from gossip.membership.suspicion import Suspicions
from gossip.membership.verdicts import Claim, Verdicts, Weight, evidence_for
from gossip.membership.watch import Watch
from gossip.messages import (
    Evidence,
    Gossip,
    Notice,
    PeerId,
    Progress,
    Record,
    Rumors,
    Seconds,
    Status,
)

NOTICE_SPACING_S = 0.5
"""A peer is told what is held about it at most this often."""


class View:
    """Records, accounts, trials and sightings of one peer."""

    def __init__(self, me: Record, config: MembershipConfig, known: Known | None) -> None:
        ground = None if known is None else known.ground
        self.roster = Roster(me, config.members_max, config.observers, ground)
        self.account = Account(config.members_max, None if known is None else known.accounts)
        self.myself = Myself(self.roster, self.account)
        self.news = News(config.transmissions_factor)
        self.watch = Watch(self.roster, config)
        self.sightings = Sightings()
        self.suspicions = Suspicions()
        self.flaps = Flaps(config.flap_half_life_s, config.flaps_max)
        self._reach: dict[PeerId, Reach] = {}
        self.verdicts = Verdicts(self.roster, config, self.flaps, self.sightings)
        self.trips = RoundTrips(config.probe_timeout_min_s, config.probe_timeout_max_s)
        self.prober = Prober(self.trips)
        self.tombstones: Deadlines[PeerId] = Deadlines()
        self.addresses_changed = False
        self._config = config
        self._reachable: list[PeerId] | None = None
        # Peers owed a Notice; True where even an ALIVE record of ours is worth one.
        self.owed: dict[PeerId, bool] = {}
        self._noticed_at: dict[PeerId, Seconds] = {}
        self._members_seen = self.roster.others

    # ---------------------------------------------------------------- private verdicts

    def reachable(self) -> list[PeerId]:
        """Live members that this peer thinks it gets through to; sorted."""
        if self._reachable is None:
            self._reachable = [peer for peer in self.roster.live if self.is_reachable(peer)]
        return list(self._reachable)

    def is_reachable(self, peer: PeerId) -> bool:
        """Whether a swap with a live member is worth a try.

        One that cannot be dialed has to have dialed me, as those do that want to swap.
        """
        if peer in self._reach:
            return False
        record = self.roster.get(peer)
        if record is None or record.control_address:
            return True
        return self.sightings.of(peer) is not None

    def meet(self, peer: PeerId) -> Sighting:
        """What was seen of a peer, to be written; the first word of one may make it reachable."""
        if self.sightings.of(peer) is None:
            self._reachable = None
        return self.sightings.at(peer)

    def look_again(self, peer: PeerId, why: str) -> list[Effect]:
        """Something was seen of a member: report a private verdict that changed."""
        reach = self.sightings.reach(peer)
        if not self.roster.is_live(peer) or self._reach.get(peer, Reach.OPEN) == reach:
            return []
        self._reachable = None
        if reach == Reach.OPEN:
            del self._reach[peer]
        else:
            self._reach[peer] = reach
        return [Tell(ReachChanged(peer, reach, why))]

    # ---------------------------------------------------------------- claims

    def learn(
        self, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        """Merge claims, suspicions aside; at most one Fault a message, however many are flawed.

        Who doubts a member that is known to have refuted or left is told so.
        """
        effects: list[Effect] = []
        faults: list[tuple[str, str]] = []
        stale: list[Record] = []
        told = {each.subject: each for each in rumors.evidence}
        if len(rumors.records) > CHANGES_MAX and self.roster.others < CHANGES_MAX:
            effects += self._learn_everyone(rumors.records, why)
        for record in rumors.records:
            known = self.roster.get(record.peer)
            if known is record or known == record or record.status == Status.SUSPECT:
                continue
            flaw = record_flaw(record)
            if flaw is not None:
                faults.append(("rumor", flaw))
            elif record.peer == self.roster.me.peer:
                if self.myself.contradicted_by(record):
                    effects += self.refute(sender, record.boot, record.incarnation)
            elif not self.roster.has_room(record.peer):
                faults.append(("limit", f"no room for {record.peer}"))
            elif known is not None and known.key > record.key:
                if record.peer == sender:
                    self.owe_notice(sender, now, even_alive=True)
                elif record.status > Status.ALIVE:
                    stale.append(known)
            elif record.status == Status.DOWN and self._may_be_live(known, spread):
                effects += self._judge(record, _about(record, told), why, now)
            else:
                effects += self.take(record, why, now, spread, _about(record, told))
        for progress in rumors.progress:
            effects += self._learn_progress(sender, progress, spread, faults)
        if stale:
            known_better = tuple(stale[:CLAIMS_PER_MESSAGE])
            effects.append(Send(sender, Gossip(self.with_evidence(known_better))))
        return effects + _fault_of(sender, faults)

    def _may_be_live(self, known: Record | None, is_news: bool) -> bool:
        """Whether a claim that a member is down has to be judged: not what a newcomer is told of
        the past, but news of one that it has not heard of may be false."""
        return is_news if known is None else known.status < Status.DOWN

    def _learn_everyone(self, records: tuple[Record, ...], why: str) -> list[Effect]:
        """Take a large group's live members at once, as a newcomer does."""
        new: dict[PeerId, Record] = {}
        for record in records:
            is_new = record.status == Status.ALIVE and self.roster.get(record.peer) is None
            if is_new and record_flaw(record) is None:
                new[record.peer] = merge(new.get(record.peer, record), record)
        taken = self.roster.take_many(new.values())
        self.addresses_changed = True
        self._reachable = None
        self.watch.everybody_came()
        effects: list[Effect] = [Tell(MemberChanged(record, why)) for record in taken]
        if self.watch.dial_all():
            for record in taken:
                effects += self.watch.dial(record.peer)
        return effects

    def _learn_progress(
        self, sender: PeerId, progress: Progress, spread: bool, faults: list[tuple[str, str]]
    ) -> list[Effect]:
        if self.account.newest(progress.peer) is progress:
            return []
        flaw = progress_flaw(progress)
        if flaw is not None:
            faults.append(("rumor", flaw))
            return []
        effects: list[Effect] = []
        me = self.roster.me.peer
        if progress.peer == me and self.myself.contradicted_by_progress(progress):
            effects += self.refute(sender, progress.boot, COUNT_MAX)
        if not self.account.has_room(progress):
            faults.append(("limit", f"no room for the progress of {progress.peer}"))
            return effects
        won = self.account.put(progress)
        # An older boot must not push the newer one out of the news.
        if won and spread and self.account.newest(progress.peer) == progress:
            self.news.add_progress(progress)
        return effects

    def _judge(
        self, record: Record, about: Evidence | None, why: str, now: Seconds
    ) -> list[Effect]:
        """A live member is said to be down: believe it now, after a while, or not yet."""
        accusers = () if about is None or evidence_flaw(about) else about.accusers
        claim, is_new = self.verdicts.hear(record, accusers, now)
        if is_new:  # so that its subject hears of it, whatever I make of it
            self.news.add_record(record, evidence_for(record, claim.accusers))
        return self._weigh(claim, why, now)

    def _weigh(self, claim: Claim, why: str, now: Seconds) -> list[Effect]:
        record, accusers = claim.record, self.accusers_of(claim.record)
        weight = self.verdicts.weigh(record, accusers, now)
        if weight == Weight.TOO_FEW:
            return []
        if weight == Weight.ENOUGH:
            apply_at = now
            if self._contests(record, 2 * self._config.probe_interval_s, now):
                apply_at = claim.since + self._config.contested_s
                self.owe_notice(record.peer, now)
        else:
            apply_at = claim.since + self._config.suspicion_s(self.roster.others + 1)
        claim.apply_at = min(claim.apply_at, apply_at)
        if claim.apply_at > now:
            return []
        return self.believe(record, accusers, why, now)

    def _contests(self, record: Record, fresh_s: Seconds, now: Seconds) -> bool:
        """Whether I have reason to think that a member said to be down may yet refute: a word of
        its own in this life, or a link to it that stands."""
        known, seen = self.roster.get(record.peer), self.sightings.of(record.peer)
        if known is None or seen is None or known.boot != record.boot:
            return False
        return now - seen.heard_at < fresh_s or seen.witness == Witness.UP

    def accusers_of(self, record: Record) -> dict[PeerId, None]:
        """Who accuses a member in this life: to me in a trial, or in a verdict that waits."""
        trial, claim = self.suspicions.get(record.peer), self.verdicts.waiting_about(record.peer)
        accusers: dict[PeerId, None] = {}
        if claim is not None and claim.record.key[:2] == record.key[:2]:
            accusers |= claim.accusers
        if trial is not None and trial.suspect.key[:2] == record.key[:2]:
            accusers |= trial.accusers
        return accusers

    def weigh_again(self, now: Seconds) -> list[Effect]:
        """Claims whose time has come, or that may count more since members came or went."""
        effects: list[Effect] = []
        changed = self._members_seen != self.roster.others
        self._members_seen = self.roster.others
        longest_s = self._config.suspicion_max_factor * self._config.suspicion_s(
            self.roster.others + 1
        )
        for claim in self.verdicts.waiting:
            if claim.apply_at <= now and self._spoke_since(claim, now):
                claim.apply_at = now + self._config.contested_s  # its refutation is on the way
                self.owe_notice(claim.record.peer, now)
            elif claim.apply_at <= now:
                effects += self.believe(claim.record, claim.accusers, "not refuted in time", now)
            elif changed:
                effects += self._weigh(claim, "accused by its observers", now)
            if claim.apply_at > now and now - claim.since > longest_s:
                effects += self._inquire(claim)
                self.verdicts.settle(claim.record.peer)
        return effects

    def _spoke_since(self, claim: Claim, now: Seconds) -> bool:
        """Whether the subject of a claim has been heard so lately that it may be refuting."""
        return self.sightings.heard_within(claim.record.peer, self._config.contested_s, now)

    def _inquire(self, claim: Claim) -> list[Effect]:
        """A claim was neither refuted nor confirmed: do its observers stand by it? Those that
        believed it long ago accuse no more, and what I heard of them may be old."""
        suspect = replace(claim.record, status=Status.SUSPECT)
        asked = Gossip(Rumors((suspect,), (), (evidence_for(suspect, claim.accusers),)))
        effects: list[Effect] = []
        for peer in self.roster.observers(suspect.peer):
            if peer != self.roster.me.peer:
                effects += [*self.watch.link(peer), Send(peer, asked)]
        return effects

    def believe(
        self, record: Record, accusers: dict[PeerId, None], why: str, now: Seconds
    ) -> list[Effect]:
        """The group's verdict: the member is down."""
        return self.take(record, why, now, evidence=evidence_for(record, accusers))

    def take(
        self,
        record: Record,
        why: str,
        now: Seconds,
        spread: bool = True,
        evidence: Evidence | None = None,
    ) -> list[Effect]:
        """Merge one sound claim about another member, for whom there is room."""
        peer = record.peer
        before = self.roster.get(peer)
        if not self.roster.put(record):
            return []
        is_down = record.status == Status.DOWN
        sound = is_down and evidence is not None and evidence_flaw(evidence) is None
        kept = evidence if sound else None
        if spread:
            self.news.add_record(record, kept)
        self._noticed_at.pop(peer, None)
        self.suspicions.clear(peer)
        self.verdicts.settle(peer)
        self.addresses_changed = True
        was_live = before is not None and before.status < Status.DOWN
        effects: list[Effect] = [Tell(MemberChanged(record, why))]
        if record.status < Status.DOWN:
            self.verdicts.forget(peer)
            return effects + self._is_here(before, was_live, record, now)
        if kept is not None:
            self.verdicts.believe(kept)
        return effects + self._is_gone(was_live, record, now)

    def _is_here(
        self, before: Record | None, was_live: bool, record: Record, now: Seconds
    ) -> list[Effect]:
        peer = record.peer
        effects: list[Effect] = []
        self.tombstones.clear(peer)
        if before is not None and before.status == Status.DOWN:
            self.flaps.returned(peer, now)
        seen = self.sightings.of(peer)
        if seen is not None and before is not None and before.boot < record.boot:
            seen.begin_anew()
            effects = self.look_again(peer, "a new life")
        if not was_live:
            self._reachable = None
            self.watch.member_came(peer)
        elif before is not None and _reached_at(before) == _reached_at(record):
            return effects
        elif before is not None and bool(before.control_address) != bool(record.control_address):
            self.watch.everybody_came()  # who watches whom depends on who can be dialed
        # Dialing a link that is there already changes nothing, so a restart is dialed as well.
        wanted = self.watch.dial_all() or self.watch.is_dialed(peer)
        return [*effects, *self.watch.dial(peer)] if wanted else effects

    def _is_gone(self, was_live: bool, record: Record, now: Seconds) -> list[Effect]:
        peer = record.peer
        self.prober.forget(peer)
        self.sightings.forget(peer)
        self.trips.forget(peer)
        self._reach.pop(peer, None)
        self.tombstones.set(peer, now + self._config.tombstone_s)
        if not was_live:
            return []
        self._reachable = None
        self.watch.member_went(peer)
        return self.watch.give_up(peer)

    def refute(self, sender: PeerId, boot: int, incarnation: int) -> list[Effect]:
        """Rise above a wrong claim about me, tell who made it, and make it news."""
        if not self.myself.rise_above(boot, incarnation):
            detail = f"claims boot {boot}, incarnation {incarnation} of me: out of range"
            return [Tell(Fault(sender, "identity", detail))]
        self.news.add_record(self.roster.me)
        self.news.add_progress(self.myself.progress)
        return [Send(sender, self.about_me())]

    # ---------------------------------------------------------------- what to tell others

    def about_me(self) -> Gossip:
        """My own claims, to be told directly."""
        return Gossip(Rumors((self.roster.me,), (self.myself.progress,)))

    def with_evidence(self, records: tuple[Record, ...]) -> Rumors:
        """Records and what they stand on."""
        return Rumors(records, (), self.verdicts.evidence_of(records))

    def everything(self) -> Rumors:
        """All claims worth passing on."""
        records = self.roster.shared()
        return Rumors(records, self.account.all(), self.verdicts.evidence_of(records))

    def some_news(self) -> Rumors:
        """What rides on one message now."""
        return self.news.take(self.roster.others + 1, len(self.watch.neighbors))

    def bury(self, now: Seconds) -> None:
        """Forget the members whose tombstones have stood long enough."""
        for peer in self.tombstones.due(now):
            self.roster.forget(peer)
            self.verdicts.forget(peer)
            self.sightings.forget(peer)
            self._noticed_at.pop(peer, None)

    # ---------------------------------------------------------------- notices

    def owe_notice(self, peer: PeerId, now: Seconds, even_alive: bool = False) -> None:
        """Tell the peer soon what is held about it, unless it was told just now."""
        last_at = self._noticed_at.get(peer)
        if last_at is None or now - last_at >= NOTICE_SPACING_S:
            self._noticed_at[peer] = now
            self.owed[peer] = even_alive

    @property
    def owes_notices(self) -> bool:
        """Whether ``notices`` has something to send."""
        return bool(self.owed)

    def notices(self) -> list[Effect]:
        """The notices owed; a suspicion refuted in the meantime needs none."""
        owed, self.owed = self.owed, {}
        effects: list[Effect] = []
        for peer, even_alive in owed.items():
            record = self._held_about(peer)
            if record is not None and (even_alive or record.status != Status.ALIVE):
                effects.append(Send(peer, Notice(record)))
        return effects

    def _held_about(self, peer: PeerId) -> Record | None:
        """The worst that is said of a peer here: a verdict that waits, a trial, or the record."""
        trial, claim = self.suspicions.get(peer), self.verdicts.waiting_about(peer)
        said = (
            self.roster.get(peer),
            None if trial is None else trial.suspect,
            None if claim is None else claim.record,
        )
        return max((each for each in said if each), key=lambda each: each.key, default=None)


def _about(record: Record, told: dict[PeerId, Evidence]) -> Evidence | None:
    """The evidence beside a record, if it is of the same life."""
    about = told.get(record.peer)
    if about is None or (about.boot, about.incarnation) != (record.boot, record.incarnation):
        return None
    return about


def _fault_of(sender: PeerId, faults: list[tuple[str, str]]) -> list[Effect]:
    if not faults:
        return []
    kind, detail = faults[0]
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [Tell(Fault(sender, kind, detail + more))]


def _reached_at(record: Record) -> tuple[int, str, str]:
    """What a link depends on: the life and the addresses."""
    return (record.boot, record.control_address, record.bulk_address)
