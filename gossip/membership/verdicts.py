"""When the group's verdict on a member is believed: enough of its observers must accuse it.

A claim of DOWN travels with its accusers. Whoever hears it counts those that watch the subject in
its own view of the group (M13). Accusers that are not live here, or were not until just now, as on
the far side of a split that has healed, count only after the subject has had time to refute (M24);
a claim with too few waits for more. A claim that waits has been passed on, so that its subject
hears of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Final

from gossip.config import MembershipConfig
from gossip.machine import Reach
from gossip.membership.flaps import Flaps
from gossip.membership.records import ACCUSERS_MAX
from gossip.membership.roster import Roster
from gossip.membership.sightings import Sightings, Witness
from gossip.messages import Evidence, PeerId, Record, Seconds, Status

SHARED_MAX: Final = 1 << 14
"""Of equal accusers, and of equal evidence, so many are kept once for all claims of a process. What
strangers say fills them, with up to 1.5 kB each."""

CLAIMS_MAX: Final = 1024
"""Claims that wait at once."""


class Weight(IntEnum):
    """What a claim's evidence is worth here."""

    TOO_FEW = 0
    IN_TIME = 1
    ENOUGH = 2


@dataclass(slots=True)
class Claim:
    """A verdict of the group that is not believed yet. Applied at ``apply_at`` if not refuted.

    ``asked`` is how often others were asked whether they have heard of a refutation. ``doubted``
    says that accusers from behind a split had to be counted once; ``told_doubted``, that somebody
    who told it doubted it, ``told_plainly``, that somebody did not, with accusers enough;
    ``dialed``, that its subject was dialed to be asked.
    """

    record: Record
    accusers: tuple[PeerId, ...]
    since: Seconds
    apply_at: Seconds = math.inf
    asked: int = 0
    doubted: bool = False
    told_doubted: bool = False
    told_plainly: bool = False
    dialed: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether all who told it with accusers enough doubted it."""
        return self.told_doubted and not self.told_plainly

    def says_already(self, record: Record, about: Evidence | None) -> bool:
        """Whether to be told that this member is down, on this evidence, says nothing new: news
        comes from every neighbor, and most of it has been heard."""
        if record.status is not Status.DOWN:
            return False
        if record is not self.record and record != self.record:
            return False
        if about is None:
            return True
        if not (self.told_doubted if about.doubted else self.told_plainly):
            return False
        return all(each in self.accusers for each in about.accusers)


@dataclass(slots=True)
class Verdicts:
    """Evidence for members held down, and claims that wait."""

    roster: Roster
    config: MembershipConfig
    flaps: Flaps
    sightings: Sightings
    _evidence: dict[PeerId, Evidence] = field(default_factory=dict)
    open: dict[PeerId, Claim] = field(default_factory=dict)
    _longest_of: tuple[int, Seconds] = field(default=(0, 0.0), init=False)

    def weigh(
        self, record: Record, accusers: Iterable[PeerId], now: Seconds, told_doubted: bool = False
    ) -> Weight:
        """Count the accusers that watch the subject, or would if they were live here.

        One that was down itself until just now, or is lost to me, may judge from behind a split;
        not one whose host says that its process ended, as it had judged before. So may those that
        are neither, where others were down wrongly until just now, or silent: the split was short.
        While a split may be on (those that tell it doubt it, or my own paths are silent), whoever
        speaks to me first may come from behind it: then accusers count at once that a link has
        stood to all the while.
        Of those that are lost the word of one is never enough, however few observers I can hear
        of: it may have been a bad accuser before (M14).
        """
        roster, subject = self.roster, record.peer
        observers = roster.observers(subject)
        live = ended = lost = absent = beside = 0
        longest_s = self.longest_s
        for accuser in accusers:
            if accuser in observers:
                if self.flaps.returned_within(accuser, longest_s, now):
                    absent += 1
                elif self.sightings.reach(accuser) == Reach.LOST:
                    lost += 1
                    ended += self.sightings.at(accuser).witness == Witness.REFUSED
                else:
                    live += 1
                    beside += accuser == roster.me.peer or self.sightings.is_beside(accuser, now)
            elif accuser not in (subject, roster.me.peer) and not roster.is_live(accuser):
                absent += roster.would_observe(accuser, subject, observers)
        quorum, everyone = self.quorum(observers, now), self.config.quorum(len(observers))
        if live >= quorum or live + ended >= everyone:
            splits = beside < quorum and (told_doubted or self._splits(subject, now))
            if not splits and not self._heals(subject, now):
                return Weight.ENOUGH
        far = live + absent + lost >= everyone
        return Weight.IN_TIME if far or live + absent >= quorum else Weight.TOO_FEW

    def is_doubtful(self, subject: PeerId, now: Seconds) -> bool:
        """Whether others than this one show that there is a split, or was until just now."""
        return self._heals(subject, now) or self._splits(subject, now)

    def _heals(self, subject: PeerId, now: Seconds) -> bool:
        refuted = self.flaps.refuted_within(self.longest_s, now, but=subject)
        return refuted or self.sightings.mended_within(self.longest_s, now, but=subject)

    def _splits(self, subject: PeerId, now: Seconds) -> bool:
        return self.sightings.is_splitting(self.longest_s, now, but=subject)

    @property
    def longest_s(self) -> Seconds:
        """The longest trial; so long what a split did is remembered, too."""
        members = self.roster.others + 1
        if self._longest_of[0] != members:
            longest_s = self.config.suspicion_max_factor * self.config.suspicion_s(members)
            self._longest_of = (members, longest_s)
        return self._longest_of[1]

    def are_enough(self, accusers: Iterable[PeerId], observers: list[PeerId], now: Seconds) -> bool:
        """Whether these accusers are a quorum in a trial of my own: of all observers, or those that
        are not lost to me one of the observers that I can hear of."""
        voters = [each for each in accusers if each in observers]
        near = sum(self.sightings.reach(each) != Reach.LOST for each in voters)
        all_of_them = self.config.quorum(len(observers))
        return len(voters) >= all_of_them or near >= self.quorum(observers, now)

    def proves(self, about: Evidence, now: Seconds) -> bool:
        """Whether those that this evidence names are enough, wherever they stand."""
        observers = self.roster.observers(about.subject)
        return sum(each in observers for each in about.accusers) >= self.quorum(observers, now)

    def quorum(self, observers: list[PeerId], now: Seconds) -> int:
        """How many must accuse, of those that I can hear of, myself included: behind a split the
        others say nothing, whatever they think."""
        seen = self.sightings.seen
        gone = sum([each in seen and seen[each].is_gone(now) for each in observers])
        return self.config.quorum(len(observers) - gone)

    # ---------------------------------------------------------------- claims that wait

    def hear(
        self,
        record: Record,
        accusers: Iterable[PeerId],
        now: Seconds,
        doubted: bool = False,
        plainly: bool = False,
    ) -> tuple[Claim, bool] | None:
        """Add what one message says to what is known; the claim so far, and whether it is new.

        None when too many claims wait: a comparison will tell of this one again.
        """
        claim = self.open.get(record.peer)
        is_new = claim is None or claim.record.key < record.key
        if claim is None and len(self.open) >= CLAIMS_MAX:
            return None
        if claim is None or is_new:
            claim = self.open[record.peer] = Claim(record, (), now)
        if claim.record.key == record.key:
            if claim.is_doubtful and plainly and not claim.asked:  # it waited for that alone
                claim.doubted, claim.apply_at = False, math.inf
            claim.told_doubted |= doubted
            claim.told_plainly |= plainly
            claim.accusers = joined(claim.accusers, tuple(accusers))
            if len(claim.accusers) > ACCUSERS_MAX:  # names that prove nothing make room
                observers = self.roster.observers(record.peer)
                apt = [each for each in claim.accusers if each in observers]
                claim.accusers = tuple(apt[:ACCUSERS_MAX])
        return claim, is_new

    @property
    def waiting(self) -> list[Claim]:
        """Claims not believed yet."""
        return list(self.open.values())

    def next_due(self, now: Seconds) -> Seconds:
        """When the next claim is to be applied after now, or ``math.inf``."""
        times = [claim.apply_at for claim in self.open.values() if claim.apply_at > now]
        return min(times, default=math.inf)

    def waiting_about(self, peer: PeerId) -> Claim | None:
        """The claim about this peer that waits."""
        return self.open.get(peer)

    def have_heard(self, record: Record, about: Evidence | None) -> bool:
        """Whether a claim about this member waits, and being told this says nothing new."""
        claim = self.open.get(record.peer)
        return claim is not None and claim.says_already(record, about)

    def extend(self, by_s: Seconds) -> None:
        """Give every subject ``by_s`` more: this peer could not hear refutations meanwhile."""
        for claim in self.open.values():
            claim.since += by_s
            claim.apply_at += by_s

    def settle(self, peer: PeerId) -> None:
        """The claim is given up."""
        self.open.pop(peer, None)

    def settle_by(self, record: Record) -> None:
        """This is believed now: a claim that is not later was applied, or is refuted."""
        claim = self.open.get(record.peer)
        if claim is not None and claim.record.key <= record.key:
            del self.open[record.peer]

    # ---------------------------------------------------------------- evidence kept

    def believe(self, evidence: Evidence) -> None:
        """Keep what a verdict stands on, for those who ask later."""
        self._evidence[evidence.subject] = evidence

    def forget(self, peer: PeerId) -> None:
        """The member is back, or its tombstone gone."""
        self._evidence.pop(peer, None)

    def evidence_of(self, records: Iterable[Record]) -> tuple[Evidence, ...]:
        """What is known for these records."""
        kept = self._evidence
        return tuple([kept[each.peer] for each in records if each.peer in kept])


def evidence_for(record: Record, accusers: Iterable[PeerId], doubted: bool = False) -> Evidence:
    """Evidence in its one form: accusers sorted."""
    names = tuple(sorted(accusers))
    return _evidence_of(record.peer, record.boot, record.incarnation, names, doubted)


@lru_cache(maxsize=SHARED_MAX)
def _evidence_of(
    peer: PeerId, boot: int, incarnation: int, accusers: tuple[PeerId, ...], doubted: bool
) -> Evidence:
    """Remembered, so that all that believe a verdict on the same grounds keep one object."""
    return Evidence(peer, boot, incarnation, accusers, doubted)


@lru_cache(maxsize=SHARED_MAX)
def joined(names: tuple[PeerId, ...], more: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
    """Each name once, in the order given. Remembered: news makes all hear of the same accusers."""
    return tuple(dict.fromkeys((*names, *more)))
